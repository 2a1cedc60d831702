"""Errors of groups of people on pairs: whose a photo is comes from the protocol, however its photos are named."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.core.dependence import share_over_people
from facespace.core.scores import unit_vectors
from facespace.errors import DataError
from facespace.faces.detect import Aligned
from facespace.judge.groups import pair_differentials, read_groups
from facespace.judge.measures import people_map
from facespace.judge.readers.bins import bin_pairs
from facespace.judge.readers.lists import cfp
from facespace.judge.run import Evaluation, run

PEOPLE = 30
PHOTOS = ("frontal/01.png", "frontal/02.png", "profile/01.png")


class Colours:
    """A person is a colour."""

    name, dim, contract = "colours", 3, "c"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return a @ b.T


def painted() -> dict[tuple[int, str], bytes]:
    rng = np.random.default_rng(0)
    made = {}
    for who in range(PEOPLE):
        colour = rng.integers(60, 195, 3)
        for photo in PHOTOS:
            stream = io.BytesIO()
            Image.new("RGB", (112, 112), tuple((colour + rng.integers(-60, 60, 3)).tolist())).save(stream, "PNG")
            made[who, photo] = stream.getvalue()
    return made


@pytest.fixture(scope="module")
def cfp_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Frontal against profile: `001/frontal/01.png`, so that no folder of a photo is a person."""
    root = tmp_path_factory.mktemp("cfp")
    for (who, photo), content in painted().items():
        path = root / f"Data/Images/{who:03d}/{photo}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    lists = {"F": PHOTOS[:2], "P": PHOTOS[2:]}
    for kind, photos in lists.items():
        rows = [f"../Data/Images/{who:03d}/{photo}" for who in range(PEOPLE) for photo in photos]
        path = root / f"Protocol/Pair_list_{kind}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{at} {row}\n" for at, row in enumerate(rows, 1)))
    for split in range(2):
        folder = root / f"Protocol/Split/FP/{split}"
        folder.mkdir(parents=True)
        people = range(15 * split, 15 * split + 15)
        (folder / "same.txt").write_text("".join(f"{2 * w + i + 1},{w + 1}\n" for w in people for i in range(2)))
        others = [(w, 15 * split + (w + step) % 15) for w in people for step in (2, 4)]
        (folder / "diff.txt").write_text("".join(f"{2 * a + 1},{b + 1}\n" for a, b in others))
    return run(cfp(root, "FP"), Colours(), Aligned(), threads=1)


def test_people_are_those_of_the_protocol_whether_the_table_names_them_or_their_photos(
    cfp_evaluation: Evaluation, tmp_path: Path
) -> None:
    protocol = cfp_evaluation.protocol
    rows = {"person": [f"{who:03d}" for who in range(PEOPLE)], "photo": list(protocol.photos)}
    tables = {}
    for key, names in rows.items():
        path = tmp_path / f"{key}.csv"
        path.write_text(f"{key},half\n" + "".join(f"{name},{'ab'[int(name[:3]) % 2]}\n" for name in names))
        tables[key] = read_groups(path)
    by_person, by_photo = (pair_differentials(cfp_evaluation, table) for table in tables.values())
    assert [one.as_json() for one in by_person] == [one.as_json() for one in by_photo]
    whose = np.array([int(photo[:3]) for photo in protocol.photos])
    a, b = whose[protocol.first], whose[protocol.second]
    for one in by_person:
        kind = (a == b) if one.error == "FNMR" else (a != b)
        wrong = (cfp_evaluation.scores >= one.threshold) != protocol.same
        assert one.overall == share_over_people(wrong[kind], a[kind], b[kind])
        assert one.overall.people == PEOPLE
        for rate in one.groups:
            within = kind & (a % 2 == "ab".index(rate.group)) & (b % 2 == "ab".index(rate.group))
            assert rate.trials == within.sum()
            assert rate.share is None or rate.share == share_over_people(wrong[within], a[within], b[within])
    assert any(rate.share for one in by_person for rate in one.groups)


def test_the_map_of_people_has_their_names(cfp_evaluation: Evaluation) -> None:
    found = people_map(cfp_evaluation.protocol.people_of_photos, cfp_evaluation.compared)
    assert found.names == tuple(f"{who:03d}" for who in range(8))


def test_where_the_data_name_nobody_a_table_speaks_of_photos(tmp_path: Path) -> None:
    content = painted()
    pairs = [(who, other) for who in range(PEOPLE) for other in (who, (who + 2) % PEOPLE)]
    images = [content[who, photo] for pair in pairs for who, photo in zip(pair, PHOTOS, strict=False)]
    (tmp_path / "drawn.bin").write_bytes(pickle.dumps((images, [a == b for a, b in pairs]), 2))
    evaluation = run(bin_pairs(tmp_path / "drawn.bin"), Colours(), Aligned(), threads=1)
    whose = {image: who for (who, _), image in content.items()}
    read = evaluation.protocol.read
    half = [f"{photo},{'ab'[whose[read(photo)] % 2]}\n" for photo in evaluation.protocol.photos]
    (tmp_path / "photos.csv").write_text("photo,half\n" + "".join(half))
    for one in pair_differentials(evaluation, read_groups(tmp_path / "photos.csv")):
        assert one.overall.people == PEOPLE  # as far as genuine pairs join photos
    (tmp_path / "people.csv").write_text("person,half\n001,a\n")
    with pytest.raises(DataError, match="do not say whose the photos are"):
        pair_differentials(evaluation, read_groups(tmp_path / "people.csv"))

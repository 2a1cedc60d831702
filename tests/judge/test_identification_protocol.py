"""The identification protocol from folders to figures, and errors per group, by an embedder one can follow."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facespace.core.contracts import AlignedFaces, Face, Photo, Vectors
from facespace.core.scores import unit_vectors
from facespace.errors import DataError, UsageError
from facespace.faces.detect import Aligned
from facespace.judge.groups import Decided, as_json, differentials, pair_differentials, read_groups
from facespace.judge.identification import DISTRACTOR, Enrolment, identification
from facespace.judge.protocols import folder
from facespace.judge.run import run
from facespace.judge.searching import run_identification


class Colours:
    """A person is a colour: the mean red, green and blue of the picture."""

    name, dim, contract = "colours", 3, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        return a @ b.T


class BlackHasNoFace(Aligned):
    """Finds a face everywhere but in black photos."""

    def detect(self, photo: Photo) -> list[Face]:
        return super().detect(photo) if photo.any() else []


def paint(root: Path, people: int, photos: int, seed: int, prefix: str = "p") -> Path:
    for person in range(people):
        (root / f"{prefix}{person:02d}").mkdir(parents=True)
        rng = np.random.default_rng([seed, person])
        colour = rng.integers(30, 225, 3)
        for i in range(photos):
            rgb = tuple((colour + rng.integers(-15, 16, 3)).tolist())
            Image.new("RGB", (112, 112), rgb).save(root / f"{prefix}{person:02d}" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data"), 30, 5, 0)


def test_figures_are_those_of_vectors_made_one_by_one(data: Path, tmp_path: Path) -> None:
    others = paint(tmp_path / "others", 6, 3, 1, "x")
    Image.new("RGB", (112, 112)).save(data / "p03" / "4.png")
    protocol = identification(data, Enrolment(photos=2, nonmates=0.4, seed=1), others)
    result = run_identification(protocol, Colours(), BlackHasNoFace(), threads=2)
    unit = {}
    for path in [*data.glob("*/*.png"), *others.glob("*/*.png")]:
        vector = np.asarray(Image.open(path), np.float64).mean((0, 1)) - 127.3
        unit[path.parent.name, int(path.stem)] = vector / np.linalg.norm(vector)
    mates = [name for name, enrolled in zip(protocol.names, protocol.mates, strict=False) if enrolled]
    assert len(mates) == 18
    gallery = {}
    for name in [*mates, *(f"x{i:02d}" for i in range(6))]:
        mean = unit[name, 0] + unit[name, 1]
        gallery[name] = mean / np.linalg.norm(mean)
    found, tops = [], []
    for (name, i), vector in sorted(unit.items()):
        scores = {other: float(vector @ template) for other, template in gallery.items()}
        silent = (name, i) == ("p03", 4)
        if name in mates and i >= 2:
            found.append(0 if silent else 1 + sum(s > scores[name] for s in scores.values()))
        elif name not in mates and name[0] == "p":
            tops.append(-np.inf if silent else max(scores.values()))
    assert result.searches.ranks.tolist() == found
    assert result.searches.tops == pytest.approx(tops, abs=1e-5)
    assert result.closed_set[0].share is not None
    assert result.closed_set[0].share.rate == np.mean([rank == 1 for rank in found])
    document = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert document["gallery"] == {"people": 24, "distractors": 6}
    assert document["searches"] == {"mated": 54, "non_mated": 60}
    assert (document["failures"]["to_acquire"], document["failures"]["searches"]) == (1, 1)
    assert document["groups"] == "not measured"
    assert document["open_set"]["tpir_at_fpir"][2]["refused"].startswith("60 non-mated searches cannot show")
    assert "36 people cannot show the FPIR of a gallery of 100" in {row["refused"] for row in document["thresholds"]}
    assert {row["people"] for row in document["thresholds"]} == {10, 16, 34, 100}
    Image.new("RGB", (112, 112), (9, 9, 9)).save(data / "p03" / "4.png")


def test_people_without_a_face_to_enrol_count_as_never_found(tmp_path: Path) -> None:
    data = paint(tmp_path, 10, 3, 2)
    Image.new("RGB", (112, 112)).save(data / "p00" / "0.png")
    protocol = identification(data, Enrolment(nonmates=0))
    result = run_identification(protocol, Colours(), BlackHasNoFace(), threads=1)
    assert result.unenrolled == ("p00",)
    assert result.searches.ranks[:2].tolist() == [0, 0]
    assert result.closed_set[0].share is not None
    assert result.closed_set[0].share.trials == 20
    assert "0 non-mated" in str(result.open_set[0].refused)
    assert result.as_json()["open_set"]["det"] == []


def test_who_enrols_is_decided_by_name_or_by_seed(data: Path, tmp_path: Path) -> None:
    first = identification(data, Enrolment(photos=2))
    assert {p.split("/")[1] for p, e in zip(first.photos, first.enrols, strict=True) if e} == {"0.png", "1.png"}
    one, same, other = (identification(data, Enrolment(2, "drawn", seed=seed)) for seed in (1, 1, 2))
    assert one.enrols.tolist() == same.enrols.tolist() != other.enrols.tolist()
    assert one.mates.tolist() == same.mates.tolist() != other.mates.tolist()
    assert np.bincount(one.labels[one.enrols]).tolist() == [2] * 30
    with_others = identification(data, None, paint(tmp_path / "o", 4, 3, 1, "x"))
    extra = [p for p in with_others.photos if p.startswith(DISTRACTOR)]
    assert extra == [f"{DISTRACTOR}x{i:02d}/0.png" for i in range(4)]
    assert with_others.read(extra[0]) == (tmp_path / "o/x00/0.png").read_bytes()
    for wrong, says in (
        ({"photos": 0}, "0 photos enrol nobody"),
        ({"nonmates": 1.0}, "a share of 1 of the people cannot stay out of the gallery"),
        ({"nonmates": float("nan")}, "a share of nan"),
        ({"rank": 0}, "the first 0 candidates"),
        ({"pick": "best"}, "pick = 'best' is unknown"),
    ):
        with pytest.raises(UsageError, match=says) as refused:
            Enrolment(**wrong)  # type: ignore[arg-type]
        assert refused.value.hint
    with pytest.raises(DataError, match="people of the data by name, first p00"):
        identification(data, None, data)
    with pytest.raises(DataError, match="0 of 15 enrolled people have a photo left"):
        identification(data, Enrolment(photos=5))


def test_errors_of_groups_are_counted_within_them(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("person,half\n" + "".join(f"p{i:02d},{'ab'[i % 2]}\n" for i in range(29)))
    evaluation = run(folder(data), Colours(), Aligned(), threads=2)
    found = pair_differentials(evaluation, read_groups(table))
    protocol = evaluation.protocol
    half = [{"p29": ""}.get(p[:3], "ab"[int(p[1:3]) % 2]) for p in protocol.photos]
    for one in found:
        for rate in one.groups:
            wrong = []
            for a, b, same, score in zip(
                protocol.first, protocol.second, protocol.same, evaluation.scores, strict=True
            ):
                if half[a] == half[b] == rate.group and same == (one.error == "FNMR"):
                    wrong.append((score >= one.threshold) != same)
            assert rate.trials == len(wrong)
            if rate.share:
                assert rate.share.rate == np.mean(wrong)
            else:
                assert rate.refused
    searching = run_identification(identification(data), Colours(), Aligned(), threads=2, groups=read_groups(table))
    assert {one.error for one in searching.groups or ()} == {"FNIR", "FPIR"}
    assert as_json(None) == "not measured"


def test_a_ratio_knows_that_two_people_are_few(tmp_path: Path) -> None:
    """Both groups are one couple of people: neither rate is known, so neither is their ratio, for all the pairs."""
    table = tmp_path / "groups.csv"
    table.write_text("person,g\na,f\nb,f\nc,m\nd,m\n")
    people = [person for person in "abcd" for _ in range(10)]
    first = np.array([i for i in range(10) for _ in range(10)] + [20 + i for i in range(10) for _ in range(10)])
    second = np.array(2 * [10 + j for j in range(10)] * 10)
    second = np.where(first < 20, second, second + 20)
    wrong = np.zeros(200, bool)
    wrong[:21], wrong[100:106] = True, True
    whose = np.array([0] * 10 + [1] * 10 + [2] * 10 + [3] * 10)
    decided = Decided("FMR", wrong, first, second, whose[first], whose[second])
    names = [f"{person}/{i}" for i, person in enumerate(people)]
    (one,) = differentials(read_groups(table), names, people, [decided], 0.5)
    assert one.worst_to_best.value == pytest.approx(21 / 6)
    assert one.worst_to_best.ci95 is not None
    assert one.worst_to_best.ci95[0] == 1
    assert one.worst_to_best.ci95[1] > 100


def test_ratios_of_groups(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("person,g\n" + "".join(f"{i},{'abc'[i // 40]}\n" for i in range(120)))
    photos = np.arange(1200)
    whose = photos // 10
    people = [str(person) for person in whose]
    wrong = np.zeros(1200, bool)
    for group, errors in enumerate((80, 20, 10)):
        wrong[400 * group + np.random.default_rng(0).permutation(400)[:errors]] = True
    names = [f"{person}/x" for person in people]
    decided = Decided("FNMR", wrong, photos, photos, whose, whose)
    (one,) = differentials(read_groups(table), names, people, [decided], 0.5)
    assert [rate.share.rate for rate in one.groups if rate.share] == [0.2, 0.05, 0.025]
    assert one.worst_to_best.value == pytest.approx(8)
    assert one.worst_to_mean.value == pytest.approx(0.2 / (0.2 * 0.05 * 0.025) ** (1 / 3))
    assert one.worst_to_mean.ci95 is not None
    assert one.worst_to_mean.ci95[0] < one.worst_to_mean.value < one.worst_to_mean.ci95[1]
    worst, best = (one.groups[i].share for i in (0, 2))
    assert worst is not None
    assert best is not None
    down = math.hypot(math.log(0.2 / worst.ci95[0]), math.log(best.ci95[1] / 0.025))
    up = math.hypot(math.log(worst.ci95[1] / 0.2), math.log(0.025 / best.ci95[0]))
    assert one.worst_to_best.ci95 == pytest.approx((8 / math.exp(down), 8 * math.exp(up)))
    wrong[800:] = False
    (none,) = differentials(read_groups(table), names, people, [decided], 0.5)
    assert "without an error" in str(none.worst_to_best.refused)
    assert none.worst_to_best.as_json()["ratio"] is None
    ten = slice(410)  # ten searches of one person in the second group
    few = Decided("FMR", wrong[ten], photos[ten], photos[ten], whose[ten], whose[ten])
    wrong[:300] = wrong[400:] = False
    (short,) = differentials(read_groups(table), names, people, [few], 0.5)
    assert short.groups[2].refused is not None
    assert short.worst_to_best.refused == "a group has no rate"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("age,sex\n1,2\n", "line 1"),
        ("person\np00\n", "line 1"),
        ("person,photo,age\n", "line 1"),
        ("person,age\np00\n", "line 2: 1 cells"),
        ("person,age\np00,1\np00,2\n", "line 3: p00 stands there a second time"),
        ("person,age\n" + "".join(f"p{i},{i}\n" for i in range(101)), "more than 100 groups"),
        ('person,age\n"p00,1\n', "not a CSV"),
        ("person,age\n\udcff,1\n", "not a CSV"),
    ],
)
def test_a_table_that_is_wrong_is_named(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=says):
        read_groups(tmp_path / "g.csv")


def test_a_table_of_other_people_or_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_groups(tmp_path / "absent.csv")
    (tmp_path / "g.csv").write_text("\ufeffphoto,age\nq/1.jpg,old\n", encoding="utf-8")
    with pytest.raises(DataError, match="names none of the 1 photos"):
        differentials(read_groups(tmp_path / "g.csv"), ["p/1.jpg"], ["p"], [], 0.0)

"""The doctor and the auditor on planted defects: drawn faces with planted vectors, and a few real ones."""

import csv
import importlib
import io
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.core.scores import unit_vectors
from facespace.data.drawn import draw_crop, person
from facespace.data.folder import People, PhotoRef, open_people
from facespace.errors import DataError, Refused
from facespace.faces.detect import Aligned
from facespace.judge.audit import alike_people, audit, normalised, reason
from facespace.judge.audit import cases as audit_cases
from facespace.judge.doctor import diagnose
from facespace.judge.duplicates import BITS, CANDIDATE, fingerprint, near_copies
from facespace.judge.findings import Finding, cases
from facespace.judge.likeness import Group, coherences, likeness_across, likeness_of_parts, neighbours, two_parts
from facespace.judge.misnamed import Reference, doubts
from facespace.judge.sheets import grid, page

PEOPLE, EACH, DIM = 16, 6, 48


class Planted:
    """Knows who is drawn in a picture, whatever name it stands under, by the nearest of the pictures it was shown."""

    name, contract, dim = "planted", "p1a47ed", DIM

    def __init__(self, pictures: dict[tuple[int, int], np.ndarray]) -> None:
        self._keys = list(pictures)
        self._small = np.stack([self._tiny(picture) for picture in pictures.values()])
        centres = unit_vectors(np.random.default_rng(1).normal(size=(1000, DIM)))
        noise = {key: np.random.default_rng(key).normal(size=DIM) * 0.07 for key in self._keys}
        self._vectors = np.stack([centres[key[0]] + noise[key] for key in self._keys])

    def embed(self, faces: AlignedFaces) -> Vectors:
        apart = [
            np.minimum(*(np.abs(self._small - self._tiny(f)).mean((1, 2, 3)) for f in (face, face[:, ::-1])))
            for face in faces
        ]
        return unit_vectors(self._vectors[np.argmin(apart, 1)])

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return a @ b.T

    @staticmethod
    def _tiny(picture: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(picture), (28, 28), interpolation=cv2.INTER_AREA).astype(np.float32)


@pytest.fixture(scope="module")
def pictures() -> dict[tuple[int, int], np.ndarray]:
    return {(who, shot): draw_crop(person(0, who), shot) for who in range(PEOPLE) for shot in range(EACH)}


def encoded(picture: np.ndarray, quality: int = 95) -> bytes:
    return cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def healthy(pictures: dict[tuple[int, int], np.ndarray]) -> dict[str, bytes]:
    return {f"p{who:02d}/{shot}.jpg": encoded(picture) for (who, shot), picture in pictures.items()}


def people_of(content: dict[str, bytes]) -> People:
    refs = sorted((PhotoRef(name.rsplit("/", 1)[0], name) for name in content), key=lambda ref: ref.name)
    return People(Path("drawn"), tuple(refs), content.__getitem__)


def test_a_healthy_folder_has_no_findings(pictures) -> None:  # type: ignore[no-untyped-def]
    result = diagnose(people_of(healthy(pictures)), Planted(pictures), Aligned(), threads=2)
    assert result.findings == ()
    assert result.refused == ()
    assert result.photos_per_person == {EACH: PEOPLE}
    document = result.as_json()
    assert document["healthy"] is True
    assert document["thresholds"]["split"]["impostors"] == PEOPLE
    assert document["data"]["digest"] == people_of(healthy(pictures)).digest


@pytest.fixture(scope="module")
def sick(pictures) -> dict[str, bytes]:  # type: ignore[no-untyped-def]
    """One defect of every kind, and both kinds of copies under the same and under another name."""
    content = healthy(pictures)
    content["p00/0.jpg"] = content["p00/0.jpg"][:900]
    content["p00/broken.png"] = b"no picture"
    content["p01/same.jpg"] = content["p01/0.jpg"]
    content["p02/0-stolen.jpg"] = content["p03/1.jpg"]
    content["p04/worse.jpg"] = encoded(pictures[4, 2], 40)
    content["p05/mirrored.jpg"] = encoded(pictures[6, 3][:, ::-1], 60)
    content["p07/wrong.jpg"] = content.pop("p08/4.jpg")
    for shot in range(EACH):
        content[f"p09/other-{shot}.jpg"] = content.pop(f"p10/{shot}.jpg")
    for shot in range(3):
        content[f"p11-b/{shot}.jpg"] = content.pop(f"p11/{shot}.jpg")
    return content


def test_every_planted_defect_is_found_and_nothing_else(pictures, sick) -> None:  # type: ignore[no-untyped-def]
    result = diagnose(people_of(sick), Planted(pictures), Aligned(), threads=2)
    found = {(f.kind, f.person, f.other, f.photos) for f in result.findings if f.kind != "merged"}
    assert found == {
        ("corrupt", "p00", None, ("p00/0.jpg",)),
        ("corrupt", "p00", None, ("p00/broken.png",)),
        ("duplicate", "p01", None, ("p01/same.jpg",)),
        ("duplicate", "p02", "p03", ("p02/0-stolen.jpg",)),
        ("near_duplicate", "p04", None, ("p04/worse.jpg",)),
        ("near_duplicate", "p05", "p06", ("p05/mirrored.jpg",)),
        ("mislabelled", "p07", "p08", ("p07/wrong.jpg",)),
        ("split", "p11-b", "p11", tuple(f"p11-b/{shot}.jpg" for shot in range(3))),
    }
    (merged,) = (f for f in result.findings if f.kind == "merged")
    assert merged.person == "p09"
    assert len({photo.split("/")[1].startswith("other") for photo in merged.photos}) == 1
    assert len(merged.photos) == EACH
    assert all(f.sure > 0.7 for f in result.findings)


def test_the_list_has_a_row_for_each_photo_to_act_upon(pictures, sick) -> None:  # type: ignore[no-untyped-def]
    result = diagnose(people_of(sick), Planted(pictures), Aligned(), threads=2)
    rows = list(csv.DictReader(io.StringIO(result.as_csv())))
    assert len(rows) == sum(len(f.photos) for f in result.findings)
    (stolen,) = (row for row in rows if row["photo"] == "p02/0-stolen.jpg")
    assert (stolen["other"], stolen["beside"], float(stolen["sure"])) == ("p03", "p03/1.jpg", 1.0)
    shown = page("t <b>", "about", cases(result, people_of(sick), Aligned()))
    assert shown.count("<section>") == len(result.findings)
    assert "t &lt;b&gt;" in shown
    assert "http" not in shown


def test_too_few_people_are_told_so_and_copies_are_found_still(pictures) -> None:  # type: ignore[no-untyped-def]
    content = {name: data for name, data in healthy(pictures).items() if name < "p04"}
    content["p00/same.jpg"] = content["p00/0.jpg"]
    result = diagnose(people_of(content), Planted(pictures), Aligned(), threads=1)
    assert [f.photos for f in result.findings if f.kind == "duplicate"] == [("p00/same.jpg",)]
    assert {f.kind for f in result.findings} <= {"duplicate", "near_duplicate"}  # two drawn shots may be much alike
    assert "4 people have four photos or more" in result.refused[0]


def test_names_that_say_nothing_are_refused() -> None:
    rng = np.random.default_rng(0)
    vectors = unit_vectors(rng.normal(size=(60, 8)))
    vectors[::2] = -vectors[1::2]
    with pytest.raises(Refused, match="no more alike than nothing"):
        coherences(Group(vectors, np.repeat(np.arange(30), 2), lambda a, b: a @ b.T))


def small_group() -> Group:
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(5), [3, 1, 4, 5, 2])
    return Group(
        unit_vectors(rng.normal(size=(5, 12))[labels] + rng.normal(size=(15, 12))), labels, lambda a, b: a @ b.T
    )


def test_likenesses_are_those_of_loops_over_photos() -> None:
    group = small_group()
    v, labels = group.vectors.astype(np.float64), group.labels
    coherence = coherences(group)
    means, pairs = [], []
    for p in range(5):
        own = np.flatnonzero(labels == p)
        scores = [float(v[i] @ v[j]) for i in own for j in own if i < j]
        pairs.append(scores)
        means += [np.mean(scores)] if scores else []
    typical = np.median(means)
    expected = np.array([max((sum(s) + 5 * typical) / (len(s) + 5), typical / 4) for s in pairs])
    np.testing.assert_allclose(coherence.values, expected, atol=1e-6)
    found = neighbours(group, coherence)
    for i in range(len(v)):
        like = {p: np.mean([v[i] @ v[j] for j in np.flatnonzero(labels == p)]) / np.sqrt(expected[p]) for p in range(5)}
        own = [v[i] @ v[j] for j in np.flatnonzero(labels == labels[i]) if j != i]
        mine = np.mean(own) / np.sqrt(expected[labels[i]]) if own else np.nan
        del like[int(labels[i])]
        order = sorted(like, key=lambda p: -like[p])
        np.testing.assert_allclose(found.own[i], mine, atol=1e-6)
        three = [found.near[i], found.second[i], found.third[i]]
        np.testing.assert_allclose(three, [like[p] for p in order[:3]], atol=1e-6)
        assert found.nearest[i] == order[0]
    for p in range(5):
        for q in range(5):
            mean = np.mean([v[i] @ v[j] for i in np.flatnonzero(labels == p) for j in np.flatnonzero(labels == q)])
            assert found.between[p, q] == pytest.approx(mean / np.sqrt(expected[p] * expected[q]), abs=1e-6)
    np.testing.assert_allclose(likeness_across(group, group, coherence, coherence), found.between, atol=1e-6)


def planted_group(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Forty people, six photos each: their unit vectors, and whose they are."""
    labels = np.repeat(np.arange(40), 6)
    centres = unit_vectors(rng.normal(size=(40, 64)))
    return unit_vectors(centres[labels] + 0.08 * rng.normal(size=(240, 64))), labels


def test_a_photo_that_is_a_little_like_many_people_is_not_called_another_s() -> None:
    """Photo 0 lies between two strangers, photo 6 is one of them; of both, the own person is as far away."""
    vectors, labels = planted_group(np.random.default_rng(3))
    vectors[0] = unit_vectors((vectors[60:66].sum(0) + vectors[120:126].sum(0))[None])[0]
    vectors[6] = vectors[61]
    found = doubts(Group(vectors, labels, lambda a, b: a @ b.T))
    assert [(wrong.photo, wrong.person) for wrong in found.mislabelled] == [(6, 10)]
    assert found.photos.threshold < 0.6  # photo 0 is near enough: it is its second nearest that speaks against it


def test_photos_of_three_people_under_a_fourth_s_name_are_single_wrong_photos() -> None:
    """Not a person of their own, though together they are unlike the rest; three photos of one stranger are."""
    vectors, labels = planted_group(np.random.default_rng(4))
    vectors[[0, 1, 2]] = vectors[[60, 120, 180]]
    stranger = unit_vectors(np.random.default_rng(7).normal(size=(1, 64)))
    vectors[[6, 7, 8]] = unit_vectors(stranger + 0.08 * np.random.default_rng(6).normal(size=(3, 64)))
    found = doubts(Group(vectors, labels, lambda a, b: a @ b.T))
    assert {(wrong.photo, wrong.person) for wrong in found.mislabelled} == {(0, 10), (1, 20), (2, 30)}
    assert [(two.person, set(two.photos) in ({6, 7, 8}, {9, 10, 11})) for two in found.merged] == [(1, True)]


def test_people_nearest_to_each_other_pass_a_lower_threshold() -> None:
    between = np.array([[0.9, 0.2, 0.1], [0.5, 0.7, 0.65], [0.1, 0.6, 0.3]], np.float32)
    assert np.argwhere(alike_people(between, 0.8, 0.55)).tolist() == [[0, 0], [1, 1]]
    assert np.argwhere(alike_people(between, 0.62, 0.55)).tolist() == [[0, 0], [1, 1], [1, 2]]
    assert np.argwhere(alike_people(between, 0.8, 0.71)).tolist() == [[0, 0]]


def test_two_people_fall_apart_and_are_less_alike_than_one() -> None:
    group = small_group()
    likes = group.among(np.concatenate([group.photos_of(2), group.photos_of(3)]))
    blocks = np.full((9, 9), 0.05)
    blocks[:4, :4] = blocks[4:, 4:] = 0.6
    np.fill_diagonal(blocks, 1.0)
    assert two_parts(blocks).tolist() == [True] * 4 + [False] * 5
    assert two_parts(likes).sum() <= 4
    one = likeness_of_parts(np.full((6, 6), 0.6) + 0.4 * np.eye(6), np.arange(6) < 3, coherences(group))
    assert likeness_of_parts(blocks, two_parts(blocks), coherences(group)) < 0.2 < one


def test_how_sure_a_score_is() -> None:
    reference = Reference(np.linspace(0.5, 1, 99), np.linspace(0, 0.6, 99), 0.55)
    assert reference.same(1.0) > 0.98
    assert reference.same(0.0) < 0.02
    assert reference.same(0.55) == pytest.approx(0.5, abs=0.1)
    assert reference.as_json()["genuine_below"] == pytest.approx(np.mean(np.linspace(0.5, 1, 99) < 0.55))


def test_a_fingerprint_knows_its_picture_again_and_its_mirror_image(pictures) -> None:  # type: ignore[no-untyped-def]
    picture = pictures[0, 0]
    again = cv2.resize(cv2.convertScaleAbs(picture, alpha=1.1, beta=5), (70, 70), interpolation=cv2.INTER_AREA)
    flat = np.full((112, 112, 3), 90, np.uint8)
    shown = [picture, again, picture[:, ::-1].copy(), pictures[1, 0], flat, flat]
    prints = np.stack([fingerprint(p) for p in shown])
    copies = near_copies(prints, np.array([0, 1, 2, 3, 4, 5]))
    assert {tuple(pair) for pair in copies.pairs.tolist()} == {(0, 1), (0, 2), (1, 2)}
    assert copies.bits.max() < CANDIDATE
    for a, b in ((0, 1), (0, 3)):
        mirrored = fingerprint(shown[b][:, ::-1].copy())
        expected = min(int((prints[a] != prints[b]).sum()), int((prints[a] != mirrored).sum()))
        apart = near_copies(prints[[a, b]], np.array([0, 1])).strangers[0]
        assert abs(apart - expected) <= 2  # a frequency of nothing has no sign to turn
    assert copies.strangers[4] == BITS // 2


def test_a_grid_is_as_square_as_can_be() -> None:
    faces = [np.full((2, 2, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = grid(faces)
    assert sheet.shape == (4, 4, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((0, 0), (0, 2), (2, 0), (2, 2))] == [10, 20, 30, 255]


@pytest.mark.parametrize("name", ["Bush, José W.", "jose_w_bush", "x/W  BUSH  jose"])
def test_names_are_compared_without_case_accents_and_order(name: str) -> None:
    assert normalised(name) == "bush jose w"
    assert normalised("celeba-0001") != normalised("celeba-0002")


def test_people_of_both_sets_are_found_by_name_face_and_file(pictures) -> None:  # type: ignore[no-untyped-def]
    content = healthy(pictures)
    train = {name: data for name, data in content.items() if name < "p10"}
    test = {name.replace("p", "q", 1): data for name, data in content.items() if name >= "p10"}
    for shot in range(3):  # by face alone: other photos, another name
        test[f"unknown/{shot}.jpg"] = train.pop(f"p00/{shot}.jpg")
    test["q10/copied.jpg"] = train["p01/0.jpg"]
    for shot in range(EACH):
        test[f"P02/{shot}.jpg"] = test.pop(f"q11/{shot}.jpg")  # by name alone
    sides = people_of(train), people_of(test)
    result = audit(*sides, Planted(pictures), Aligned(), threads=2)
    found = {(leak.train, leak.test): leak for leak in result.leaks}
    assert set(found) == {("p00", "unknown"), ("p01", "q10")}
    assert [(leak.by_name, leak.by_face, leak.photos) for _, leak in sorted(found.items())] == [
        (False, True, ()),
        (False, False, ("q10/copied.jpg",)),
    ]
    (namesakes,) = result.namesakes
    assert (namesakes.train, namesakes.test, namesakes.by_name, namesakes.by_face) == ("p02", "P02", True, False)
    assert result.compared["pairs_of_people_by_face"] == 10 * 7
    assert "not alike enough" in reason(namesakes)
    document = result.as_json()
    assert (document["people_of_test_in_train"], len(document["leaks"]), len(document["namesakes"])) == (2, 2, 1)
    assert len(audit_cases(result, *sides, Aligned())) == 3
    assert all(len(case.sides) == 2 and case.sides[0].faces for case in audit_cases(result, *sides, Aligned()))


@pytest.mark.parametrize(("name", "clean"), [("{:07d}", True), ("n{:07d}", True), ("p{:02d}", False)])
def test_folders_of_one_name_with_other_people_in_them_are_no_leak(pictures, name: str, clean: bool) -> None:  # type: ignore[no-untyped-def]
    content = healthy(pictures)
    sides: tuple[dict[str, bytes], dict[str, bytes]] = {}, {}
    for photo, data in content.items():
        side, number = divmod(int(photo[1:3]), 10)
        sides[side][f"{name.format(number)}/{photo[4:]}"] = data
    if not clean:  # person 0 stands in both
        sides[1].update({photo: data for photo, data in sides[0].items() if photo.startswith("p00/")})
    result = audit(*(people_of(side) for side in sides), Planted(pictures), Aligned(), threads=2)
    assert result.as_json()["clean"] is clean
    numbered = name == "{:07d}"
    assert len(result.namesakes) == (0 if numbered else PEOPLE - 10 - len(result.leaks))
    assert [leak.train for leak in result.leaks] == ([] if clean else ["p00"])


def test_people_with_one_photo_are_audited_too_and_small_sets_by_name(pictures) -> None:  # type: ignore[no-untyped-def]
    content = healthy(pictures)
    train = {name: data for name, data in content.items() if name < "p12" and not name.endswith("/0.jpg")}
    test = {f"t{name}": data for name, data in content.items() if name.endswith("/0.jpg") and name > "p06"}
    result = audit(people_of(train), people_of(test), Planted(pictures), Aligned(), threads=2)
    assert {(leak.train, leak.test) for leak in result.leaks} == {(f"p{i:02d}", f"tp{i:02d}") for i in range(6, 12)}
    few = {name: data for name, data in content.items() if name < "p03"}
    small = audit(people_of(few), people_of(few), Planted(pictures), Aligned(), threads=1)
    assert len(small.leaks) == 3
    assert small.leaks[0].likeness is None
    assert "faces are compared from 10" in small.refused[0]
    with pytest.raises(DataError, match="not one photo"):
        audit(people_of(few), people_of({"a/b.jpg": b"x"}), Planted(pictures), Aligned(), threads=1)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """`benchmarks/doctor.py`, which imports its neighbour."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        return importlib.import_module("doctor")
    finally:
        sys.path.pop(0)


def test_a_finding_is_known_again_when_its_photos_were_moved(benchmark: ModuleType) -> None:
    """The benchmark passes over what another model found before: the same photos, pair or people, and no other."""
    origins = {"x/moved-a-1.jpg": "a/1.jpg", "x/moved-a-2.jpg": "a/2.jpg", "a-b/moved-a-3.jpg": "a/3.jpg"}

    def found(kind: str, photos: tuple[str, ...], beside: tuple[str, ...] = ()) -> object:
        reasons = {"sure": 1.0, "person": photos[0].split("/")[0], "other": None, "why": "", "act": ""}
        return benchmark.named(Finding(kind=kind, photos=photos, beside=beside, **reasons), origins)  # type: ignore[arg-type]

    before = [
        found("near_duplicate", ("a/1.jpg",), ("a/2.jpg",)),
        found("mislabelled", ("a/3.jpg",), ("c/1.jpg", "c/2.jpg")),
        found("split", ("d/1.jpg", "d/2.jpg"), ("e/1.jpg",)),
        found("merged", tuple(f"f/{i}.jpg" for i in range(5)), ("f/9.jpg",)),
    ]
    there = benchmark.already_there
    assert there(found("near_duplicate", ("x/moved-a-2.jpg",), ("x/moved-a-1.jpg",)), before)
    assert not there(found("near_duplicate", ("x/moved-a-2.jpg",), ("a/4.jpg",)), before)
    assert there(found("mislabelled", ("a-b/moved-a-3.jpg",), ("c/1.jpg", "c/4.jpg")), before)
    assert not there(found("mislabelled", ("a-b/moved-a-3.jpg",), ("d/1.jpg",)), before)
    assert there(found("split", ("e/2.jpg",), ("d/1.jpg",)), before)
    assert not there(found("split", ("e/2.jpg",), ("f/1.jpg",)), before)
    assert there(found("merged", ("f/0.jpg", "f/1.jpg", "f/2.jpg", "f/3.jpg")), before)
    assert there(found("merged", ("f/7.jpg", "f/8.jpg", "f/9.jpg")), before)
    assert not there(found("merged", ("f/3.jpg", "f/4.jpg", "f/9.jpg")), before)


@pytest.mark.shared
def test_most_planted_identities_and_defects_are_found_on_real_faces(shared: Path, benchmark: ModuleType) -> None:
    """A part of what benchmarks/doctor.py does, with as many defects in proportion."""
    everyone = open_people(shared / "data/devtest.tar")
    people = everyone.only(frozenset(everyone.names[:120:2]))
    embedder, witness = (
        benchmark.remembering(str(shared / f"models/{name}.onnx"), None) for name in ("face512", "mobilefacenet")
    )
    before = [benchmark.named(finding) for finding in diagnose(people, witness, Aligned()).findings]
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("JOINED", 5), ("DIVIDED", 5), ("MOVED", 10), ("DAMAGED", 4), ("COPIED", 8)):
            patch.setattr(sys.modules["planting"], name, count)
        patch.setattr(benchmark, "IN_BOTH", 20)
        found = benchmark.doctored(people, embedder, before, 0)
        leaks = benchmark.audited(people, embedder, 0)
    assert found["planted"] == 40
    assert found["recall"] >= 0.9
    assert found["precision"] >= 0.9
    assert leaks["recall"] >= 0.9
    assert leaks["precision"] >= 0.8

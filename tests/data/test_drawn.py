"""Drawn faces: same numbers, same bytes; the truth told about a picture holds in it; people can be told apart."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core.geometry import TEMPLATE, similarity_transform, transform_points
from facespace.data.drawn import Shot, draw_crop, draw_photo, person, take_shot, write_people
from facespace.data.drawn.form import View, landmarks, relief
from facespace.data.drawn.shot import Camera, Expression, Light, Pose
from facespace.errors import DataError, UsageError


def test_the_same_numbers_give_the_same_person_shot_and_bytes() -> None:
    for index in range(3):
        one, again = person(5, index), person(5, index)
        assert one == again
        assert take_shot(one, 7) == take_shot(again, 7)
        assert draw_crop(one, 7).tobytes() == draw_crop(again, 7).tobytes()


def test_nothing_global_is_read_or_left_behind() -> None:
    """Neither other pictures drawn in between nor numpy's global generator matter, and the latter is not touched."""
    first = draw_crop(person(1, 4), 2)
    state = repr(np.random.get_state())  # noqa: NPY002
    draw_photo([person(9, 0), person(9, 1)], 3, size=(120, 160))
    assert repr(np.random.get_state()) == state  # noqa: NPY002
    assert np.array_equal(draw_crop(person(1, 4), 2), first)


def test_another_seed_person_or_photo_is_another_picture() -> None:
    crops = [draw_crop(person(seed, index), photo) for seed in (0, 1) for index in (0, 1) for photo in (0, 1)]
    assert len({c.tobytes() for c in crops}) == len(crops)
    assert all(c.shape == (112, 112, 3) and c.dtype == np.uint8 for c in crops)


def test_identity_is_fixed_and_shows_no_trace_of_the_photo() -> None:
    one = person(0, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.index = 3  # type: ignore[misc]
    before = dataclasses.asdict(one)
    draw_crop(one, 11)
    assert dataclasses.asdict(one) == before


def test_relatives_are_more_alike_than_strangers() -> None:
    """People 3k, 3k+1 and 3k+2 share a family: the spread of a shared trait is smaller within one."""
    reds = np.array([person(2, i).skin.colour[0] for i in range(150)]).reshape(50, 3)
    assert reds.var(axis=1).mean() < 0.6 * reds.var()


def test_frontal_landmarks_lie_on_the_template() -> None:
    """The similarity that best aligns a face's own proportions leaves 2.5 pixels at most, and about 1 on average."""
    off = []
    for index in range(60):
        plane = landmarks(person(3, index), Expression())
        placed = transform_points(similarity_transform(plane, TEMPLATE), plane)
        off.append(np.linalg.norm(placed - TEMPLATE, axis=1))
    assert np.max(off) < 2.5
    assert np.mean(off) < 1.2


def test_eyes_are_drawn_where_the_landmarks_say() -> None:
    """In a flawless shot the middle of the dark of each eye lies on the template: 2 pixels of mean offset at most."""
    offsets = []
    for index in range(20):
        dark = 255.0 - cv2.cvtColor(draw_crop(person(4, index), 0, Shot()), cv2.COLOR_RGB2GRAY)
        for x, y in TEMPLATE[:2]:
            rows, columns = np.mgrid[round(y) - 4 : round(y) + 5, round(x) - 6 : round(x) + 7]
            spot = dark[rows, columns]
            weight = np.where(spot >= np.quantile(spot, 0.85), spot, 0)
            offsets.append(((columns * weight).sum() / weight.sum() - x, (rows * weight).sum() / weight.sum() - y))
    assert np.abs(np.mean(offsets, axis=0)).max() < 2.0


def test_pose_moves_points_as_a_rotation_of_space_does() -> None:
    """Recomputed with rotation matrices in three dimensions, in float64."""
    one, pose = person(0, 1), Pose(yaw=0.4, pitch=-0.2)
    view = View(pose, np.eye(2, 3), relief(one, Expression()))
    flat = landmarks(one, Expression())
    c, s, cp, sp = math.cos(0.4), math.sin(0.4), math.cos(-0.2), math.sin(-0.2)
    turn_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    turn_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    space = np.column_stack([flat, view.depth(flat)]).astype(np.float64)
    expected = (turn_x @ turn_y @ space.T).T[:, :2]
    assert np.allclose(view.project(flat), expected, atol=1e-3)


def test_unproject_undoes_project_on_the_face() -> None:
    """A window of one pixel per unit: the cell at a projected landmark shows that landmark."""
    one = person(0, 2)
    view = View(Pose(yaw=-0.35, pitch=0.15), np.array([[1.0, 0, 60], [0, 1, 70]]), relief(one, Expression()))
    flat = landmarks(one, Expression())
    seen = view.unproject(0, 0, 120, 140)
    for (x, y), true in zip(view.project(flat), flat, strict=True):
        assert np.linalg.norm(seen[round(float(y)), round(float(x))] - true) < 2.0


def test_light_from_one_side_brightens_that_side() -> None:
    one = person(0, 3)
    left, right = (
        draw_crop(one, 0, Shot(light=Light(direction=(x, 0.0, 0.6), strength=0.8))).astype(float)[45:95]
        for x in (-0.8, 0.8)
    )
    assert left[:, 30:50].mean() > right[:, 30:50].mean() + 10
    assert right[:, 62:82].mean() > left[:, 62:82].mean() + 10


@pytest.mark.parametrize(
    "change",
    [
        {"glasses": True},
        {"obstacle": "mask"},
        {"obstacle": "scarf"},
        {"obstacle": "hat"},
        {"obstacle": "hand"},
        {"obstacle": "bar"},
        {"obstacle": "sunglasses"},
        {"hair_change": 1.0},
        {"tan": 1.0},
        {"expression": Expression(smile=1.0, mouth_open=0.8)},
        {"expression": Expression(blink=1.0)},
        {"camera": Camera(motion=4.0, blur=1.0, resolution=0.4, noise=5.0, jpeg=40)},
    ],
)
def test_each_circumstance_shows(change: dict[str, Any]) -> None:
    plain, changed = draw_crop(person(6, 0), 0, Shot()), draw_crop(person(6, 0), 0, Shot(**change))
    assert np.abs(plain.astype(int) - changed).max() > 12


def test_all_hair_and_beard_styles_occur_and_are_drawn() -> None:
    people = [person(8, i) for i in range(120)]
    chosen = {p.hair.style: p for p in people} | {p.hair.beard: p for p in people}
    assert len({p.hair.style for p in people}) == 11
    assert len({p.hair.beard for p in people}) == 5
    for one in chosen.values():
        assert draw_crop(one, 0).std() > 5


def _grey_vectors(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey 32x32 pixels of crops `(P, N, 112, 112, 3)`, each of mean 0 and norm 1: `(P, N, 1024)`."""
    small = [[cv2.resize(cv2.cvtColor(c, cv2.COLOR_RGB2GRAY), (32, 32)) for c in row] for row in crops]
    v = np.array(small, np.float64).reshape(*crops.shape[:2], -1)
    v -= v.mean(-1, keepdims=True)
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    return v


def test_people_can_be_told_apart_but_not_trivially() -> None:
    """By bare pixels, two photos of a person are more alike than of two people: on the whole, far from always."""
    people, photos = 16, 8
    v = _grey_vectors(np.array([[draw_crop(person(7, 3 * i), k) for k in range(photos)] for i in range(people)]))
    cosine = np.einsum("ank,bmk->anbm", v, v)
    same = np.array([cosine[a, n, a, m] for a in range(people) for n in range(photos) for m in range(n)])
    other = np.array(
        [cosine[a, n, b, m] for a in range(people) for b in range(a) for n in range(photos) for m in range(n)]
    )
    auc = (same[:, None] > other[None]).mean()
    assert 0.6 < auc < 0.95


def test_photo_tells_the_truth_about_its_faces() -> None:
    crowd = [person(1, i) for i in range(7)]
    photo, faces = draw_photo(crowd, 2, size=(360, 480), seed=5)
    again, same = draw_photo(crowd, 2, size=(360, 480), seed=5)
    assert photo.shape == (360, 480, 3)
    assert photo.dtype == np.uint8
    assert np.array_equal(photo, again)
    assert faces == same
    assert len(faces) == 7
    for face in faces:
        x, y, w, h = face.box
        assert face.source == "drawn"
        assert 0 < face.score <= 1
        assert 0 <= x < x + w <= 480
        assert 0 <= y < y + h <= 360
        assert all(x < px < x + w and y < py < y + h for px, py in face.landmarks)
        (lx, ly), (rx, ry), (_, nose), (mx, my), (qx, qy) = face.landmarks
        assert lx < rx
        assert mx < qx
        assert max(ly, ry) < nose < min(my, qy)


def test_faces_of_a_photo_do_not_hide_each_other() -> None:
    """The five landmarks of each lie outside the boxes of all the others."""
    _, faces = draw_photo([person(2, i) for i in range(12)], 0, size=(480, 640))
    for face in faces:
        for x, y, w, h in (other.box for other in faces if other is not face):
            assert not any(x < px < x + w and y < py < y + h for px, py in face.landmarks)


def test_face_aligned_from_a_photo_shows_the_person_of_the_crop() -> None:
    """Aligned by its true landmarks, the face of a photo mostly resembles its own crop more than a stranger's."""
    hits = 0
    for index in range(0, 24, 3):
        photo, faces = draw_photo([person(7, index)], 1, size=(360, 360))
        matrix = similarity_transform(faces[0].landmarks, TEMPLATE)
        aligned = cv2.warpAffine(photo, matrix, (112, 112))
        crops = [draw_crop(person(7, i), 0, Shot()) for i in (index, (index + 9) % 24)]
        probe, own, other = _grey_vectors(np.array([[aligned, *crops]]))[0]
        hits += bool(probe @ own > probe @ other)
    assert hits >= 6


def test_tree_of_people(tmp_path: Path) -> None:
    target = tmp_path / "people"
    assert write_people(target, people=3, photos=2, seed=4) == 6
    files = sorted(p.relative_to(target).as_posix() for p in target.rglob("*.jpg"))
    assert files == [f"drawn-{p:04d}/{k:04d}.jpg" for p in range(3) for k in (1, 2)]
    decoded = cv2.imread(str(target / "drawn-0001/0002.jpg"))
    assert decoded is not None
    assert np.abs(decoded[:, :, ::-1].astype(int) - draw_crop(person(4, 1), 1)).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["people"]


def test_tree_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        write_people(tmp_path / name, people=2, photos=2, workers=workers)
    one, two = ({p.name + p.parent.name: p.read_bytes() for p in (tmp_path / n).rglob("*.jpg")} for n in ("one", "two"))
    assert one == two


def test_tree_leaves_what_is_there_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="taken") as refused:
        write_people(tmp_path, people=1, photos=1)
    assert refused.value.file == str(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_failed_tree_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("facespace.data.drawn.tree._write_person", fail)
    with pytest.raises(OSError, match="disk full"):
        write_people(tmp_path / "people", people=1, photos=1)
    assert not list(tmp_path.iterdir())


def test_impossible_arguments_are_refused(tmp_path: Path) -> None:
    one = person(0, 0)
    for refused in (
        lambda: person(-1, 0),
        lambda: person(0, -1),
        lambda: draw_crop(one, -1),
        lambda: draw_photo([], 0),
        lambda: draw_photo([one], -1),
        lambda: draw_photo([one], 0, seed=-1),
        lambda: draw_photo([one] * 40, 0, size=(60, 80)),
        lambda: write_people(tmp_path / "a", people=0),
        lambda: write_people(tmp_path / "a", photos=0),
        lambda: write_people(tmp_path / "a", workers=0),
        lambda: write_people(tmp_path / "a", seed=-1),
    ):
        with pytest.raises(UsageError):
            refused()
    assert not (tmp_path / "a").exists()


@pytest.mark.shared
def test_yunet_finds_drawn_faces(shared: Path) -> None:
    """Drawn faces stand in for photos where a detector is exercised, so a detector must find them."""
    crowd = [person(3, i) for i in range(10)]
    photo, faces = draw_photo(crowd, 1, size=(480, 640))
    detector = cv2.FaceDetectorYN.create(str(shared / "models/yunet_n_dynamic.onnx"), "", (640, 480), 0.5)
    _, found = detector.detect(photo[:, :, ::-1].copy())
    assert found is not None
    assert len(found) == 10
    for face in faces:
        eyes = math.dist(*face.landmarks[:2])
        off = np.linalg.norm(found[:, 4:14].reshape(-1, 5, 2) - np.array(face.landmarks), axis=2).mean(axis=1)
        assert off.min() < 0.25 * eyes

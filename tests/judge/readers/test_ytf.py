"""YouTube Faces in its own layout, on drawn faces: videos as templates, against loops over frames."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from facespace.cli import app
from facespace.cli.asked import Asked, Average, ProtocolName
from facespace.cli.protocols import open_protocol
from facespace.data.drawn import draw_crop, person
from facespace.errors import DataError, UsageError
from facespace.faces.detect import Aligned
from facespace.faces.photo import read_photo
from facespace.judge.identification import Enrolment
from facespace.judge.protocols import PairProtocol
from facespace.judge.readers.ytf import ytf
from facespace.judge.run import run
from facespace.models.embedder import load
from tiny_onnx import save_tiny

VIDEOS = {f"Person_{who}/{video}": who for who in range(4) for video in (0, 5)}
NUMBERS = (2, 9, 10, 100)
"""Of the frames: their order by number is not that of their names."""
HEADER = "split number, pair number, first name, second name, is same"


def listed() -> list[tuple[int, str, str, int]]:
    names = list(VIDEOS)
    pairs = [(a, b, int(VIDEOS[a] == VIDEOS[b])) for i, a in enumerate(names) for b in names[i + 1 :]]
    genuine, others = [pair for pair in pairs if pair[2]], [pair for pair in pairs if not pair[2]]
    return [(1 + at % 2, *pair) for kind in (genuine, others) for at, pair in enumerate(kind)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ytf")
    for at, (video, who) in enumerate(VIDEOS.items()):
        folder = root / "frame_images_DB" / video
        folder.mkdir(parents=True)
        for number in NUMBERS:
            stream = io.BytesIO()
            Image.fromarray(draw_crop(person(0, who), 100 * at + number)).save(stream, "PNG")
            (folder / f"{video[-1]}.{number}.jpg").write_bytes(stream.getvalue())
    lines = [f"{fold}, {at}, {a}, {b}, {same}" for at, (fold, a, b, same) in enumerate(listed(), 1)]
    (root / "splits.txt").write_text("\n".join([HEADER, *lines]) + "\n")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx", card={}, dim=16)


def vectors(root: Path, model: Path, video: str, frames: int) -> list[NDArray[np.float64]]:
    """Unit vectors of the first frames by number; without those that are no picture."""
    embedder, found = load(model, threads=1), []
    for number in NUMBERS[:frames]:
        content = (root / "frame_images_DB" / video / f"{video[-1]}.{number}.jpg").read_bytes()
        if content != b"no picture":
            vector = embedder.embed(read_photo(content)[None])[0].astype(np.float64)
            found.append(vector / np.linalg.norm(vector))
    return found


def by_loops(root: Path, model: Path, frames: int, average: str) -> list[float]:
    scores = []
    for _, a, b, _ in listed():
        one, other = vectors(root, model, a, frames), vectors(root, model, b, frames)
        if not one or not other:
            scores.append(-np.inf)
        elif average == "score":
            scores.append(float(np.mean([x @ y for x in one for y in other])))
        else:
            x, y = np.mean(one, 0), np.mean(other, 0)
            scores.append(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
    return scores


@pytest.mark.parametrize("average", ["embedding", "score"])
@pytest.mark.parametrize("frames", [1, 3, 100])
def test_videos_are_compared_by_their_first_frames(made: Path, model: Path, average: str, frames: int) -> None:
    protocol = ytf(made, frames, "score" if average == "score" else "embedding")
    result = run(protocol, load(model, threads=1), Aligned(), threads=2, pictures=1)
    np.testing.assert_allclose(result.scores, by_loops(made, model, frames, average), atol=1e-5)
    assert protocol.folds.tolist() == [fold for fold, *_ in listed()]
    assert (protocol.people, protocol.images) == (4, min(frames, 4) * len(VIDEOS))
    assert set(result.crops) <= set(VIDEOS)


@pytest.mark.parametrize("average", ["embedding", "score"])
def test_frames_without_a_face_are_left_out_and_a_video_of_none_loses_its_pairs(
    made: Path, model: Path, average: str, tmp_path: Path
) -> None:
    root = shutil.copytree(made, tmp_path / "set")
    (root / "frame_images_DB" / "Person_0" / "0" / "0.9.jpg").write_bytes(b"no picture")
    for path in (root / "frame_images_DB" / "Person_1" / "5").iterdir():
        path.write_bytes(b"no picture")
    protocol = ytf(root, 100, "score" if average == "score" else "embedding")
    result = run(protocol, load(model, threads=1), Aligned(), threads=1)
    np.testing.assert_allclose(result.scores, by_loops(root, model, 100, average), atol=1e-5)
    assert np.isneginf(result.scores).sum() == len(VIDEOS) - 1
    assert result.as_json()["failures"]["to_acquire"] == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 has not the columns"),
        ("split number, first name, is same\n", "line 1 has not the columns"),
        (HEADER + "\n", "empty list"),
        (HEADER + "\n1, 1, Person_0/0, Person_0/5, 2\n", "line 2 is not"),
        (HEADER + "\n1, 1, Person_0/0, Person_0/5, 1\n0, 1, Person_0/0, Person_0/5, 1\n", "line 3 is not"),
        (HEADER + "\n1, 1, Person_0/0, Person_0\n", "line 2 is not"),
        (HEADER + "\n1, 1, ../0, Person_0/5, 1\n", "line 2 is not"),
        (HEADER + "\n1, 1, Person_0/0, Person_9/5, 1\n", "video Person_9/5 cannot be listed"),
    ],
)
def test_malformed_lines_and_missing_videos_are_refused(made: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "frame_images_DB").symlink_to(made / "frame_images_DB")
    (tmp_path / "splits.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        ytf(tmp_path)


def test_other_columns_and_aligned_crops_are_taken_too_and_frames_are_bounded(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "frame_images_DB", tmp_path / "aligned_images_DB")
    lines = [f"{fold},{a},{b},0.5,{same}" for fold, a, b, same in listed()]
    (tmp_path / "splits.txt").write_text("Split,First name,Second name,similarity,Is same\n" + "\n".join(lines))
    one, other = ytf(made), ytf(tmp_path)
    assert one.photos == other.photos
    assert one.templates is not None
    assert other.templates is not None
    assert one.templates.photos == other.templates.photos
    np.testing.assert_array_equal(one.same, other.same)
    with pytest.raises(UsageError, match="1001 frames"):
        ytf(made, 1001)
    shutil.rmtree(tmp_path / "aligned_images_DB" / "Person_0" / "0")
    (tmp_path / "aligned_images_DB" / "Person_0" / "0").mkdir()
    with pytest.raises(DataError, match="Person_0/0 has no frame"):
        ytf(tmp_path)


def test_another_list_is_taken_and_named(made: Path, model: Path, tmp_path: Path) -> None:
    corrected = tmp_path / "splits_corrected.txt"
    corrected.write_text((made / "splits.txt").read_text().replace(", 0\n", ", 1\n", 1))
    asked = ["evaluate", str(model), "--protocol", "ytf", "--data", str(made), "--detector", "aligned", "--json", "-q"]
    names = []
    for more in ([], ["--pairs", str(corrected)]):
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 0, done.output
        names.append(json.loads(done.stdout)["protocol"])
    assert names == ["ytf-splits", "ytf-splits_corrected"]
    assert ytf(made, listed=corrected).same.sum() == ytf(made).same.sum() + 1


def test_the_verb_takes_frames_and_the_way_of_averaging(made: Path, model: Path) -> None:
    asked = ["evaluate", str(model), "--protocol", "ytf", "--data", str(made), "--detector", "aligned", "--json", "-q"]
    documents = []
    for more in ([], ["--frames", "2"], ["--average", "score"]):
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 0, done.output
        documents.append(json.loads(done.stdout))
    assert [document["data"]["images"] for document in documents] == [32, 16, 32]
    assert len({document["auc"] for document in documents}) > 1
    given = Asked(made, None, None, 0, Enrolment(), None, frames=2, average=Average.score)
    protocol = open_protocol(ProtocolName.ytf, given)
    assert isinstance(protocol, PairProtocol)
    assert protocol.templates is not None
    assert protocol.templates.average == "score"

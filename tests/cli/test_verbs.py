"""verify, detect, embed, export and model: words, JSON and exit statuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from facespace.cli import app
from facespace.faces.detect import WEIGHTS
from tiny_onnx import save_tiny


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two crops, a text file, and a model whose threshold is 0.5."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    for name, seed in (("a.png", 1), ("b.png", 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "text.jpg").write_text("not an image")
    points = [{"at": "FMR=0.001", "threshold": 0.5}]
    card = {"operating_points": points, "commercial": False}
    save_tiny(tmp_path / "home" / "models" / "tiny.onnx", card=card, dim=64)
    return tmp_path


ALIGNED = ("--model", "tiny", "--detector", "aligned")


@pytest.mark.usefixtures("folder")
def test_verify_says_same_or_different_and_by_which_threshold() -> None:
    same = run("verify", "a.png", "a.png", *ALIGNED)
    assert (same.exit_code, same.stderr) == (0, "")
    assert same.stdout == "Same person (similarity 1.00 >= 0.50, FMR=0.001)\n"
    different = run("verify", "a.png", "b.png", *ALIGNED, "--threshold", "0.9999")
    assert different.exit_code == 1
    assert different.stdout.startswith("Different people (similarity ")
    assert " < 1.00, given)" in different.stdout


@pytest.mark.usefixtures("folder")
def test_verify_as_json_is_one_document_with_the_status_of_the_answer() -> None:
    for second, threshold, status in (("a.png", "0.5", 0), ("b.png", "0.9999", 1)):
        result = run("verify", "a.png", second, *ALIGNED, "--threads", "1", "--json", "--threshold", threshold)
        document = json.loads(result.stdout)
        assert (result.exit_code, document["same"]) == (status, status == 0)
        assert (document["device"], document["threads"]) == ("cpu", 1)
        assert result.stderr == ""


def test_verify_says_plainly_that_a_threshold_is_uncalibrated(folder: Path) -> None:
    save_tiny(folder / "bare.onnx", card={})
    args = ("verify", "a.png", "a.png", "--model", "bare.onnx", "--detector", "aligned")
    result = run(*args)
    assert "uncalibrated" in result.stdout
    assert "no operating point" in result.stderr
    assert run(*args, "--quiet").stderr == ""
    assert json.loads(run(*args, "--json").stdout)["at"] == "uncalibrated"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("args", "status", "code"),
    [
        (("a.png", "text.jpg"), 3, "bad_image"),
        (("a.png", "absent.png"), 3, "bad_image"),
        (("a.png", "b.png", "--commercial"), 7, "refused"),
        (("a.png", "b.png", "--device", "cuda"), 4, "device_unavailable"),
        (("a.png", "b.png", "--policy", "all"), 2, "usage"),
        (("a.png", "b.png", "--model", "nobody"), 4, "model_not_found"),
        (("a.png", "b.png", "--detector", "yunet"), 4, "model_not_found"),
        (("a.png", "b.png", "--threshold", "nan"), 2, "usage"),
        (("a.png", "b.png", "--threshold", "2"), 2, "usage"),
        (("a.png", "b.png", "--threshold", "-1.1"), 2, "usage"),
        (("a.png", "b.png", "--fmr", "5"), 2, "usage"),
        (("a.png", "b.png", "--std", "0"), 2, "usage"),
        (("a.png", "b.png", "--fmr", "0"), 2, "usage"),
        (("a.png", "b.png", "--fmr", "nan"), 2, "usage"),
        (("a.png", "b.png", "--detector-weights", "a.png"), 2, "usage"),
    ],
)
def test_verify_refuses_with_the_right_code(args: tuple[str, ...], status: int, code: str) -> None:
    plain = run("verify", *ALIGNED, *args)
    assert (plain.exit_code, plain.stdout) == (status, "")
    assert plain.stderr.startswith("Error: ")
    document = run("verify", *ALIGNED, *args, "--json")
    assert document.exit_code == status
    error = json.loads(document.stdout)["error"]
    assert error["code"] == code
    assert error["hint"] or code == "bad_image"


def test_embed_writes_what_it_can_and_names_the_rest(folder: Path) -> None:
    result = run("embed", "a.png", "text.jpg", "b.png", "-o", "out.npz", *ALIGNED, "--threads", "2", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert (document["photos"], document["faces"], document["threads"], document["device"]) == (3, 2, 2, "cpu")
    assert [failure["file"] for failure in document["failures"]] == ["text.jpg"]
    with np.load(folder / "out.npz") as arrays:
        assert arrays["embedding"].shape == (2, 64)
        assert json.loads(str(arrays["metadata"]))["contract"] == document["contract"]
    plain = run("embed", "a.png", "-o", "out.npz", *ALIGNED)
    assert (plain.exit_code, plain.stdout) == (0, "")
    assert "1 faces of 1 photos" in plain.stderr
    assert run("embed", "a.png", "-o", "out.csv", *ALIGNED).exit_code == 2


@pytest.mark.parametrize("verb", [("detect",), ("embed", "-o", "vectors.npz", "--model", "tiny")])
def test_a_folder_without_photos_is_an_error_and_writes_nothing(folder: Path, verb: tuple[str, ...]) -> None:
    (folder / "empty").mkdir()
    result = run(*verb, "empty", "--detector", "aligned", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"], error["file"]) == (5, "bad_data", "empty")
    assert not (folder / "vectors.npz").exists()


def test_an_output_that_cannot_be_written_is_named_and_no_fault_of_ours(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    (folder / "is.onnx").mkdir()
    for verb in (
        ("embed", "a.png", "-o", "file/vectors.npz", *ALIGNED),
        ("export", "runs/first", "-o", "file/deep/x.onnx"),
        ("doctor", ".", "--list", "file/d.csv", *ALIGNED),
        ("doctor", ".", "--sheet", "file/d.html", *ALIGNED),
        ("audit", ".", ".", "--sheet", "file/d.html", *ALIGNED),
    ):
        result = run(*verb, "--json")
        error = json.loads(result.stdout)["error"]
        assert (result.exit_code, error["code"]) == (2, "usage")
        assert (error["message"], error["file"]) == ("is not a folder", str(folder / "file"))
    assert "is a folder" in run("export", "runs/first", "-o", "is.onnx").stderr
    assert (folder / "file").read_text() == "in the way"


@pytest.mark.usefixtures("folder")
def test_detect_shows_boxes_as_table_or_json() -> None:
    table = run("detect", "a.png", "--detector", "aligned")
    assert table.exit_code == 0
    assert "a.png" in table.stdout
    assert "112" in table.stdout
    assert table.stdout.splitlines()[1].split()[:5] == ["a.png", "0", "0", "112", "112"], "no -0"
    nothing = run("detect", "absent.png", "--detector", "aligned")
    assert (nothing.exit_code, nothing.stdout) == (3, "")
    result = run("detect", "a.png", "text.jpg", "--detector", "aligned", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["photos"][0]["faces"][0]["box"] == [-0.5, -0.5, 112, 112]
    assert document["failures"][0]["code"] == "bad_image"


@pytest.mark.usefixtures("folder")
def test_models_are_listed_and_shown() -> None:
    listed = run("model", "list")
    assert listed.exit_code == 0
    for text in ("tiny", "64-D vectors", "yunet", "MIT", "facespace model pull sface", "Apache-2.0"):
        assert text in listed.stdout
    names = {row["name"] for row in json.loads(run("model", "list", "--json", "--commercial").stdout)["models"]}
    assert {"yunet", "sface"} <= names
    assert "tiny" not in names
    card = json.loads(run("model", "show", "tiny", "--json").stdout)
    assert card["operating_points"][0]["threshold"] == 0.5
    shown = run("model", "show", "tiny").stdout
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert rows["licence"].strip() == "Apache-2.0"
    assert rows["input.channels"].strip() == card["input"]["channels"]
    assert (rows["operating_points[0].threshold"].strip(), rows["commercial"].strip()) == ("0.5", "no")
    assert not set('{}[]"') & set("".join(rows.values()))
    assert run("model", "show", "nobody").exit_code == 4


@pytest.mark.usefixtures("folder")
def test_pull_tells_what_went_wrong() -> None:
    assert run("model", "pull", "nobody").exit_code == 4
    failed = run("model", "pull", "yunet", "--from", "http://127.0.0.1:9/x", "--json")
    assert failed.exit_code == 4
    assert json.loads(failed.stdout)["error"]["code"] == "download_failed"


def test_export_needs_weights(folder: Path) -> None:
    result = run("export", folder, "-o", "x.onnx")
    assert result.exit_code == 4
    assert "trunk.safetensors" in result.stderr


@pytest.fixture
def photos(shared: Path, tmp_path: Path) -> dict[str, Path]:
    """Whole photos: two of one person, one of another, four people, and nobody."""
    import tarfile

    made = {"four": shared / "data/rollcall/photos/bbt1.jpg", "nobody": tmp_path / "nobody.png"}
    Image.new("RGB", (300, 200), (90, 120, 60)).save(made["nobody"])
    with tarfile.open(shared / "data/lfw/lfw-photos-folds1-3.tar") as archive:
        for key, name in (("a1", "Abel_Pacheco_0001"), ("a2", "Abel_Pacheco_0004"), ("b", "Abdel_Madi_Shabneh_0001")):
            member = archive.extractfile(f"{name[:-5]}/{name}.jpg")
            assert member is not None
            made[key] = tmp_path / f"{key}.jpg"
            made[key].write_bytes(member.read())
    return made


@pytest.mark.shared
def test_verify_on_real_photos_answers_as_promised(
    shared: Path, photos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same, different, no face, several faces; with the detector that `model pull` brings."""
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    pulled = run("model", "pull", "yunet", "--from", shared / "models" / WEIGHTS)
    assert pulled.stdout.strip() == str(tmp_path / "home" / "models" / WEIGHTS)
    for model in ("face512", "mobilefacenet"):
        path = shared / "models" / f"{model}.onnx"
        for second, status, words in (
            ("a2", 0, "Same person"),
            ("b", 1, "Different people"),
            ("nobody", 3, "nobody.png: no face was found"),
            ("four", 3, "4 faces were found"),
        ):
            result = run("verify", photos["a1"], photos[second], "--model", path, "--quiet")
            assert result.exit_code == status, result.output
            assert words in result.output
        assert run("verify", photos["a1"], photos["four"], "--model", path, "--policy", "largest").exit_code == 1

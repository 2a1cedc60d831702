"""Weights to vectors: any public recogniser, its preprocessing, and what is refused."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import facespace
from facespace.core.contracts import AlignedFaces, Embedder
from facespace.errors import BadCard, ContractMismatch, DeviceUnavailable, ModelError, ModelNotFound, UsageError
from facespace.models.embedder import load
from tiny_onnx import save_tiny, tiny_vectors


def some_faces(count: int, seed: int = 0) -> AlignedFaces:
    return np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def slow_pixels(faces: AlignedFaces, channels: str, mean: float, std: float) -> NDArray[np.float64]:
    """Preprocessing from its definition, `(N, 3, 112, 112)` float64."""
    order = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}[channels]
    return np.stack([(faces[..., c].astype(np.float64) - mean) / std for c in order], axis=1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny recogniser with its card."""
    return save_tiny(tmp_path / "tiny.onnx", card={})


@pytest.mark.parametrize(("channels", "mean", "std"), [("rgb", 127.5, 127.5), ("bgr", 127.5, 128.0), ("bgr", 0.0, 1.0)])
def test_vectors_are_those_of_the_network_on_the_stated_preprocessing(
    tmp_path: Path, channels: str, mean: float, std: float
) -> None:
    embedder = load(save_tiny(tmp_path / "t.onnx"), channels=channels, mean=mean, std=std)
    faces = some_faces(5)
    expected = tiny_vectors(slow_pixels(faces, channels, mean, std), dim=8)
    vectors = embedder.embed(faces)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(embedder.similarity(vectors, vectors[:2]), expected @ expected[:2].T, atol=1e-5)


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_a_vector_does_not_depend_on_batch_neighbours_or_threads(tmp_path: Path, batch: str | int) -> None:
    """Bit for bit, whether the model's batch is free or fixed."""
    path = save_tiny(tmp_path / "t.onnx", card={}, batch=batch)
    faces = some_faces(19)
    together = load(path, threads=1).embed(faces)
    assert np.array_equal(load(path, threads=3).embed(faces), together)
    alone = load(path, threads=2)
    assert np.array_equal(np.concatenate([alone.embed(faces[i : i + 1]) for i in range(19)]), together)
    assert np.array_equal(alone.embed(faces[::-1])[::-1], together)


def test_no_faces_give_no_vectors(tiny: Path) -> None:
    assert load(tiny).embed(some_faces(0)).shape == (0, 8)


def test_a_smaller_input_sees_the_averages_of_the_pixels(tmp_path: Path) -> None:
    """112 to 56 pixels is the mean of each 2 x 2 block, to the nearest whole value."""
    faces = some_faces(3)
    blocks = faces.astype(np.float64).reshape(3, 56, 2, 56, 2, 3).mean((2, 4))  # (3, 56, 56, 3)
    expected = tiny_vectors(slow_pixels(np.floor(blocks + 0.5).astype(np.uint8), "rgb", 127.5, 128.0), dim=8)
    embedder = load(save_tiny(tmp_path / "t.onnx", card={}, size=56))
    assert embedder.card.input.size == 56
    np.testing.assert_allclose(embedder.embed(faces), expected, atol=2e-2)  # halves may be rounded either way


def test_names_inside_the_network_do_not_matter(tmp_path: Path) -> None:
    """Preprocessing is not guessed from the names of nodes, as it is elsewhere."""
    faces = some_faces(2)
    plain = load(save_tiny(tmp_path / "a.onnx", card={}))
    renamed = load(save_tiny(tmp_path / "b.onnx", card={}, prefix="sub_mul_"))
    assert np.array_equal(plain.embed(faces), renamed.embed(faces))


def test_the_embedder_keeps_the_contract_of_the_floors(tiny: Path) -> None:
    embedder: Embedder = load(tiny, threads=2)
    assert (embedder.name, embedder.dim) == ("tiny", 8)
    assert embedder.contract == load(tiny).contract
    assert embedder.contract != load(tiny, channels="bgr").contract
    with pytest.raises(ContractMismatch):
        embedder.similarity(np.ones((1, 8), np.float32), np.ones((1, 9), np.float32))


def test_threads_and_device_are_echoed(tiny: Path) -> None:
    embedder = load(tiny, threads=3)
    assert (embedder.threads, embedder.device) == (3, "cpu")
    assert load(tiny).threads >= 1
    with pytest.raises(UsageError):
        load(tiny, threads=0)


@pytest.mark.parametrize("device", ["cuda", "cpu:1", "tpu"])
def test_an_absent_device_is_an_error_never_a_fallback(tiny: Path, device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=device):
        load(tiny, device=device)


@pytest.mark.parametrize(
    "faces",
    [np.zeros((112, 112, 3), np.uint8), np.zeros((1, 112, 112, 3), np.float32), np.zeros((1, 3, 112, 112), np.uint8)],
)
def test_what_are_no_aligned_faces_is_refused(tiny: Path, faces: Any) -> None:
    with pytest.raises(UsageError, match="uint8"):
        load(tiny).embed(faces)


def test_a_model_without_a_card_needs_its_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(BadCard, match="channels, mean, std"):
        load(save_tiny(tmp_path / "t.onnx"))


@pytest.mark.parametrize("card", [{"dim": 9}, {"sha256": "0" * 64}], ids=["dim", "sha256"])
def test_a_card_of_another_model_is_refused(tmp_path: Path, card: dict[str, Any]) -> None:
    with pytest.raises(BadCard, match="contradicts"):
        load(save_tiny(tmp_path / "t.onnx", card=card))


def test_a_changed_byte_of_the_weights_is_noticed(tiny: Path) -> None:
    content = bytearray(tiny.read_bytes())
    content[len(content) // 2] ^= 1
    tiny.write_bytes(content)
    with pytest.raises(BadCard, match="sha256"):
        load(tiny)


def not_finite(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((8, 48), np.nan, np.float32), "w"))


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 3, 4, 4]))


def free_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOperator"


@pytest.mark.parametrize("change", [two_outputs, free_size, unknown_operator], ids=lambda change: change.__name__)
def test_a_network_that_is_no_recogniser_is_refused_by_file(tmp_path: Path, change: Any) -> None:
    path = save_tiny(tmp_path / "t.onnx", change=change)
    with pytest.raises(ModelError) as caught:
        load(path, channels="rgb", mean=0, std=1)
    assert caught.value.file == str(path)


def test_weights_that_are_not_finite_give_an_error_not_a_vector(tmp_path: Path) -> None:
    embedder = load(save_tiny(tmp_path / "t.onnx", card={}, change=not_finite))
    with pytest.raises(ModelError, match="not finite"):
        embedder.embed(some_faces(2))


def test_group_aware_similarity_is_not_taken_for_cosine(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="group-aware"):
        load(save_tiny(tmp_path / "t.onnx", card={"similarity": "group-aware"}))


def test_models_go_by_name_path_or_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    by_name = save_tiny(tmp_path / "home" / "models" / "mine.onnx", card={})
    run = save_tiny(tmp_path / "run" / "model.onnx", card={"name": "of a run"}, seed=1)
    assert facespace.load("mine").contract == load(by_name).contract
    assert load(run.parent).name == "of a run"
    assert load("run").name == "of a run"


@pytest.mark.parametrize("asked", ["nobody", "no/where.onnx", "nothing.onnx", "a/b", "."])
def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "home" / "models" / "mine.onnx", card={})
    with pytest.raises(ModelNotFound) as caught:
        load(asked)
    assert "mine" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"not onnx", b"<!DOCTYPE html><html></html>"])
def test_other_files_under_the_name_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(path)


@pytest.fixture(scope="module")
def pairs(shared: Path) -> tuple[AlignedFaces, NDArray[np.bool_]]:
    """The first 50 genuine and 50 impostor pairs of LFW: faces `(100, 2, 112, 112, 3)` RGB, and which are genuine."""
    lines = [line.split("\t") for line in (shared / "data/lfw/pairs.txt").read_text().splitlines()[1:]]
    chosen = [line for line in lines if len(line) == 3][:50] + [line for line in lines if len(line) == 4][:50]
    with tarfile.open(shared / "data/lfw/lfw-crops.tar") as archive:

        def crop(person: str, number: str) -> NDArray[np.uint8]:
            member = archive.extractfile(f"{person}/{person}_{int(number):04}.jpg")
            assert member is not None
            return np.asarray(Image.open(member).convert("RGB"))

        faces = [(crop(line[0], line[1]), crop(line[-2] if len(line) == 4 else line[0], line[-1])) for line in chosen]
    return np.array(faces), np.array([len(line) == 3 for line in chosen])


@pytest.mark.shared
@pytest.mark.parametrize(("name", "channels", "std"), [("mobilefacenet", "bgr", 128.0), ("face512", "rgb", 127.5)])
def test_the_public_models_give_what_onnxruntime_gives_and_tell_people_apart(
    shared: Path, pairs: tuple[AlignedFaces, NDArray[np.bool_]], name: str, channels: str, std: float
) -> None:
    faces, genuine = pairs
    path = shared / "models" / f"{name}.onnx"
    vectors = load(path).embed(faces.reshape(-1, 112, 112, 3))  # two rows a pair

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = slow_pixels(faces[0], channels, 127.5, std).astype(np.float32)
    raw = [session.run(None, {session.get_inputs()[0].name: pixels[i : i + 1]})[0][0] for i in range(2)]
    np.testing.assert_allclose(vectors[:2], [row / np.linalg.norm(row) for row in raw], atol=1e-5)

    cosines = (vectors[::2] * vectors[1::2]).sum(1)
    assert ((cosines >= 0.3) == genuine).mean() >= 0.97

"""A group-aware model from its weights to a comparison: ONNX, card, embedder, and what contradicts."""

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from facespace.core.scores import pair_scores
from facespace.core.similarity import GroupAware
from facespace.errors import BadCard, ContractMismatch, ModelError, UsageError
from facespace.faces.align import aligned_faces
from facespace.faces.detect import Aligned
from facespace.models.card import Card, Input, OperatingPoint, Stated, card_path, read_card, write_card
from facespace.models.convert import export
from facespace.models.embedder import OnnxEmbedder, TorchEmbedder, load
from facespace.models.matching import decision_point, verify
from facespace.models.nets import export as export_room
from facespace.models.nets.export import TOLERANCE, export_onnx
from facespace.models.nets.groupface import GroupFace, Groups
from facespace.models.nets.trunks import TrunkSpec, build, load_trunk, save_trunk
from facespace.models.onnxfile import SPLIT

DIM, HIDDEN, SIZE = 6, 5, 48
GROUPS = Groups(4, 10, HIDDEN)


def spec_of(name: str = "iresnet10-tiny", **changes: Any) -> TrunkSpec:
    return TrunkSpec(name, SIZE, DIM, replace(GROUPS, **changes))


def net_of(spec: TrunkSpec) -> GroupFace:
    """Fresh weights, statistics of some batches, and groups that are all chosen now and then."""
    torch.manual_seed(4)
    net = build(spec)
    assert isinstance(net, GroupFace)
    faces = torch.nn.functional.interpolate(torch.rand(32, 3, 7, 7) * 2 - 1, SIZE, mode="area")
    with torch.no_grad():
        for _ in range(30):
            net(faces)
        net.eval().decision.last.bias -= net.represent(faces).logits.mean(0)
    return net


def save_run(folder: Path, spec: TrunkSpec, card: dict[str, Any] | None = None) -> Path:
    """Weights and their card, with `card` over what is right."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "trunk.safetensors"
    save_trunk(weights, net_of(spec), spec)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    aware = spec.group_aware
    right = Card("ours", weights.name, digest, Input(SIZE, "rgb", 127.5, 127.5), spec.vector_dim, group_aware=aware)
    write_card(replace(right, similarity="cosine" if aware is None else "group-aware"), weights)
    if card is not None:
        document = json.loads(card_path(weights).read_text()) | card
        card_path(weights).write_text(json.dumps(document))
    return weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), spec_of())


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    export(weights, weights.parent / "net.onnx")
    return weights.parent / "net.onnx"


def some_faces(count: int = 9) -> NDArray[np.uint8]:
    """Patches of 16 pixels, each of one colour."""
    patches = np.random.default_rng(0).integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
    return np.kron(patches, np.ones((1, 16, 16, 1), np.uint8))


def test_vectors_are_unit_vbar_and_raw_vhat_in_both_forms(weights: Path, exported: Path) -> None:
    in_torch, in_onnx = load(weights), load(exported)
    assert in_torch.dim == in_onnx.dim == DIM + HIDDEN
    vectors = in_torch.embed(some_faces())
    np.testing.assert_allclose(in_onnx.embed(some_faces()), vectors, atol=1e-5)
    net, _ = load_trunk(weights)
    assert isinstance(net, GroupFace)
    with torch.inference_mode():
        found = net.represent(torch.from_numpy(in_torch._pixels(some_faces())))
    unit = found.embedding / found.embedding.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(vectors[:, :DIM], unit, atol=1e-5)
    np.testing.assert_allclose(vectors[:, DIM:], found.hidden, atol=1e-5)
    assert np.abs(np.linalg.norm(vectors[:, DIM:], axis=1) - 1).max() > 0.1


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_similarity_is_that_of_the_card(weights: Path, exported: Path, form: str) -> None:
    embedder = load(weights if form == "torch" else exported)
    assert embedder.card.similarity == "group-aware"
    assert embedder.card.group_aware == GroupAware(DIM, 0.1, 1 / 3)
    vectors = embedder.embed(some_faces()).astype(float)
    gaps = np.sqrt(((vectors[:, None, DIM:] - vectors[None, :, DIM:]) ** 2).sum(2))
    expected = vectors[:, :DIM] @ vectors[:, :DIM].T - 0.1 * np.cbrt(gaps)
    short = vectors.astype(np.float32)
    np.testing.assert_allclose(embedder.similarity(short, short), expected, atol=2e-6)
    np.testing.assert_allclose(embedder.pair_similarity(short[:-1], short[1:]), expected.diagonal(1), atol=2e-6)
    first, second = np.triu_indices(9, 1)
    np.testing.assert_allclose(pair_scores(short, first, second, embedder), expected[first, second], atol=2e-6)
    for method in (embedder.similarity, embedder.pair_similarity):
        with pytest.raises(ContractMismatch):
            method(short[:, :DIM], short[:, :DIM])


def test_a_cosine_model_compares_pairs_by_cosine(tmp_path: Path) -> None:
    embedder = load(save_run(tmp_path, spec_of(aware=False)))
    vectors = embedder.embed(some_faces(4))
    assert vectors.shape == (4, DIM)
    wide = vectors.astype(float)
    np.testing.assert_allclose(embedder.similarity(vectors, vectors), wide @ wide.T, atol=1e-6)
    np.testing.assert_allclose(embedder.pair_similarity(vectors, vectors[::-1]), (wide * wide[::-1]).sum(1), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("iresnet10-tiny", {}),
        ("mobilefacenet", {"norm": "bn_prelu", "coefficient": "p", "combine": "concat"}),
        ("iresnet10-tiny", {"norm": "none", "aware": False}),
    ],
    ids=str,
)
def test_a_hard_choice_is_in_onnx_what_it_is_in_torch(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """By gathering the rows of the chosen group. Faces between two groups are left out: rounding may take either."""
    spec = spec_of(name, mode="hard", **changes)
    net = net_of(spec)
    assert export_onnx(net, spec, tmp_path / "net.onnx") <= TOLERANCE[False]
    save_trunk(tmp_path / "trunk.safetensors", net, spec)
    stated = Stated("rgb", 127.5, 127.5)
    in_onnx, in_torch = (
        OnnxEmbedder(tmp_path / "net.onnx", stated),
        TorchEmbedder(tmp_path / "trunk.safetensors", stated),
    )
    assert in_onnx.dim == spec.vector_dim
    assert in_onnx.card.group_aware == spec.group_aware
    x = torch.from_numpy(in_torch._pixels(some_faces(30)))
    with torch.inference_mode():
        logits = net.represent(x).logits
    first, second = logits.topk(2).values.unbind(1)
    clear = np.flatnonzero(first - second > 1e-4 * logits.abs().max())
    assert len(clear) > 20
    assert len(set(logits.argmax(1).tolist())) > 1
    np.testing.assert_allclose(in_onnx.embed(some_faces(30))[clear], in_torch.embed(some_faces(30))[clear], atol=2e-5)
    operators = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert {"Gather", "GatherND"} & operators


def test_half_precision_of_a_hard_choice_exports(tmp_path: Path) -> None:
    """The comparison takes faces whose group is clear: rounding may turn a choice between equals."""
    spec = spec_of(mode="hard")
    assert export_onnx(net_of(spec), spec, tmp_path / "net.onnx", half=True) <= TOLERANCE[True]


def test_a_group_part_that_differs_is_noticed(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    net = net_of(spec)
    monkeypatch.setattr(export_room, "_write", lambda trunk, spec, aside, half: copied(exported, aside))
    assert export_onnx(net, spec, tmp_path / "same.onnx") <= TOLERANCE[False]
    other = [1, 0, *range(2, HIDDEN)]  # vhat in another order, with the same vbar
    for name, value in net.decision.second.state_dict().items():
        if not name.endswith("tracked"):
            value.copy_(value[other].clone())
    net.decision.last.weight.data = net.decision.last.weight.data[:, other]
    with pytest.raises(ModelError, match="differs"):
        export_onnx(net, spec, tmp_path / "net.onnx")


def test_without_a_card_the_weights_say_how_they_compare(exported: Path, weights: Path, tmp_path: Path) -> None:
    for path in (exported, weights):
        bare = tmp_path / path.name
        bare.write_bytes(path.read_bytes())
        with pytest.raises(BadCard, match="nothing states"):
            load(bare)
        assert load(bare, channels="rgb", mean=127.5, std=127.5).card.group_aware == GroupAware(DIM)


def copied(source: Path, target: Path) -> float:
    """In place of an export that was made before; the distance that it was within."""
    target.write_bytes(source.read_bytes())
    return 0.0


def test_the_card_goes_along_with_what_was_edited_in_it(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_room, "export_onnx", lambda net, spec, output, half: copied(exported, output))
    edited = {"split": DIM, "beta": 0.25, "gamma": 0.5, "distance": "unit"}
    run = save_run(tmp_path / "run", spec_of(), {"group_aware": edited})
    export(run, tmp_path / "net.onnx")
    for path in (run, tmp_path / "net.onnx"):
        assert load(path).card.group_aware == GroupAware(**edited)  # type: ignore[arg-type]
    card_path(run).unlink()
    export(run, tmp_path / "bare.onnx")
    assert load(tmp_path / "bare.onnx").card.group_aware == GroupAware(DIM)


def cosine_card(dim: int) -> dict[str, Any]:
    return {"similarity": "cosine", "group_aware": None, "dim": dim}


@pytest.mark.parametrize("form", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("card", "key"),
    [
        (cosine_card(DIM + HIDDEN), "group_aware.split"),
        (cosine_card(DIM), "dim"),
        ({"group_aware": {"split": DIM - 1}}, "group_aware.split"),
    ],
    ids=["cosine", "cosine of vbar", "another split"],
)
def test_a_card_that_contradicts_the_groups_of_its_weights_is_refused(
    form: str, card: dict[str, Any], key: str, exported: Path, weights: Path, tmp_path: Path
) -> None:
    source = weights if form == "torch" else exported
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    document = json.loads(card_path(source).read_text()) | card
    card_path(path).write_text(json.dumps(document))
    with pytest.raises(BadCard, match=f"contradicts its weights: {re.escape(key)} "):
        load(path)


def test_a_group_aware_card_beside_weights_without_groups_is_refused(tmp_path: Path) -> None:
    card = {"similarity": "group-aware", "group_aware": {"split": DIM - 2}}
    with pytest.raises(BadCard, match=r"contradicts its weights: group_aware\.split"):
        load(save_run(tmp_path, spec_of(aware=False), card))


@pytest.mark.parametrize("says", ["", "six", "-1", "11", "6.0", "99"])
def test_a_file_that_says_nonsense_of_its_groups_is_refused(says: str, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [(SPLIT, str(DIM))]
    model.metadata_props[0].value = says
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="names"):
        load(tmp_path / "net.onnx", channels="rgb", mean=127.5, std=127.5)


CARD = Card("g", "g.onnx", "0" * 64, Input(112, "rgb", 0, 1), 11, "group-aware", GroupAware(6, 0.2, 0.5, "unit"))


def test_a_group_aware_card_reads_back_equal(tmp_path: Path) -> None:
    path = write_card(CARD, tmp_path / "g.onnx")
    assert read_card(path) == CARD
    assert json.loads(path.read_text())["group_aware"] == {"split": 6, "beta": 0.2, "gamma": 0.5, "distance": "unit"}


def test_beta_and_gamma_of_the_paper_are_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "g.card.json"
    path.write_text(json.dumps(CARD.as_json() | {"group_aware": {"split": 6}}))
    assert read_card(path).group_aware == GroupAware(6, 0.1, 1 / 3, "euclidean")


def test_a_cosine_card_names_no_groups() -> None:
    """Cards written before stay readable, and those written now by old programs."""
    plain = replace(CARD, similarity="cosine", group_aware=None)
    assert "group_aware" not in plain.as_json()
    assert asdict(plain) == plain.as_json() | {"group_aware": None, "calibration": None}


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("group_aware", {"similarity": "cosine"}),
    ("group_aware", {"group_aware": None}),
    ("group_aware", {"group_aware": 6}),
    ("group_aware", {"group_aware": {"split": 6, "beta": -1}}),
    ("group_aware", {"group_aware": {"split": 6, "gamma": 0}}),
    ("group_aware", {"group_aware": {"split": 6, "distance": "city"}}),
    ("group_aware", {"group_aware": {"split": 6, "distance": ["unit"]}}),
    ("group_aware.split", {"group_aware": {"beta": 0.1}}),
    ("group_aware.split", {"group_aware": {"split": 11}}),
    ("group_aware.split", {"group_aware": {"split": 6.0}}),
    ("group_aware.split", {"group_aware": {"split": 0}}),
    ("group_aware.beta", {"group_aware": {"split": 6, "beta": "0.1"}}),
    ("group_aware.gamma", {"group_aware": {"split": 6, "gamma": True}}),
    ("group_aware.alpha", {"group_aware": {"split": 6, "alpha": 1}}),
]


@pytest.mark.parametrize(("key", "change"), WRONG, ids=[f"{i}-{key}" for i, (key, _) in enumerate(WRONG)])
def test_a_wrong_key_of_the_groups_is_named_with_the_file(key: str, change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "g.card.json"
    path.write_text(json.dumps(CARD.as_json() | change))
    with pytest.raises(BadCard) as caught:
        read_card(path)
    assert caught.value.message.startswith(f"{key} ")


def test_a_group_aware_model_is_not_judged_by_a_cosine_threshold(weights: Path, tmp_path: Path) -> None:
    """The uncalibrated default is a cosine; S* lies below it by a penalty that each model has its own size of."""
    embedder = load(weights)
    with pytest.raises(UsageError, match="no threshold"):
        decision_point(embedder)
    assert decision_point(embedder, 0.2).threshold == 0.2
    point = OperatingPoint("FMR=0.01", 0.1)
    embedder.card = replace(embedder.card, operating_points=(point,))
    assert decision_point(embedder) == point


def test_two_photos_are_compared_by_it(weights: Path, tmp_path: Path) -> None:
    from PIL import Image

    embedder = load(weights)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, face in zip(paths, some_faces(2), strict=True):
        Image.fromarray(face).save(path)
    crops = [aligned_faces(face, Aligned(), "refuse")[0][1] for face in some_faces(2)]
    vectors = embedder.embed(np.stack(crops))
    verdict = verify(*paths, embedder, Aligned(), threshold=0.1)
    assert verdict.similarity == pytest.approx(float(embedder.similarity(vectors, vectors)[0, 1]), abs=1e-6)

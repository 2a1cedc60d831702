"""The card beside the weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facespace.errors import BadCard, ModelNotFound, Refused
from facespace.models import card as card_room
from facespace.models.card import (
    Card,
    Input,
    OperatingPoint,
    Stated,
    card_for,
    card_path,
    read_card,
    require_commercial,
    write_atomic,
    write_card,
)

CARD = Card(
    name="köln",
    file="net.onnx",
    sha256="0123456789abcdef" * 4,
    input=Input(112, "bgr", 127.5, 128.0),
    dim=128,
    licence="MIT",
    commercial=False,
    trained_on="drawn faces",
    source="a test",
    operating_points=(
        OperatingPoint("FMR=0.001", 0.31, (0.28, 0.33), 3000, "devtest"),
        OperatingPoint("FMR=0.01", 0.2),
    ),
    numbers=({"protocol": "lfw", "accuracy": 0.98},),
)


def test_a_written_card_reads_back_equal(tmp_path: Path) -> None:
    path = write_card(CARD, tmp_path / "net.v2.onnx")
    assert path == tmp_path / "net.v2.card.json"
    assert read_card(path) == CARD
    assert list(tmp_path.iterdir()) == [path]


def test_the_document_has_exactly_the_keys_of_the_contract() -> None:
    """The keys are those that other programs rely on."""
    document = json.loads(json.dumps(CARD.as_json()))
    described = ["similarity", "licence", "commercial", "trained_on", "source", "operating_points", "numbers"]
    assert list(document) == ["name", "file", "sha256", "input", "dim", *described]
    assert list(document["input"]) == ["size", "channels", "mean", "std"]
    assert list(document["operating_points"][0]) == ["at", "threshold", "ci95", "pairs", "data"]


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": ""}),
    ("name", {"name": None}),
    ("sha256", {"sha256": "ABC"}),
    ("sha256", {"sha256": "A" * 64}),
    ("dim", {"dim": -1}),
    ("dim", {"dim": True}),
    ("dim", {"dim": 128.0}),
    ("similarity", {"similarity": "euclid"}),
    ("commercial", {"commercial": "yes"}),
    ("licence", {"licence": 3}),
    ("licens", {"licens": "MIT"}),
    ("input", {"input": 112}),
    ("input.channels", {"input": {"size": 112, "channels": "rbg", "mean": 0, "std": 1}}),
    ("input.std", {"input": {"size": 112, "channels": "rgb", "mean": 0, "std": 0}}),
    ("input.std", {"input": {"size": 112, "channels": "rgb", "mean": 0}}),
    ("input.mean", {"input": {"size": 112, "channels": "rgb", "mean": 10**400, "std": 1}}),
    ("input.gamma", {"input": {"size": 112, "channels": "rgb", "mean": 0, "std": 1, "gamma": 2}}),
    ("operating_points", {"operating_points": {"at": "FMR=0.1"}}),
    ("operating_points[1].threshold", {"operating_points": [{"at": "a", "threshold": 0}, {"at": "b"}]}),
    ("operating_points[0].ci95", {"operating_points": [{"at": "a", "threshold": 0, "ci95": [1]}]}),
    ("operating_points[0].ci95.high", {"operating_points": [{"at": "a", "threshold": 0, "ci95": [0, "x"]}]}),
    ("operating_points[0].pairs", {"operating_points": [{"at": "a", "threshold": 0, "pairs": 1.5}]}),
    ("numbers", {"numbers": ["99 %"]}),
]


@pytest.mark.parametrize(("key", "change"), WRONG, ids=[f"{i}-{key}" for i, (key, _) in enumerate(WRONG)])
def test_a_wrong_key_is_named_with_the_file(tmp_path: Path, key: str, change: dict[str, Any]) -> None:
    path = tmp_path / "net.card.json"
    path.write_text(json.dumps(CARD.as_json() | change))
    with pytest.raises(BadCard) as caught:
        read_card(path)
    assert caught.value.message.startswith(f"{key} ")
    assert caught.value.file == str(path)


@pytest.mark.parametrize("key", ["name", "file", "sha256", "input", "dim"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    document = CARD.as_json()
    del document[key]
    path = tmp_path / "net.card.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadCard, match=f"{key} is missing"):
        read_card(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff\xfe", b'{"dim": NaN}', b"[" * 100_000, b" " * 2_000_000],
    ids=["empty", "list", "open", "not utf-8", "nan", "deep", "long"],
)
def test_what_is_no_card_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.card.json"
    path.write_bytes(content)
    with pytest.raises(BadCard):
        read_card(path)


def test_an_absent_card_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_card(tmp_path / "net.card.json")


def test_the_contract_follows_weights_preprocessing_and_dimension_only() -> None:
    """Vectors meet only when these are equal; the name and the licence do not matter."""
    taken = CARD.input
    others = [
        replace(CARD, sha256="f" * 64),
        replace(CARD, dim=64),
        *(replace(CARD, input=i) for i in (replace(taken, size=56), replace(taken, channels="rgb"))),
        *(replace(CARD, input=i) for i in (replace(taken, mean=127.0), replace(taken, std=127.5))),
    ]
    contracts = {card.contract() for card in [CARD, *others]}
    assert len(contracts) == 7
    assert all(len(c) == 12 and int(c, 16) >= 0 for c in contracts)
    assert replace(CARD, name="x", licence="y", operating_points=()).contract() == CARD.contract()
    assert replace(CARD, input=replace(taken, std=128)).contract() == CARD.contract()


def fitting(weights: Path, *, stated: Stated, sha256: str = CARD.sha256, size: int = 112, dim: int = 128) -> Card:
    return card_for(weights, sha256, size=size, dim=dim, stated=stated)


def test_the_card_beside_the_weights_is_read_without_being_asked(tmp_path: Path) -> None:
    write_card(CARD, tmp_path / "net.onnx")
    assert fitting(tmp_path / "net.onnx", stated=Stated()) == CARD


def test_stated_preprocessing_overrides_the_card_and_voids_its_figures(tmp_path: Path) -> None:
    write_card(CARD, tmp_path / "net.onnx")
    changed = fitting(tmp_path / "net.onnx", stated=Stated(channels="rgb"))
    assert changed.input == replace(CARD.input, channels="rgb")
    assert changed.operating_points == () == changed.numbers
    assert changed.contract() != CARD.contract()
    assert fitting(tmp_path / "net.onnx", stated=Stated(mean=127.5)) == CARD


def test_without_a_card_all_of_the_preprocessing_must_be_stated(tmp_path: Path) -> None:
    """It is never guessed: a wrong guess costs accuracy in silence."""
    made = fitting(tmp_path / "net.onnx", stated=Stated("bgr", 0.0, 1.0))
    assert (made.name, made.input, made.dim) == ("net", Input(112, "bgr", 0.0, 1.0), 128)
    assert made.commercial is None
    with pytest.raises(BadCard, match="channels, std"):
        fitting(tmp_path / "net.onnx", stated=Stated(mean=127.5))


@pytest.mark.parametrize(
    ("key", "other"), [("sha256", {"sha256": "f" * 64}), ("dim", {"dim": 512}), ("input.size", {"size": 160})]
)
def test_a_card_that_contradicts_its_weights_is_refused(tmp_path: Path, key: str, other: dict[str, Any]) -> None:
    write_card(CARD, tmp_path / "net.onnx")
    with pytest.raises(BadCard, match=f"contradicts its weights: {key} "):
        fitting(tmp_path / "net.onnx", stated=Stated(), **other)


def test_commercial_use_needs_a_card_that_says_so() -> None:
    require_commercial(replace(CARD, commercial=True))
    for says in (False, None):
        with pytest.raises(Refused, match="commercial use"):
            require_commercial(replace(CARD, commercial=says))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(card_room.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.shared
def test_the_cards_of_the_public_models_read(shared: Path) -> None:
    for name, dim in (("mobilefacenet", 128), ("face512", 512)):
        assert read_card(card_path(shared / "models" / f"{name}.onnx")).dim == dim

"""The card beside the weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facespace.core.calibration import Logistic
from facespace.core.drift import ImpostorScores
from facespace.errors import BadCard, ModelNotFound, Refused
from facespace.models import card as card_room
from facespace.models.calibration import Calibration, Steps, limits
from facespace.models.card import (
    Card,
    Input,
    OperatingPoint,
    Stated,
    card_for,
    card_path,
    of_same_network,
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


CALIBRATION = Calibration(
    contract=CARD.contract(),
    similarity="cosine",
    detector="aligned",
    data="ab" * 32,
    people=40,
    photos=120,
    failures=1,
    genuine_pairs=119,
    impostor_pairs=7000,
    least=-2.5,
    most=5.5,
    cllr=0.2,
    cllr_min=0.19,
    impostors=ImpostorScores((0.1, 0.9), (-0.1, 0.2), (0.01, 0.02), 40),
    logistic=Logistic(20.0, -4.0),
)
POINT = OperatingPoint(
    "FMR=0.01", 0.25, (0.24, 0.26), 7000, "here", (0.008, 0.012), (0.007, 0.013), 0.07, (0.06, 0.08), CARD.contract()
)
CALIBRATED = replace(CARD, operating_points=(POINT,), calibration=CALIBRATION)


@pytest.mark.parametrize(
    "calibration", [CALIBRATION, replace(CALIBRATION, logistic=None, isotonic=Steps((0.1, 0.1, 0.3), (-4.0, 2.0, 2.0)))]
)
def test_a_calibration_reads_back_equal(tmp_path: Path, calibration: Calibration) -> None:
    card = replace(CALIBRATED, calibration=calibration)
    assert read_card(write_card(card, tmp_path / "net.onnx")) == card


def test_a_ratio_follows_the_line_or_the_steps_within_what_so_many_people_can_show() -> None:
    """The rule of 3: of 40 people with mates and their 780 pairs."""
    least, most = limits(40, 780)
    assert (least, most) == pytest.approx((-2.590267, 5.560682))
    line = replace(CALIBRATION, least=least, most=most)
    for score in (-1.0, 0.1, 0.25, 0.4, 1.0):
        assert line.log_likelihood_ratio(score) == pytest.approx(min(max(20 * score - 4, least), most))
    steps = replace(line, logistic=None, isotonic=Steps((0.1, 0.2, 0.3), (-4.0, 1.0, 2.0)))
    found = [steps.log_likelihood_ratio(score) for score in (-1.0, 0.15, 0.2, 0.25, 0.9)]
    assert found == pytest.approx([least, -1.5, 1.0, 1.5, 2.0])
    assert limits(2, 1) == (0.0, 0.0)


def test_the_same_network_in_another_file_keeps_what_was_found() -> None:
    other = replace(CALIBRATED, operating_points=(POINT, replace(POINT, contract="f" * 12), OperatingPoint("old", 0.1)))
    moved = of_same_network(other, "copy.onnx", "e" * 64)
    assert (moved.file, moved.sha256) == ("copy.onnx", "e" * 64)
    assert [point.contract for point in moved.operating_points] == [moved.contract(), "f" * 12, None]
    assert moved.calibration == replace(CALIBRATION, contract=moved.contract())
    assert moved.contract() != CARD.contract()


LINE = {"slope": 20.0, "offset": -4.0}
WRONG_CALIBRATION: list[tuple[str, dict[str, Any]]] = [
    ("contract", {"contract": ""}),
    ("people", {"people": -1}),
    ("cllr", {"cllr": "0.2"}),
    ("least", {"least": 1.0}),
    ("slope", {"slope": 20.0}),
    ("logistic.slope", {"logistic": LINE | {"slope": 0}}),
    ("logistic.offset", {"logistic": {"slope": 1.0}}),
    ("isotonic.ratios", {"logistic": None, "isotonic": {"scores": [0.1], "ratios": []}}),
    ("isotonic.ratios", {"logistic": None, "isotonic": {"scores": [0.1, 0.2], "ratios": [1, 0]}}),
    ("isotonic.scores", {"logistic": None, "isotonic": {"scores": 0.1, "ratios": [1]}}),
    ("impostors.stderr", {"impostors": {"levels": [0.1], "scores": [0.1], "stderr": [None], "people": 40}}),
    ("impostors.scores", {"impostors": {"levels": [0.1], "scores": [], "stderr": [0.1], "people": 40}}),
]


@pytest.mark.parametrize(("key", "change"), WRONG_CALIBRATION)
def test_a_wrong_key_of_a_calibration_is_named(tmp_path: Path, key: str, change: dict[str, Any]) -> None:
    document = CALIBRATED.as_json()
    document["calibration"] |= change
    path = tmp_path / "net.card.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadCard, match=rf"calibration\.{key} "):
        read_card(path)


@pytest.mark.parametrize("change", [{"logistic": None}, {"isotonic": {"scores": [0.1], "ratios": [1]}}])
def test_a_calibration_is_either_a_line_or_steps(tmp_path: Path, change: dict[str, Any]) -> None:
    document = CALIBRATED.as_json()
    document["calibration"] |= change
    path = tmp_path / "net.card.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadCard, match="either logistic or isotonic"):
        read_card(path)


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
    ("operating_points[0].fnmr", {"operating_points": [{"at": "a", "threshold": 0, "fnmr": 1.5}]}),
    ("operating_points[0].contract", {"operating_points": [{"at": "a", "threshold": 0, "contract": 3}]}),
    ("calibration", {"calibration": 3}),
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
    assert changed.numbers == ()
    assert {point.contract for point in changed.operating_points} == {CARD.contract()} != {changed.contract()}
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

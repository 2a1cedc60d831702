"""The card beside the weights: what a model takes and gives, whence it comes, what it may be used for.

`NAME.card.json` lies beside `NAME.onnx` or `NAME.safetensors` and is read without being asked. Preprocessing
is never guessed: it stands in the card or is stated by the caller. A card that contradicts its weights is refused.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from facespace.core.similarity import GroupAware
from facespace.errors import BadCard, ModelNotFound, Refused, UsageError
from facespace.models.calibration import Calibration, read_calibration
from facespace.models.keys import KeyReader

Channels = Literal["rgb", "bgr"]
_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class Input:
    """What the network takes: a square of `size` pixels, `channels` so ordered, (x - mean) / std of pixels 0..255."""

    size: int
    channels: Channels
    mean: float
    std: float


@dataclass(frozen=True)
class Stated:
    """Preprocessing that the caller states: for a model without a card, or in place of its card's."""

    channels: str | None = None
    mean: float | None = None
    std: float | None = None

    def given(self) -> dict[str, Any]:
        """Only what is stated, by key of `Input`."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold (same when similarity >= threshold) that gave the error rate `at` on `data`, with its interval.

    `fmr_ci95` is the interval of the rate that it will have on other people of their kind, and `fmr_others95` that of
    the share which as many others, tried once, will show. `fnmr` is the share of genuine pairs that it missed.
    `contract` names the model; what an older card does not state is None.
    """

    at: str
    threshold: float
    ci95: tuple[float, float] | None = None
    pairs: int | None = None
    data: str = "not stated"
    fmr_ci95: tuple[float, float] | None = None
    fmr_others95: tuple[float, float] | None = None
    fnmr: float | None = None
    fnmr_ci95: tuple[float, float] | None = None
    contract: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Its part of the card's document."""
        always = ("at", "threshold", "ci95", "pairs", "data")
        return {key: value for key, value in asdict(self).items() if key in always or value is not None}


@dataclass(frozen=True)
class Card:
    """A model's card. `dim` 0 marks a detector, which gives no vector; `commercial` None means not known.

    `group_aware` says how group-aware vectors are compared, and is None for those compared by cosine. Its beta and
    gamma may be edited in the file; thresholds measured before do not hold then.
    """

    name: str
    file: str
    sha256: str
    input: Input
    dim: int
    similarity: Literal["cosine", "group-aware"] = "cosine"
    group_aware: GroupAware | None = None
    licence: str = "not stated"
    commercial: bool | None = None
    trained_on: str = "not stated"
    source: str = "not stated"
    operating_points: tuple[OperatingPoint, ...] = ()
    numbers: tuple[Mapping[str, Any], ...] = ()
    calibration: Calibration | None = None

    def as_json(self) -> dict[str, Any]:
        """The card as the document that is written beside the weights."""
        document = asdict(self)
        document["operating_points"] = tuple(point.as_json() for point in self.operating_points)
        document["calibration"] = self.calibration and self.calibration.as_json()
        optional = ("group_aware", "calibration")
        return {key: value for key, value in document.items() if key not in optional or value is not None}

    @property
    def split(self) -> int:
        """Where the group part of a vector begins; 0 where there is none."""
        return 0 if self.group_aware is None else self.group_aware.split

    def contract(self) -> str:
        """Twelve hex digits of weights digest, preprocessing and dimension."""
        taken = self.input
        identity = [self.sha256, taken.size, taken.channels, float(taken.mean), float(taken.std), self.dim]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


def card_path(weights: Path) -> Path:
    """Where the card of `weights` lies: `NAME.card.json` for `NAME.onnx`."""
    return weights.with_name(weights.stem + ".card.json")


def write_card(card: Card, weights: Path) -> Path:
    """Write `card` beside `weights`, atomically; its path."""
    path = card_path(weights)
    text = json.dumps(card.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode() + b"\n")
    return path


def write_atomic(path: Path, content: bytes) -> None:
    """Write the file so that at any moment, and after a crash, it holds what it held before or all of `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def settle(temporary: Path, path: Path) -> None:
    """Give a finished file its name: its bytes reach the disk first, then the name."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_card(path: Path) -> Card:
    """The card in a file.

    Raises ModelNotFound where there is none, BadCard naming the key that is missing, unknown or of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_CARD_BYTES + 1)
    except OSError as error:
        raise ModelNotFound(f"no card can be read here ({error.strerror})", file=path) from error
    if len(content) > _CARD_BYTES:
        raise BadCard("a card of more than a megabyte", file=path)
    try:
        document = json.loads(content, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise BadCard(
            f"not JSON ({error})", file=path, hint="write the card anew; see `facespace model show`"
        ) from error
    return _Reader(path).card(document)


def card_for(weights: Path, sha256: str, *, size: int, dim: int, split: int = 0, stated: Stated) -> Card:
    """The card of weights that have this digest, input size and dimension; `split` as in `Card`.

    It is the one beside them, what is `stated` taking the place of its own (its numbers do not outlive a change, and
    its thresholds then name another contract), or else a new one. Raises BadCard where the card contradicts the
    weights, or where there is no card and the preprocessing is not stated in full.
    """
    path = card_path(weights)
    if path.is_file():
        card = read_card(path)
        _compare(card, weights, {"sha256": sha256, "input.size": size, "dim": dim, "group_aware.split": split})
        return _restated(card, stated, path)
    given = stated.given()
    if missing := [key for key in ("channels", "mean", "std") if key not in given]:
        raise BadCard(
            f"no card lies beside these weights, and nothing states their {', '.join(missing)}",
            file=weights,
            hint="state --channels rgb|bgr --mean M --std S as the model was trained; they are never guessed",
        )
    taken = _Reader(weights).input({"size": size, **given})
    return compared_by(GroupAware(split) if split else None, Card(weights.stem, weights.name, sha256, taken, dim))


def compared_by(group_aware: GroupAware | None, card: Card) -> Card:
    """The card of a model whose vectors are compared so, or by cosine."""
    return replace(card, similarity="cosine" if group_aware is None else "group-aware", group_aware=group_aware)


def of_same_network(card: Card, file: str, sha256: str) -> Card:
    """The card of the same network in another file: what was found with the one holds for the other."""
    moved = replace(card, file=file, sha256=sha256)
    before, after = card.contract(), moved.contract()
    points = tuple(replace(p, contract=after if p.contract == before else p.contract) for p in card.operating_points)
    calibration = card.calibration
    if calibration is not None and calibration.contract == before:
        calibration = replace(calibration, contract=after)
    return replace(moved, operating_points=points, calibration=calibration)


def require_commercial(card: Card) -> None:
    """Raise Refused unless the card says that commercial use is allowed."""
    if card.commercial is not True:
        says = "forbids commercial use" if card.commercial is False else "does not say that commercial use is allowed"
        raise Refused(
            f"the card of {card.name!r} {says} (licence: {card.licence})",
            file=card.file,
            hint="`facespace model list` shows which models allow it",
        )


def _compare(card: Card, weights: Path, found: dict[str, str | int]) -> None:
    says = {"sha256": card.sha256, "input.size": card.input.size, "dim": card.dim, "group_aware.split": card.split}
    if wrong := [key for key in found if says[key] != found[key]]:
        raise BadCard(
            f"contradicts its weights: {wrong[0]} is {says[wrong[0]]} in the card, {found[wrong[0]]} in {weights.name}",
            file=card_path(weights),
            hint="put the card of these weights beside them, or remove it and state --channels --mean --std",
        )


def _restated(card: Card, stated: Stated, path: Path) -> Card:
    preprocessing = _Reader(path).input({**asdict(card.input), **stated.given()})
    if preprocessing == card.input:
        return card
    found_with = card.contract()
    points = tuple(replace(point, contract=point.contract or found_with) for point in card.operating_points)
    return replace(card, input=preprocessing, operating_points=points, numbers=())


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


class _Reader(KeyReader):
    """Reads a card's document, naming the file and the key of whatever is wrong."""

    def card(self, document: Any) -> Card:
        known = self.known(document, Card, "")
        self.needed(known, "", "name", "file", "sha256", "input", "dim")
        self.texts(known, "", "name", "file", "sha256", "licence", "trained_on", "source")
        if len(known["sha256"]) != 64 or not set(known["sha256"]) <= set("0123456789abcdef"):
            self.fail("sha256", "must be 64 lower-case hex digits")
        self.whole(known, "dim", 0)
        if known.get("similarity", "cosine") not in ("cosine", "group-aware"):
            self.fail("similarity", f'must be "cosine" or "group-aware", not {known["similarity"]!r}')
        if not (known.get("commercial") is None or isinstance(known["commercial"], bool)):
            self.fail("commercial", f"must be true, false or null, not {known['commercial']!r}")
        known["input"] = self.input(known["input"])
        known["group_aware"] = self.group_aware(known)
        points = self.rows(known, "operating_points")
        known["operating_points"] = tuple(self.point(p, f"operating_points[{i}]") for i, p in enumerate(points))
        known["numbers"] = tuple(self.rows(known, "numbers"))
        known["calibration"] = read_calibration(self, known.get("calibration"))
        return Card(**known)

    def input(self, document: Any) -> Input:
        known = self.known(document, Input, "input")
        self.needed(known, "input.", "size", "channels", "mean", "std")
        self.whole(known, "size", 0, "input.")
        if known["channels"] not in ("rgb", "bgr"):
            self.fail("input.channels", f'must be "rgb" or "bgr", not {known["channels"]!r}')
        self.number(known, "mean", "input.")
        if self.number(known, "std", "input.") <= 0:
            self.fail("input.std", f"must be more than 0, not {known['std']}")
        return Input(**known)

    def group_aware(self, card: dict[str, Any]) -> GroupAware | None:
        document = card.get("group_aware")
        if (card.get("similarity") == "group-aware") != (document is not None):
            self.fail("group_aware", "belongs to a similarity that is group-aware, and only to it")
        if document is None:
            return None
        known = self.known(document, GroupAware, "group_aware")
        self.needed(known, "group_aware.", "split")
        self.whole(known, "split", 1, "group_aware.")
        if known["split"] >= card["dim"]:
            self.fail("group_aware.split", f"must lie within a vector of {card['dim']}, not at {known['split']}")
        for key in {"beta", "gamma"} & known.keys():
            self.number(known, key, "group_aware.")
        try:
            return GroupAware(**known)
        except UsageError as error:
            return self.fail("group_aware", f"is refused: {error}")

    def point(self, document: Any, where: str) -> OperatingPoint:
        known = self.known(document, OperatingPoint, where)
        where += "."
        self.needed(known, where, "at", "threshold")
        self.texts(known, where, "at", "data", *({"contract"} if known.get("contract") is not None else ()))
        self.number(known, "threshold", where)
        if known.get("pairs") is not None:
            self.whole(known, "pairs", 0, where)
        if known.get("fnmr") is not None:
            self.share(known, "fnmr", where)
        for key in ("ci95", "fmr_ci95", "fmr_others95", "fnmr_ci95"):
            known[key] = self.interval(known, key, where)
        return OperatingPoint(**known)

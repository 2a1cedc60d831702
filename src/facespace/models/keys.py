"""Reads a JSON document beside weights, naming the file and the key of whatever is wrong."""

from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from facespace.errors import BadCard

_LARGEST = 1e9  # refuses NaN and infinity as well


class KeyReader:
    """Checks of a document's keys; each raises BadCard."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self, document: Any, kind: type, where: str) -> dict[str, Any]:
        """The document as a dictionary whose keys are all fields of `kind`."""
        if not isinstance(document, dict):
            self.fail(where or "the document", "must be a JSON object")
        if strange := sorted(set(document) - {field.name for field in fields(kind)}):
            self.fail(f"{where}.{strange[0]}".lstrip("."), "is not a key of a card")
        return dict(document)

    def needed(self, document: dict[str, Any], where: str, *keys: str) -> None:
        """None of the keys is missing."""
        for key in keys:
            if key not in document:
                self.fail(where + key, "is missing")

    def rows(self, document: dict[str, Any], key: str) -> list[Any]:
        """A list of JSON objects; empty where there is none."""
        rows = document.get(key, [])
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            self.fail(key, "must be a list of JSON objects")
        return list(rows)

    def texts(self, document: dict[str, Any], where: str, *keys: str) -> None:
        """Those of the keys that are there are texts, not empty."""
        for key in keys:
            if key in document and not (isinstance(document[key], str) and document[key]):
                self.fail(where + key, f"must be a text, not {document[key]!r}")

    def number(self, document: dict[str, Any], key: str, where: str = "") -> float:
        """A finite number."""
        value = document[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
            self.fail(where + key, f"must be a number, not {value!r}")
        return float(value)

    def share(self, document: dict[str, Any], key: str, where: str) -> float:
        """A number 0..1."""
        value = self.number(document, key, where)
        if not 0 <= value <= 1:
            self.fail(where + key, f"must lie in 0..1, not at {value!r}")
        return value

    def numbers(self, document: dict[str, Any], key: str, where: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        values = document[key]
        if not isinstance(values, list):
            self.fail(where + key, f"must be a list of numbers, not {values!r}")
        return tuple(self.number({key: value}, key, where) for value in values)

    def interval(self, document: dict[str, Any], key: str, where: str) -> tuple[float, float] | None:
        """Null, or two numbers; null where there is none."""
        if (interval := document.get(key)) is None:
            return None
        if not (isinstance(interval, list) and len(interval) == 2):
            self.fail(where + key, "must be null or two numbers")
        ends = dict(zip(("low", "high"), interval, strict=True))
        low, high = (self.number(ends, end, f"{where}{key}.") for end in ends)
        return low, high

    def whole(self, document: dict[str, Any], key: str, least: int, where: str = "") -> None:
        """A whole number, `least` or more."""
        value = document[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fail(where + key, f"must be a whole number >= {least}, not {value!r}")

    def fail(self, key: str, what: str) -> NoReturn:
        """Raise BadCard naming the key."""
        raise BadCard(f"{key} {what}", file=self.path, hint="see the keys of a card in `facespace model show compact`")

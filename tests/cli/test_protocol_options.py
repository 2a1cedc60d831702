"""Every protocol has its row; options that belong to another are refused in words."""

from pathlib import Path
from typing import Any

import pytest

from facespace.cli.asked import Asked, ProtocolName
from facespace.cli.protocols import PROTOCOLS, open_protocol
from facespace.errors import DataError, UsageError
from facespace.judge.identification import Enrolment


def asked(**given: Any) -> Asked:
    plain = {"pairs": None, "folds": None, "seed": 0, "enrolment": Enrolment(), "distractors": None}
    return Asked(Path("absent"), **(plain | given))


def test_every_name_has_a_row() -> None:
    assert list(PROTOCOLS) == list(ProtocolName)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("lfw", {}, "the protocol lfw needs --pairs"),
        ("rfw", {"pairs": Path("list.txt"), "folds": "1-2"}, "--folds belongs to lfw, not to the protocol rfw"),
        (None, {"folds": "1-2"}, "--folds belongs to lfw, not to the protocol folder"),
        ("folder", {"enrolment": Enrolment(rank=2)}, "--rank belongs to identification, not to the protocol folder"),
        ("bin", {"distractors": Path("others")}, "--distractors belongs to identification, not to the protocol bin"),
    ],
)
def test_what_belongs_to_another_protocol_is_refused(name: str | None, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_protocol(name and ProtocolName(name), asked(**given))


@pytest.mark.parametrize("name", list(ProtocolName))
def test_each_opens_its_data_and_says_when_they_are_missing(name: ProtocolName) -> None:
    pairs = Path("absent.txt") if "--pairs" in PROTOCOLS[name].needs else None
    with pytest.raises(DataError):
        open_protocol(name, asked(pairs=pairs))

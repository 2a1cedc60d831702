"""Splits by identity: no person on both sides."""

import hashlib

from facespace.data.folder import People
from facespace.errors import DataError


def split_people(people: People, held_out: int, seed: int = 0) -> tuple[People, People]:
    """(training, held out): `held_out` people, chosen by a hash of seed and name, so that adding people moves few
    others.

    Raises DataError where fewer than two people would remain for training.
    """
    if not 0 <= held_out <= len(people.names) - 2:
        hint = "hold out fewer (two must remain to learn from), or bring more people"
        raise DataError(f"cannot hold out {held_out} of {len(people.names)} people", file=people.root, hint=hint)
    ranked = sorted(
        people.names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    )
    held = frozenset(ranked[:held_out])
    return people.only(frozenset(people.names) - held), people.only(held)

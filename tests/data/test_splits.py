"""A split by identity: nobody on both sides, and adding people moves few."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facespace.data.folder import People, PhotoRef
from facespace.data.splits import split_people
from facespace.errors import DataError


def people(names: list[str]) -> People:
    photos = tuple(PhotoRef(name, f"{name}/{i}.jpg") for name in sorted(names) for i in range(2))
    return People(Path("nowhere"), photos, lambda name: name.encode())


@given(st.integers(4, 60), st.integers(0, 5), st.data())
def test_nobody_is_on_both_sides_and_nobody_is_lost(count: int, seed: int, data: st.DataObject) -> None:
    held_out = data.draw(st.integers(0, count - 2))
    everyone = people([f"person {i}" for i in range(count)])
    train, held = split_people(everyone, held_out, seed)
    assert set(train.names) | set(held.names) == set(everyone.names)
    assert not set(train.names) & set(held.names)
    assert len(held.names) == held_out
    assert sorted([*train.photos, *held.photos], key=lambda photo: photo.name) == list(everyone.photos)


def test_it_depends_on_seed_and_names_alone() -> None:
    names = [f"person {i}" for i in range(100)]
    first = split_people(people(names), 20, seed=1)[1].names
    assert split_people(people(names[::-1]), 20, seed=1)[1].names == first
    assert split_people(people(names), 20, seed=2)[1].names != first


def test_added_people_move_no_more_than_their_own_number() -> None:
    names = [f"person {i}" for i in range(200)]
    before = set(split_people(people(names), 50)[1].names)
    after = set(split_people(people([*names, *(f"new {i}" for i in range(10))]), 50)[1].names)
    assert len(before - after) <= 10
    assert after - before <= {f"new {i}" for i in range(10)}


@pytest.mark.parametrize("held_out", [-1, 3, 4, 5])
def test_two_must_remain_to_learn_from(held_out: int) -> None:
    with pytest.raises(DataError, match="hold out"):
        split_people(people(["a", "b", "c", "d"]), held_out)


def test_names_that_are_no_text_are_split_too() -> None:
    train, held = split_people(people(["a", "b", "\udcff"]), 1)
    assert {*train.names, *held.names} == {"a", "b", "\udcff"}

"""Trainings of 2 and 4 processes against those of one: every recipe, killed and gone on with, and what is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from distributed_processes import EQUAL, FLAT, SAMPLED, SHORT
from tiny_training import BUSY, STEPS, TINY, write_people
from torch import Tensor

from facespace.cli.processes import launch
from facespace.data.batches import Reader
from facespace.data.folder import open_people
from facespace.data.sampler import Shuffled
from facespace.errors import UsageError
from facespace.losses import Triplet
from facespace.losses.offline import Offline
from facespace.models.nets.groupface import Grouped
from facespace.train import checkpoint
from facespace.train.distributed import World, joined
from facespace.train.runlog import read_log
from facespace.train.start import read_rows


class Ran(NamedTuple):
    folder: Path
    statuses: dict[str, list[int]]

    def told(self, stage: str) -> list[dict[str, Any]]:
        """What the processes of a stage left, by rank."""
        paths = [self.folder / f"{stage}-{rank}.json" for rank in range(len(self.statuses[stage]))]
        return [json.loads(path.read_text()) for path in paths if path.is_file()]

    def rows(self, run: str, kind: str = "step") -> list[dict[str, Any]]:
        return [row for row in read_log(self.folder / run / "log.jsonl") if row["kind"] == kind]

    def end(self, run: str) -> dict[str, Any]:
        """The last checkpoint."""
        state, passed = checkpoint.newest(self.folder / run / "checkpoints")
        assert state is not None
        assert passed == []
        return state


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photo is damaged: some batches give the processes parts of different sizes."""
    folder = write_people(tmp_path_factory.mktemp("people"))
    (folder / "p03" / "2.jpg").write_bytes(b"not a photo")
    return folder


@pytest.fixture(scope="module")
def ran(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All stages of the program, in one go."""
    folder = tmp_path_factory.mktemp("runs")
    program = Path(__file__).with_name("distributed_processes.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder), str(people)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "FACESPACE_HOME": str(folder / "home")},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)
    assert statuses.pop("killed") == [-9, 0], done.stderr
    assert not any(map(any, statuses.values())), done.stderr
    return Ran(folder, statuses | {"killed": [-9, 0]})


def assert_alike(a: Any, b: Any, where: str = "state") -> None:
    """The same layout, and the same numbers but for the order of sums."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_alike(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_alike(x, y, f"{where}[{i}]")
    elif isinstance(a, Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        largest = float(a.abs().max()) if a.is_floating_point() and a.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4 * largest, msg=lambda text: f"{where}: {text}")
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5), where
    else:
        assert a == b, where


def assert_one_training(ran: Ran, run: str, undisturbed: str) -> None:
    """Checkpoint with optimiser, class rows, what is logged and who is left out."""
    assert_alike(ran.end(run), ran.end(undisturbed))
    rows, people = read_rows(ran.folder / run / "classes.safetensors")
    expected, same_people = read_rows(ran.folder / undisturbed / "classes.safetensors")
    assert people == same_people
    if expected is not None:
        assert_alike(rows, expected)
    for kind in ("step", "held_out", "left_out", "end"):
        told, wanted = ran.rows(run, kind), ran.rows(undisturbed, kind)
        for row in (*told, *wanted):
            row.pop("images_per_s", None)
        assert_alike(told, wanted, kind)


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_train_as_one(ran: Ran, name: str) -> None:
    assert_one_training(ran, f"{name}-2", f"{name}-1")
    losses = [row["loss"] for row in ran.rows(f"{name}-2")]
    assert np.isfinite(losses).all()
    if isinstance(EQUAL[name].sampler, Shuffled):
        assert len(ran.rows(f"{name}-2", "left_out")) == 1


def test_processes_hold_the_same_trunk_bit_for_bit_and_class_rows_in_slices(ran: Ran) -> None:
    first, second = (told["saved"] for told in ran.told("two"))
    assert first == second
    assert len({digest for digest, _ in first}) == len(first) > len(EQUAL)
    kinds = Counter(kind for _, kind in first)
    assert kinds["ShardedHead"] > kinds["MarginHead"] > 0, "a queue reads the rows of all classes"
    assert {kind for _, kind in ran.told("one")[0]["saved"]} == {"MarginHead", "NoneType"}


def test_where_one_is_killed_the_other_ends_by_itself(ran: Ran) -> None:
    (second,) = (told for told in ran.told("killed") if "error" in told)
    assert second["error"].startswith("TrainingError: another process")
    assert [row["step"] for row in ran.rows("killed")] == list(range(1, 11))


@pytest.mark.parametrize("processes", [1, 4])
def test_what_two_began_others_finish(ran: Ran, processes: int) -> None:
    assert_one_training(ran, f"resumed-{processes}", "arcface-1")
    assert [row["step"] for row in ran.rows(f"resumed-{processes}")] == list(range(1, STEPS + 1))
    begun = {json.dumps(told["saved"]) for told in ran.told(f"resumed by {'one' if processes == 1 else 'four'}")}
    assert len(begun) == 1
    assert len(json.loads(begun.pop())) == 2, "after step 12 and the last: it began with that of step 8"


def test_sampled_class_rows_learn_too(ran: Ran) -> None:
    first, second = ran.told("sampled")
    assert first == second
    state, labels = ran.end("sampled"), SAMPLED.labels
    assert labels is not None
    assert int(state["objective"]["labels.steps"]) == state["step"]
    assert state["objective"]["labels.weight"].shape == (8 + 4, 16)
    losses = [row["loss"] for row in ran.rows("sampled")]
    assert losses[-1] < losses[0]


def test_a_gradient_that_is_not_finite_on_one_process_is_left_out_by_all(ran: Ran) -> None:
    first, second = ran.told("spoilt")
    assert first == second
    skipped = [row["skipped"] for row in ran.rows("spoilt")]
    assert skipped == [0, 0] + [1] * (len(skipped) - 2)
    assert all(value.isfinite().all() for value in ran.end("spoilt")["objective"].values())


def test_class_rows_of_a_finished_run_are_begun_with_in_slices(ran: Ran) -> None:
    assert_one_training(ran, "started-2", "started-1")
    first, fresh = (ran.rows(run)[0]["target_angle_deg"] for run in ("started-2", "arcface-2"))
    assert abs(first - fresh) > 1


def test_processes_of_different_recipes_or_uneven_parts_are_refused(ran: Ran) -> None:
    for told in ran.told("other recipes"):
        assert "do not agree on recipe" in told["error"]
    for told in ran.told("uneven"):
        assert told["error"].startswith("UsageError: a batch of 7")


def test_the_command_says_one_document_and_writes_one_log(ran: Ran) -> None:
    first, second = ran.told("command")
    document = json.loads(first["said"])
    assert document["step"] == ran.rows("command", "end")[0]["chosen"]
    assert len(document["left_out"]) == 1
    assert second["said"] == ""
    (last,) = (row for row in ran.rows("command") if row["step"] == STEPS)
    assert last["total"] == STEPS


def test_what_several_processes_cannot_do_as_one_is_refused() -> None:
    world, pairs = World(1, 2), EQUAL["taught triplets"].sampler
    for recipe in EQUAL.values():
        world.check(recipe)
    mined = dataclasses.replace(FLAT, triplet=Triplet(), offline=Offline(), sampler=pairs)
    with pytest.raises(UsageError, match="offline mining"):
        world.check(mined)
    World().check(mined)
    for size, batch in ((2, 9), (4, 4), (8, 12)):
        with pytest.raises(UsageError, match=f"batch of {batch} does not give {size} processes"):
            World(0, size).check(dataclasses.replace(FLAT, sampler=Shuffled(batch)))


def test_class_rows_are_spread_where_nothing_else_reads_them() -> None:
    spread = {name for name, recipe in EQUAL.items() if World(0, 2).shards(recipe)}
    assert set(EQUAL) - spread == {"broadface"}
    assert World(0, 2).shards(dataclasses.replace(FLAT, auxiliary=EQUAL["broadface"].auxiliary[:1])), "center"
    assert not World(0, 2).shards(dataclasses.replace(FLAT, auxiliary=EQUAL["broadface"].auxiliary[1:])), "inter"
    assert not World().shards(SHORT)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_parts_are_the_batch_whatever_happens_to_a_face(people: Path, size: int) -> None:
    everyone = open_people(people)
    reader = Reader(everyone, BUSY, seed=5)
    positions = np.arange(10, 30)  # the damaged one, 17, among them
    whole = reader.batch(positions, 3, 2, 48)
    parts = [Reader(everyone, BUSY, 5, part=World(rank, size).part(len(positions))) for rank in range(size)]
    read = [part.batch(positions, 3, 2, 48) for part in parts]
    for name in ("faces", "labels", "photos", "flipped"):
        np.testing.assert_array_equal(np.concatenate([getattr(b, name) for b in read]), getattr(whole, name))
    assert {name for part in parts for name in part.bad} == set(reader.bad)


def test_alone_nothing_is_done(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as world:
        assert world == World(0, 1) == World.present()
    ones, batch = torch.ones(2, 3), Reader.__new__(Reader)
    grouped = Grouped(ones, ones, ones, ones)
    assert world.leads
    assert world.gather(ones, grouped, batch) == (ones, grouped, batch)  # type: ignore[arg-type, comparison-overlap]
    assert [world.all(fine) for fine in (True, False)] == [True, False]
    assert world.told(ones) is ones
    assert world.union({"a": "b"}) == {"a": "b"}
    world.check_same(TINY, open_people(people))


def test_a_command_in_processes_of_this_machine_ends_with_the_status_of_the_first_to_fail() -> None:
    assert launch(2, ["model", "list", "--json"]) == 0
    assert launch(2, ["model", "show", "nobody", "--json"]) == 4

"""The runner of a plan: what is trained when, what a failure does, what is done again, and the table it leaves."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import TINY, quick_export, write_people

from facespace.errors import TrainingError, UsageError
from facespace.train import ablate as runner
from facespace.train import outcome, plans, tabulate
from facespace.train import trial as of_trial
from facespace.train.ablate import Log, Workers, ablate, overview
from facespace.train.plan import Plan, Run, Variant
from facespace.train.recipe import SGD
from facespace.train.trial import Result, Sources, cost, is_done, trial

BRIEF = replace(TINY, held_out=0, epochs=1, resolutions=())
"""12 people with 5 photos: 7 steps."""
PLAN = Plan(
    "plan",
    (
        Variant("plain", BRIEF, note="the baseline"),
        Variant("other", replace(BRIEF, optimiser=SGD(0.1))),
        Variant("again", BRIEF, similarity="cosine"),
    ),
    seeds=2,
    start=(Variant("start", BRIEF),),
    comparisons=(("other", "plain"),),
    judged_fars=(0.1, 1e-6),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "export_onnx", quick_export)
    monkeypatch.setitem(plans.PLANS, "plan", PLAN)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("faces")
    return write_people(folder / "train"), write_people(folder / "judge", people=6, seed=1)


@pytest.fixture
def sources(folders: tuple[Path, Path]) -> Sources:
    return Sources(*folders)


class Threaded:
    """In place of a process: the same work on a thread of this one."""

    def __init__(self, work: Callable[[Connection], int], connection: Connection) -> None:
        self.connection = Connection(os.dup(connection.fileno()), readable=False)  # the runner closes the other
        self.work = work
        self.exitcode: int | None = None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        self.exitcode = self.work(self.connection)
        self.connection.close()

    def start(self) -> None:
        self.thread.start()

    def join(self) -> None:
        self.thread.join()

    def terminate(self) -> None:
        self.exitcode = -15


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of `ablate` on threads, one at a time: torch is shared."""

    class Context:
        @staticmethod
        def Process(target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> Threaded:  # noqa: N802
            *before, connection = args

            def work(its: Connection) -> int:
                try:
                    target(*before, its)
                except SystemExit as end:
                    return int(end.code or 0)
                return 0

            return Threaded(work, connection)

    monkeypatch.setattr(runner.multiprocessing, "get_context", lambda kind: Context)
    monkeypatch.setattr(runner.signal, "signal", lambda *a: None)  # of the main thread only


@pytest.mark.usefixtures("threaded")
def test_a_plan_leaves_a_table_and_is_not_carried_out_twice(sources: Sources, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    table = ablate("plan", sources, tmp_path, listen=heard.append)
    folder = tmp_path / "plan"
    ended = [row["run"] for row in heard if row["kind"] == "finished"]
    assert ended == ["start-seed0", "plain-seed0", "other-seed0", "plain-seed1", "other-seed1"]
    assert {row["run"] for row in heard if row["kind"] == "step"} == set(ended)
    assert heard[0] | {"time": ""} == {"kind": "plan", "time": "", "plan": "plan", "runs": 5, "waiting": 5}
    for name in ended:
        assert not (folder / name / "checkpoints").exists()
        assert (folder / name / "trunk.safetensors").is_file()

    assert [row.variant for row in table.rows] == ["start", "plain", "other", "again"]
    assert [row.seeds for row in table.rows] == ["1", "2", "2", "2"]
    plain, other, again = table.rows[1:]
    assert plain.figures == again.figures
    assert plain.mean("photos") == 7 * 8
    (less,) = table.differences
    assert less.figures["EER"].value == pytest.approx(other.figures["EER"].value - plain.figures["EER"].value)
    assert list(table.refused) == ["TAR at FAR 0.0001 %"]
    assert json.loads((folder / "table.json").read_text())["judged"]["people"] == 6
    assert (folder / "table.md").read_text() == table.markdown()
    curves = json.loads((folder / "curves.json").read_text())
    assert sorted(curves) == sorted(ended)
    assert curves["plain-seed0"]["step"] == [7]

    heard.clear()
    assert ablate("plan", sources, tmp_path, listen=heard.append).as_json() == table.as_json()
    assert [row["kind"] for row in heard] == ["plan"]
    assert len((folder / "log.jsonl").read_text().splitlines()) == 12


@pytest.mark.usefixtures("threaded")
def test_what_fails_is_noted_the_others_go_on_and_the_next_time_it_is_tried_again(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = (*PLAN.variants[:2], Variant("builds", replace(BRIEF, optimiser=SGD(0.2)), start="other"))
    plan = replace(PLAN, variants=builds, seeds=1)
    monkeypatch.setitem(plans.PLANS, "plan", plan)
    broken = True

    def training(run: Run, out: Path, sources: Sources, listen: Any) -> Result:
        if run.variant.name == "other" and broken:
            raise UsageError("no, thank you")
        return trial(run, out, sources, listen)

    monkeypatch.setattr(runner, "trial", training)
    with pytest.raises(TrainingError) as caught:
        ablate("plan", sources, tmp_path, jobs=2)
    assert str(caught.value) == "2 of 4 trainings failed, first other-seed0: no, thank you"
    assert "table.md" in caught.value.hint
    text = (tmp_path / "plan" / "table.md").read_text()
    assert "| `plain` | 1 |" in text
    assert "`other`, seed 0, failed: no, thank you" in text
    assert "`builds`, seed 0, failed: other-seed0, which it builds on, did not finish" in text
    assert [row.status for row in overview("plan", tmp_path)] == ["finished", "finished", "failed", "failed"]

    broken = False
    table = ablate("plan", sources, tmp_path)
    assert {training.status for row in table.rows for training in row.trained} == {"finished"}


def test_a_process_that_dies_without_a_word_has_failed(tmp_path: Path) -> None:
    """Whatever it was doing, and even within a row."""
    run = Run(PLAN.variants[0], 0)

    def dies(connection: Connection) -> int:
        connection.send({"kind": "step", "step": 1})
        os.write(connection.fileno(), b"\0\0")  # the beginning of another row
        return -9

    heard: list[dict[str, Any]] = []
    log = Log(tmp_path / "log.jsonl", heard.append)
    workers = Workers(lambda run, connection: Threaded(dies, connection), tmp_path, log, [run])  # type: ignore[arg-type, return-value]
    assert workers.carry_out(1) == {"plain-seed0": "its process ended with status -9"}
    assert [row["kind"] for row in heard] == ["begun", "step", "failed"]
    assert Result.read(tmp_path / "plain-seed0") == Result("failed", "its process ended with status -9")


def test_no_more_trainings_than_jobs_and_none_before_what_it_builds_on(tmp_path: Path) -> None:
    """Of a start and three that begin with it, the start is alone, then two at a time."""
    runs = [run for run in PLAN.runs() if run.name != "other-seed1"]
    gates = {run.name: threading.Event() for run in runs}
    at_work: list[str] = []
    begun: list[tuple[str, int]] = []

    def process(run: Run, connection: Connection) -> Threaded:
        def work(_: Connection) -> int:
            gates[run.name].wait(5)
            Result("finished").write(tmp_path / run.name)
            return 0

        return Threaded(work, connection)

    def listen(row: dict[str, Any]) -> None:
        """The start ends at once; of the others the first, when there are two at work or no more to come."""
        if row["kind"] == "begun":
            at_work.append(row["run"])
            begun.append((row["run"], len(at_work)))
        else:
            at_work.remove(row["run"])
        if at_work and (len(at_work) == 2 or begun[-1][0] == "start-seed0" or len(begun) == len(runs)):
            gates[at_work[0]].set()

    workers = Workers(process, tmp_path, Log(tmp_path / "log.jsonl", listen), list(runs))  # type: ignore[arg-type]
    assert workers.carry_out(2) == {}
    assert begun == [("start-seed0", 1), ("plain-seed0", 1), ("other-seed0", 2), ("plain-seed1", 2)]


def test_an_interruption_ends_the_processes(tmp_path: Path) -> None:
    made: list[Threaded] = []
    ended = threading.Event()

    def process(run: Run, connection: Connection) -> Threaded:
        def work(its: Connection) -> int:
            its.send({"kind": "step", "step": 1})
            ended.wait(5)
            return 0

        made.append(Threaded(work, connection))
        made[-1].terminate = ended.set  # type: ignore[method-assign]
        return made[-1]

    def listen(row: dict[str, Any]) -> None:
        if row["kind"] == "step":
            raise KeyboardInterrupt

    runs = [Run(variant, 0) for variant in PLAN.variants[:2]]
    with pytest.raises(KeyboardInterrupt):
        Workers(process, tmp_path, Log(tmp_path / "log.jsonl", listen), runs).carry_out(2)  # type: ignore[arg-type]
    assert len(made) == 2
    assert not any(process.thread.is_alive() for process in made)


def test_a_training_that_diverges_is_a_result(sources: Sources, tmp_path: Path) -> None:
    run = Run(Variant("wild", replace(BRIEF, epochs=3, optimiser=SGD(1e30), warmup=0.0)), 0)
    result = trial(run, tmp_path, sources)
    assert result.status == "diverged"
    assert "were not finite" in result.message
    assert is_done(run, tmp_path, sources)
    assert Result.read(tmp_path / run.name) == result


def test_faces_that_all_lie_at_one_point_are_a_result(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rng = Run(PLAN.variants[0], 0), np.random.default_rng(0)

    def collapsed(embedder: Any, people: Any) -> tuple[Any, Any]:
        vectors = np.float32([0.6, 0.8]) + 1e-3 * rng.normal(size=(len(people.photos), 2)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, np.arange(len(vectors))

    monkeypatch.setattr(of_trial, "embed_people", collapsed)
    result = trial(run, tmp_path, sources)
    assert (result.status, result.photos) == ("collapsed", 56)


def test_other_people_to_judge_by_are_embedded_without_training_again(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(PLAN.variants[0], 0)
    trial(run, tmp_path, sources)
    others = Sources(sources.data, write_people(tmp_path / "others", people=5, seed=9))
    assert is_done(run, tmp_path, sources)
    assert not is_done(run, tmp_path, others)
    monkeypatch.setattr(of_trial, "train", lambda *a, **k: pytest.fail("trained again"))
    assert trial(run, tmp_path, others).judge == others.judge_digest
    assert is_done(run, tmp_path, others)
    with np.load(tmp_path / run.name / "vectors.npz") as stored:
        assert stored["vectors"].shape == (25, 16)
        assert stored["labels"].tolist() == np.repeat(range(5), 5).tolist()


def test_photos_that_are_learnt_from_judge_nothing(sources: Sources, tmp_path: Path) -> None:
    """One photo in both is enough, under whatever name."""
    person = next((sources.data).iterdir())
    shutil.copytree(sources.judge, tmp_path / "judge")
    shutil.copy(next(person.iterdir()), tmp_path / "judge" / "somebody.jpg")
    (tmp_path / "judge" / "somebody").mkdir()
    (tmp_path / "judge" / "somebody.jpg").rename(tmp_path / "judge" / "somebody" / "1.jpg")
    with pytest.raises(UsageError, match="1 photos are to be learnt from and to be judged by"):
        ablate("plan", Sources(sources.data, tmp_path / "judge"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_another_recipe_or_other_data_are_refused_before_anything_begins(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(PLAN.variants[0], 0)
    trial(run, tmp_path / "plan", sources)
    other = Run(replace(PLAN.variants[0], recipe=replace(BRIEF, epochs=2)), 0)
    with pytest.raises(TrainingError, match="another recipe"):
        is_done(other, tmp_path / "plan", sources)
    with pytest.raises(TrainingError, match="with other data") as caught:
        ablate("plan", Sources(write_people(tmp_path / "others", seed=7), sources.judge), tmp_path)
    assert "plain-seed0" in str(caught.value)
    assert not (tmp_path / "plan" / "start-seed0").exists()


def test_a_training_knows_the_weights_it_was_built_on(sources: Sources, tmp_path: Path) -> None:
    start, run = list(replace(PLAN, seeds=1).runs())[:2]
    trial(start, tmp_path, sources)
    trial(run, tmp_path, sources)
    assert is_done(run, tmp_path, sources)
    (tmp_path / start.name / "trunk.safetensors").write_bytes(b"trained anew")
    assert not is_done(run, tmp_path, sources)


def test_damaged_photos_are_left_out_of_the_judging(sources: Sources, tmp_path: Path) -> None:
    judge = write_people(tmp_path / "judge", people=5, seed=3)
    (judge / "p01" / "2.jpg").write_bytes(b"no photo")
    run = Run(PLAN.variants[0], 0)
    trial(run, tmp_path, Sources(sources.data, judge))
    with np.load(tmp_path / run.name / "vectors.npz") as stored:
        assert len(stored["vectors"]) == len(stored["labels"]) == 24
        assert (stored["labels"] == 1).sum() == 4


def test_lfw_is_judged_where_it_is_given(sources: Sources, tmp_path: Path) -> None:
    photos = tmp_path / "lfw"
    for person, folder in enumerate(sorted(sources.judge.iterdir())):
        for number, photo in enumerate(sorted(folder.iterdir()), 1):
            path = photos / f"N{person}" / f"N{person}_{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo.read_bytes())
    genuine = [[f"N{i}\t1\t2", f"N{i}\t2\t3"] for i in (0, 1)]
    impostor = [[f"N{i}\t1\tN{i + 2}\t1", f"N{i}\t2\tN{i + 2}\t3"] for i in (0, 1)]
    lines = ["2\t2", *(line for fold in zip(genuine, impostor, strict=True) for kind in fold for line in kind)]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(lines) + "\n")
    plan = replace(PLAN, variants=PLAN.variants[:1], seeds=1, start=(), comparisons=())
    both = replace(sources, lfw=photos, pairs=pairs)
    (run,) = plan.runs()
    trial(run, tmp_path, both)
    assert both.judge_digest != sources.judge_digest
    figures = tabulate.write_table(plan, tmp_path, both).rows[0].figures
    assert 0 <= figures["LFW accuracy"].value <= 1
    (photos / "N0" / "N0_0001.jpg").write_bytes(b"no photo")
    with pytest.raises(Exception, match="1 photos of LFW cannot be read"):
        trial(run, tmp_path, replace(sources, lfw=photos, pairs=pairs))


def test_measures_are_kept_until_the_vectors_change(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, variants=PLAN.variants[:1], seeds=1, start=(), comparisons=())
    (run,) = plan.runs()
    trial(run, tmp_path, sources)
    table = tabulate.write_table(plan, tmp_path, sources).as_json()
    kept = tmp_path / run.name / "measures-cosine.npz"
    with monkeypatch.context() as patch:
        patch.setattr(tabulate, "measure", lambda *a: pytest.fail("measured again"))
        assert tabulate.write_table(plan, tmp_path, sources).as_json() == table
    kept.write_bytes(kept.read_bytes()[:-100])
    assert tabulate.write_table(plan, tmp_path, sources).as_json() == table
    fewer = replace(plan, judged_fars=(0.1,))
    assert list(tabulate.write_table(fewer, tmp_path, sources).rows[0].figures) == ["TAR at FAR 10 %", "EER"]


def test_the_log_tells_what_a_training_took(tmp_path: Path) -> None:
    run = Run(PLAN.variants[0], 0)
    (tmp_path / run.name).mkdir()
    rows = [
        {"kind": "begin", "step": 0},
        {"kind": "step", "step": 20, "images_per_s": 16.0},
        {"kind": "held_out", "step": 20},
        {"kind": "step", "step": 25, "images_per_s": 4.0},
    ]
    (tmp_path / run.name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cost(run, tmp_path / run.name) == (200, pytest.approx((160 / 16 + 40 / 4) / 60))
    assert cost(run, tmp_path / "nowhere") == (0, 0.0)


def test_what_is_left_is_reckoned_by_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same variant's other seeds count where there are any; a training at work has less to go."""
    long = Variant("long", replace(BRIEF, epochs=4))
    plan = replace(PLAN, variants=(*PLAN.variants[:2], long), start=())
    monkeypatch.setitem(plans.PLANS, "plan", plan)
    assert {row.minutes_left for row in overview("plan", tmp_path)} == {None}
    folder = tmp_path / "plan"
    Result("finished", photos=56, minutes=3.0).write(folder / "plain-seed0")
    Result("diverged", "so it is", photos=56, minutes=5.0).write(folder / "other-seed0")
    (folder / "other-seed1").mkdir()
    (folder / "other-seed1" / "log.jsonl").write_text('{"kind": "step", "step": 3, "images_per_s": 0.2}\n')
    rows = {row.run: (row.status, row.minutes, row.minutes_left) for row in overview("plan", tmp_path)}
    assert rows == {
        "plain-seed0": ("finished", 3.0, 0.0),
        "plain-seed1": ("waiting", 0.0, 3.0),
        "other-seed0": ("diverged", 5.0, 0.0),
        "other-seed1": ("begun", pytest.approx(2.0), pytest.approx(3.0)),
        "long-seed0": ("waiting", 0.0, 16.0),
        "long-seed1": ("waiting", 0.0, 16.0),
    }


def test_no_jobs_are_wrong_usage(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 trainings"):
        ablate("plan", sources, tmp_path, jobs=0)

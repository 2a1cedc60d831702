"""Class rows spread over 2 and 4 processes against one process with all: loss, figures, every gradient (U16)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sharded_processes import BATCH, CASES, CLASSES, STEPS, Case, batch, descended, figures, trunk
from torch import Tensor

from facespace.losses import ArcFace
from facespace.losses.head import HeadOutput, MarginHead
from facespace.losses.sharded import slice_of

WORLDS = (2, 4)
Found = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each process found, by their number and rank."""
    folder = tmp_path_factory.mktemp("processes")
    program = Path(__file__).with_name("sharded_processes.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder), *map(str, WORLDS)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


def alone(case: Case, chosen: list[Tensor]) -> list[dict[str, Any]]:
    """The same steps in one process, against the classes that were chosen in each."""
    net, head = trunk(), case.head(MarginHead)
    head.sample = 1.0
    steps = []
    for step in range(STEPS):
        faces, labels = batch(step)
        net.zero_grad()
        head.zero_grad()
        embeddings = net(faces)
        embeddings.retain_grad()
        rows = torch.searchsorted(chosen[step], labels)
        head.remember(embeddings, labels)
        part = head.classifier
        if len(chosen[step]) < CLASSES:
            part = part._replace(weight=part.weight[chosen[step]])
        photos = head.photo_losses(embeddings, rows, part)
        loss = photos.losses.mean() + head.penalty(embeddings)
        out = HeadOutput(loss, head.logs(embeddings, labels, photos.scores))
        (case.weight * out.loss).backward()  # type: ignore[no-untyped-call]
        steps.append(figures(out, net, head) | {"part": embeddings.grad})
        descended([*net.parameters(), *head.parameters()])
    return steps


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CASES)
def test_u16_processes_equal_one(found: Found, name: str, world: int) -> None:
    """Loss on every process, trunk gradients after averaging, class rows put together; memory; three steps on end."""
    ranks = [rank["cases"][name] for rank in found[world]]
    chosen = [torch.cat([rank[step]["chosen"] for rank in ranks]) for step in range(STEPS)]
    one, share = alone(CASES[name], chosen), BATCH // world
    for step in range(STEPS):
        for number, rank in enumerate(ranks):
            assert rank[step]["loss"] == pytest.approx(one[step]["loss"], rel=1e-11)
            assert rank[step]["logs"] == pytest.approx(one[step]["logs"], rel=1e-9)
            # What reaches the own photos is averaged with that of the other processes by the trunk's gradient.
            close(rank[step]["part"] / world, one[step]["part"][number * share :][:share])
            for key, value in one[step].items():
                if isinstance(value, Tensor) and key.startswith(("trunk", "memory", "head.log_scale")):
                    close(rank[step][key], value)
        for key in ("head.weight", "head.bias"):
            if key in one[step]:
                close(ranks[0][step][key], one[step][key])
        assert one[step]["trunk.0.weight"].abs().max() > 1e-8, "something is learnt"


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "sample" in case.options])
def test_u16_the_sample_has_all_positives_and_fills_its_share_of_each_slice(
    found: Found, name: str, world: int
) -> None:
    draws = set()
    for number, rank in enumerate(found[world]):
        own = slice_of(CLASSES, number, world)
        for step in range(STEPS):
            chosen = rank["cases"][name][step]["chosen"].tolist()
            positives = set(batch(step)[1].tolist()) & set(own)
            quota = round(CASES[name].options["sample"] * len(own))
            assert chosen == sorted(set(chosen)), "ascending, none twice"
            assert positives <= set(chosen) <= set(own)
            assert len(chosen) == max(quota, len(positives))
            gradient = found[world][0]["cases"][name][step]["head.weight"]
            left_out = sorted(set(own) - set(chosen))
            assert not gradient[left_out].any(), "rows that were not chosen have no gradient"
            draws.add((number, tuple(chosen)))
    assert len(draws) > world or CASES[name].options["sample"] < 0.5, "other classes in other steps"


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("way", ["blocks", "at once"])
def test_fresh_rows_are_those_of_one_process_and_the_generator_goes_on_as_there(
    found: Found, way: str, world: int
) -> None:
    torch.manual_seed(3)
    head = MarginHead(75, 6, ArcFace(), centres=3)
    after = torch.rand(3)
    assert torch.equal(found[world][0]["beginning"][way]["rows"], head.weight)
    for rank in found[world]:
        assert torch.equal(rank["beginning"][way]["after"], after)
        assert rank["beginning"][way]["there and back"] is True


@pytest.mark.parametrize("world", WORLDS)
def test_figures_of_slices_are_put_together(found: Found, world: int) -> None:
    given = torch.stack([rank["together"]["given"] for rank in found[world]])
    for rank in found[world]:
        close(rank["together"]["sum"], given[:, 1:2].sum(0))
        close(rank["together"]["max"], given.max(0).values)
        close(rank["together"]["logsumexp"], [-np.inf, 1000 + np.log(np.exp(np.arange(world)).sum()), 2.0])


@pytest.mark.parametrize("world", WORLDS)
def test_in_evaluation_all_classes_are_met(found: Found, world: int) -> None:
    head = CASES["sampled adaface with sub-centres"].head(MarginHead).eval()
    faces, labels = batch(0)
    with torch.no_grad():
        out = head(trunk()(faces), labels)
    for rank in found[world]:
        assert rank["evaluated"]["loss"] == pytest.approx(float(out.loss), rel=1e-12)
        assert rank["evaluated"]["logs"] == pytest.approx(out.logs, rel=1e-12)


@pytest.mark.parametrize("world", WORLDS)
def test_wrong_uses_are_refused(found: Found, world: int) -> None:
    for rank in found[world]:
        answers = rank["refusals"]
        assert answers["classes"].startswith("UsageError")
        assert "spread over" in answers["classes"]
        for name in ("label", "negative"):
            assert "leave the classes 0..10" in answers[name]
        assert "do not fit" in answers["shape"]
        assert answers["type"].startswith("DataError")


def test_slices_cover_the_classes_in_order_and_differ_by_one_at_most() -> None:
    for classes in (1, 5, 11, 64, 1000):
        for processes in range(1, min(classes, 9) + 1):
            slices = [slice_of(classes, rank, processes) for rank in range(processes)]
            assert [i for part in slices for i in part] == list(range(classes))
            sizes = {len(part) for part in slices}
            assert max(sizes) - min(sizes) <= 1
            assert len(slices[-1]) == max(sizes)

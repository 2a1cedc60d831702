"""Group labels and their loss against loops in float64, written from the paper."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses.groupface import GroupLabels, GroupLoss, self_distributed
from facespace.models.nets.groupface import Grouped

Rows = list[list[float]]


def grouped(logits: Tensor) -> Grouped:
    nothing = logits.detach()[:, :0]
    return Grouped(nothing, nothing, logits, nothing)


def batch(step: int, n: int = 6, groups: int = 4, skew: float = 0.0) -> Tensor:
    """Logits float64 `(n, groups)` of a step; `skew` raises the first groups in all of them."""
    generator = torch.Generator().manual_seed(1000 + step)
    raised = skew * torch.arange(groups, 0, -1, dtype=torch.float64)
    return torch.randn(n, groups, generator=generator, dtype=torch.float64) + raised


def softmax(row: list[float]) -> list[float]:
    e = [math.exp(z) for z in row]
    return [v / sum(e) for v in e]


class Slow:
    """The labels of one batch after the other; the past is a plain list of batch means."""

    def __init__(self, settings: GroupLabels, groups: int) -> None:
        self.settings, self.groups = settings, groups
        self.past: Rows = []

    def expectation(self, p: Rows) -> list[float]:
        mean = [sum(row[k] for row in p) / len(p) for k in range(self.groups)]
        window = self.settings.window
        match self.settings.expectation:
            case "current":
                used = [*self.past, mean][-window:]
                self.past.append(mean)
            case "previous":
                used = self.past[-window:] or [[1 / self.groups] * self.groups]
                self.past.append(mean)
            case "ema":
                old = self.past[-1] if self.past else mean
                used = [[(1 - 1 / window) * a + b / window for a, b in zip(old, mean, strict=True)]]
                self.past.append(used[0])
        return [sum(row[k] for row in used) / len(used) for k in range(self.groups)]

    def labels(self, logits: Rows) -> list[int]:
        p = [softmax(row) for row in logits]
        if self.settings.mode != "self_distributed":
            return [max(range(self.groups), key=lambda k: row[k]) for row in p]
        e = self.expectation(p)
        return [max(range(self.groups), key=lambda k: row[k] - e[k]) for row in p]


def slow_loss(logits: Rows, labels: list[int], weight: float) -> tuple[float, Rows]:
    """Weighted mean cross-entropy, and its gradient: weight (p - [k = label]) / N."""
    p, n = [softmax(row) for row in logits], len(logits)
    loss = -weight * sum(math.log(row[y]) for row, y in zip(p, labels, strict=True)) / n
    return loss, [[weight * (v - (k == y)) / n for k, v in enumerate(row)] for row, y in zip(p, labels, strict=True)]


@pytest.mark.parametrize("expectation", ["current", "previous", "ema"])
@pytest.mark.parametrize("mode", ["self_distributed", "naive"])
@pytest.mark.parametrize("window", [1, 3, 7])
def test_u17_loss_and_gradient_over_many_batches_are_those_of_the_loops(
    mode: Any, expectation: Any, window: int
) -> None:
    """PAPERS 7 (24): twelve batches, so that a window of three is filled and goes round."""
    settings = GroupLabels(mode, window, 0.3, expectation)
    loss, reference = GroupLoss(4, settings).double(), Slow(settings, 4)
    for step in range(12):
        logits = batch(step, n=5 + step % 3, skew=0.4).requires_grad_()
        out = loss(grouped(logits))
        out.loss.backward()
        rows = logits.detach().tolist()
        value, gradient = slow_loss(rows, reference.labels(rows), 0.3)
        assert float(out.loss.detach()) == pytest.approx(value, rel=1e-10)
        np.testing.assert_allclose(logits.grad, gradient, atol=1e-12)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 10**6))
def test_u17_ptilde_is_a_distribution_within_its_bounds(n: int, groups: int, seed: int) -> None:
    """Rows sum to 1, values lie in 0..2/K, and where E is the mean of the batch so is the mean 1/K."""
    p = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(groups, 0.3), n))
    spread = self_distributed(p, p.mean(0))
    torch.testing.assert_close(spread.sum(1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(spread.min()) >= -1e-15
    assert float(spread.max()) <= 2 / groups + 1e-15
    np.testing.assert_allclose(spread.mean(0), 1 / groups, atol=1e-12)
    for row, out in zip(p.tolist(), spread.tolist(), strict=True):
        expected = [(row[k] - float(p[:, k].sum()) / n) / groups + 1 / groups for k in range(groups)]
        np.testing.assert_allclose(out, expected, atol=1e-12)


def test_u17_labels_spread_where_the_naive_ones_skew() -> None:
    """p leans to the first group everywhere: argmax p knows one group, argmax (p - E) uses all of them; with 1/K in
    the place of E (trap 19) it would be naive again."""
    logits = batch(0, n=400) + torch.tensor([2.5, 0, 0, 0])
    p = logits.softmax(1)
    spread, naive = self_distributed(p, p.mean(0)).argmax(1), p.argmax(1)
    assert torch.bincount(naive, minlength=4).max() > 300
    assert torch.bincount(spread, minlength=4).min() > 40
    assert not torch.equal(spread, naive)
    assert torch.equal(self_distributed(p, torch.full((4,), 0.25).double()).argmax(1), naive)
    shares = [
        GroupLoss(4, settings).double()(grouped(logits)).logs["group_largest"]
        for settings in (GroupLabels(), GroupLabels("naive"))
    ]
    assert shares[0] < 0.6 < 0.75 < shares[1]


def test_u17_the_window_drops_the_oldest_batch_and_a_restart_knows_the_others() -> None:
    loss = GroupLoss(4, GroupLabels(window=3)).double()
    for step in range(5):
        loss(grouped(batch(step)))
    means = torch.stack([batch(step).softmax(1).mean(0) for step in (2, 3, 4)])
    assert int(loss.length) == 3
    torch.testing.assert_close(loss.means.sort(0).values, means.sort(0).values)
    again = GroupLoss(4, GroupLabels(window=3)).double()
    again.load_state_dict(loss.state_dict())
    for step in range(5, 9):
        assert torch.equal(again(grouped(batch(step))).loss, loss(grouped(batch(step))).loss)


def test_u17_a_partly_filled_window_saves_and_loads() -> None:
    loss, again = GroupLoss(4), GroupLoss(4)
    loss(grouped(batch(0).float()))
    again.load_state_dict(loss.state_dict())
    assert int(again.length) == 1
    assert torch.equal(again(grouped(batch(1))).loss, loss(grouped(batch(1))).loss)


def test_u17_no_gradient_comes_through_the_label_or_the_expectation() -> None:
    """That of plain cross-entropy with constant labels, whatever they were made of."""
    loss = GroupLoss(4, GroupLabels(weight=1.0)).double()
    logits = batch(1).requires_grad_()
    loss(grouped(logits)).loss.backward()
    p = logits.detach().softmax(1)
    labels = (p - p.mean(0)).argmax(1)
    torch.testing.assert_close(logits.grad, (p - torch.nn.functional.one_hot(labels, 4)) / 6)
    assert not any(buffer.requires_grad for buffer in loss.buffers())


def test_u5_one_group_has_nothing_to_learn() -> None:
    logits = batch(0, groups=1).requires_grad_()
    out = GroupLoss(1).double()(grouped(logits))
    out.loss.backward()
    assert float(out.loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros(6, 1).double())
    assert "group_entropy" not in out.logs
    assert out.logs == {"group_largest": 1.0, "groups_used": 1.0, "group_probability": 1.0}


def test_judging_leaves_the_past_alone() -> None:
    loss = GroupLoss(4, GroupLabels(window=2)).double()
    loss(grouped(batch(0)))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    values = {float(loss.eval()(grouped(batch(1))).loss) for _ in range(3)}
    assert len(values) == 1
    assert all(torch.equal(before[name], value) for name, value in loss.state_dict().items())


def test_a_batch_that_is_not_finite_leaves_no_trace() -> None:
    """Its step is left out; one such batch must not spoil E for a whole window."""
    loss = GroupLoss(4).double()
    loss(grouped(batch(0)))
    logits = batch(1)
    logits[2, 1] = torch.nan
    assert loss(grouped(logits)).loss.isnan()
    assert bool(loss.means.isfinite().all())
    assert int(loss.length) == 1


def test_without_the_loss_the_logs_still_tell_what_is_chosen() -> None:
    logits = batch(0, skew=1.0)
    out = GroupLoss(4, GroupLabels("none")).double()(grouped(logits))
    assert float(out.loss) == 0
    p = [softmax(row) for row in logits.tolist()]
    sizes = [sum(max(range(4), key=lambda k: row[k]) == g for row in p) for g in range(4)]
    mean = [sum(row[k] for row in p) / 6 for k in range(4)]
    assert out.logs == pytest.approx(
        {
            "group_largest": max(sizes) / 6,
            "groups_used": sum(size > 0 for size in sizes),
            "group_probability": sum(max(row) for row in p) / 6,
            "group_entropy": -sum(m * math.log(m) for m in mean) / math.log(4),
        }
    )


def test_a_warm_up_gathers_the_expectation_and_leaves_the_loss_out() -> None:
    """PAPERS 7 (28); the count of steps survives a restart."""
    loss = GroupLoss(4, GroupLabels(after_steps=2)).double()
    assert float(loss(grouped(batch(0))).loss) == 0
    again = GroupLoss(4, GroupLabels(after_steps=2)).double()
    again.load_state_dict(loss.state_dict())
    assert float(again(grouped(batch(1))).loss) == 0
    assert int(again.length) == 2
    assert float(again(grouped(batch(2))).loss) > 0


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_u7_autocast_leaves_the_group_loss_in_float32(half: torch.dtype) -> None:
    """float32 logits: not a bit changes. Halves: loss and gradient are those of the loops, from the halves."""

    def step(logits: Tensor, cast: bool) -> tuple[Tensor, Tensor]:
        leaf = logits.clone().requires_grad_()
        with torch.autocast("cpu", half, enabled=cast):
            loss = GroupLoss(4)(grouped(leaf)).loss
        loss.backward()
        assert leaf.grad is not None
        return loss.detach(), leaf.grad

    logits = batch(0).float()
    assert all(torch.equal(a, b) for a, b in zip(step(logits, True), step(logits, False), strict=True))
    loss, gradient = step(logits.to(half), True)
    rows = logits.to(half).tolist()
    value, expected = slow_loss(rows, Slow(GroupLabels(), 4).labels(rows), 0.1)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(value, rel=1e-5)
    assert gradient.dtype == half
    np.testing.assert_allclose(gradient.float().numpy(), expected, atol=1e-4)


def test_the_expectation_is_that_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, each with half of a batch, choose the labels that one process chooses for the whole."""
    whole = batch(0, n=12, skew=1.0)
    halves = whole.split(6)
    other = {0: halves[1].softmax(1).mean(0), 1: halves[0].softmax(1).mean(0)}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    losses = []
    for rank, half in enumerate(halves):
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda mean, rank=rank: mean.add_(other[rank]))
        losses.append(GroupLoss(4).double()(grouped(half)).loss)
    monkeypatch.undo()
    torch.testing.assert_close(sum(losses) / 2, GroupLoss(4).double()(grouped(whole)).loss)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "even"},
        {"expectation": "next"},
        {"window": 0},
        {"weight": 0},
        {"weight": math.nan},
        {"after_steps": -1},
    ],
    ids=str,
)
def test_contradicting_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        GroupLabels(**wrong)


def test_labels_without_a_group_are_refused() -> None:
    with pytest.raises(UsageError):
        GroupLoss(0)

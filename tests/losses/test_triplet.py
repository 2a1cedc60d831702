"""Triplets against brute force: distances, mining, loss, gradients, degenerate batches (U1, U9-U11)."""

import dataclasses
import math
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from triplet_reference import negatives_of, pairs_of, triplet_loss, triplets_of

from facespace.errors import DataError, UsageError
from facespace.losses import Triplet, TripletHead
from facespace.losses.triplet import (
    LARGEST,
    Fallback,
    Metric,
    Mined,
    Negatives,
    Pairs,
    Reduction,
    UpperBound,
    measured,
    mine,
    squared_distances,
)

WITHOUT_CHANCE = [
    Triplet(0.25, negatives=negatives, fallback=fallback, pairs=pairs, upper_bound=bound)
    for negatives, fallback, pairs, bound in product(
        ("semihard_hardest", "semihard_all", "hardest"), get_args(Fallback), get_args(Pairs), get_args(UpperBound)
    )
]
WITH_CHANCE = [Triplet(0.25, negatives=n, pairs="unordered") for n in ("semihard_random", "violating_random")]
ALPHA: dict[Metric, float] = {"squared_l2": 0.2, "l2": 0.2, "angle": 0.35}


def others_of(labels: list[int], anchor: int) -> list[int]:
    """Photos of other people."""
    return [n for n, label in enumerate(labels) if label != labels[anchor]]


def chosen_by(D: Tensor, labels: Tensor, settings: Triplet) -> Mined:
    """What settings without chance choose."""
    return mine(D, labels, settings, np.random.default_rng(0))


def grid_distances(seed: int, n: int) -> Tensor:
    """Symmetric float64 distances on a grid of 1/16: many exact ties, also with D + 0.25."""
    g = torch.Generator().manual_seed(seed)
    half = torch.randint(1, 16, (n, n), generator=g).double().triu(1) / 16
    return half + half.T


def step(settings: Triplet, x: Tensor, labels: list[int]) -> tuple[float, Tensor, dict[str, float]]:
    """Loss, gradient with respect to the raw rows, logs."""
    x = x.detach().clone().requires_grad_()
    out = TripletHead(settings)(x, torch.tensor(labels, dtype=torch.int64))
    with torch.autocast("cpu", enabled=False):  # autocast is for the forward alone
        out.loss.backward()
    assert x.grad is not None
    return float(out.loss.detach()), x.grad, out.logs


def rows(seed: int, n: int, dim: int = 5, spread: float = 1.0) -> Tensor:
    """Random float64 rows around one direction."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.ones(dim, dtype=torch.float64)
    return 3 * (centre + spread * torch.randn(n, dim, generator=g, dtype=torch.float64))


def test_u1_squared_distance_is_2_minus_2_cos() -> None:
    """On unit rows; symmetric; zero on the diagonal; the paper's thresholds as angles."""
    x = torch.nn.functional.normalize(rows(0, 9))
    D = squared_distances(x)
    torch.testing.assert_close(D, 2 - 2 * x @ x.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(D, ((x[:, None] - x[None]) ** 2).sum(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(D, D.T, rtol=0, atol=1e-15)
    torch.testing.assert_close(D.diagonal(), torch.zeros(9, dtype=torch.float64), rtol=0, atol=1e-12)
    for d, cosine, degrees in ((1.1, 0.45, 63.3), (1.242, 0.379, 67.7)):
        angle = math.radians(degrees)
        pair = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        assert float(squared_distances(pair)[0, 1]) == pytest.approx(d, abs=2e-3)
        assert 1 - d / 2 == pytest.approx(cosine, abs=1e-12)


@pytest.mark.parametrize("settings", WITHOUT_CHANCE, ids=str)
def test_u10_mining_equals_brute_force(settings: Triplet) -> None:
    """With ties: D(a,n) = D(a,p) and D(a,n) = D(a,p) + alpha are not semi-hard; nearest negatives, both pair orders."""
    for seed in range(8):
        D, labels = grid_distances(seed, 14), [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 1, 0]
        mined = chosen_by(D, torch.tensor(labels), settings)
        chosen = triplets_of(D.numpy(), labels, settings)
        # Which of two equally far negatives is taken does not matter: compare what each anchor's triplets weigh.
        assert chosen
        total = float((mined.coefficients * D).sum())
        assert total == pytest.approx(sum(float(D[a, p] - D[a, n]) for a, p, n in chosen), abs=1e-12)
        assert int(mined.active) == len(chosen)
        anchors = np.bincount([a for a, _, _ in chosen], minlength=14)
        assert (mined.coefficients.clamp(min=0).sum(1).numpy() == anchors).all()
        assert (mined.coefficients.clamp(max=0).sum(1).numpy() == -anchors).all()
        every = pairs_of(labels, settings.pairs)
        assert mined.pairs == len(every)
        semihard = [negatives_of(D.numpy(), a, p, others_of(labels, a), settings)["semihard"] for a, p in every]
        assert int(mined.semihard) == sum(map(len, semihard))


@pytest.mark.parametrize("settings", WITHOUT_CHANCE, ids=str)
def test_u10_coefficients_equal_brute_force_without_ties(settings: Triplet) -> None:
    """Every triplet is the one that brute force finds: distances of random points, coefficient by coefficient."""
    for seed in range(4):
        labels = [0, 0, 0, 1, 1, 1, 2, 2, 3, 4]
        D = squared_distances(torch.nn.functional.normalize(rows(seed, 10, spread=0.4)))
        expected = np.zeros((10, 10))
        for a, p, n in triplets_of(D.numpy(), labels, settings):
            expected[a, p] += 1
            expected[a, n] -= 1
        assert (chosen_by(D, torch.tensor(labels), settings).coefficients.numpy() == expected).all()


@pytest.mark.parametrize("settings", WITH_CHANCE, ids=str)
def test_u10_random_negatives_are_all_those_allowed_and_no_others(settings: Triplet) -> None:
    """Over many draws each allowed negative of a pair appears and nothing else (two photos, so one pair, a person)."""
    labels = [i // 2 for i in range(12)]
    D, y = grid_distances(3, 12), torch.tensor(labels)
    seen: dict[int, set[int]] = {a: set() for a in range(0, 12, 2)}
    generator = np.random.default_rng(0)
    for _ in range(200):
        for a, n in (mine(D, y, settings, generator).coefficients < 0).nonzero().tolist():
            seen[a].add(n)
    key = settings.negatives.removesuffix("_random")
    for a, p in pairs_of(labels, "unordered"):
        assert seen[a] == set(negatives_of(D.numpy(), a, p, others_of(labels, a), settings)[key])
    assert any(seen.values())


def test_u10_the_margin_is_on_the_squared_distance() -> None:
    """With alpha 0.2 a negative 0.15 farther than the positive is semi-hard, one 0.25 farther is not."""
    y = torch.tensor([0, 0, 1])
    for gap, active in ((0.15, 1), (0.25, 0)):
        D = torch.tensor([[0, 0.5, 0.5 + gap], [0.5, 0, 3], [0.5 + gap, 3, 0]], dtype=torch.float64)
        assert int(chosen_by(D, y, Triplet()).active) == active


@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("settings", WITHOUT_CHANCE, ids=str)
def test_u9_loss_and_gradient_agree_with_the_paper(settings: Triplet, reduction: Reduction) -> None:
    """Value and gradient through the normalisation to 1e-10, in every reduction."""
    settings = dataclasses.replace(settings, reduction=reduction)
    x, labels = rows(11, 12, spread=0.5), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4]
    loss, grad, _ = step(settings, x, labels)
    expected, expected_grad = triplet_loss(x.numpy(), labels, settings)
    assert expected > 0
    assert loss == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=1e-9, atol=1e-10)


def test_u9_gradients_of_one_triplet_on_the_sphere() -> None:
    """a: 2 (n - p); p: 2 (p - a); n: 2 (a - n)."""
    a, p, n = torch.nn.functional.normalize(rows(2, 3)).unbind()
    x = torch.stack([a, p, n]).requires_grad_()
    D = squared_distances(x)
    coefficients = torch.tensor([[0, 1, -1], [0, 0, 0], [0, 0, 0]])
    (coefficients * D).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * torch.stack([n - p, p - a, a - n]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("negatives", ["semihard_hardest", "semihard_all", "hardest"])
@pytest.mark.parametrize("metric", get_args(Metric))
def test_u9_every_metric_agrees_with_its_definition(metric: Metric, negatives: Negatives) -> None:
    """Value and gradient through the normalisation to 1e-10; the same margin is another loss in another metric."""
    x, labels = rows(12, 13, spread=0.5), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4]
    losses = set()
    for pairs, reduction in product(get_args(Pairs), get_args(Reduction)):
        settings = Triplet(ALPHA[metric], reduction, negatives, pairs=pairs, metric=metric)
        loss, grad, _ = step(settings, x, labels)
        expected, expected_grad = triplet_loss(x.numpy(), labels, settings)
        assert expected > 0
        assert loss == pytest.approx(expected, rel=1e-10)
        np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=1e-9, atol=1e-10)
        losses |= {step(dataclasses.replace(settings, metric=m), x, labels)[0] for m in get_args(Metric)}
    assert len(losses) >= 9


def test_u9_metrics_of_two_vectors_at_an_angle() -> None:
    """|a - b| = 2 sin(θ/2); float32 within 1e-5, but for angles near π, where the sphere itself has no more digits."""
    theta = torch.linspace(0.05, 3.0, 60, dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        squared = (2 - 2 * theta.cos()).to(dtype)
        for metric, expected in (("l2", 2 * (theta / 2).sin()), ("angle", theta)):
            torch.testing.assert_close(measured(squared, metric).double(), expected, rtol=0, atol=tolerance)  # type: ignore[arg-type]
        assert measured(squared, "squared_l2") is squared


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", get_args(Metric))
def test_u9_slopes_are_finite_at_equal_and_opposite_vectors(metric: Metric, dtype: torch.dtype) -> None:
    """Also where rounding gave -1e-7, or more than 4; and in the loss, with a doubled photo and an opposite one."""
    squared = torch.tensor(
        [-1e-6, -0.0, 0.0, 1e-30, 1e-7, 1.0, 4 - 1e-7, 4.0, 4 + 1e-6], dtype=dtype, requires_grad=True
    )
    values = measured(squared, metric)
    (slopes,) = torch.autograd.grad(values.sum(), squared)
    assert values.isfinite().all()
    assert slopes.isfinite().all()
    if metric != "squared_l2":
        assert values[[0, 1, 2]].tolist() == [0, 0, 0]
        assert slopes[[0, 1, 2]].tolist() == [0, 0, 0]
        assert float(values[-2].detach()) == pytest.approx(LARGEST[metric], abs=1e-6)
    x = torch.tensor([[1.0, 0.3, 0], [1, 0.3, 0], [-1, -0.3, 0], [1, 0.3, 0]], dtype=dtype)
    for alpha in (0.2, LARGEST[metric]):
        loss, grad, _ = step(Triplet(alpha, negatives="hardest", metric=metric), x, [0, 0, 1, 2])
        assert math.isfinite(loss)
        assert grad.isfinite().all()


@pytest.mark.parametrize("metric", get_args(Metric))
def test_u9_float32_is_within_1e_5_in_every_metric(metric: Metric) -> None:
    """A batch of 40 against the float64 reference."""
    x, labels = rows(6, 40, dim=32, spread=0.5).float(), [i // 4 for i in range(40)]
    settings = Triplet(ALPHA[metric], metric=metric)
    loss, grad, _ = step(settings, x, labels)
    expected, expected_grad = triplet_loss(x.double().numpy(), labels, settings)
    assert loss == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=0, atol=1e-5)


def test_u9_float32_is_within_1e_5() -> None:
    """A batch of 60 in float32 against the float64 reference."""
    x, labels = rows(5, 60, dim=32, spread=0.5), [i // 5 for i in range(60)]
    loss, grad, _ = step(Triplet(), x.float(), labels)
    expected, expected_grad = triplet_loss(x.float().double().numpy(), labels, Triplet())
    assert loss == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_u7_autocast_leaves_the_distances_in_float32(half: torch.dtype) -> None:
    """Distances are never formed in halves, under autocast either."""
    x, labels = rows(5, 30, dim=32, spread=0.5).float(), [i // 5 for i in range(30)]
    plain = step(Triplet(), x, labels)
    with torch.autocast("cpu", half):
        cast = step(Triplet(), x, labels)
        assert TripletHead()(x.to(half), torch.tensor(labels)).loss.dtype == torch.float32
    assert cast[0] == plain[0]
    assert torch.equal(cast[1], plain[1])


FAR = [[1.0, 0, 0, 0], [1, 0.1, 0, 0], [-1, 0, 0, 0], [-1, 0.1, 0, 0]]
DEGENERATE = {
    "one identity": (rows(0, 6), [3] * 6, 30),
    "all singletons": (rows(0, 6), [0, 1, 2, 3, 4, 5], 0),
    "nothing semi-hard": (torch.tensor(FAR, dtype=torch.float64), [0, 0, 1, 1], 4),
    "one photo": (rows(0, 1), [0], 0),
    "empty": (rows(0, 0), [], 0),
}


@pytest.mark.parametrize("negatives", get_args(Negatives))
@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_u11_degenerate_batches_teach_nothing(name: str, reduction: Reduction, negatives: Negatives) -> None:
    """Loss exactly 0, a graph, zero gradients, counts reported; no made-up triplet, no 0/0."""
    for metric in get_args(Metric):
        degenerate(name, Triplet(reduction=reduction, negatives=negatives, metric=metric))


@pytest.mark.parametrize("fallback", get_args(Fallback))
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_u11_no_fallback_makes_up_a_triplet(name: str, fallback: Fallback) -> None:
    """A negative of the fallback must exist, and have a loss."""
    degenerate(name, Triplet(fallback=fallback))


def degenerate(name: str, settings: Triplet) -> None:
    """One degenerate batch under these settings."""
    x, labels, pairs = DEGENERATE[name]
    loss, grad, logs = step(settings, x, labels)
    assert loss == 0
    assert grad.shape == x.shape
    assert not grad.any()
    assert (logs["triplets_active"], logs["triplets_semihard"], logs["pairs"]) == (0, 0, pairs)
    assert logs["collapsed"] == 0
    assert ("d_ap" in logs) == (pairs > 0)
    assert ("d_an" in logs) == (len(set(labels)) > 1)
    assert all(math.isfinite(v) for v in logs.values())


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("negatives", ["violating_random", "hardest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_u11_a_collapsed_batch_is_flagged(dtype: torch.dtype, negatives: Negatives, metric: Metric) -> None:
    """All embeddings equal: alpha per triplet, no gradient to leave by, the flag; semi-hard mining finds nothing."""
    x, labels = rows(0, 1, 128).to(dtype).expand(20, -1), [i // 4 for i in range(20)]
    loss, grad, logs = step(Triplet(negatives=negatives, metric=metric), x, labels)
    assert loss == pytest.approx(0.2, abs=1e-6)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-7)
    assert logs["collapsed"] == 1
    assert logs["triplets_active"] == logs["pairs"] == 60
    zeros = torch.zeros(20, 20)
    assert int(chosen_by(zeros, torch.tensor(labels), Triplet()).active) == 0


def test_logs_are_mean_distances_of_the_batch() -> None:
    """d_ap over all pairs of one person, d_an over all pairs of two."""
    x, labels = rows(4, 9), [0, 0, 0, 1, 1, 2, 2, 2, 3]
    u = (x / x.norm(dim=1, keepdim=True)).numpy()
    own = [((u[i] - u[j]) ** 2).sum() for i, j in product(range(9), repeat=2) if labels[i] == labels[j] and i != j]
    other = [((u[i] - u[j]) ** 2).sum() for i, j in product(range(9), repeat=2) if labels[i] != labels[j]]
    _, _, logs = step(Triplet(), x, labels)
    assert logs["d_ap"] == pytest.approx(np.mean(own), rel=1e-9)
    assert logs["d_an"] == pytest.approx(np.mean(other), rel=1e-9)
    assert all(type(v) is float for v in logs.values())


def test_random_choices_follow_seed_and_step_and_survive_a_restart() -> None:
    """The same (seed, step) draws the same triplets; the step is in the state; evaluation does not move it."""
    x, y = rows(1, 40, spread=0.3), torch.tensor([i // 4 for i in range(40)])
    settings = Triplet(negatives="semihard_random")
    first = TripletHead(settings, seed=5)
    losses = [float(first(x, y).loss.detach()) for _ in range(4)]
    assert len(set(losses)) == 4
    again = TripletHead(settings, seed=5)
    assert [float(again(x, y).loss.detach()) for _ in range(2)] == losses[:2]
    resumed = TripletHead(settings, seed=5)
    resumed.load_state_dict(again.state_dict())
    float(resumed.eval()(x, y).loss.detach())
    assert [float(resumed.train()(x, y).loss.detach()) for _ in range(2)] == losses[2:]
    assert float(TripletHead(settings, seed=6)(x, y).loss.detach()) != losses[0]


def test_order_does_not_matter() -> None:
    """U6: permuting the batch permutes the gradient."""
    x, labels = rows(8, 15, spread=0.4), [i % 5 for i in range(15)]
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    loss, grad, _ = step(Triplet(), x, labels)
    moved, moved_grad, _ = step(Triplet(), x[order], [labels[i] for i in order.tolist()])
    assert moved == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(moved_grad, grad[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [{"alpha": 0.0}, {"alpha": -0.2}, {"alpha": 4.5}, {"alpha": math.nan}, {"reduction": "mean"}, {"negatives": "hard"},
     {"fallback": "any"}, {"pairs": "all"}, {"metric": "cosine"}, {"upper_bound": "0.2"},
     {"alpha": 2.1, "metric": "l2"}, {"alpha": 3.2, "metric": "angle"}],
    ids=str,
)  # fmt: skip
def test_contradictions_are_refused_at_birth(fields: dict[str, float | str]) -> None:
    """An unknown option, or a margin that is none."""
    with pytest.raises(UsageError) as error:
        Triplet(**fields)  # type: ignore[arg-type]
    assert error.value.hint


@pytest.mark.parametrize(
    ("x", "y"), [(torch.ones(3, 2), torch.tensor([0, 1])), (torch.ones(3), torch.tensor([0, 1, 2]))]
)
def test_unfit_batches_are_refused(x: Tensor, y: Tensor) -> None:
    """Shapes must fit."""
    with pytest.raises(DataError):
        TripletHead()(x, y)


def test_u10_hardest_is_the_nearest_whatever_the_positive() -> None:
    """The rule that the paper saw collapse early: a hard negative is taken before a semi-hard one."""
    D = torch.full((4, 4), 3.0, dtype=torch.float64)
    D[0] = torch.tensor([0, 1.0, 0.5, 1.1])
    mined = chosen_by(D, torch.tensor([0, 0, 1, 2]), Triplet(pairs="unordered", negatives="hardest"))
    assert mined.coefficients[0].tolist() == [0, 1, -1, 0]
    assert (int(mined.active), int(mined.semihard)) == (1, 1)


@pytest.mark.parametrize("negatives", ["semihard_hardest", "semihard_all"])
def test_u10_without_upper_bound_the_loss_is_the_same_and_the_counts_are_not(negatives: Negatives) -> None:
    """Negatives beyond the margin have no loss; they only count as semi-hard."""
    x, labels = rows(9, 30, spread=0.6), [i // 3 for i in range(30)]
    bounded, free = (step(Triplet(negatives=negatives, upper_bound=b), x, labels) for b in ("margin", "none"))  # type: ignore[arg-type]
    assert bounded[0] == free[0]
    assert torch.equal(bounded[1], free[1])
    assert bounded[2]["triplets_active"] == free[2]["triplets_active"]
    assert bounded[2]["triplets_semihard"] < free[2]["triplets_semihard"]


def test_u10_without_upper_bound_a_random_draw_may_hit_a_negative_without_loss() -> None:
    """Of nine farther negatives one lies inside the margin: about a ninth of the draws teaches."""
    D = torch.full((11, 11), 3.0, dtype=torch.float64)
    D[0] = torch.tensor([0, 1.0, 1.1, 2, 2, 2, 2, 2, 2, 2, 2])
    settings, generator = (
        Triplet(pairs="unordered", negatives="semihard_random", upper_bound="none"),
        np.random.default_rng(0),
    )
    y = torch.tensor([0, 0, *range(1, 10)])
    active = sum(int(mine(D, y, settings, generator).active) for _ in range(900))
    assert 60 < active < 140


def test_u10_without_upper_bound_the_fallback_waits_until_nothing_is_farther() -> None:
    """A pair with hard and easy negatives only: skipped by the one bound's fallback, not by the other's."""
    D = torch.full((4, 4), 3.0, dtype=torch.float64)
    D[0] = torch.tensor([0, 1.0, 0.9, 1.5])
    y = torch.tensor([0, 0, 1, 2])
    for bound, active in (("margin", 1), ("none", 0)):
        settings = Triplet(pairs="unordered", fallback="hardest", upper_bound=bound)  # type: ignore[arg-type]
        assert int(chosen_by(D, y, settings).active) == active


def test_a_margin_lost_in_rounding_finds_nothing() -> None:
    """1 + 1e-9 is 1 in float32: no negative lies between, and no count is negative."""
    D = torch.ones(4, 4) - torch.eye(4)
    mined = chosen_by(D, torch.tensor([0, 0, 1, 2]), Triplet(1e-9))
    assert (int(mined.active), int(mined.semihard)) == (0, 0)

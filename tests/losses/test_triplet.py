"""Triplets against brute force: distances, mining, loss, gradients, degenerate batches (U1, U9-U11, traps 6, 9-12)."""

import dataclasses
import math
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from losses_reference import negatives_of, pairs_of, triplet_loss, triplets_of
from torch import Tensor

from facespace.errors import DataError, UsageError
from facespace.losses import Triplet, TripletHead
from facespace.losses.triplet import Fallback, Mined, Pairs, Reduction, mine, squared_distances

WITHOUT_CHANCE = [
    Triplet(0.25, negatives=negatives, fallback=fallback, pairs=pairs)
    for negatives, fallback, pairs in product(("semihard_hardest", "semihard_all"), get_args(Fallback), get_args(Pairs))
]
WITH_CHANCE = [Triplet(0.25, negatives=n, pairs="unordered") for n in ("semihard_random", "violating_random")]


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
        semihard = sum(len(negatives_of(D.numpy(), labels, a, p, 0.25)["semihard"]) for a, p in every)
        assert int(mined.semihard) == semihard


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
        assert seen[a] == set(negatives_of(D.numpy(), labels, a, p, 0.25)[key])
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


def test_u9_trap_9_trap_12_distances_are_squared() -> None:
    """Unsquared distances with the same margin are another loss; ours is the squared one."""
    angles = torch.tensor([0.0, 0.6, 0.65], dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin()], 1)
    loss, _, logs = step(Triplet(pairs="unordered"), x, [0, 0, 1])
    d_ap, d_an = float((x[0] - x[1]).norm()), float((x[0] - x[2]).norm())
    assert logs["triplets_active"] == 1
    assert loss == pytest.approx(d_ap**2 - d_an**2 + 0.2, abs=1e-12)
    assert abs(loss - (d_ap - d_an + 0.2)) > 5e-3


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


@pytest.mark.parametrize("negatives", ["semihard_hardest", "semihard_all", "semihard_random", "violating_random"])
@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_u11_degenerate_batches_teach_nothing(name: str, reduction: Reduction, negatives: str) -> None:
    """Loss exactly 0, a graph, zero gradients, counts reported; no made-up triplet, no 0/0 (traps 9, 10, 11)."""
    x, labels, pairs = DEGENERATE[name]
    settings = Triplet(reduction=reduction, negatives=negatives)  # type: ignore[arg-type]
    loss, grad, logs = step(settings, x, labels)
    assert loss == 0
    assert grad.shape == x.shape
    assert not grad.any()
    assert (logs["triplets_active"], logs["triplets_semihard"], logs["pairs"]) == (0, 0, pairs)
    assert logs["collapsed"] == 0
    assert ("d_ap" in logs) == (pairs > 0)
    assert ("d_an" in logs) == (len(set(labels)) > 1)
    assert all(math.isfinite(v) for v in logs.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_u11_a_collapsed_batch_is_flagged(dtype: torch.dtype) -> None:
    """All embeddings equal: alpha per triplet, no gradient to leave by, the flag; semi-hard mining finds nothing."""
    x, labels = rows(0, 1, 128).to(dtype).expand(20, -1), [i // 4 for i in range(20)]
    loss, grad, logs = step(Triplet(negatives="violating_random"), x, labels)
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
     {"fallback": "any"}, {"pairs": "all"}],
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


def test_trap_6_only_semi_hard_by_default() -> None:
    """davidsandberg: any violating negative. A hard negative beside a semi-hard one is left alone."""
    D = torch.full((4, 4), 3.0, dtype=torch.float64)
    D[0] = torch.tensor([0, 1.0, 0.5, 1.1])
    mined = chosen_by(D, torch.tensor([0, 0, 1, 2]), Triplet(pairs="unordered"))
    assert mined.coefficients[0].tolist() == [0, 1, 0, -1]


def test_trap_10_the_hardest_negative_is_the_nearest() -> None:
    """adambielski: 'hard' kept the farthest negatives. Fallback and semi-hard choice both take the nearest."""
    D = torch.full((4, 4), 3.0, dtype=torch.float64)
    D[0] = torch.tensor([0, 1.0, 1.15, 1.05])
    y = torch.tensor([0, 0, 1, 2])
    assert chosen_by(D, y, Triplet(pairs="unordered")).coefficients[0].tolist() == [0, 1, 0, -1]
    D[0] = torch.tensor([0, 1.0, 0.9, 0.3])
    hardest = Triplet(pairs="unordered", fallback="hardest")
    assert chosen_by(D, y, hardest).coefficients[0].tolist() == [0, 1, 0, -1]


def test_trap_11_no_farthest_negative_unless_asked() -> None:
    """TensorFlow Addons: without a semi-hard negative the farthest was taken; here that is `largest`."""
    D = torch.full((4, 4), 3.0, dtype=torch.float64)
    D[0] = torch.tensor([0, 1.0, 0.9, 0.3])
    y = torch.tensor([0, 0, 1, 2])
    assert not chosen_by(D, y, Triplet(pairs="unordered")).coefficients.any()
    largest = Triplet(pairs="unordered", fallback="largest")
    assert chosen_by(D, y, largest).coefficients[0].tolist() == [0, 1, -1, 0]

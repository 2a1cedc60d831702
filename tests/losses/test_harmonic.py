"""The harmonic embedding against brute force over all triplets of two versions (U13)."""

import dataclasses
import math
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from triplet_reference import distances, harmonic_loss, mixed_others, mixed_pairs_of, mixed_triplets_of, negatives_of

from facespace.errors import DataError, UsageError
from facespace.losses.harmonic import Harmonic, HarmonicHead, mine_mixed
from facespace.losses.triplet import Fallback, Metric, Negatives, Pairs, Reduction, Triplet, squared_distances

LABELS = [0, 0, 0, 1, 1, 2, 2, 3]
MININGS = [
    Harmonic(Triplet(negatives=n, fallback=f, pairs=p), same_photo=s)
    for n, f, p, s in product(
        ("semihard_hardest", "semihard_all", "hardest"), get_args(Fallback), get_args(Pairs), (True, False)
    )
]


def rows(seed: int, n: int = len(LABELS), dim: int = 5, spread: float = 0.5) -> Tensor:
    """Random float64 rows around one direction."""
    g = torch.Generator().manual_seed(seed)
    return 2 * (1 + spread * torch.randn(n, dim, generator=g, dtype=torch.float64))


def step(settings: Harmonic, x: Tensor, fixed: Tensor, labels: list[int]) -> tuple[float, Tensor, dict[str, float]]:
    """Loss, gradient with respect to the raw rows of v2, logs."""
    x = x.detach().clone().requires_grad_()
    out = HarmonicHead(settings)(x, fixed, torch.tensor(labels, dtype=torch.int64))
    with torch.autocast("cpu", enabled=False):
        out.loss.backward()
    assert x.grad is not None
    return float(out.loss.detach()), x.grad, out.logs


def kind(row: int) -> str:
    """Which version a row of the two stacked ones is of."""
    return "new" if row < len(LABELS) else "old"


@pytest.mark.parametrize("settings", MININGS, ids=str)
def test_u13_mining_equals_brute_force_over_both_versions(settings: Harmonic) -> None:
    """Every coefficient and every count; three of v1 are in neither."""
    for seed in range(3):
        u = normalize(torch.cat([rows(seed), rows(seed + 50)]))
        D = squared_distances(u)
        mined = mine_mixed(D, torch.tensor(LABELS), settings, np.random.default_rng(0))
        expected, chosen = np.zeros((16, 16)), mixed_triplets_of(D.numpy(), LABELS, settings)
        for a, p, n in chosen:
            expected[a, p] += 1
            expected[a, n] -= 1
        assert chosen
        assert (mined.coefficients.numpy() == expected).all()
        every = mixed_pairs_of(LABELS, settings)
        assert (int(mined.active), mined.pairs) == (len(chosen), len(every))
        found = [negatives_of(D.numpy(), a, p, mixed_others(LABELS, a, p), settings.triplet) for a, p in every]
        assert int(mined.semihard) == sum(len(f["semihard"]) for f in found)


def test_u13_triplets_mix_versions_in_all_seven_ways_and_never_stay_within_v1() -> None:
    """Enumerated from the coefficients: each kind of (anchor, positive) and (anchor, negative) that brute force has."""
    settings = Harmonic(Triplet(alpha=1.0, negatives="semihard_all"))
    u = normalize(torch.cat([rows(1), rows(51)]))
    D = squared_distances(u)
    chosen = mixed_triplets_of(D.numpy(), LABELS, settings)
    kinds = {tuple(kind(i) for i in triplet) for triplet in chosen}
    assert kinds == set(product(("new", "old"), repeat=3)) - {("old", "old", "old")}
    coefficients = mine_mixed(D, torch.tensor(LABELS), settings, np.random.default_rng(0)).coefficients
    for sign, place in ((1, 1), (-1, 2)):
        cells = (sign * coefficients > 0).nonzero().tolist()
        assert {(kind(i), kind(j)) for i, j in cells} == {(k[0], k[place]) for k in kinds}


def test_u13_the_semi_hard_pool_is_the_union() -> None:
    """Whichever version of somebody else is the nearest semi-hard one is taken, for anchors of either version."""
    turn = torch.tensor([[0.0, 0.30, 0.50], [0.10, 0.40, 0.45]], dtype=torch.float64)  # v2, then v1: a, p, n
    D = squared_distances(torch.stack([turn.cos(), turn.sin()], -1).reshape(6, 2))
    settings = Harmonic(Triplet(pairs="both"))
    coefficients = mine_mixed(D, torch.tensor([0, 0, 1]), settings, np.random.default_rng(0)).coefficients
    assert coefficients[0].tolist() == [0, 1, 0, 1, 1, -3]  # v2's a: the nearest is n of v1, thrice
    assert coefficients[3, 2] == -1  # v1's a with v1's p: of v2 only
    assert coefficients[3, 5] == -2  # v1's a with either photo of v2
    moved = torch.tensor([[0.0, 0.30, 0.45], [0.10, 0.40, 0.50]], dtype=torch.float64)
    D = squared_distances(torch.stack([moved.cos(), moved.sin()], -1).reshape(6, 2))
    coefficients = mine_mixed(D, torch.tensor([0, 0, 1]), settings, np.random.default_rng(0)).coefficients
    assert coefficients[0].tolist() == [0, 1, -3, 1, 1, 0]


def test_u13_v1_gets_no_gradient() -> None:
    """Neither the vectors of v1 nor what they were made of; v2 does."""
    fixed = normalize(rows(50)).requires_grad_()
    x = rows(0).requires_grad_()
    HarmonicHead()(x, fixed, torch.tensor(LABELS)).loss.backward()
    assert fixed.grad is None
    assert x.grad is not None
    assert x.grad.any()


@pytest.mark.parametrize("reduction", get_args(Reduction))
@pytest.mark.parametrize("settings", MININGS, ids=str)
def test_u13_loss_and_gradient_equal_the_slow_sum(settings: Harmonic, reduction: Reduction) -> None:
    """To 1e-10, through the normalisation of v2."""
    settings = dataclasses.replace(settings, triplet=dataclasses.replace(settings.triplet, reduction=reduction))
    x, fixed = rows(2), normalize(rows(52))
    loss, grad, _ = step(settings, x, fixed, LABELS)
    expected, expected_grad = harmonic_loss(x.numpy(), fixed.numpy(), LABELS, settings)
    assert expected > 0
    assert loss == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("metric", get_args(Metric))
def test_u13_other_metrics_and_float32(metric: Metric) -> None:
    """Values and gradients in every metric to 1e-10, in float32 to 1e-5."""
    settings = Harmonic(Triplet(0.35, metric=metric))
    x, fixed = rows(3), normalize(rows(53))
    expected, expected_grad = harmonic_loss(x.numpy(), fixed.numpy(), LABELS, settings)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        loss, grad, _ = step(settings, x.to(dtype), fixed.to(dtype), LABELS)
        assert loss == pytest.approx(expected, abs=tolerance)
        np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=0, atol=tolerance)


def test_u13_halves_are_compared_in_float32() -> None:
    """Under autocast, and with embeddings in halves beside vectors in float32."""
    x, fixed = rows(4).float(), normalize(rows(54)).float()
    plain = step(Harmonic(), x, fixed, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        cast = step(Harmonic(), x, fixed, LABELS)
        assert HarmonicHead()(x.bfloat16(), fixed, torch.tensor(LABELS)).loss.dtype == torch.float32
    assert cast[0] == plain[0]
    assert torch.equal(cast[1], plain[1])


def test_logs_are_distances_within_v2_and_between_the_versions() -> None:
    """Mean squared distances; a photo's own two versions are among the mixed pairs of one person."""
    x, fixed = rows(5), normalize(rows(55))
    u, f = normalize(x).numpy(), fixed.numpy()
    _, _, logs = step(Harmonic(), x, fixed, LABELS)
    D = distances(np.concatenate([u, f]), "squared_l2")
    every = list(product(range(8), repeat=2))
    own = [(i, j) for i, j in every if LABELS[i] == LABELS[j]]
    other = [(i, j) for i, j in every if LABELS[i] != LABELS[j]]
    assert logs["d_ap"] == pytest.approx(np.mean([D[i, j] for i, j in own if i != j]))
    assert logs["d_an"] == pytest.approx(np.mean([D[i, j] for i, j in other]))
    assert logs["d_ap_mixed"] == pytest.approx(np.mean([D[i, 8 + j] for i, j in own]))
    assert logs["d_an_mixed"] == pytest.approx(np.mean([D[i, 8 + j] for i, j in other]))


@pytest.mark.parametrize("negatives", get_args(Negatives))
@pytest.mark.parametrize(("labels", "n"), [([7] * 4, 4), ([], 0), ([3], 1)], ids=["one person", "empty", "one photo"])
def test_u11_degenerate_batches_teach_nothing(labels: list[int], n: int, negatives: Negatives) -> None:
    """Loss 0, a graph, zero gradients, finite logs."""
    loss, grad, logs = step(Harmonic(Triplet(negatives=negatives)), rows(0, n), normalize(rows(1, n)), labels)
    assert loss == logs["triplets_active"] == 0
    assert not grad.any()
    assert all(math.isfinite(v) for v in logs.values())


def test_single_photos_still_teach_by_their_two_versions() -> None:
    """Nobody has two photos: the pair is the photo and what v1 made of it, unless that is switched off."""
    x, fixed = rows(6, 6, spread=0.2), normalize(rows(56, 6, spread=0.2))
    for same_photo, pairs in ((True, 12), (False, 0)):
        _, grad, logs = step(Harmonic(same_photo=same_photo), x, fixed, list(range(6)))
        assert logs["pairs"] == pairs
        assert bool(grad.any()) == same_photo


def test_random_choices_follow_seed_and_step() -> None:
    """And survive a restart."""
    x, fixed, y = rows(1, 30, spread=0.3), normalize(rows(2, 30, spread=0.3)), torch.arange(30) // 3
    settings = Harmonic(Triplet(negatives="semihard_random"))
    head, again = HarmonicHead(settings, seed=3), HarmonicHead(settings, seed=3)
    losses = [float(head(x, fixed, y).loss) for _ in range(3)]
    assert len(set(losses)) == 3
    assert float(again(x, fixed, y).loss) == losses[0]
    resumed = HarmonicHead(settings, seed=3)
    resumed.load_state_dict(again.state_dict())
    assert float(resumed(x, fixed, y).loss) == losses[1]


def test_contradictions_are_refused() -> None:
    """A training that never ends its first part; vectors of v1 that are not those of the batch."""
    for share in (-0.1, 1.0, math.nan):
        with pytest.raises(UsageError):
            Harmonic(freeze_share=share)
    with pytest.raises(UsageError):
        HarmonicHead(seed=-1)
    for fixed in (rows(0, 8, 4), rows(0, 7)):
        with pytest.raises(DataError, match="v1"):
            HarmonicHead()(rows(0), fixed, torch.tensor(LABELS))
    with pytest.raises(DataError):
        HarmonicHead()(rows(0), rows(1), torch.tensor([0, 1]))

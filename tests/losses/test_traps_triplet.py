"""What public triplet code does wrong, and that ours does not (traps 6, 9, 10, 11)."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses import Triplet, TripletHead
from facespace.losses.triplet import Mined, mine


def chosen_by(D: Tensor, labels: list[int], settings: Triplet) -> Mined:
    """What settings without chance choose."""
    return mine(D, torch.tensor(labels), settings, np.random.default_rng(0))


def first_row(*distances: float) -> Tensor:
    """Distances of photo 0; all others are far from each other."""
    D = torch.full((len(distances), len(distances)), 3.0, dtype=torch.float64)
    D[0] = torch.tensor(distances, dtype=torch.float64)
    return D


def on_circle(*angles: float) -> Tensor:
    """Unit rows in the plane."""
    a = torch.tensor(angles, dtype=torch.float64)
    return torch.stack([a.cos(), a.sin()], 1)


ONE_WAY = Triplet(pairs="unordered")


def test_trap6_a_hard_negative_is_left_alone_beside_a_semi_hard_one() -> None:
    """davidsandberg/facenet: any violating negative, drawn at random."""
    assert chosen_by(first_row(0, 1.0, 0.5, 1.1), [0, 0, 1, 2], ONE_WAY).coefficients[0].tolist() == [0, 1, 0, -1]


def test_trap6_a_pair_with_hard_negatives_only_is_skipped() -> None:
    """davidsandberg/facenet would have taken one of them."""
    mined = chosen_by(first_row(0, 1.0, 0.5, 0.9), [0, 0, 1, 2], ONE_WAY)
    assert not mined.coefficients.any()
    assert (int(mined.active), mined.pairs) == (0, 1)


def test_trap6_both_photos_of_a_pair_are_anchors() -> None:
    """davidsandberg/facenet meets each pair in one order: the negative near to the later photo is never seen."""
    D = torch.tensor([[0, 1, 3], [1, 0, 1.1], [3, 1.1, 0]], dtype=torch.float64)
    assert chosen_by(D, [0, 0, 1], Triplet()).coefficients.tolist() == [[0, 0, 0], [1, 0, -1], [0, 0, 0]]
    assert not chosen_by(D, [0, 0, 1], ONE_WAY).coefficients.any()


def test_trap6_triplets_are_chosen_on_the_vectors_they_are_used_on() -> None:
    """davidsandberg/facenet chooses before the updates: the same photos after a step would be other triplets."""
    head, labels = TripletHead(ONE_WAY), torch.tensor([0, 0, 1, 2])
    before, after = on_circle(0, 0.6, 0.65, -2), on_circle(0, 0.6, 2, -0.65)
    for x, nearest in ((before, 2), (after, 3)):
        rows = x.clone().requires_grad_()
        head(rows, labels).loss.backward()
        assert rows.grad is not None
        assert rows.grad.any(1).nonzero().ravel().tolist() == [0, 1, nearest]


def test_trap9_distances_are_squared() -> None:
    """tbmoon/facenet, tamerthamoqa: unsquared, where the same margin is another loss; ours has it under its name."""
    x, labels = on_circle(0, 0.6, 0.65), torch.tensor([0, 0, 1])
    d_ap, d_an = float((x[0] - x[1]).norm()), float((x[0] - x[2]).norm())
    squared = float(TripletHead(ONE_WAY)(x, labels).loss)
    unsquared = float(TripletHead(Triplet(pairs="unordered", metric="l2"))(x, labels).loss)
    assert squared == pytest.approx(d_ap**2 - d_an**2 + 0.2, abs=1e-12)
    assert unsquared == pytest.approx(d_ap - d_an + 0.2, abs=1e-12)
    assert abs(squared - unsquared) > 5e-3


def test_trap9_the_one_fitting_negative_of_a_batch_is_always_found() -> None:
    """There, negatives were filtered from triplets drawn at random: one among a hundred would mostly be missed."""
    x = on_circle(0, 0.6, 0.65, *np.linspace(2.5, 3.5, 99))
    logs = TripletHead(ONE_WAY)(x, torch.tensor([0, 0, *range(1, 101)])).logs
    assert logs["triplets_active"] == 1


def test_trap9_nothing_chosen_is_a_loss_of_zero_not_of_nan() -> None:
    """The mean of nothing."""
    x = on_circle(0, 0.1, 3).requires_grad_()
    loss = TripletHead()(x, torch.tensor([0, 0, 1])).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_trap9_semi_hard_is_the_default_and_a_word_is_no_switch() -> None:
    """There, semi-hard was off, and bool("False") turned it on."""
    assert Triplet().negatives == "semihard_hardest"
    for word in ("False", "True", ""):
        with pytest.raises(UsageError, match="negatives"):
            Triplet(negatives=word)  # type: ignore[arg-type]


def test_trap10_the_hardest_negative_is_the_nearest() -> None:
    """adambielski/siamese-triplet: HardNegativePairSelector keeps the farthest."""
    semihard = chosen_by(first_row(0, 1.0, 1.15, 1.05), [0, 0, 1, 2], ONE_WAY)
    assert semihard.coefficients[0].tolist() == [0, 1, 0, -1]
    for settings in (
        Triplet(pairs="unordered", fallback="hardest"),
        Triplet(pairs="unordered", negatives="hardest"),
    ):
        mined = chosen_by(first_row(0, 1.0, 0.9, 0.3), [0, 0, 1, 2], settings)
        assert mined.coefficients[0].tolist() == [0, 1, 0, -1]


def test_trap10_no_triplet_is_made_up_and_no_class_needs_two_photos() -> None:
    """adambielski: a made-up triplet where none qualifies, a NameError where nobody has two photos."""
    for labels in ([0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 2]):
        x = on_circle(0, 0.01, 2, 3).requires_grad_()
        out = TripletHead()(x, torch.tensor(labels))
        out.loss.backward()
        assert float(out.loss.detach()) == out.logs["triplets_active"] == 0
        assert x.grad is not None
        assert not x.grad.any()


def test_trap10_pairs_count_in_both_orders() -> None:
    """adambielski: combinations, so one order."""
    assert TripletHead()(on_circle(0, 0.1, 0.2, 2), torch.tensor([0, 0, 0, 1])).logs["pairs"] == 6


def test_trap11_no_farthest_negative_unless_asked() -> None:
    """tensorflow/addons: without a semi-hard negative the farthest is taken; here that is `largest`."""
    D = first_row(0, 1.0, 0.9, 0.3)
    assert not chosen_by(D, [0, 0, 1, 2], ONE_WAY).coefficients.any()
    largest = Triplet(pairs="unordered", fallback="largest")
    assert chosen_by(D, [0, 0, 1, 2], largest).coefficients[0].tolist() == [0, 1, -1, 0]


def test_trap11_a_batch_of_one_person_has_no_loss() -> None:
    """tensorflow/addons gives the margin plus D(a,p)."""
    x = on_circle(0, 0.5, 1)
    for fallback in ("skip", "hardest", "largest"):
        assert float(TripletHead(Triplet(fallback=fallback))(x, torch.tensor([4, 4, 4])).loss) == 0  # type: ignore[arg-type]


def test_trap11_a_batch_without_pairs_is_not_zero_by_zero() -> None:
    """tensorflow/addons divides by the number of positives."""
    for reduction in ("mean_active", "mean_all", "sum"):
        out = TripletHead(Triplet(reduction=reduction))(on_circle(0, 0.5, 1), torch.tensor([0, 1, 2]))  # type: ignore[arg-type]
        assert float(out.loss) == 0
        assert all(math.isfinite(v) for v in out.logs.values())

"""Faults of public center losses, each shown to be another number than ours."""

import numpy as np
import pytest
import torch

from facespace.losses.auxiliary import Center, CenterTerm

X = np.array([[4.0, 0.0], [2.0, 2.0], [0.0, 6.0], [1.0, 1.0]])
Y = [0, 0, 0, 2]
START = np.array([[1.0, 0.0], [5.0, 5.0], [0.0, 1.0]])


def stepped(settings: Center) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, gradient and centres after one training step from `START`."""
    term = CenterTerm(settings, 3, 2).double()
    term.centres.copy_(torch.from_numpy(START))
    x = torch.tensor(X, requires_grad=True)
    out = term(x, torch.tensor(Y))
    out.loss.backward()
    assert x.grad is not None
    return float(out.loss.detach()), x.grad.numpy(), term.centres.numpy()


def paper(alpha: float) -> tuple[float, np.ndarray]:
    """1/2 Σ ‖x - c‖², and the centres after their step, by hand: three photos of class 0, one of class 2."""
    loss = sum(((X[i] - START[y]) ** 2).sum() for i, y in enumerate(Y)) / 2
    centres = START.copy()
    centres[0] += alpha * ((X[0] - START[0]) + (X[1] - START[0]) + (X[2] - START[0])) / (1 + 3)
    centres[2] += alpha * (X[3] - START[2]) / (1 + 1)
    return float(loss), centres


def test_trap7_the_step_is_alpha_over_one_plus_the_count_and_the_loss_half_the_sum() -> None:
    """davidsandberg/facenet: the step is 1 - alfa, duplicates add up undivided, the loss is a mean over elements."""
    loss, _, centres = stepped(Center(1.0, alpha=0.1, reduction="sum"))
    value, expected = paper(0.1)
    assert loss == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(centres, expected, rtol=1e-12)

    public = START.copy()
    for i, y in enumerate(Y):
        public[y] -= (1 - 0.1) * (START[y] - X[i])
    assert np.abs(public - centres)[[0, 2]].max(1).min() > 0.8
    assert abs(np.mean([(X[i] - START[y]) ** 2 for i, y in enumerate(Y)]) - loss) > 1


def test_trap7_more_photos_of_one_person_never_carry_the_centre_past_them() -> None:
    """Undivided, four photos at one point would move the centre 4 alpha of the way: beyond them."""
    for photos in (1, 4, 100):
        term = CenterTerm(Center(alpha=1.0), 1, 1)
        term(torch.ones(photos, 1), torch.zeros(photos, dtype=torch.int64))
        assert float(term.centres) == pytest.approx(photos / (1 + photos))


def test_trap8_half_the_sum_centres_moved_by_their_rule_and_no_constant_for_other_classes() -> None:
    """KaiyangZhou/pytorch-center-loss: no 1/2, centres left to the optimiser, 1e-12 for each other class."""
    term = CenterTerm(Center(), 3, 2)
    assert not list(term.parameters())
    loss, grad, centres = stepped(Center(1.0, reduction="mean"))
    value, expected = paper(0.5)
    assert loss == pytest.approx(value / 4, rel=1e-12)
    np.testing.assert_allclose(grad, [(X[i] - START[y]) / 4 for i, y in enumerate(Y)], rtol=1e-12)
    np.testing.assert_allclose(centres, expected, rtol=1e-12)
    assert centres[1].tolist() == START[1].tolist()

    at_centres = CenterTerm(Center(1.0), 500, 2)
    assert float(at_centres(torch.zeros(3, 2), torch.tensor([0, 1, 2])).loss) == 0


def test_trap8_distances_keep_their_digits_far_from_the_origin() -> None:
    """a² + b² - 2ab in float32 loses a gap of 0.01 at a length of 1,000; the difference does not."""
    term = CenterTerm(Center(1.0), 1, 1)
    term.centres.fill_(1000.0)
    x = torch.tensor([[1000.01]], dtype=torch.float32)
    gap = float(x) - 1000.0
    assert float(term(x, torch.tensor([0])).loss) == pytest.approx(gap**2 / 2, rel=1e-6)
    a, b = x.square(), torch.tensor(1000.0).square()
    assert abs(float(a + b - 2 * x * 1000.0) / gap**2 - 1) > 0.05

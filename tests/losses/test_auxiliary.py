"""Auxiliary terms against slow loops: values, gradients, state, degenerate batches (U15, U21)."""

import math
from dataclasses import replace
from typing import Any

import auxiliary_reference as reference
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facespace.errors import DataError, UsageError
from facespace.losses.agents import AgentContrastive, AgentTriplet, Inter, Intra
from facespace.losses.auxiliary import AUXILIARY, Center, Contrastive, Marginal, Range, Ring

CLASSES, DIM = 7, 5
LABELS = [0, 3, 0, 3, 0, 5, 6, 6, 3, 0, 1]  # of classes 2 and 4 none, of 1 and 5 one photo
EVERY = [kind() for kind in AUXILIARY.values()]
DEFAULTS = pytest.mark.parametrize("settings", EVERY, ids=lambda settings: settings.name)
SPREADS = pytest.mark.parametrize("spread", [0.1, 0.5, 1.5])


def rows(seed: int, n: int, dim: int = DIM, spread: float = 1.0, length: float = 3.0) -> Tensor:
    """Random float64 rows around one direction."""
    g = torch.Generator().manual_seed(seed)
    return length * (torch.ones(dim, dtype=torch.float64) + spread * torch.randn(n, dim, generator=g).double())


def term_of(settings: Any, classes: int = CLASSES, dim: int = DIM) -> nn.Module:
    module: nn.Module = settings.module(classes, dim)
    return module.double()


def step(
    term: nn.Module, x: Tensor, labels: list[int], W: Tensor | None = None
) -> tuple[float, Tensor, Tensor | None, dict[str, float]]:
    """Loss, gradients with respect to the raw rows and the class rows, logs."""
    x = x.detach().clone().requires_grad_()
    W = None if W is None else W.detach().clone().requires_grad_()
    out = term(x, torch.tensor(labels), W)
    with torch.autocast("cpu", enabled=False):
        out.loss.backward()
    grad = torch.zeros_like(x) if x.grad is None else x.grad
    return float(out.loss.detach()), grad, None if W is None else W.grad, out.logs


def agree(got: float | Tensor | None, expected: Any) -> None:
    assert got is not None
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-9, atol=1e-10)


# Terms of the batch alone


@SPREADS
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_u21_center_value_and_gradient(spread: float, reduction: str) -> None:
    """λ/2 Σ ‖f - c‖²; the centres get no gradient of their own: they are no parameters."""
    term = term_of(Center(0.7, reduction=reduction))  # type: ignore[arg-type]
    term.centres.copy_(rows(9, CLASSES))
    x, centres = rows(1, len(LABELS), spread=spread), term.centres.numpy().copy()
    loss, grad, _, logs = step(term, x, LABELS)
    value, expected = reference.center(x.numpy(), LABELS, centres)
    count = len(LABELS) if reduction == "mean" else 1
    assert value > 0
    agree(loss, 0.7 * value / count)
    agree(grad, 0.7 * expected / count)
    agree(logs["center"], value / count)
    assert not list(term.parameters())


@pytest.mark.parametrize("alpha", [0.5, 1.0, 0.1])
def test_u21_center_update_with_duplicates_and_absent_classes(alpha: float) -> None:
    """Over three steps: four photos of class 0 move its centre by Σ/(1+4); absent classes stay where they were."""
    term = term_of(Center(alpha=alpha))
    expected = np.zeros((CLASSES, DIM))
    for seed in range(3):
        x = rows(seed, len(LABELS))
        step(term, x, LABELS)
        expected = reference.moved_centres(x.numpy(), LABELS, expected, alpha)
        agree(term.centres, expected)
    assert not term.centres[[2, 4]].any()
    assert term.centres[[0, 1, 3, 5, 6]].all()


def test_u21_center_update_of_one_class_by_hand() -> None:
    """Two photos at 3 and 6, centre at 0, alpha 1/2: to 1/2 (3 + 6) / (1 + 2) = 1.5; one photo at 3: to 3/4."""
    term = term_of(Center(), classes=3, dim=1)
    step(term, torch.tensor([[3.0], [6.0], [3.0]], dtype=torch.float64), [0, 0, 2])
    assert term.centres[:, 0].tolist() == [1.5, 0.0, 0.75]


def test_u21_centres_move_in_training_only_and_with_their_weight_apart() -> None:
    """Evaluation leaves them; λ does not enter the step; the loss is that of the centres before the step."""
    term, x = term_of(Center(1.0)), rows(3, len(LABELS))
    loss, *_ = step(term.eval(), x, LABELS)
    assert not term.centres.any()
    assert step(term.train(), x, LABELS)[0] == loss
    heavy = term_of(Center(50.0))
    step(heavy, x, LABELS)
    agree(heavy.centres, term.centres)


@SPREADS
def test_u21_marginal_value_and_gradient(spread: float) -> None:
    settings, x = Marginal(0.7, theta=0.9, xi=0.4), rows(2, len(LABELS), spread=spread)
    loss, grad, *_ = step(term_of(settings), x, LABELS)
    value, expected = reference.marginal(x.numpy(), LABELS, 0.9, 0.4)
    assert value > 0
    agree(loss, 0.7 * value)
    agree(grad, 0.7 * expected)


def test_u21_marginal_by_hand() -> None:
    """D = 1.0 for one person is 0.1 too far with θ = 1.2, ξ = 0.3, D = 1.4 for two 0.1 too near; beyond, nothing."""
    for same, squared, lost in ((True, 1.0, 0.1), (True, 0.8, 0), (False, 1.4, 0.1), (False, 1.6, 0)):
        angle = math.acos(1 - squared / 2)
        x = torch.tensor([[1, 0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        loss, *_ = step(term_of(Marginal(), dim=2), x, [0, 0] if same else [0, 1])
        assert loss == pytest.approx(lost, abs=1e-12)


@SPREADS
@pytest.mark.parametrize("k", [1, 2, 3, 50])
@pytest.mark.parametrize("normalise", [True, False])
def test_u21_range_value_and_gradient(spread: float, k: int, normalise: bool) -> None:
    """Four people of two photos or more, two of one photo, which enter by their means alone."""
    settings = Range(0.7, alpha=0.3, beta=2.0, margin=3.0, largest=k, normalise=normalise)
    x = rows(4, len(LABELS), spread=spread, length=0.5)
    loss, grad, *_ = step(term_of(settings), x, LABELS)
    value, expected = reference.range_loss(x.numpy(), LABELS, 0.3, 2.0, 3.0, k, normalise)
    agree(loss, 0.7 * value)
    agree(grad, 0.7 * expected)
    within, _, between, _ = reference.range_parts(reference.unit(x.numpy()) if normalise else x.numpy(), LABELS, k, 3.0)
    assert within > 0
    assert between > 0


def test_u21_range_by_hand() -> None:
    """Distances 1, 4 and 9 of one person: k = 2 takes 9 and 4, 2 / (1/9 + 1/4). Means at 0 and 2: m - 4."""
    x = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    loss, *_ = step(term_of(Range(1.0, normalise=False), dim=1), x, [0, 0, 0])
    assert loss == pytest.approx(2 / (1 / 9 + 1 / 4), rel=1e-12)
    apart = Range(1.0, beta=0.5, margin=7.0, normalise=False)
    loss, *_ = step(term_of(apart, dim=1), torch.tensor([[0.0], [2.0], [9.0]], dtype=torch.float64), [0, 1, 2])
    assert loss == pytest.approx(0.5 * 3, rel=1e-12)


@pytest.mark.parametrize("radius", [0.25, 4.0, 20.0])
def test_u21_ring_value_and_gradients(radius: float) -> None:
    """With respect to the embeddings and to R, whose gradient is -λ/N Σ (‖f‖ - R)."""
    term, x = term_of(Ring(0.7, radius=radius)), rows(5, len(LABELS))
    loss, grad, _, logs = step(term, x, LABELS)
    value, expected, slope = reference.ring(x.numpy(), radius)
    agree(loss, 0.7 * value)
    agree(grad, 0.7 * expected)
    agree(term.radius.grad, 0.7 * slope)
    assert logs["ring_radius"] == pytest.approx(radius)


def test_u21_ring_starts_at_the_mean_length_of_its_first_training_batch() -> None:
    term, x = term_of(Ring()), rows(5, len(LABELS))
    step(term.eval(), 2 * x, LABELS)
    assert float(term.radius.detach()) == 1
    step(term.train(), x, LABELS)
    mean = np.linalg.norm(x.numpy(), axis=1).mean()
    agree(term.radius.detach(), mean)
    step(term, 5 * x, LABELS)
    agree(term.radius.detach(), mean)  # from here on it is the optimiser's


@SPREADS
@pytest.mark.parametrize("normalise", [True, False])
def test_u21_contrastive_value_and_gradient(spread: float, normalise: bool) -> None:
    settings, x = Contrastive(0.7, margin=1.1, normalise=normalise), rows(6, len(LABELS), spread=spread, length=0.3)
    loss, grad, *_ = step(term_of(settings), x, LABELS)
    value, expected = reference.contrastive(x.numpy(), LABELS, 1.1, normalise)
    assert value > 0
    agree(loss, 0.7 * value)
    agree(grad, 0.7 * expected)


@pytest.mark.parametrize("same", [True, False])
def test_u21_contrastive_at_distance_0(same: bool) -> None:
    """The root has no slope there: two people at one point lose m²/2 and have nowhere to go; no NaN."""
    x = rows(7, 1).expand(2, -1)
    loss, grad, *_ = step(term_of(Contrastive(1.0, margin=0.8)), x, [0, 0] if same else [0, 1])
    assert loss == (0 if same else pytest.approx(0.8**2 / 2, rel=1e-12))
    assert not grad.any()


def test_u21_range_at_distance_0() -> None:
    """Twins among a person's largest distances make the harmonic mean 0; equal means of two people have no way out."""
    x = rows(7, 3)
    term = term_of(Range(1.0))
    for twins in (x[[0, 0]], x[[0, 0, 0]]):
        loss, grad, *_ = step(term, twins, [0] * len(twins))
        assert loss < 1e-11
        assert grad.abs().max() < 1e-9
    loss, grad, *_ = step(term, x[[0, 0]], [0, 1])
    assert loss == pytest.approx(1.0)
    assert not grad.any()
    loss, grad, *_ = step(term, x[[0, 0, 1, 2]], [0, 0, 0, 1])  # three photos, the twins' 0 is the smallest of three
    assert torch.isfinite(grad).all()
    assert grad.any()


# Terms against class rows


@SPREADS
def test_u15_intra_value_and_gradients(spread: float) -> None:
    x, W = rows(1, len(LABELS), spread=spread), rows(2, CLASSES, spread=spread, length=0.1)
    loss, grad, grad_rows, _ = step(term_of(Intra(0.7)), x, LABELS, W)
    value, expected, expected_rows = reference.intra(x.numpy(), LABELS, W.numpy())
    agree(loss, 0.7 * value)
    agree(grad, 0.7 * expected)
    agree(grad_rows, 0.7 * expected_rows)


@SPREADS
@pytest.mark.parametrize("anchors", ["batch", "all"])
def test_u15_inter_value_and_gradients(spread: float, anchors: str) -> None:
    """Labels of the batch as often as they occur, against all other classes, absent ones too; or every class once."""
    x, W = rows(1, len(LABELS)), rows(2, CLASSES, spread=spread, length=0.1)
    loss, grad, grad_rows, _ = step(term_of(Inter(0.7, anchors=anchors)), x, LABELS, W)  # type: ignore[arg-type]
    value, expected_rows = reference.inter(LABELS if anchors == "batch" else list(range(CLASSES)), W.numpy())
    agree(loss, 0.7 * value)
    agree(grad_rows, 0.7 * expected_rows)
    assert not grad.any()


@pytest.mark.parametrize("anchors", ["batch", "all"])
def test_u15_inter_with_two_classes_is_minus_their_angle(anchors: str) -> None:
    """Whatever the batch: -θ/π."""
    W = torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    for labels in ([0], [1], [0, 1], [0, 0, 1]):
        term = term_of(Inter(anchors=anchors), classes=2, dim=2)  # type: ignore[arg-type]
        loss, *_ = step(term, rows(0, len(labels), 2), labels, W)
        assert loss == pytest.approx(-1 / 4, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [Intra(), Inter(), Inter(anchors="all")], ids=str)
def test_u15_arccos_is_guarded(settings: Intra | Inter, dtype: torch.dtype) -> None:
    """Rows equal, opposite, and equal to the embedding; in 512 numbers rounding gives cosines beyond 1."""
    for seed in range(20):
        W = rows(seed, 3, 512).to(dtype)
        W = torch.cat([W, W[:1], -W[:1], 3 * W[1:2]])
        loss, grad, grad_rows, _ = step(settings.module(6, 512), W[:4] * 2, [0, 1, 2, 4], W)
        assert math.isfinite(loss)
        assert grad_rows is not None
        for g in (grad, grad_rows):
            assert torch.isfinite(g).all()
            assert g.abs().max() < 1


def test_u15_the_slope_of_the_angle_keeps_its_size_near_0() -> None:
    """‖dθ/df‖ = 1/‖f‖ at every angle, down to a thousandth of a radian in float64."""
    for angle in (1e-3, 0.1, 1.0, 3.0):
        x = torch.tensor([[2 * math.cos(angle), 2 * math.sin(angle)]], dtype=torch.float64)
        W = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        loss, grad, *_ = step(term_of(Intra(), 1, 2), x, [0], W)
        assert loss * math.pi == pytest.approx(angle, rel=1e-9)
        assert float(grad.norm()) * math.pi == pytest.approx(1 / 2, rel=1e-9)


@SPREADS
@pytest.mark.parametrize("negatives", ["all", "hardest"])
@pytest.mark.parametrize("kind", ["contrastive", "triplet"])
def test_agents_value_and_gradients(spread: float, negatives: str, kind: str) -> None:
    settings: Any = (AgentContrastive if kind == "contrastive" else AgentTriplet)(0.7, 0.9, negatives)
    x, W = rows(3, len(LABELS), spread=spread), rows(4, CLASSES, spread=spread, length=0.1)
    loss, grad, grad_rows, _ = step(term_of(settings), x, LABELS, W)
    value, expected, expected_rows = reference.agents(x.numpy(), LABELS, W.numpy(), 0.9, negatives, kind)
    assert value > 0
    agree(loss, 0.7 * value)
    agree(grad, 0.7 * expected)
    agree(grad_rows, 0.7 * expected_rows)


# What every term keeps


@DEFAULTS
@pytest.mark.parametrize(
    ("labels", "classes"),
    [([0], CLASSES), ([0], 1), ([2] * 6, CLASSES), ([0] * 6, 1), ([0, 1, 2, 3, 4, 5], CLASSES)],
    ids=["one photo", "one photo, one class", "one person", "one class", "all single"],
)
def test_u21_degenerate_batches_are_finite_and_have_a_graph(settings: Any, labels: list[int], classes: int) -> None:
    """Also with all embeddings in one point, and at the origin."""
    W = rows(1, classes) if settings.reads_classes else None
    for x in (rows(0, len(labels)), rows(0, 1).expand(len(labels), -1), torch.zeros(len(labels), DIM).double()):
        loss, grad, grad_rows, logs = step(term_of(settings, classes), x, labels, W)
        assert math.isfinite(loss)
        assert torch.isfinite(grad).all()
        assert grad_rows is None or torch.isfinite(grad_rows).all()
        assert all(math.isfinite(value) for value in logs.values())


@pytest.mark.parametrize("settings", [Marginal(), Range(), Contrastive(), Inter()], ids=lambda s: s.name)
def test_u21_a_term_of_pairs_is_0_where_there_is_none(settings: Any) -> None:
    """One photo, or one class row: no 0/0."""
    loss, grad, grad_rows, _ = step(term_of(settings, 1), rows(0, 1), [0], rows(1, 1))
    assert loss == 0
    assert not grad.any()
    assert grad_rows is None or not grad_rows.any()


@DEFAULTS
def test_float32_is_within_1e_5_and_half_precision_is_computed_in_float32(settings: Any) -> None:
    """Under autocast the same numbers; given halves, those of the halves as float32."""
    x, W = rows(5, 30, 16, 0.5).float(), rows(6, CLASSES, 16, 0.5, 0.1).float()
    labels = [i % CLASSES for i in range(30)]

    def run(x: Tensor, W: Tensor) -> tuple[float, Tensor]:
        loss, grad, *_ = step(settings.module(CLASSES, 16), x, labels, W if settings.reads_classes else None)
        return loss, grad

    plain = run(x, W)
    exact, exact_grad, *_ = step(
        term_of(settings, CLASSES, 16), x.double(), labels, W.double() if settings.reads_classes else None
    )
    assert plain[0] == pytest.approx(exact, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(plain[1], exact_grad.float(), rtol=1e-4, atol=1e-6)
    for half in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", half):
            assert run(x, W)[0] == plain[0]
            out = settings.module(CLASSES, 16)(x.to(half), torch.tensor(labels), W)
        assert out.loss.dtype == torch.float32
        assert float(out.loss.detach()) == run(x.to(half).float(), W)[0]


@DEFAULTS
def test_the_weight_multiplies_loss_and_gradients_and_is_not_in_the_logs(settings: Any) -> None:
    x, W = rows(8, len(LABELS)), rows(9, CLASSES)
    one, three = (step(term_of(replace(settings, weight=weight)), x, LABELS, W) for weight in (1.0, 3.0))
    agree(three[0], 3 * one[0])
    agree(three[1], 3 * one[1])
    assert one[3] == three[3]
    assert one[3][settings.name] == pytest.approx(one[0])


@DEFAULTS
def test_the_order_of_the_batch_does_not_matter(settings: Any) -> None:
    x, W = rows(8, len(LABELS)), rows(9, CLASSES)
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(0))
    loss, grad, *_ = step(term_of(settings), x, LABELS, W)
    other, other_grad, *_ = step(term_of(settings), x[order], [LABELS[i] for i in order], W)
    agree(other, loss)
    agree(other_grad, grad[order])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", [name for name, kind in AUXILIARY.items() if not kind.reads_classes])
def test_u21_a_batch_that_is_not_finite_leaves_no_trace(name: str, bad: float) -> None:
    """Its step is left out; centres and radius go on as if it had never been."""
    term, other = (AUXILIARY[name]().module(3, 4) for _ in range(2))
    sound = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    spoilt, labels = sound.clone(), torch.tensor([0, 0, 1, 1, 2, 2])
    spoilt[2, 1] = bad
    term(spoilt, labels)
    for _ in range(2):
        assert torch.equal(term(sound, labels).loss, other(sound, labels).loss)


@DEFAULTS
def test_u21_state_survives_the_state_dict(settings: Any) -> None:
    """A term resumed from its state goes on as the one that was not interrupted."""
    batches = [rows(seed, len(LABELS)) for seed in range(4)]
    W = rows(9, CLASSES)
    whole, first, second = term_of(settings), term_of(settings), term_of(settings)
    expected = [step(whole, x, LABELS, W)[0] for x in batches]
    assert [step(first, x, LABELS, W)[0] for x in batches[:2]] == expected[:2]
    second.load_state_dict(first.state_dict())
    assert [step(second, x, LABELS, W)[0] for x in batches[2:]] == expected[2:]


def test_the_table_names_every_term() -> None:
    for name, kind in AUXILIARY.items():
        assert kind.name == name
        assert kind.paper
        assert kind().module(3, 4).reads_classes == kind.reads_classes == (kind().name in READ_CLASSES)
    assert len(AUXILIARY) == 9


READ_CLASSES = {"intra", "inter", "agent_contrastive", "agent_triplet"}


@pytest.mark.parametrize(
    "make",
    [
        *(lambda kind=kind, weight=weight: kind(weight) for kind in AUXILIARY.values() for weight in (0, -1, math.inf)),
        lambda: Center(alpha=1.5),
        lambda: Center(alpha=0),
        lambda: Center(reduction="none"),  # type: ignore[arg-type]
        lambda: Marginal(theta=5),
        lambda: Marginal(xi=0),
        lambda: Range(alpha=0, beta=0),
        lambda: Range(alpha=-1),
        lambda: Range(margin=0),
        lambda: Range(largest=0),
        lambda: Ring(radius=0),
        lambda: Ring(radius=math.nan),
        lambda: Contrastive(margin=2.5),
        lambda: Contrastive(margin=0),
        lambda: Inter(anchors="some"),  # type: ignore[arg-type]
        lambda: AgentContrastive(margin=5),
        lambda: AgentTriplet(margin=0),
        lambda: AgentTriplet(negatives="none"),  # type: ignore[arg-type]
        lambda: Center().module(0, 4),
        lambda: Intra().module(3, 0),
    ],
)
def test_contradicting_settings_are_refused_when_made(make: Any) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert refused.value.hint


def test_what_does_not_fit_is_refused() -> None:
    term, x = term_of(Intra()), rows(0, 3)
    y = torch.tensor([0, 1, 2])
    for bad in (
        (x, y[:2], rows(0, CLASSES)),
        (x[:, :3], y, rows(0, CLASSES)),
        (x, y.int(), rows(0, CLASSES)),
        (x, y + CLASSES, rows(0, CLASSES)),
        (x, y - 1, rows(0, CLASSES)),
        (x[:0], y[:0], rows(0, CLASSES)),
        (x, y, rows(0, CLASSES - 1)),
        (x, y, rows(0, CLASSES)[:, None]),
        (x, y, None),
    ):
        with pytest.raises(DataError) as refused:
            term(*bad)
        assert refused.value.hint

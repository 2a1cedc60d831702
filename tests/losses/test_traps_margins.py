"""Faults of public margin code, each reproduced against ours; numbers are those of the project's list of traps.

Traps of triplets, GroupFace and auxiliary terms have files of their own; BroadFace's are in test_broadface.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses_reference import margin_softmax, psi, rule_of
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses import MARGINS, ArcFace, Combined, CosFace, MarginHead, NormFace, SphereFace, Triplet
from facespace.losses.adaptive import ADAPTIVE, AdaFace, AnnealedSphereFace, CurricularFace, MagFace, MVSoftmax
from facespace.losses.head import AnyMargin
from facespace.losses.margins import PastPi
from facespace.losses.subcentres import drop_noise

ALL: list[AnyMargin] = [cls() for cls in (*MARGINS.values(), *ADAPTIVE.values())]
ON_COSINES = [margin for margin in ALL if margin.normalised]


def head_with(weight: Tensor, margin: AnyMargin, scale: float = 64.0) -> MarginHead:
    """A head whose class rows `(C, D)` or `(C, K, D)` are given."""
    classes, *centres, dim = weight.shape
    head = MarginHead(classes, dim, margin, scale, centres=centres[0] if centres else 1).to(weight.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head


def step(head: MarginHead, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients with respect to embeddings and class rows."""
    f = f.detach().requires_grad_()
    loss = head(f, y).loss
    return (loss.detach(), *torch.autograd.grad(loss, [f, head.weight]))


def drawn(n: int = 6, classes: int = 8, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of length about 20, class rows, labels."""
    g = torch.Generator().manual_seed(8)
    f, W = (torch.randn(k, dim, generator=g, dtype=torch.float64) for k in (n, classes))
    return 9 * f, W, torch.randint(classes, (n,), generator=g)


def at(degrees: float, length: float = 1.0) -> Tensor:
    """A vector in the plane, float64 `(2,)`."""
    angle = math.radians(degrees)
    return length * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)


def slopes(margin: ArcFace | Combined | CosFace, theta: Tensor) -> Tensor:
    """dT/dc at angles."""
    cos = theta.cos().requires_grad_()
    return torch.autograd.grad(margin.target_logit(cos).sum(), cos)[0]


@pytest.mark.parametrize("margin", ON_COSINES, ids=str)
def test_trap1_rows_are_normalised(margin: AnyMargin) -> None:
    """cvqluu: the loop that normalised W bound a local name; here a row of length 1,000 counts as one of length 1."""
    f, W, y = drawn()
    lengths = torch.logspace(-3, 3, len(W), dtype=torch.float64)[:, None]
    one, other = (step(head_with(rows, margin), f, y)[0] for rows in (W, W * lengths))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_trap1_a_margin_of_zero_is_zero() -> None:
    """cvqluu: m = 0 silently became the default."""
    f, W, y = drawn()
    plain = step(head_with(W, NormFace()), f, y)[0]
    for margin in (ArcFace(0.0), CosFace(0.0), SphereFace(1.0), Combined(1.0, 0.0, 0.0), AdaFace(0.0)):
        torch.testing.assert_close(step(head_with(W, margin), f, y)[0], plain, rtol=1e-10, atol=0)


def test_trap1_no_exponential_overflows() -> None:
    """cvqluu: exp(64 c) was summed as it is. In float32 e^89 is infinite; a loss of 128 is exact here."""
    W = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    loss, df, _ = step(head_with(W, NormFace(), 1000.0), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert float(loss) == 2000
    assert df.isfinite().all()


def test_trap1_psi_never_rises() -> None:
    """cvqluu: cos(m theta) comes back up."""
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    values = SphereFace(4.0).target_logit(theta.cos()).tolist()
    assert all(b <= a + 1e-12 for a, b in pairwise(values))


@pytest.mark.parametrize("margin", ALL, ids=str)
@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_trap2_another_class_on_the_axis_is_no_nan(margin: AnyMargin, cosine: float) -> None:
    """ronghuaiyang: sqrt of a clamped 1 - c^2 under a mask is NaN where ANY class has |c| = 1, the label or not."""
    for own in (0, 1):  # the class on the axis is the label, or another one
        W = torch.tensor([[cosine, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
        loss, df, dW = step(head_with(W, margin), torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([own]))
        assert loss.isfinite()
        assert df.isfinite().all()
        assert dW.isfinite().all()


def test_trap2_the_defaults_are_the_papers() -> None:
    """ronghuaiyang: s = 30 by default."""
    assert MarginHead(2, 2, ArcFace()).scale == 64
    assert ArcFace().m == 0.5
    assert CosFace().m3 == 0.35


@pytest.mark.parametrize("margin", ALL, ids=str)
def test_trap3_an_embedding_equal_to_its_row_is_no_nan(margin: AnyMargin) -> None:
    """face.evoLVe, Kakao and others: sqrt(1 - c^2) with c past 1 by rounding; 135 of 200 such draws broke there."""
    g = torch.Generator().manual_seed(0)
    over = 0
    for _ in range(200):
        row = torch.randn(1, 512, generator=g)
        W = torch.cat([row, torch.randn(2, 512, generator=g)])
        loss, df, dW = step(head_with(W, margin), row, torch.tensor([0]))
        assert loss.isfinite()
        assert df.isfinite().all()
        assert dW.isfinite().all()
        over += float((F.normalize(row) * F.normalize(row)).sum()) > 1
    assert over > 20  # the draws do pass 1


def test_trap3_a_whole_m_may_come_as_a_float() -> None:
    """face.evoLVe: SphereFace indexed a list with m = 4.0."""
    for margin in (SphereFace(4.0), SphereFace(4)):
        theta = 2.0
        value = float(margin.target_logit(torch.tensor(math.cos(theta), dtype=torch.float64)))
        assert value == pytest.approx(psi(4, theta)[0])


def test_trap4_combined_keeps_all_three_margins() -> None:
    """arcface_torch: with m3 > 0 the others were dropped ((1, 0.3, 0.2) at c = 0.5 gave 0.30); m1 != 1 raised."""
    half = torch.tensor(0.5, dtype=torch.float64)
    expected = 0.5 * math.cos(0.3) - math.sqrt(0.75) * math.sin(0.3) - 0.2
    assert expected == pytest.approx(0.02, abs=0.002)
    assert float(Combined(1.0, 0.3, 0.2).target_logit(half)) == pytest.approx(expected, abs=1e-12)
    assert float(Combined(0.9, 0.4, 0.0).target_logit(half)) == pytest.approx(math.cos(0.3 * math.pi + 0.4), abs=1e-12)


def test_trap4_the_target_falls_past_pi_minus_m() -> None:
    """arcface_torch: T(2.8) = -0.987 < T(3.0) = -0.936."""
    near, far = ArcFace().target_logit(torch.tensor([2.8, 3.0], dtype=torch.float64).cos()).tolist()
    assert near > far


def test_trap4_the_slope_is_the_derivative() -> None:
    """arcface_torch: 1 at every angle (here the option `straight_through`)."""
    theta = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)
    torch.testing.assert_close(slopes(ArcFace(), theta), (theta + 0.5).sin() / theta.sin(), rtol=1e-12, atol=0)
    assert slopes(ArcFace(gradient="straight_through"), theta).tolist() == [1, 1, 1]


@pytest.mark.parametrize("margin", ALL, ids=str)
def test_trap4_nothing_is_written_into_the_callers_tensors(margin: AnyMargin) -> None:
    """arcface_torch: the logits handed in came back changed."""
    f, W, y = drawn()
    before = f.clone(), y.clone()
    head_with(W, margin)(f, y)
    assert torch.equal(f, before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("centres", [1, 3])
def test_trap5_pure_cosface_works_with_centres(centres: int) -> None:
    """subcenter_arcface: the branch of the pure cosine margin used a name that was not there."""
    f, _, y = drawn()
    W = torch.randn(8, centres, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    W = W[:, 0] if centres == 1 else W
    for margin in (CosFace(), Combined(1.0, 0.0, 0.35)):
        expected = margin_softmax(f.numpy(), W.numpy(), y.tolist(), margin, 64.0)
        assert float(step(head_with(W, margin), f, y)[0]) == pytest.approx(expected.loss, rel=1e-10)


def test_trap5_the_drop_step_runs_on_todays_numpy() -> None:
    """subcenter_arcface: drop.py used np.int. Two photos at one centre, one at 90 degrees: that one goes."""
    rows = torch.stack([at(0), at(90)])[None]  # (1, 2, 2)
    found = drop_noise(rows, torch.stack([at(5), at(-5), at(90)]), torch.zeros(3, dtype=torch.int64))
    assert found.dominant.tolist() == [0]
    assert found.keep.tolist() == [True, True, False]


def test_trap12_margins_are_in_radians() -> None:
    """pytorch-metric-learning: 0.5 was read as degrees; degrees are refused here."""
    value = ArcFace(0.5).target_logit(torch.tensor(math.cos(1.0), dtype=torch.float64))
    assert float(value) == pytest.approx(math.cos(1.5), abs=1e-12)
    with pytest.raises(UsageError):
        ArcFace(28.6)


def test_trap12_a_target_cosine_of_one_has_a_slope() -> None:
    """pytorch-metric-learning: acos' own slope at c = 1 is NaN."""
    for dtype in (torch.float32, torch.float64):
        cos = torch.tensor([1.0, -1.0], dtype=dtype, requires_grad=True)
        for margin in (ArcFace(), SphereFace(4.0), Combined()):
            assert torch.autograd.grad(margin.target_logit(cos).sum(), cos)[0].isfinite().all()


def test_trap12_distances_are_squared_and_semi_hard_means_one_negative() -> None:
    """pytorch-metric-learning: unsquared by default, and `semihard` gives all of them."""
    assert Triplet().metric == "squared_l2"
    assert Triplet().negatives == "semihard_hardest"


def test_trap12_terms_beside_the_loss_survive_sub_centres() -> None:
    """pytorch-metric-learning: the sub-centre loss dropped what came beside it; MagFace's pull is there for K = 3."""
    f, _, y = drawn()
    W = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss, free = (step(head_with(W, MagFace(pull=pull)), f, y)[0] for pull in (35.0, 0.0))
    a = f.norm(dim=1).clamp(10, 110)
    assert float(loss - free) == pytest.approx(float(35 * (a / 110**2 + 1 / a).mean()), rel=1e-9)


def test_trap12_sphereface_anneals() -> None:
    """pytorch-metric-learning: its SphereFace has no annealing."""
    f, W, y = drawn()
    head = head_with(W, AnnealedSphereFace())
    assert float(step(head, f, y)[0]) != float(step(head, f, y)[0])


def test_trap23_lambda_is_the_prototxts() -> None:
    """clcarwin: 1500/(1 + 0.1 it); the official layer has 1000/(1 + 0.12 it), and 5 at the end."""
    margin = AnnealedSphereFace()
    for it in (1, 10, 100, 1000):
        lam = float(margin.annealing({"iteration": torch.tensor(float(it))}))
        assert lam == pytest.approx(1000 / (1 + 0.12 * it), rel=1e-6)


def test_trap23_the_counter_is_saved() -> None:
    """clcarwin (and ronghuaiyang, trap 2): after a restart the annealing began again."""
    f, W, y = drawn()
    head, other = (head_with(W, AnnealedSphereFace()) for _ in range(2))
    for _ in range(5):
        head(f, y)
    other.load_state_dict(head.state_dict())
    assert float(other.memory["iteration"]) == 5
    assert torch.equal(step(other, f, y)[0], step(head, f, y)[0])


def test_trap23_psi_is_no_truncated_series() -> None:
    """clcarwin, phiflag=False: cos(m theta) by a series up to the 9th power, clamped at -m. ψ is exact to the end."""
    theta = torch.linspace(0.001, math.pi - 0.001, 500, dtype=torch.float64)
    got = SphereFace(4.0).target_logit(theta.cos())
    np.testing.assert_allclose(got.numpy(), [psi(4, float(t))[0] for t in theta], atol=1e-10)
    assert float(got[-1]) == pytest.approx(-7, abs=1e-4)


def test_trap24_every_rule_past_pi_runs() -> None:
    """CurricularFace's code: the easy_margin branch of its ArcFace has a misspelt name."""
    cos = torch.linspace(-1, 1, 9)
    rules: tuple[PastPi, ...] = ("th/mm", "none", "easy_margin", "continuous", "clamp")
    for rule in rules:
        assert ArcFace(past_pi=rule).target_logit(cos).isfinite().all()
        assert MagFace(past_pi=rule).target_logit(cos, torch.full_like(cos, 30), {}).isfinite().all()


def test_trap24_curricular_mask_is_taken_before_the_fallback() -> None:
    """Past pi - m the label's logit is c - m sin m, below -1: every negative would be hard. The mask asks cos(θ + m).

    At θ = 165 degrees and m = 0.5 that is -0.972: a negative at 175 degrees (c = -0.996) is easy, one at 160 is hard.
    """
    margin = CurricularFace(momentum=1.0)
    W = torch.stack([at(165), at(175), at(160)])
    f, y, c = at(0)[None], torch.tensor([0]), W[:, 0]
    threshold = math.cos(math.radians(165) + 0.5)
    assert c[1] < threshold < c[2]
    assert float(margin.target_logit(c[:1], c[:1], {})) < -1 < threshold
    head = head_with(W, margin, 8.0)
    loss = float(step(head, f, y)[0])
    t = float(c[0])
    logits = torch.tensor([c[0] - 0.5 * math.sin(0.5), c[1], c[2] * (t + c[2])]) * 8
    assert loss == pytest.approx(float(F.cross_entropy(logits[None].double(), y)), rel=1e-6)
    assert rule_of(margin, {"t": t}).other(float(c[1]), float(c[0])) == (float(c[1]), 1.0)


def test_trap25_norms_are_averaged_by_default() -> None:
    """AdaFace's head: t_alpha 1.0 by default (no averaging at all), 0.01 in the training's configuration."""
    f, W, y = drawn()
    head = head_with(W, AdaFace())
    head(f, y)
    mean, new = float(head.memory["mean"]), float(f.norm(dim=1).mean())
    assert mean == pytest.approx(0.99 * 20 + 0.01 * new)


def test_trap25_the_deviation_of_one_photo_is_no_nan() -> None:
    """AdaFace's code: std of a batch of one is NaN, and stays in the average for ever."""
    f, W, y = drawn(n=1)
    head = head_with(W, AdaFace())
    for _ in range(2):
        loss, df, dW = step(head, f, y)
        assert loss.isfinite()
        assert df.isfinite().all()
        assert dW.isfinite().all()
    assert float(head.memory["deviation"]) == 100


def test_trap25_photos_near_their_centre_still_learn() -> None:
    """AdaFace's code: a cosine held at 1 - 1e-3 has no slope within 2.6 degrees; here that is an option."""
    cos = torch.tensor(math.cos(math.radians(1.0)), dtype=torch.float64, requires_grad=True)
    norms, mean, deviation = torch.tensor([5.0, 20.0, 1.0], dtype=torch.float64)
    memory = {"mean": mean, "deviation": deviation}
    live, dead = (
        torch.autograd.grad(AdaFace(guard=guard).target_logit(cos, norms, memory), cos)[0] for guard in (0.0, 1e-3)
    )
    assert float(live) == pytest.approx(math.sin(math.radians(1.0) + 0.4) / math.sin(math.radians(1.0)), rel=1e-9)
    assert float(dead) == 0


def test_trap26_hard_photos_keep_the_margin() -> None:
    """FaceX-Zoo's MV-Softmax: c - m only where c > m, else c: a jump of m in favour of the harder photo."""
    cos = torch.linspace(-1, 1, 401, dtype=torch.float64)
    target = MVSoftmax().target_logit(cos, cos, {})
    torch.testing.assert_close(target, cos - 0.35, rtol=0, atol=1e-15)
    assert (target.diff() > 0).all()


@pytest.mark.parametrize("margin", ON_COSINES, ids=str)
def test_trap27_the_gradient_is_that_of_the_loss(margin: AnyMargin) -> None:
    """SphereFace's layer sends a rescaled gradient back: ours is tested against the loss, by its differences."""
    f, W, y = drawn()
    head = head_with(W, margin, 8.0).eval()
    df = step(head, f, y)[1]
    direction = torch.randn(f.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moving = isinstance(margin, AdaFace)  # its z stands still in the gradient: move along the sphere
    direction -= moving * (direction * f).sum(1, keepdim=True) * f / (f * f).sum(1, keepdim=True)

    def loss(h: float) -> float:
        moved = f + h * direction
        moved = moved * f.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True) if moving else moved
        return float(head(moved, y).loss.detach())

    numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert float((df * direction).sum()) == pytest.approx(numeric, rel=1e-5)


def test_trap27_the_rescaled_gradient_is_an_option_and_no_derivative() -> None:
    """The option has the loss of the exact rule and another gradient."""
    f, W, y = drawn()
    exact, other = (step(head_with(W, AnnealedSphereFace(base=0, gradient=g)), f, y) for g in ("exact", "rescaled"))
    torch.testing.assert_close(exact[0], other[0], rtol=1e-12, atol=0)
    assert not torch.allclose(exact[1], other[1], rtol=1e-2)

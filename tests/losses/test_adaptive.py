"""Margins that read norms, other classes or the past, through the head, against slow float64 code (U8, U24)."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses_reference import Array, margin_softmax, psi, remembered, start_of
from numpy.typing import NDArray
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses import ArcFace, CosFace, MarginHead
from facespace.losses.adaptive import (
    ADAPTIVE,
    AdaFace,
    Adaptive,
    AnnealedSphereFace,
    CurricularFace,
    MagFace,
    MVSoftmax,
)

MEMBERS: list[Adaptive] = [cls() for cls in ADAPTIVE.values()]
VARIANTS: list[Adaptive] = [
    *MEMBERS,
    AnnealedSphereFace(1.35),
    AnnealedSphereFace(3.0, base=20, gamma=1, minimum=1),
    AdaFace(0.5, h=1.0, momentum=0.99),
    MagFace(past_pi="easy_margin"),
    MagFace((0.0, 0.5), (1.0, 50.0), pull=0.0, past_pi="none"),
    CurricularFace(momentum=0.99),
    CurricularFace(0.2, momentum=1.0),
    *(MVSoftmax(kind=kind, weighting=weighting) for kind in ("cosine", "angle") for weighting in ("fixed", "adaptive")),
    MVSoftmax(0.5, 0.3),
]


def head_of(margin: Adaptive, classes: int = 9, centres: int = 1, dtype: torch.dtype = torch.float64) -> MarginHead:
    """The same rows on every call, scale 16."""
    g = torch.Generator().manual_seed(2)
    head = MarginHead(classes, 5, margin, 16.0, centres=centres).to(dtype)
    with torch.no_grad():
        head.weight.copy_(torch.randn(classes, centres, 5, generator=g, dtype=torch.float64).view_as(head.weight))
    return head


def batch(seed: int = 0, n: int = 8, classes: int = 9, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Embeddings of lengths 2..130, beyond what AdaFace and MagFace tell apart, and labels."""
    g = torch.Generator().manual_seed(seed)
    f = F.normalize(torch.randn(n, 5, generator=g, dtype=torch.float64))
    lengths = torch.tensor([2.0, 8, 15, 22, 40, 70, 101, 130], dtype=torch.float64)[:n, None]
    return (f * lengths).to(dtype), torch.randint(classes, (n,), generator=g)


def step(head: MarginHead, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients with respect to embeddings and class rows."""
    f = f.detach().requires_grad_()
    loss = head(f, y).loss
    return (loss.detach(), *torch.autograd.grad(loss, [f, head.weight]))


def own(head: MarginHead, f: Tensor, y: Tensor) -> tuple[Array, Array]:
    """Cosines to the own classes, and norms."""
    rows = F.normalize(head.weight.detach().view(len(head.weight), -1, 5), dim=2)
    cosines = torch.einsum("nd,nkd->nk", F.normalize(f), rows[y]).amax(1)
    return cosines.numpy(), f.norm(dim=1).numpy()


def numbers(head: MarginHead) -> dict[str, float]:
    """What a head remembers, as floats."""
    return {name: float(value) for name, value in head.memory.items()}


@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("margin", VARIANTS, ids=str)
def test_three_steps_agree_with_the_paper(margin: Adaptive, centres: int) -> None:
    """Loss, gradients to embeddings and class rows, and what is remembered, to 1e-10 in float64, step by step."""
    head, memory = head_of(margin, centres=centres), start_of(margin)
    for seed in range(3):
        f, y = batch(seed)
        got = step(head, f, y)
        memory = remembered(margin, memory, *own(head, f, y))
        assert numbers(head) == pytest.approx(memory, rel=1e-12)
        expected = margin_softmax(f.numpy(), head.weight.detach().numpy(), y.tolist(), margin, 16.0, memory)
        assert float(got[0]) == pytest.approx(expected.loss, rel=1e-10)
        np.testing.assert_allclose(got[1].numpy(), expected.f, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(got[2].numpy(), expected.W, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("margin", VARIANTS, ids=str)
def test_float32_is_within_1e_5(margin: Adaptive) -> None:
    """The same three steps rounded: loss and gradients within 1e-5 of their size."""
    exact, rounded = head_of(margin), head_of(margin, dtype=torch.float32)
    for seed in range(3):
        f, y = batch(seed, dtype=torch.float32)
        expected, got = step(exact, f.double(), y), step(rounded, f, y)
        for one, other in zip(got, expected, strict=True):
            assert float((one - other).abs().max()) <= 1e-5 * max(1, float(other.abs().max()))


@pytest.mark.parametrize("margin", MEMBERS, ids=str)
def test_judging_does_not_remember(margin: Adaptive) -> None:
    """In eval mode the memory is used and left as it is."""
    head = head_of(margin)
    head(*batch(0))
    memory = numbers(head)
    f, y = batch(1)
    loss = float(head.eval()(f, y).loss.detach())
    assert numbers(head) == memory
    expected = margin_softmax(f.numpy(), head.weight.detach().numpy(), y.tolist(), margin, 16.0, memory)
    assert loss == pytest.approx(expected.loss, rel=1e-10)


@pytest.mark.parametrize("margin", MEMBERS, ids=str)
def test_u8_u24_what_is_remembered_survives_a_checkpoint(margin: Adaptive) -> None:
    """The state of a head that saw two batches makes another one go on as the first does."""
    head, other = head_of(margin), head_of(margin)
    for seed in range(2):
        head(*batch(seed))
    state = copy.deepcopy(head.state_dict())
    assert {key for key in state if key.startswith("memory_")} == {f"memory_{name}" for name in start_of(margin)}
    other.load_state_dict(state)
    assert numbers(other) == numbers(head)
    assert torch.equal(step(other, *batch(2))[0], step(head, *batch(2))[0])
    assert numbers(other) == numbers(head)


@pytest.mark.parametrize("margin", MEMBERS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_not_remembered(margin: Adaptive, bad: float) -> None:
    """One overflow in the trunk must not turn all later losses into NaN."""
    head = head_of(margin)
    f, y = batch(0)
    head(f, y)
    spoiled = f.clone()
    spoiled[0, 0] = bad
    head(spoiled, y)
    assert all(math.isfinite(value) for value in numbers(head).values())
    assert head(f, y).loss.isfinite()


@pytest.mark.parametrize("margin", MEMBERS, ids=str)
def test_two_batches_may_be_descended_at_once(margin: Adaptive) -> None:
    """The second batch changes what is remembered; the gradient of the first is as it was when it was judged."""
    head, other = head_of(margin), head_of(margin)
    f, W = zip(*(step(head, *batch(seed))[1:] for seed in range(2)), strict=True)
    inputs = [batch(seed)[0].requires_grad_() for seed in range(2)]
    total = sum(other(x, batch(seed)[1]).loss for seed, x in enumerate(inputs))
    *df, dW = torch.autograd.grad(total, [*inputs, other.weight])
    for got, expected in zip((*df, dW), (*f, W[0] + W[1]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


class TestAnnealedSphereFace:
    """SphereFace as published."""

    def test_u8_lambda_falls_from_892_857_to_5(self) -> None:
        """lambda(1) = 1000/1.12; 5 from step 1659 on and not before."""
        margin = AnnealedSphereFace()
        at = {it: float(margin.annealing({"iteration": torch.tensor(float(it))})) for it in (1, 2, 1658, 1659, 10**6)}
        assert at[1] == pytest.approx(892.857, abs=1e-3)
        assert at[2] == pytest.approx(1000 / 1.24, rel=1e-6)
        assert at[1658] > 5
        assert at[1659] == at[10**6] == 5

    def test_u8_the_first_step_is_step_one(self) -> None:
        """The first batch is judged with lambda(1)."""
        f, y = batch(0)
        head = head_of(AnnealedSphereFace())
        first = step(head, f, y)[0]
        assert numbers(head) == {"iteration": 1}
        constant = head_of(AnnealedSphereFace(base=0, minimum=1000 / 1.12))
        assert float(first) == pytest.approx(float(step(constant, f, y)[0]), rel=1e-12)

    def test_u8_the_feature_keeps_its_norm(self) -> None:
        """Logits are |x| cos: with lambda without end the loss is softmax on x and unit rows, whatever the scale."""
        f, y = batch(0)
        head = head_of(AnnealedSphereFace(base=0, minimum=1e15))
        expected = F.cross_entropy(f @ F.normalize(head.weight).T, y)
        assert float(step(head, f, y)[0]) == pytest.approx(float(expected.detach()), rel=1e-10)

    def test_u8_a_zero_embedding_is_finite(self) -> None:
        """|x| = 0: all logits are 0."""
        f, y = torch.zeros(1, 5, dtype=torch.float64), torch.tensor([3])
        for gradient in ("exact", "rescaled"):
            loss, df, dW = step(head_of(AnnealedSphereFace(gradient=gradient)), f, y)
            assert float(loss) == pytest.approx(math.log(9))
            assert df.isfinite().all()
            assert dW.isfinite().all()

    @pytest.mark.parametrize("m1", [4.0, 3.0, 1.35])
    def test_rescaled_is_the_official_step(self, m1: float) -> None:
        """The loss is the same; d(|x| psi)/dx = a w + b x is divided by the length of (a, b), as the layer's code does.

        The other classes' and lambda's parts of the gradient stay.
        """
        margin = AnnealedSphereFace(m1, base=40.0, gradient="rescaled")
        head = head_of(margin)
        f, y = batch(1)
        loss, df, dW = step(head, f, y)
        exact_loss, exact_df, exact_dW = step(head_of(replace(margin, gradient="exact")), f, y)
        assert float(loss) == pytest.approx(float(exact_loss), rel=1e-12)
        expected = rescaled(f.numpy(), head.weight.detach().numpy(), y.tolist(), m1, lam=40 / 1.12)
        np.testing.assert_allclose(df.numpy(), expected, rtol=1e-9, atol=1e-10)
        assert not torch.allclose(df, exact_df)
        # The loss's slope in each of the other rows is that of the exact rule.
        others = torch.ones(9, dtype=torch.bool)
        others[y] = False
        torch.testing.assert_close(dW[others], exact_dW[others], rtol=1e-10, atol=1e-12)


def rescaled(f: Array, W: Array, y: list[int], m: float, lam: float) -> Array:
    """dL/dx as the Caffe layer sends it back, for the mean cross-entropy over photos."""
    df = np.zeros_like(f)
    w = W / np.linalg.norm(W, axis=1)[:, None]
    for i, x in enumerate(f):
        a = float(np.linalg.norm(x))
        c = w @ x / a
        value, steep = psi(m, math.acos(c[y[i]]))
        z = a * c
        z[y[i]] = a * (lam * c[y[i]] + value) / (1 + lam)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        coeff_w, coeff_x = steep, (value - c[y[i]] * steep) / a
        norm = math.hypot(coeff_w, coeff_x)
        for j in range(len(W)):
            dz = w[j] if j != y[i] else (lam * w[j] + (coeff_w * w[j] + coeff_x * x) / norm) / (1 + lam)
            df[i] += (p[j] - (j == y[i])) * dz / len(f)
    return df


class TestAdaFace:
    """The norm as quality."""

    @pytest.mark.parametrize("z", [-1, 0, 1])
    def test_u24_special_cases(self, z: int) -> None:
        """z = -1 is ArcFace, 0 is CosFace, 1 is cos(theta - m) - 2m."""
        theta = torch.linspace(0.05, math.pi - 0.05, 100, dtype=torch.float64)
        memory = {"mean": torch.tensor(20.0), "deviation": torch.tensor(1.0)}
        norms = torch.full_like(theta, 20.0 + 10 * z)
        got = AdaFace(0.4).target_logit(theta.cos(), norms, memory)
        expected = {
            -1: ArcFace(0.4, past_pi="clamp").target_logit(theta.cos()),
            0: CosFace(0.4).target_logit(theta.cos()),
            1: (theta - 0.4).clamp(min=0).cos() - 0.8,
        }[z]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)

    def test_u24_a_batch_of_one_is_finite(self) -> None:
        """One photo has no deviation: that of before stays, and all is finite."""
        head = head_of(AdaFace())
        loss, df, dW = step(head, *batch(0, n=1))
        assert loss.isfinite()
        assert df.isfinite().all()
        assert dW.isfinite().all()
        assert numbers(head) == pytest.approx({"mean": 0.99 * 20 + 0.01 * 2, "deviation": 100})

    def test_u24_the_batch_is_remembered_before_it_is_judged(self) -> None:
        """With momentum 1 a batch is judged by its own mean and deviation alone."""
        head = head_of(AdaFace(momentum=1.0))
        f, y = batch(0)
        loss = step(head, f, y)[0]
        a = np.clip(f.norm(dim=1).numpy(), 0.001, 100)
        assert numbers(head) == pytest.approx({"mean": a.mean(), "deviation": a.std(ddof=1)}, rel=1e-12)
        judged = {"mean": float(a.mean()), "deviation": float(a.std(ddof=1))}
        expected = margin_softmax(f.numpy(), head.weight.detach().numpy(), y.tolist(), AdaFace(), 16.0, judged)
        assert float(loss) == pytest.approx(expected.loss, rel=1e-10)

    def test_u24_norms_get_no_gradient(self) -> None:
        """z stands still: no gradient along f."""
        f, y = batch(0)
        df = step(head_of(AdaFace(h=3.0)), f, y)[1]
        assert float((df * f).sum(1).abs().max()) < 1e-12

    def test_the_guard_of_the_public_code(self) -> None:
        """guard = 1e-3: cosine held in +-0.999, angle in 1e-3..pi - 1e-3, no slope at the ends; the same elsewhere."""
        memory = {"mean": torch.tensor(20.0), "deviation": torch.tensor(1.0)}
        cos = torch.tensor([1.0, 0.9995, 0.95, 0.0, -0.99, -1.0], dtype=torch.float64, requires_grad=True)
        norms = torch.tensor([10.0, 20, 30, 20, 10, 10], dtype=torch.float64)
        z = np.array([-1, 0, 1, 0, -1, -1.0])
        got = AdaFace(guard=1e-3).target_logit(cos, norms, memory)
        (slope,) = torch.autograd.grad(got.sum(), cos)
        angles = np.arccos(np.clip(cos.detach().numpy(), -0.999, 0.999)) - 0.4 * z
        expected = np.cos(np.clip(angles, 1e-3, math.pi - 1e-3)) - 0.4 - 0.4 * z
        np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-12)
        assert (slope == 0).tolist() == [True, True, True, False, True, True]
        plain = AdaFace().target_logit(cos, norms, memory)
        assert float(got[3].detach()) == float(plain[3].detach())


class TestMagFace:
    """The norm as quality that is pulled."""

    def test_u24_the_norm_gets_its_gradient_from_margin_and_pull(self) -> None:
        """dL/da = s (p_y - 1) dT/da + 35 (1/110^2 - 1/a^2) inside 10..110, nothing outside."""
        head = head_of(MagFace())
        f, y = batch(0)
        a = f.norm(dim=1)
        along = (step(head, f, y)[1] * f).sum(1) / a * len(f)
        c = F.normalize(f) @ F.normalize(head.weight.detach()).T
        for i in range(len(f)):
            length = min(max(float(a[i]), 10), 110)
            m, theta = 0.45 + 0.35 * (length - 10) / 100, math.acos(c[i, y[i]])
            over = theta + m >= math.pi
            z = 16 * c[i].numpy()
            z[y[i]] = 16 * (math.cos(theta) - m * math.sin(m) if over else math.cos(theta + m))
            p = np.exp(z - z.max())[y[i]] / np.exp(z - z.max()).sum()
            steep = -(math.sin(m) + m * math.cos(m)) if over else -math.sin(theta + m)
            expected = 16 * (p - 1) * steep * 0.0035 + 35 * (1 / 110**2 - 1 / length**2)
            assert float(along[i]) == pytest.approx(expected if 10 < a[i] < 110 else 0, rel=1e-9, abs=1e-11)

    def test_u24_the_pull_is_the_same_for_all_who_judge(self) -> None:
        """35 times the mean of a/110^2 + 1/a is in the loss, in training and out of it."""
        f, y = batch(0)
        a = f.norm(dim=1).clamp(10, 110)
        expected = float(35 * (a / 110**2 + 1 / a).mean())
        for training in (True, False):
            loss, plain = (head_of(MagFace(pull=pull)).train(training)(f, y).loss for pull in (35.0, 0.0))
            assert float((loss - plain).detach()) == pytest.approx(expected, rel=1e-10)


class TestCurricularFace:
    """Hard negatives weigh as training goes."""

    def test_u24_t_is_moved_before_it_is_used(self) -> None:
        """With momentum 1 a batch is judged with its own mean cosine."""
        head = head_of(CurricularFace(momentum=1.0))
        f, y = batch(0)
        loss = step(head, f, y)[0]
        t = float(own(head, f, y)[0].mean())
        assert numbers(head) == pytest.approx({"t": t})
        expected = margin_softmax(f.numpy(), head.weight.detach().numpy(), y.tolist(), CurricularFace(), 16.0, {"t": t})
        assert float(loss) == pytest.approx(expected.loss, rel=1e-10)

    def test_u24_t_carries_no_gradient(self) -> None:
        """With momentum 1 the gradient is still that of a t that stands still."""
        moving, still = head_of(CurricularFace(momentum=1.0)), head_of(CurricularFace())
        f, y = batch(0)
        got = step(moving, f, y)
        still.memory["t"].copy_(moving.memory["t"])
        for one, other in zip(got, step(still.eval(), f, y), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)

    def test_u24_code_and_print_disagree_on_the_average(self) -> None:
        """0.01 of a new batch (code) is the default, 0.99 (as printed) the option."""
        f, y = batch(0)
        for momentum in (0.01, 0.99):
            head = head_of(CurricularFace(momentum=momentum))
            head(f, y)
            assert numbers(head)["t"] == pytest.approx(momentum * own(head, f, y)[0].mean())
        assert CurricularFace().momentum == 0.01


class TestMVSoftmax:
    """Misclassified negatives are raised."""

    @pytest.mark.parametrize("kind", ["cosine", "angle"])
    @pytest.mark.parametrize("weighting", ["fixed", "adaptive"])
    def test_the_printed_form(self, kind: str, weighting: str) -> None:
        """-log e^(s T) / (e^(s T) + sum h_j e^(s c_j)), h = 1 where T >= c_j, as eq. 6-8 print it with t' = 1 + t."""
        margin = MVSoftmax(0.35, 0.12, kind, weighting)  # type: ignore[arg-type]
        f, y = batch(0)
        head = head_of(margin)
        c = (F.normalize(f) @ F.normalize(head.weight.detach()).T).numpy()
        total, hard = 0.0, 0
        for i, label in enumerate(y.tolist()):
            theta = math.acos(c[i, label])
            arc = math.cos(theta + 0.35) if theta + 0.35 < math.pi else c[i, label] - 0.35 * math.sin(0.35)
            target = arc if kind == "angle" else c[i, label] - 0.35
            rest = 0.0
            for j in range(9):
                if j != label:
                    misclassified = c[i, j] > target
                    hard += misclassified
                    h = math.exp(16 * 0.12) if weighting == "fixed" else math.exp(16 * (1.12 - 1) * (c[i, j] + 1))
                    rest += (h if misclassified else 1) * math.exp(16 * c[i, j])
            total -= math.log(math.exp(16 * target) / (math.exp(16 * target) + rest)) / len(f)
        assert 0 < hard < 8 * len(f)
        assert float(step(head, f, y)[0]) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize(
    "margin", [CurricularFace(), *(MVSoftmax(weighting=w) for w in ("fixed", "adaptive"))], ids=str
)
def test_hard_and_easy_negatives_both_occur_here(margin: Adaptive) -> None:
    """The batches above show both sides of the mask to the tests."""
    head = head_of(margin)
    f, y = batch(0)
    c = F.normalize(f) @ F.normalize(head.weight.detach()).T
    values, _ = margin.others(c, c.gather(1, y[:, None]), head.memory)
    changed: NDArray[np.bool_] = (values != c).numpy()
    assert 0.1 < changed.mean() < 0.9


@pytest.mark.parametrize(
    "make",
    [
        lambda: AnnealedSphereFace(0.9),
        lambda: AnnealedSphereFace(math.inf),
        lambda: AnnealedSphereFace(base=-1),
        lambda: AnnealedSphereFace(base=math.inf),
        lambda: AnnealedSphereFace(gamma=math.nan),
        lambda: AnnealedSphereFace(minimum=-5),
        lambda: AnnealedSphereFace(gradient="guess"),  # type: ignore[arg-type]
        lambda: AdaFace(-0.1),
        lambda: AdaFace(28.65),
        lambda: AdaFace(h=0),
        lambda: AdaFace(h=math.inf),
        lambda: AdaFace(momentum=0),
        lambda: AdaFace(momentum=1.5),
        lambda: AdaFace(guard=1.0),
        lambda: AdaFace(guard=-1e-3),
        lambda: MagFace((0.8, 0.45)),
        lambda: MagFace(norms=(110.0, 10.0)),
        lambda: MagFace(norms=(0.0, 10.0)),
        lambda: MagFace(norms=(10.0, math.inf)),
        lambda: MagFace(pull=-1),
        lambda: MagFace(pull=math.inf),
        lambda: MagFace(past_pi="never"),  # type: ignore[arg-type]
        lambda: CurricularFace(2.0),
        lambda: CurricularFace(momentum=0),
        lambda: MVSoftmax(-0.35),
        lambda: MVSoftmax(t=-0.1),
        lambda: MVSoftmax(t=math.inf),
        lambda: MVSoftmax(kind="sum"),  # type: ignore[arg-type]
        lambda: MVSoftmax(weighting="none"),  # type: ignore[arg-type]
        *(lambda margin=margin: margin.grown(1.5) for margin in MEMBERS),
    ],
)
def test_contradictions_are_refused_at_birth(make: object) -> None:
    """Settings that are negative, in degrees, unknown or the wrong way round do not come to be."""
    with pytest.raises(UsageError) as error:
        make()  # type: ignore[operator]
    assert error.value.hint


@pytest.mark.parametrize(
    ("margin", "other"), [(AdaFace(), MagFace()), (AdaFace(), ArcFace()), (ArcFace(), CurricularFace())], ids=str
)
def test_a_head_does_not_change_its_nature(margin: Adaptive, other: Adaptive) -> None:
    """What one margin remembers is nothing to another: a new head is asked for."""
    head = head_of(margin)
    with pytest.raises(UsageError):
        head.margin = other

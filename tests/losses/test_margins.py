"""Every margin against the float64 reference: value, slope, order, refusals (U2, U4, U5, U8).

`TestContract` runs for every member of MARGINS and ADAPTIVE: a new one meets it without being asked.
"""

import dataclasses
import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from losses_reference import rule_of, slope, start_of, target
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses import MARGINS, ArcFace, Combined, CosFace, Margin, NormFace, Softmax, SphereFace, adaptive
from facespace.losses.adaptive import ADAPTIVE, Adaptive
from facespace.losses.head import AnyMargin
from facespace.losses.margins import PastPi

RULES = get_args(PastPi)
VARIANTS: list[Margin] = [
    NormFace(),
    CosFace(),
    CosFace(0.2),
    *(ArcFace(past_pi=rule) for rule in RULES),
    *(Combined(1.0, 0.3, 0.2, past_pi=rule) for rule in RULES),
    *(Combined(0.9, 0.4, 0.15, past_pi=rule) for rule in RULES),
    *(SphereFace(past_pi=rule) for rule in RULES),
    SphereFace(4.0),
    SphereFace(1.7),
]
MONOTONE = [m for m in VARIANTS if getattr(m, "past_pi", "") not in ("none", "easy_margin")]
MEMBERS: dict[str, AnyMargin] = {name: cls() for name, cls in (MARGINS | ADAPTIVE).items()}
LENGTHS = (1e-4, 3.0, 11.0, 20.0, 57.0, 109.0, 250.0)
"""Norms of embeddings, beyond the ends of all that read them."""


def values(margin: Margin, theta: np.ndarray, dtype: torch.dtype = torch.float64) -> tuple[np.ndarray, np.ndarray]:
    """T and dT/dc of the package at angles theta."""
    cos = torch.tensor(np.cos(theta), dtype=dtype, requires_grad=True)
    out = margin.target_logit(cos)
    out.sum().backward()
    assert cos.grad is not None
    return out.detach().double().numpy(), cos.grad.double().numpy()


def off_switches(margin: Margin, theta: np.ndarray) -> np.ndarray:
    """The angles that are not within 1e-3 of a multiple of pi in phi, nor of pi/2 in theta."""
    m1 = getattr(margin, "m1", 1.0)
    phi = m1 * theta + getattr(margin, "m", getattr(margin, "m2", 0.0))
    to_pi = np.abs(phi - np.pi * np.round(phi / np.pi))
    return theta[(to_pi > 1e-3) & (np.abs(theta - np.pi / 2) > 1e-3)]


def remembered(margin: AnyMargin) -> dict[str, Tensor]:
    """What a margin remembers at the start."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in start_of(margin).items()}


def logit(margin: AnyMargin, cos: Tensor, length: float | Tensor = 20.0) -> Tensor:
    """T of either kind of margin, for embeddings of one length, or of as many as there are cosines."""
    if not isinstance(margin, Adaptive):
        return margin.target_logit(cos)
    norms = length if isinstance(length, Tensor) else torch.full_like(cos, length)
    return margin.target_logit(cos, norms, remembered(margin))


def test_the_tables_name_every_margin_with_its_paper() -> None:
    """A margin of the rooms is in its table, under one name, and each carries where it comes from."""
    assert set(MARGINS.values()) == {Softmax, NormFace, SphereFace, CosFace, ArcFace, Combined}
    found = {cls for cls in vars(adaptive).values() if isinstance(cls, type) and issubclass(cls, Adaptive)}
    assert set(ADAPTIVE.values()) == found - {Adaptive}
    assert not set(MARGINS) & set(ADAPTIVE)
    assert all(len(margin.paper) > 10 for margin in MEMBERS.values())


@pytest.mark.parametrize("margin", list(MEMBERS.values()), ids=list(MEMBERS))
class TestContract:
    """What holds for every member of both tables."""

    def test_is_frozen(self, margin: AnyMargin) -> None:
        """A margin in use cannot change under its head."""
        names = [field.name for field in dataclasses.fields(margin)] or ["any"]  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(margin, names[0], 0.1)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize("length", LENGTHS)
    def test_finite_at_and_beyond_one(self, margin: AnyMargin, length: float, dtype: torch.dtype) -> None:
        """Value and slope are finite at |c| = 1 and where rounding passes it; halves are computed in float32."""
        ends = torch.tensor([1.0, -1.0, 1 + 3e-7, -1 - 3e-7, 1.01, -1.01, 0.0], dtype=dtype, requires_grad=True)
        out = logit(margin, ends, torch.full_like(ends, length, dtype=dtype if dtype.itemsize > 2 else torch.float32))
        (slope_there,) = torch.autograd.grad(out.sum(), ends)
        assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert out.isfinite().all()
        assert slope_there.isfinite().all()

    def test_shape_and_input_are_kept(self, margin: AnyMargin) -> None:
        """Any shape passes, and the caller's tensor is not written into."""
        cos = torch.linspace(-1, 1, 12).reshape(3, 4)
        before = cos.clone()
        assert logit(margin, cos).shape == (3, 4)
        assert torch.equal(cos, before)

    @pytest.mark.parametrize("length", LENGTHS)
    def test_grows_from_no_margin_to_itself(self, margin: AnyMargin, length: float) -> None:
        """grown(0) is T = c, grown(1) the margin, and between them the label's logit only falls."""
        cos = torch.linspace(-0.7, 0.99, 50, dtype=torch.float64)
        assert margin.grown(1.0) == margin
        torch.testing.assert_close(logit(margin.grown(0.0), cos, length), cos, rtol=0, atol=1e-12)
        steps = [logit(margin.grown(k / 10), cos, length) for k in range(11)]
        assert all((b <= a + 1e-12).all() for a, b in pairwise(steps))

    @pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
    def test_grows_no_further(self, margin: AnyMargin, fraction: float) -> None:
        """A fraction outside 0..1 is refused, where there is something to grow."""
        if isinstance(margin, Softmax | NormFace):
            assert margin.grown(fraction) is margin
            return
        with pytest.raises(UsageError) as error:
            margin.grown(fraction)
        assert error.value.hint

    @pytest.mark.parametrize("length", LENGTHS)
    def test_no_harder_than_the_cosine_allows(self, margin: AnyMargin, length: float) -> None:
        """The label's logit is never better than its cosine: a margin only takes."""
        cos = torch.linspace(-1, 1, 501, dtype=torch.float64)
        assert (logit(margin, cos, length) <= cos + 1e-6).all()

    @pytest.mark.parametrize("length", LENGTHS)
    def test_u2_value_and_slopes_agree_with_the_paper(self, margin: AnyMargin, length: float) -> None:
        """200 angles in (0, pi): T, dT/dc and dT/da to 1e-9 of the formulas (the switches are not among them)."""
        if not margin.normalised:
            return  # its T is the logit itself
        rule = rule_of(margin, start_of(margin))
        theta = np.linspace(0, np.pi, 202)[1:-1] + 1e-4
        cos = torch.tensor(np.cos(theta), requires_grad=True)
        norms = torch.full((200,), length, dtype=torch.float64, requires_grad=True)
        out = logit(margin, cos, norms)
        in_c, in_a = torch.autograd.grad(out.sum(), [cos, norms], allow_unused=True)
        expected = np.array([rule.target(t, length) for t in theta])
        np.testing.assert_allclose(out.detach().numpy(), expected[:, 0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(in_c.numpy(), expected[:, 1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(0 if in_a is None else in_a.numpy(), expected[:, 2], rtol=1e-9, atol=1e-9)

    def test_what_is_remembered_is_named_and_moves_once(self, margin: AnyMargin) -> None:
        """`updated` gives the same names, writes into nothing, and starts from what the papers say."""
        if not isinstance(margin, Adaptive):
            return
        assert margin.memory == start_of(margin)
        memory, cos, norms = remembered(margin), torch.tensor([0.3, -0.2]), torch.tensor([5.0, 50.0])
        seen = margin.updated(cos, norms, memory)
        assert set(seen) == set(memory)
        assert {name: float(value) for name, value in memory.items()} == start_of(margin)
        assert all(value.ndim == 0 and not value.requires_grad for value in seen.values())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_other_classes_are_bent_with_their_slope(self, margin: AnyMargin, dtype: torch.dtype) -> None:
        """Value and slope of every cosine against every own cosine by the formulas, in the type that came in."""
        if not isinstance(margin, Adaptive) or not margin.bends:
            return
        rule = rule_of(margin, start_of(margin))
        cos, own = torch.linspace(-0.995, 0.995, 57, dtype=dtype), torch.linspace(-0.99, 0.99, 23, dtype=dtype)[:, None]
        before = cos.clone()
        values, slopes = margin.others(cos.expand(23, 57), own, remembered(margin))
        assert values.dtype == slopes.dtype == dtype
        assert values.shape == slopes.shape == (23, 57)
        assert torch.equal(cos, before)
        expected = np.array([[rule.other(float(c), float(o)) for c in cos] for o in own[:, 0]])
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        np.testing.assert_allclose(values.numpy(), expected[:, :, 0], rtol=0, atol=tolerance)
        np.testing.assert_allclose(slopes.numpy(), expected[:, :, 1], rtol=0, atol=tolerance)

    def test_norms_are_scaled_and_pulled_by_the_formulas(self, margin: AnyMargin) -> None:
        """The scale of each photo and the term in the norms alone, with their slopes."""
        if not isinstance(margin, Adaptive):
            return
        rule = rule_of(margin, start_of(margin))
        norms = torch.tensor(LENGTHS, dtype=torch.float64, requires_grad=True)
        scales = margin.scales(torch.tensor(64.0, dtype=torch.float64), norms)
        assert scales.tolist() == pytest.approx([rule.scale(64.0, a)[0] for a in LENGTHS])
        term = margin.penalty(norms)
        mean = sum(rule.penalty(a)[0] for a in LENGTHS) / len(LENGTHS)
        assert (0.0 if term is None else float(term.detach())) == pytest.approx(mean)
        if term is not None:
            (pull,) = torch.autograd.grad(term, norms)
            expected = [rule.penalty(a)[1] / len(LENGTHS) for a in LENGTHS]
            np.testing.assert_allclose(pull.numpy(), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("margin", VARIANTS, ids=str)
def test_u2_value_and_slope_agree_with_the_paper(margin: Margin) -> None:
    """200 angles in (0, pi): T to 1e-10; dT/dc to 1e-9 of the formula and to 1e-5 of finite differences."""
    theta = off_switches(margin, np.linspace(0, np.pi, 202)[1:-1])
    assert len(theta) >= 195
    got, got_slope = values(margin, theta)
    np.testing.assert_allclose(got, [target(margin, t) for t in theta], rtol=0, atol=1e-10)
    np.testing.assert_allclose(got_slope, [slope(margin, t) for t in theta], rtol=1e-9, atol=1e-9)
    h = 1e-6
    numeric = [-(target(margin, t + h) - target(margin, t - h)) / (2 * h * math.sin(t)) for t in theta]
    np.testing.assert_allclose(got_slope, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", VARIANTS, ids=str)
def test_u2_float32_is_within_1e_5(margin: Margin) -> None:
    """The same values from float32 cosines, 0.05 rad off the ends: there a rounded cosine still tells the angle."""
    theta = off_switches(margin, np.linspace(0.05, np.pi - 0.05, 200))
    exact = np.arccos(np.cos(theta).astype(np.float32).astype(np.float64))
    got, got_slope = values(margin, exact, torch.float32)
    np.testing.assert_allclose(got, [target(margin, t) for t in exact], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got_slope, [slope(margin, t) for t in exact], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("margin", [m for m in VARIANTS if hasattr(m, "gradient")], ids=str)
def test_straight_through_keeps_values_and_passes_slope_one(margin: ArcFace | Combined | SphereFace) -> None:
    """The named option has the margin's values and the identity's gradient, past pi - m too."""
    theta = np.linspace(0.01, np.pi - 0.01, 200)
    through, through_slope = values(dataclasses.replace(margin, gradient="straight_through"), theta)
    np.testing.assert_allclose(through, values(margin, theta)[0], rtol=0, atol=1e-12)
    assert (through_slope == 1).all()


@pytest.mark.parametrize("margin", MONOTONE, ids=str)
def test_u4_t_never_rises_with_the_angle(margin: Margin) -> None:
    """A face farther from its class never has the better logit."""
    got, _ = values(margin, np.linspace(0, np.pi, 4001))
    assert (np.diff(got) <= 1e-12).all()


def test_u4_easy_margin_jumps_by_sin_m() -> None:
    """At pi/2 T jumps up from -sin m to 0: the known fault of the option."""
    before, after = values(ArcFace(0.5, past_pi="easy_margin"), np.pi / 2 + np.array([-1e-9, 1e-9]))[0]
    assert after - before == pytest.approx(math.sin(0.5), abs=1e-8)


@pytest.mark.parametrize("margin", [ArcFace(past_pi="none"), Combined(past_pi="none"), SphereFace(past_pi="none")])
def test_u4_none_rises_again(margin: Margin) -> None:
    """Without a rule T rises past pi - m: that is why it is not the default."""
    got, _ = values(margin, np.linspace(0, np.pi, 4001))
    assert np.diff(got).max() > 1e-6


def test_th_mm_drops_from_minus_one_to_minus_1_117() -> None:
    """At the switch of m = 0.5, as in the MXNet code."""
    before, after = values(ArcFace(0.5), math.pi - 0.5 + np.array([-1e-7, 1e-7]))[0]
    assert before == pytest.approx(-1, abs=1e-6)
    assert after == pytest.approx(-1.1173, abs=1e-4)


@pytest.mark.parametrize("m1", [2.0, 3.0, 4.0, 1.35])
def test_u8_psi_is_continuous_and_ends_at_1_minus_2m(m1: float) -> None:
    """psi meets itself at every k pi / m1, and psi(pi) = 1 - 2 m1 for whole m1."""
    for k in range(1, math.ceil(m1)):
        before, after = values(SphereFace(m1), k * math.pi / m1 + np.array([-1e-9, 1e-9]))[0]
        assert before == pytest.approx(after, abs=1e-7)
    if m1 == int(m1):
        assert values(SphereFace(m1), np.array([math.pi]))[0][0] == pytest.approx(1 - 2 * m1, abs=1e-5)


def test_u5_reductions() -> None:
    """m = 0 is NormFace; (1, 0, m3) CosFace; (1, m2, 0) ArcFace; (m1, 0, 0) SphereFace: values and slopes."""
    theta = np.linspace(0.001, np.pi - 0.001, 300)
    same: list[tuple[Margin, Margin]] = [
        (ArcFace(0.0), NormFace()),
        (CosFace(0.0), NormFace()),
        (SphereFace(1.0), NormFace()),
        (Combined(1.0, 0.0, 0.0), NormFace()),
        (Combined(1.0, 0.0, 0.35), CosFace(0.35)),
        (Combined(1.0, 0.5, 0.0), ArcFace(0.5)),
        (Combined(1.35, 0.0, 0.0, past_pi="continuous"), SphereFace(1.35)),
    ]
    for one, other in same:
        for got, expected in zip(values(one, theta), values(other, theta), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(30, 1.71), (60, 1.15), (75.676, 1.0), (90, 0.88), (120, 0.60), (150, 0.05)]
)
def test_arcface_slopes_of_the_facts(degrees: float, expected: float) -> None:
    """sin(theta + m) / sin(theta) for m = 0.5 at the angles people quote."""
    assert values(ArcFace(), np.radians([degrees]))[1][0] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ArcFace(-0.1),
        lambda: ArcFace(28.65),
        lambda: ArcFace(float("nan")),
        lambda: ArcFace(2.5),
        lambda: ArcFace(past_pi="never"),  # type: ignore[arg-type]
        lambda: ArcFace(gradient="guess"),  # type: ignore[arg-type]
        lambda: ArcFace(2.0, past_pi="easy_margin"),
        lambda: CosFace(-0.35),
        lambda: SphereFace(0.9),
        lambda: SphereFace(4.0, past_pi="th/mm"),
        lambda: Combined(0.0),
        lambda: Combined(m3=float("inf")),
        lambda: ArcFace().grown(1.5),
    ],
)
def test_contradictions_are_refused_at_birth(make: object) -> None:
    """A margin that is negative, in degrees, unknown, or not monotone under its own rule does not come to be."""
    with pytest.raises(UsageError) as error:
        make()  # type: ignore[operator]
    assert error.value.hint

"""Every margin against the float64 reference: value, slope, order, refusals (U2, U4, U5, U8, traps 1, 4, 12)."""

import dataclasses
import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from losses_reference import slope, target

from facespace.errors import UsageError
from facespace.losses import MARGINS, ArcFace, Combined, CosFace, Margin, NormFace, Softmax, SphereFace
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
MEMBERS = [cls() for cls in MARGINS.values()]


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


def test_the_table_names_every_margin_with_its_paper() -> None:
    """A margin of the room is in MARGINS, and each carries where it comes from."""
    assert set(MARGINS.values()) == {Softmax, NormFace, SphereFace, CosFace, ArcFace, Combined}
    assert all(len(cls.paper) > 10 for cls in MARGINS.values())


@pytest.mark.parametrize("margin", MEMBERS, ids=list(MARGINS))
class TestContract:
    """What holds for every member of the table."""

    def test_is_frozen(self, margin: Margin) -> None:
        """A margin in use cannot change under its head."""
        names = [field.name for field in dataclasses.fields(margin)] or ["any"]  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(margin, names[0], 0.1)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_finite_at_and_beyond_one(self, margin: Margin, dtype: torch.dtype) -> None:
        """Value and slope are finite at |c| = 1 and where rounding passes it; halves are computed in float32."""
        ends = torch.tensor([1.0, -1.0, 1 + 3e-7, -1 - 3e-7, 1.01, -1.01, 0.0], dtype=dtype, requires_grad=True)
        out = margin.target_logit(ends)
        out.sum().backward()
        assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert out.isfinite().all()
        assert ends.grad is not None
        assert ends.grad.isfinite().all()

    def test_shape_and_input_are_kept(self, margin: Margin) -> None:
        """Any shape passes, and the caller's tensor is not written into."""
        cos = torch.linspace(-1, 1, 12).reshape(3, 4)
        before = cos.clone()
        assert margin.target_logit(cos).shape == (3, 4)
        assert torch.equal(cos, before)

    def test_grows_from_no_margin_to_itself(self, margin: Margin) -> None:
        """grown(0) is T = c, grown(1) the margin, and between them the label's logit only falls."""
        cos = torch.linspace(-0.7, 0.99, 50, dtype=torch.float64)
        assert margin.grown(1.0) == margin
        torch.testing.assert_close(margin.grown(0.0).target_logit(cos), cos, rtol=0, atol=1e-12)
        steps = [margin.grown(k / 10).target_logit(cos) for k in range(11)]
        assert all((b <= a + 1e-12).all() for a, b in pairwise(steps))

    def test_no_harder_than_the_cosine_allows(self, margin: Margin) -> None:
        """The label's logit is never better than its cosine: a margin only takes."""
        cos = torch.linspace(-1, 1, 501, dtype=torch.float64)
        assert (margin.target_logit(cos) <= cos + 1e-6).all()


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


def test_trap_1_zero_margin_is_zero() -> None:
    """cvqluu: m = 0 silently became the default."""
    assert ArcFace(0.0).m == 0
    assert CosFace(0.0).m3 == 0
    assert values(ArcFace(0.0), np.array([1.0]))[0][0] == pytest.approx(math.cos(1.0), abs=1e-12)


def test_trap_4_combined_keeps_all_three_margins() -> None:
    """arcface_torch: with m3 > 0 the others were dropped ((1, 0.3, 0.2) at c = 0.5 gave 0.30); m1 != 1 raised."""
    half = np.array([math.acos(0.5)])
    expected = 0.5 * math.cos(0.3) - math.sqrt(0.75) * math.sin(0.3) - 0.2
    assert expected == pytest.approx(0.02, abs=0.002)
    assert values(Combined(1.0, 0.3, 0.2), half)[0][0] == pytest.approx(expected, abs=1e-12)
    assert values(Combined(0.9, 0.4, 0.0), half)[0][0] == pytest.approx(math.cos(0.9 * half[0] + 0.4), abs=1e-12)


def test_trap_4_arcface_falls_between_2_8_and_3_0_rad() -> None:
    """arcface_torch: T(2.8) = -0.987 < T(3.0) = -0.936, and slope 1 everywhere."""
    got, got_slope = values(ArcFace(0.5), np.array([0.5, 2.8, 3.0]))
    assert got[1] > got[2]
    assert got_slope[0] == pytest.approx(math.sin(1.0) / math.sin(0.5), rel=1e-12)


def test_trap_12_the_margin_is_in_radians() -> None:
    """pytorch-metric-learning: 0.5 was read as degrees."""
    assert values(ArcFace(0.5), np.array([1.0]))[0][0] == pytest.approx(math.cos(1.5), abs=1e-12)

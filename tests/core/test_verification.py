"""Verification figures against loops over every threshold, in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facespace.core import verification as v
from facespace.errors import DataError, Refused, UsageError

INF = float("inf")


def counts(scores: list[float], same: list[bool], threshold: float) -> tuple[int, int]:
    accepted = [(s, y) for s, y in zip(scores, same, strict=True) if s >= threshold and s > -INF]
    return sum(y for _, y in accepted), sum(not y for _, y in accepted)


def thresholds_of(scores: list[float]) -> list[float]:
    return [INF, *sorted({s for s in scores if s > -INF}, reverse=True)]


def slow_best(scores: list[float], same: list[bool]) -> float:
    impostors = same.count(False)
    right = {t: counts(scores, same, t)[0] + impostors - counts(scores, same, t)[1] for t in thresholds_of(scores)}
    return max(t for t in right if right[t] == max(right.values()))


def slow_auc(scores: list[float], same: list[bool]) -> Fraction:
    genuine = [s for s, y in zip(scores, same, strict=True) if y]
    impostors = [s for s, y in zip(scores, same, strict=True) if not y]
    wins = sum(Fraction(1) if g > i else Fraction(1, 2) if g == i else Fraction(0) for g in genuine for i in impostors)
    return wins / (len(genuine) * len(impostors))


@st.composite
def pairs(draw: st.DrawFn, folds: int = 1) -> tuple[list[float], list[bool], list[int]]:
    """Few distinct scores, so that ties are common, failures to acquire among them; both kinds in each fold."""
    value = st.sampled_from([-INF, -0.5, -0.25, 0.0, 0.125, 0.25, 0.5, 0.75])
    rows = [(draw(value), same, fold) for fold in range(folds) for same in (True, False)]
    rows += draw(st.lists(st.tuples(value, st.booleans(), st.integers(0, folds - 1)), max_size=40))
    rows = draw(st.permutations(rows))
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


@given(pairs())
def test_the_curve_counts_every_distinct_threshold(sample: tuple[list[float], list[bool], list[int]]) -> None:
    scores, same, _ = sample
    curve = v.roc(scores, same)
    assert curve.thresholds.tolist() == thresholds_of(scores)
    expected = [counts(scores, same, t) for t in thresholds_of(scores)]
    assert list(zip(curve.true_accepts.tolist(), curve.false_accepts.tolist(), strict=True)) == expected
    assert (curve.genuine, curve.impostors) == (same.count(True), same.count(False))


@given(pairs())
def test_auc_is_the_share_of_won_comparisons(sample: tuple[list[float], list[bool], list[int]]) -> None:
    scores, same, _ = sample
    assert v.auc(v.roc(scores, same)) == pytest.approx(float(slow_auc(scores, same)), abs=1e-15)


@given(pairs())
def test_best_threshold_is_the_highest_of_the_most_accurate(sample: tuple[list[float], list[bool], list[int]]) -> None:
    scores, same, _ = sample
    assert v.best_threshold(v.roc(scores, same)) == slow_best(scores, same)


@given(pairs(), st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_tar_at_far_takes_the_most_that_keeps_the_far_or_refuses(
    sample: tuple[list[float], list[bool], list[int]], far: float
) -> None:
    scores, same, _ = sample
    impostors = same.count(False)
    if 1 / impostors > far:
        with pytest.raises(Refused, match="cannot show"):
            v.at_far(v.roc(scores, same), far)
        return
    point = v.at_far(v.roc(scores, same), far)
    assert point.far <= far
    assert (point.true_accepts, point.false_accepts) == counts(scores, same, point.threshold)
    kept = [counts(scores, same, t) for t in thresholds_of(scores) if counts(scores, same, t)[1] / impostors <= far]
    assert (point.true_accepts, point.false_accepts) == max(kept)


@settings(max_examples=50)
@given(pairs(folds=3))
def test_a_fold_never_sees_its_own_threshold(sample: tuple[list[float], list[bool], list[int]]) -> None:
    scores, same, folds = sample
    got = v.over_folds(scores, same, folds, v.best_threshold)
    for ties in ("accept", "reject"):
        slow, fast = (
            v.over_folds(scores, same, folds, v.best_threshold, ties),
            v.best_over_folds(scores, same, folds, ties),
        )
        for name in vars(slow):
            np.testing.assert_array_equal(getattr(slow, name), getattr(fast, name))
    for fold in range(3):
        others = [i for i, f in enumerate(folds) if f != fold]
        held = [i for i, f in enumerate(folds) if f == fold]
        t = slow_best([scores[i] for i in others], [same[i] for i in others])
        accepted = {i for i in held if scores[i] >= t and scores[i] > -INF}
        genuine = {i for i in held if same[i]}
        assert got.thresholds[fold] == t
        assert got.accuracy[fold] == pytest.approx(sum((i in accepted) == same[i] for i in held) / len(held), abs=1e-15)
        assert got.val[fold] == pytest.approx(len(accepted & genuine) / len(genuine), abs=1e-15)
        assert got.far[fold] == pytest.approx(len(accepted - genuine) / (len(held) - len(genuine)), abs=1e-15)


def test_changing_a_fold_does_not_move_its_threshold() -> None:
    rng = np.random.default_rng(4)
    same, folds = np.arange(200) % 2 == 0, np.arange(200) // 20
    scores = rng.normal(size=200) + same
    before = v.over_folds(scores, same, folds, v.best_threshold)
    scores[folds == 7] = rng.normal(size=20) * 100
    after = v.over_folds(scores, same, folds, v.best_threshold)
    assert before.thresholds[7] == after.thresholds[7]
    assert (before.thresholds != after.thresholds).any()


def test_val_at_far_by_hand() -> None:
    """Two folds; of the four impostors of the other fold two may pass, so the threshold is the genuine score below."""
    same = [True, True, False, False, False, False] * 2
    folds = [0] * 6 + [1] * 6
    scores = [0.9, 0.25, 0.1, 0.2, 0.3, 0.4, 0.8, 0.28, 0.1, 0.26, 0.3, 0.5]
    got = v.over_folds(scores, same, folds, lambda curve: v.at_far(curve, 0.5).threshold)
    assert got.thresholds.tolist() == [0.28, 0.25]  # chosen on fold 1 for fold 0, and the other way round
    assert got.val.tolist() == [0.5, 1.0]
    assert got.far.tolist() == [0.5, 0.75]  # what the held-out fold shows may exceed the asked FAR, and is reported


def test_a_far_between_two_steps_goes_down_never_up() -> None:
    """Finding D10: the nearest operating point may exceed the asked FAR; 30 % of four impostors is one, not two."""
    curve = v.roc([0.9, 0.35, 0.15, 0.1, 0.2, 0.3, 0.4], [True, True, True, False, False, False, False])
    point = v.at_far(curve, 0.3)
    assert (point.far, point.tar, point.threshold) == (0.25, 2 / 3, 0.35)
    assert v.at_far(curve, 0.49).far == 0.25
    assert v.at_far(curve, 0.5).far == 0.5


def test_a_tie_across_the_edge_is_accepted_or_rejected_whole() -> None:
    point = v.at_far(v.roc([0.5, 0.5, 0.5, 0.1], [True, False, False, False]), 0.4)
    assert (point.far, point.tar, point.threshold) == (0.0, 0.0, INF)


def test_one_pair_more_than_needed_is_shown_one_less_is_refused() -> None:
    for impostors, shown in ((1000, True), (999, False)):
        curve = v.roc(np.append(np.linspace(0, 1, impostors), 2.0), np.append(np.zeros(impostors, bool), True))
        if shown:
            assert v.at_far(curve, 0.001).far == 0.001
        else:
            with pytest.raises(Refused, match="999 impostor pairs cannot show"):
                v.at_far(curve, 0.001)


@pytest.mark.parametrize(
    ("genuine", "impostors", "rate"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.9, 0.8], 1.0),
        ([0.5, 0.5], [0.5, 0.5], 0.5),
        ([0.9, 0.8, 0.7, 0.3], [0.6, 0.2, 0.1, 0.0], 0.25),
        ([0.9, 0.5], [0.5, 0.1, 0.0], 1 / 5),  # the tie at 0.5 runs from (0, 1/2) to (1/3, 0): x = 1/2 - 3x/2
    ],
)
def test_equal_error_of_small_sets_by_hand(genuine: list[float], impostors: list[float], rate: float) -> None:
    got, _ = v.equal_error(v.roc(genuine + impostors, [True] * len(genuine) + [False] * len(impostors)))
    assert got == pytest.approx(rate, abs=1e-15)


@given(pairs())
def test_equal_error_lies_on_a_line_of_the_curve(sample: tuple[list[float], list[bool], list[int]]) -> None:
    scores, same, _ = sample
    rate, threshold = v.equal_error(v.roc(scores, same))
    points = [counts(scores, same, t) for t in thresholds_of(scores)] + [(same.count(True), same.count(False))]
    far = [fa / same.count(False) for _, fa in points]
    fnmr = [1 - ta / same.count(True) for ta, _ in points]
    on_a_line = [
        abs((f1 - f0) * (rate - n0) - (n1 - n0) * (rate - f0)) < 1e-12
        for f0, f1, n0, n1 in zip(far, far[1:], fnmr, fnmr[1:], strict=False)
        if f0 - 1e-12 <= rate <= f1 + 1e-12 and n1 - 1e-12 <= rate <= n0 + 1e-12
    ]
    assert any(on_a_line)
    assert threshold in thresholds_of(scores)


@given(pairs(folds=2))
def test_where_ties_are_rejected_the_same_points_have_other_thresholds(
    sample: tuple[list[float], list[bool], list[int]],
) -> None:
    scores, same, folds = sample
    accept, reject = v.roc(scores, same), v.roc(scores, same, "reject")
    assert reject.thresholds.tolist() == [*thresholds_of(scores)[1:], -INF]
    for t, true, false in zip(reject.thresholds, reject.true_accepts, reject.false_accepts, strict=True):
        above = [y for s, y in zip(scores, same, strict=True) if s > t]
        assert (sum(above), len(above) - sum(above)) == (true, false)
    assert (accept.true_accepts == reject.true_accepts).all()
    got = v.over_folds(scores, same, folds, v.best_threshold, "reject")
    for row, fold in enumerate((0, 1)):
        others = [(s, y) for s, y, f in zip(scores, same, folds, strict=True) if f != fold]
        threshold = v.best_threshold(v.roc([s for s, _ in others], [y for _, y in others], "reject"))
        held = [(s > threshold) == y for s, y, f in zip(scores, same, folds, strict=True) if f == fold]
        assert got.thresholds[row] == threshold
        assert got.accuracy[row] == pytest.approx(sum(held) / len(held), abs=1e-12)


def test_a_tie_rule_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown"):
        v.roc([0.5, 0.1], [True, False], "maybe")  # type: ignore[arg-type]


def test_a_failure_to_acquire_is_a_miss_and_a_right_rejection() -> None:
    """Finding D14: failures stay in the denominators, whatever the threshold."""
    scores, same = [0.9, -INF, 0.1, -INF], [True, True, False, False]
    curve = v.roc(scores, same)
    assert curve.tar.max() == 0.5
    assert curve.far.max() == 0.5
    rates = v.over_folds(scores * 2, same * 2, [0] * 4 + [1] * 4, v.best_threshold)
    assert rates.accuracy.tolist() == [0.75, 0.75]


def test_float32_scores_give_the_same_curve_as_their_float64_values() -> None:
    rng = np.random.default_rng(5)
    scores, same = rng.normal(size=500).astype(np.float32), rng.random(500) < 0.5
    narrow, wide = v.roc(scores, same), v.roc(scores.astype(np.float64), same)
    np.testing.assert_array_equal(narrow.thresholds, wide.thresholds)
    np.testing.assert_array_equal(narrow.true_accepts, wide.true_accepts)


@pytest.mark.parametrize("scores", [[0.1, np.nan], [0.1, INF]])
def test_scores_that_are_no_numbers_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError, match="not a number"):
        v.roc(scores, [True, False])


def test_one_kind_of_pair_or_one_fold_is_not_enough() -> None:
    with pytest.raises(DataError, match="both kinds"):
        v.roc([0.1, 0.2], [True, True])
    with pytest.raises(DataError, match="two folds"):
        v.over_folds([0.1, 0.2], [True, False], [0, 0], v.best_threshold)
    with pytest.raises(DataError, match="two folds"):
        v.best_over_folds([0.1, 0.2], [True, False], [7, 7])
    with pytest.raises(DataError, match="both kinds"):
        v.best_over_folds([0.1, 0.2, 0.3, 0.2, 0.1], [True, False, True, True, False], [0, 0, 1, 2, 2])
    with pytest.raises(DataError, match="a fold lacks"):
        v.over_folds([0.1, 0.2, 0.3, 0.2, 0.1], [True, False, True, True, False], [0, 0, 1, 2, 2], v.best_threshold)


@given(pairs(folds=2))
def test_a_fold_sees_the_curve_that_the_other_folds_have_alone(
    sample: tuple[list[float], list[bool], list[int]],
) -> None:
    """The one sort for all folds and the sort of values alone are two ways to one curve."""
    scores, same, folds = (np.array(column) for column in sample)
    seen: list[v.Roc] = []
    v.over_folds(scores, same, folds, lambda curve: (seen.append(curve), np.inf)[1])
    for fold, curve in enumerate(seen):
        alone = v.roc(scores[folds != fold], same[folds != fold])
        np.testing.assert_array_equal(curve.thresholds, alone.thresholds)
        np.testing.assert_array_equal(curve.true_accepts, alone.true_accepts)
        np.testing.assert_array_equal(curve.false_accepts, alone.false_accepts)
        assert (curve.genuine, curve.impostors) == (alone.genuine, alone.impostors)


@given(pairs(), st.integers(2, 6))
def test_det_points_are_corners_and_no_point_of_the_curve_beats_them(
    sample: tuple[list[float], list[bool], list[int]], points: int
) -> None:
    scores, same, _ = sample
    curve = v.roc(scores, same)
    fmr, fnmr = v.det(curve)
    whole = list(zip(curve.far.tolist(), (1 - curve.tar).tolist(), strict=True))
    best = {(f, n) for f, n in whole if not any(g <= f and m <= n and (g, m) != (f, n) for g, m in whole)}
    assert list(zip(fmr.tolist(), fnmr.tolist(), strict=True)) == sorted(best)
    few = list(zip(*(part.tolist() for part in v.det(curve, points)), strict=True))
    assert len(few) <= max(points + 1, 1)
    assert set(few) <= best


@given(pairs(), st.data())
def test_errors_after_discards_are_counted_again(
    sample: tuple[list[float], list[bool], list[int]], data: st.DataObject
) -> None:
    scores, same, _ = sample
    quality = [data.draw(st.integers(0, 5)) for _ in scores]
    if same.count(False) < 2:
        return
    shares = [0.0, 0.1, 0.25, 0.5, 0.99, 1.0]
    threshold, fnmr = v.error_versus_discard(scores, same, quality, 0.5, shares)
    assert threshold == v.at_far(v.roc(scores, same), 0.5).threshold
    genuine = [(q, s) for q, s, y in zip(quality, scores, same, strict=True) if y]
    for share, got in zip(shares, fnmr, strict=True):
        # Whole runs of the poorest quality, as many as make no more than the share.
        limits = [q for q in range(7) if sum(p < q for p, _ in genuine) <= share * len(genuine) + 1e-9]
        left = [s for q, s in genuine if q >= max(limits)]
        if left:
            assert got == pytest.approx(sum(not s >= threshold or s == -INF for s in left) / len(left), abs=1e-12)
        else:
            assert np.isnan(got)

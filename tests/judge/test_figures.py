"""The figures of a protocol against float64 loops from their definitions."""

import json

import numpy as np
import pytest

from facespace.judge.figures import FARS, figures_of


def sample(folds: int = 10, kind: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.tile(np.repeat([True, False], kind), folds)
    scores = np.round(rng.normal(0.5 * same, 0.15), 3).astype(np.float32)  # rounded: ties between the kinds
    return scores, same, np.repeat(np.arange(1, folds + 1), 2 * kind)


def test_every_figure_agrees_with_slow_float64_code() -> None:
    scores, same, folds = sample()
    figures = figures_of(scores, same, folds)
    accuracy, val, far = [], [], []
    for fold in range(1, 11):
        s, y = scores[folds != fold].astype(float), same[folds != fold]
        genuine, impostors = np.sort(s[y]), np.sort(s[~y])
        best, loose = (0, 0.0), np.inf
        for t in np.unique(s)[::-1]:
            right = (genuine >= t).sum() + (impostors < t).sum()
            best = max(best, (int(right), float(t)))  # of equal ones the higher threshold
            if (impostors >= t).mean() <= 1e-2:
                loose = t
        s, y = scores[folds == fold].astype(float), same[folds == fold]
        accuracy.append(((s >= best[1]) == y).mean())
        val.append((s[y] >= loose).mean())
        far.append((s[~y] >= loose).mean())
    assert figures.accuracy == pytest.approx(np.mean(accuracy), abs=1e-12)
    assert figures.accuracy_stderr == pytest.approx(np.std(accuracy, ddof=1) / np.sqrt(10), abs=1e-12)
    one_percent = figures.val_at_far[FARS.index(1e-2)]
    assert one_percent.rate == pytest.approx(np.mean(val), abs=1e-12)
    assert one_percent.achieved_far == pytest.approx(np.mean(far), abs=1e-12)
    whole, impostors = scores[same].astype(float), np.sort(scores[~same].astype(float))
    for rate in figures.tar_at_far:
        if rate.refused is None:
            passed = [t for t in np.unique(scores.astype(float)) if (impostors >= t).mean() <= rate.far]
            assert rate.rate == pytest.approx((whole >= min(passed)).mean(), abs=1e-12)
            assert rate.achieved_far == pytest.approx((impostors >= min(passed)).mean(), abs=1e-12)
    points = [(1.0, 0.0)] + [((impostors >= t).mean(), (whole < t).mean()) for t in np.unique(scores.astype(float))]
    far, fnmr = np.array([*points, (0.0, 1.0)]).T
    at = int(np.flatnonzero(far >= fnmr).max())  # the points run from accepting all to accepting none
    share = (far[at] - fnmr[at]) / (far[at] - fnmr[at] - far[at + 1] + fnmr[at + 1])
    assert figures.eer == pytest.approx(far[at] + share * (far[at + 1] - far[at]), abs=1e-12)
    wins = scores[same][:, None].astype(float) - scores[~same][None].astype(float)
    assert figures.auc == pytest.approx((np.sign(wins).mean() + 1) / 2, abs=1e-12)


def test_an_achieved_far_of_all_pairs_never_exceeds_the_asked_one() -> None:
    for seed in range(5):
        for rate in figures_of(*sample(seed=seed)).tar_at_far:
            assert rate.refused or (rate.achieved_far is not None and rate.achieved_far <= rate.far)


def test_what_the_impostors_cannot_show_is_null_with_a_reason() -> None:
    """3 folds: 900 impostor pairs, 600 in the other folds; neither shows 0.1 %."""
    figures = figures_of(*sample(folds=3))
    for rates, count in ((figures.tar_at_far, "900"), (figures.val_at_far, "600")):
        shown, refused, _ = (rate.as_json() for rate in rates)
        assert shown["refused"] is None
        assert shown["ci95"][0] <= shown["val"] <= shown["ci95"][1]
        assert refused["val"] is refused["achieved_far"] is refused["ci95"] is None
        assert refused["refused"].startswith(f"{count} impostor pairs cannot show a FAR of 0.001")


@pytest.mark.parametrize(("impostors", "lowest"), [(99_999, 1e-4), (100_000, 1e-5), (1_000_000, 1e-6)])
def test_a_tar_goes_down_as_far_as_one_false_accept_is_allowed(impostors: int, lowest: float) -> None:
    rng = np.random.default_rng(0)
    same = np.arange(impostors + 1000) < 1000
    scores = rng.normal(4.0 * same)
    figures = figures_of(scores, same, np.arange(scores.size) % 10)
    assert min(rate.far for rate in figures.tar_at_far) == lowest
    assert all(rate.rate is not None for rate in figures.tar_at_far)
    assert figures.tar_at_far[-1].rate == (scores[same] > np.sort(scores[~same])[-1 - int(lowest * impostors)]).mean()
    assert [rate.far for rate in figures.val_at_far] == list(FARS)


def test_folds_without_a_single_error_are_no_certainty() -> None:
    same = np.tile(np.repeat([True, False], 300), 10)
    figures = figures_of(same.astype(np.float32), same, np.repeat(np.arange(10), 600))
    assert (figures.accuracy, figures.accuracy_stderr, figures.eer, figures.auc) == (1, 0, 0, 1)
    low, high = figures.accuracy_ci95
    assert high == 1
    assert 0.999 < low < 1 - 0.5 / 6000
    assert figures.tar_at_far[0].ci95 is not None
    assert figures.tar_at_far[0].ci95[0] < 1


def test_ties_are_decided_alike_on_the_pairs_of_the_threshold_and_otherwise_elsewhere() -> None:
    """The curve is the same, point by point; held-out pairs at the threshold are not."""
    scores, same, folds = sample(folds=4)
    accept, reject = (figures_of(scores, same, folds, ties) for ties in ("accept", "reject"))
    for name in ("true_accepts", "false_accepts"):
        np.testing.assert_array_equal(getattr(accept.curve, name), getattr(reject.curve, name))
    assert accept.auc == reject.auc
    assert accept.eer == reject.eer
    assert [rate.rate for rate in accept.tar_at_far] == [rate.rate for rate in reject.tar_at_far]
    assert (accept.folds.thresholds > reject.folds.thresholds).all()
    assert reject.as_json()["ties"] == "reject"
    for fold in range(1, 5):
        threshold = reject.folds.thresholds[fold - 1]
        assert threshold in scores[folds != fold]
        right = (scores[folds == fold] > threshold) == same[folds == fold]
        assert reject.folds.accuracy[fold - 1] == pytest.approx(right.mean(), abs=1e-12)


def test_pairs_that_stand_twice_are_no_more_evidence() -> None:
    scores, same, folds = sample(folds=3, kind=200)
    twice = np.tile(scores, 2), np.tile(same, 2), np.tile(folds, 2)
    once, honest, fooled = figures_of(scores, same, folds), figures_of(*twice, repeats=2), figures_of(*twice)
    assert once.as_json() == honest.as_json()
    assert np.ptp(honest.eer_ci95) > 1.3 * np.ptp(fooled.eer_ci95)
    wide, narrow = (figures.tar_at_far[0].ci95 for figures in (honest, fooled))
    assert wide is not None
    assert narrow is not None
    assert np.ptp(wide) > 1.15 * np.ptp(narrow)  # six false accepts or twelve: its steps are coarse
    # 600 impostor pairs cannot show 0.1 %, and asking each of them twice does not help.
    assert "600 impostor pairs" in str(honest.tar_at_far[1].refused)
    perfect = same.astype(np.float32)
    once, honest = figures_of(perfect, same, folds), figures_of(np.tile(perfect, 2), *twice[1:], repeats=2)
    assert once.accuracy_ci95 == honest.accuracy_ci95


def test_intervals_stay_shares() -> None:
    scores, same, folds = sample(folds=2, kind=4)
    figures = figures_of(scores, same, folds)
    assert 0 <= figures.accuracy_ci95[0] <= figures.accuracy_ci95[1] <= 1
    json.dumps([rate.as_json() for rate in figures.tar_at_far], allow_nan=False)

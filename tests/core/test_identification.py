"""Identification against loops over every search, candidate and gallery, in float64."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from facespace.core import identification
from facespace.core.dependence import share_over_people
from facespace.core.galleries import Strangers, held_out, if_independent, measured_on, met_in_gallery
from facespace.core.identification import NOBODY, Searches, at_fpir, cmc, det, open_set, search
from facespace.core.scores import unit_vectors
from facespace.errors import DataError, Refused, UsageError


def drawn(seed: int, people: int, photos: int, noise: float = 0.6, dim: int = 8) -> tuple[np.ndarray, ...]:
    """Photos, who is on them, and a template of each person."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dim))
    labels = np.repeat(np.arange(people), photos)
    photos_of = unit_vectors(centres[labels] + noise * rng.normal(size=(len(labels), dim)))
    return photos_of, labels, unit_vectors(centres + noise * rng.normal(size=centres.shape))


def searched(seed: int = 0) -> tuple[Searches, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """20 of 30 people enrolled, one of them without a face; two photos that give none."""
    photos, labels, templates = drawn(seed, 30, 4)
    mates = np.where(labels < 20, labels, NOBODY)
    enrolled, acquired = np.arange(20) != 3, ~np.isin(np.arange(120), (5, 110))
    found = search(templates[:20], photos, mates, labels, enrolled=enrolled, acquired=acquired)
    scores = photos.astype(np.float64) @ templates[:20].T.astype(np.float64)
    scores[:, 3] = scores[5] = scores[110] = -np.inf
    return found, scores, mates, labels, templates


def test_searches_are_those_of_a_loop_and_failures_stay_in_the_denominators() -> None:
    found, scores, mates, labels, _ = searched()
    assert (found.mates.size, found.tops.size) == (80, 40)
    for row, (i, mate) in enumerate((i, m) for i, m in enumerate(mates) if m != NOBODY):
        if np.isneginf(scores[i, mate]):
            assert (found.ranks[row], found.mates[row]) == (0, -np.inf)
        else:
            assert found.ranks[row] == 1 + sum(scores[i, j] > scores[i, mate] for j in range(20))
            assert found.mates[row] == pytest.approx(scores[i, mate], abs=1e-6)
        assert found.people[row] == labels[i]
    others = [i for i, mate in enumerate(mates) if mate == NOBODY]
    assert found.tops == pytest.approx([scores[i].max() for i in others], abs=1e-6)
    for k, share in zip((1, 5), cmc(found, (1, 5)), strict=True):
        assert share.rate == sum(0 < rank <= k for rank in found.ranks) / 80


def test_fpir_and_fnir_are_those_of_the_standard_at_every_threshold() -> None:
    found, *_ = searched()
    for rank in (1, 3):
        curve = open_set(found, rank)
        for threshold, tpir, fpir in zip(curve.thresholds, curve.tar, curve.far, strict=True):
            returned = [m >= threshold and 0 < r <= rank for m, r in zip(found.mates, found.ranks, strict=True)]
            assert tpir == np.mean(returned)
            assert fpir == np.mean([top >= threshold for top in found.tops])
        thresholds, fpirs, fnirs = det(found, rank)
        assert set(thresholds) <= set(curve.thresholds)
        for fpir, fnir in zip(fpirs, fnirs, strict=True):
            assert fnir == pytest.approx(1 - max(curve.tar[curve.far == fpir]), abs=1e-15)


def test_tpir_at_fpir_never_exceeds_the_asked_one_and_is_refused_below_what_the_searches_show() -> None:
    found, *_ = searched()
    for fpir in (0.025, 0.1, 0.3):
        point, curve = at_fpir(found, fpir), open_set(found)
        assert point.fpir.rate <= fpir
        assert point.tpir.rate == max(curve.tar[curve.far <= fpir])
        assert point.tpir.ci95[0] <= point.tpir.rate <= point.tpir.ci95[1]
    with pytest.raises(Refused, match=r"40 non-mated searches cannot show an FPIR of 0\.02"):
        at_fpir(found, 0.02)
    with pytest.raises(UsageError):
        at_fpir(found, 0)
    with pytest.raises(UsageError):
        open_set(found, 0)
    alone = Searches(found.mates, found.ranks, found.people, found.tops[:0], found.strangers[:0])
    with pytest.raises(DataError, match="80 mated and 0 non-mated"):
        open_set(alone)
    with pytest.raises(Refused):
        at_fpir(alone, 0.1)


def test_a_model_that_tells_nobody_apart_finds_nobody() -> None:
    same = np.tile(unit_vectors(np.ones((1, 4))), (6, 1))
    found = search(same[:4], same, [0, 1, 2, 3, NOBODY, NOBODY], np.arange(6))
    assert cmc(found, (1, 3, 4))[0].rate == cmc(found, (3,))[0].rate == 0
    with pytest.raises(DataError):
        search(same[:4] * np.nan, same, [0] * 6, np.arange(6))


def test_fpir_of_n_people_is_its_mean_over_every_gallery() -> None:
    photos, labels, templates = drawn(3, 7, 2)
    strangers = Strangers(photos @ templates.T, labels)
    scores = strangers.scores
    for people in (1, 2, 4):
        for threshold in np.unique(scores)[::7].tolist():
            met = []
            for i, label in enumerate(labels):
                others = [j for j in range(7) if j != label]
                met += [scores[i, list(g)].max() >= threshold for g in combinations(others, people)]
            assert strangers.fpir(people, threshold).rate == pytest.approx(np.mean(met), abs=1e-12)
        asked = 0.3
        threshold = strangers.threshold(people, asked)
        lower = scores[scores < threshold].max()
        assert strangers.fpir(people, threshold).rate <= asked < strangers.fpir(people, float(lower)).rate
    assert met_in_gallery(6, 6).tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_the_variance_takes_out_each_person_and_counts_a_pair_once() -> None:
    photos, labels, templates = drawn(4, 9, 3)
    strangers, people = Strangers(photos @ templates.T, labels), 3
    threshold = strangers.threshold(people, 0.2)
    share = strangers.fpir(people, threshold)
    without = np.array([strangers.only(np.arange(9) != j).fpir(people, threshold).rate for j in range(9)])
    plain = 8 / 9 * ((without - without.mean()) ** 2).sum()
    adds: dict[tuple[int, int], float] = {}
    for own, row in zip(labels, strangers.scores, strict=True):
        hits = [j for j in range(9) if j != own and row[j] >= threshold]
        c = len(hits)
        for j in hits:
            lost = met_in_gallery(7, people)[min(c, 7)] - met_in_gallery(7, people)[c - 1]
            adds[min(own, j), max(own, j)] = adds.get((min(own, j), max(own, j)), 0) + lost / len(labels)
    variance = max(plain - sum(v**2 for v in adds.values()), plain / 2)
    assert share.effective == pytest.approx(min(share.rate * (1 - share.rate) / variance, 27 * 8 / 3))


def test_thresholds_by_size_say_what_independence_would_give_and_what_is_refused() -> None:
    photos, labels, templates = drawn(5, 40, 5)
    strangers = Strangers(photos @ templates.T, labels)
    small, large = strangers.at(5, 0.05), strangers.at(30, 0.05)
    assert small.threshold < large.threshold
    assert large.fpir.rate <= 0.05
    reached = [
        s >= large.threshold for own, row in zip(labels, strangers.scores, strict=True) for s in np.delete(row, own)
    ]
    assert large.if_independent == pytest.approx(1 - (1 - np.mean(reached)) ** 30)
    assert large.ci95[0] <= large.threshold <= large.ci95[1]
    assert if_independent(0.01, 3) == pytest.approx(1 - 0.99**3)
    with pytest.raises(Refused, match="40 people cannot show the FPIR of a gallery of 39"):
        strangers.at(39, 0.05)
    with pytest.raises(Refused, match="200 non-mated searches"):
        strangers.at(5, 0.001)
    with pytest.raises(Refused, match="share the highest score"):
        Strangers(np.zeros_like(strangers.scores), labels).at(5, 0.05)
    silent = strangers.scores.copy()
    silent[:5] = -np.inf  # a person whose photos give no face is no false positive, but counts
    assert Strangers(silent, labels).fpir(5, -1.0).rate == pytest.approx(195 / 200)


def test_thresholds_of_one_half_hold_for_the_other() -> None:
    photos, labels, templates = drawn(6, 60, 4)
    strangers = Strangers(photos @ templates.T, labels)
    found = held_out(strangers, [(10, 0.1), (28, 0.1), (40, 0.1)], splits=5)
    for people in (10, 28):
        held = found[people, 0.1]
        assert not isinstance(held, Refused)
        assert (held.trials, held.fpir) == (10, pytest.approx(0.1, abs=0.05))
        assert held.inside >= 8
    assert isinstance(found[40, 0.1], Refused)
    a, b = strangers.halves(np.random.default_rng(0))
    rate, (low, high) = measured_on(b, a.at(10, 0.1))
    assert low < rate < high
    assert high - low > np.ptp(b.fpir(10, a.threshold(10, 0.1)).ci95)  # the threshold is in doubt as well


def test_intervals_cover_the_truth_of_simulated_searches() -> None:
    """200 sets: about 95 %, at least 91 % (three standard errors below)."""
    rng = np.random.default_rng(0)
    shares, galleries, tpirs = [], [], []
    photos, labels, templates = drawn(100, 1000, 1)
    big = Strangers(photos @ templates.T, labels)
    at = float(np.quantile(rng.normal(0.0, np.sqrt(2.0), 400_000), 0.9))
    tpir = float(np.mean(rng.normal(2.0, np.sqrt(2.0), 400_000) >= at))
    for seed in range(200):
        people = np.repeat(np.arange(80), rng.integers(1, 12, 80))
        chances = rng.beta(0.4, 3.6, 80)
        low, high = share_over_people(rng.random(people.size) < chances[people], people).ci95
        shares.append(low <= 0.1 <= high)
        photos, labels, templates = drawn(seed, 40, 3)
        point = Strangers(photos @ templates.T, labels).at(38, 0.1)
        low, high = point.fpir.ci95
        galleries.append(low <= big.fpir(38, point.threshold).rate <= high)
        if seed < 100:
            who = np.repeat(np.arange(80), 5)
            own, tops = (m + rng.normal(size=80)[who] + rng.normal(size=400) for m in (2.0, 0.0))
            found = Searches(own.astype(np.float32), np.ones(400, np.int64), who, tops.astype(np.float32), who)
            low, high = at_fpir(found, 0.1).tpir.ci95
            tpirs.append(low <= tpir <= high)
    assert np.mean(shares) >= 0.91
    assert np.mean(galleries) >= 0.91
    assert np.mean(tpirs) >= 0.88  # 100 sets


def test_shares_of_one_person_or_without_errors_claim_little() -> None:
    assert share_over_people([True, False], [1, 1]).ci95 == (0, 1)
    none = share_over_people(np.zeros(300, bool), np.repeat(np.arange(30), 10))
    assert none.ci95[0] == 0
    assert none.ci95[1] > 0.1  # about 3 / 30 people, not 3 / 300 searches
    with pytest.raises(DataError):
        share_over_people([], [])


def test_a_tpir_that_hardly_a_draw_moves_is_no_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 sets of 300 mates, of whom one in 200 is missed at the true threshold, and 1,000 strangers."""
    monkeypatch.setattr(identification, "REPLICATES", 200)
    rng = np.random.default_rng(0)
    threshold = stats.norm.isf(0.01)
    centre = threshold + stats.norm.isf(0.005)
    held = 0
    for _ in range(200):
        mates, tops = (rng.normal(mean, 1, size).astype(np.float32) for mean, size in ((centre, 300), (0, 1000)))
        found = at_fpir(Searches(mates, np.ones(300, np.int64), np.arange(300), tops, np.arange(1000)), 0.01)
        low, high = found.tpir.ci95
        plain = share_over_people(mates >= found.threshold, np.arange(300)).ci95
        assert low <= plain[0] < plain[1] <= high
        held += low <= 0.995 <= high
    assert held >= stats.binom.ppf(0.001, 200, 0.93)  # an exact interval of few errors may hold in more than 95 %

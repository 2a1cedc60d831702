"""Agreement of clusters and people, against the definitions: all pairs, all photos, one by one."""

from itertools import combinations, permutations
from math import log

import numpy as np
import pytest

from facespace.core.partitions import (
    adjusted_rand_index,
    bcubed,
    normalised_mutual_information,
    pairwise,
    tabulate,
)
from facespace.errors import DataError

CASES = [
    ([0, 0, 1, 1, 2], [5, 5, 5, 7, 7]),
    ([0, 0, 0, 0], [1, 1, 1, 1]),
    ([0, 1, 2, 3], [4, 3, 2, 1]),
    ([0, 1, 2, 3], [0, 0, 0, 0]),
    ([0, 0, 0, 0], [0, 1, 2, 3]),
    ([7], [3]),
    *(
        (rng.integers(0, people, 40).tolist(), rng.integers(0, clusters, 40).tolist())
        for rng, people, clusters in ((np.random.default_rng(s), s + 1, 12 - s) for s in range(10))
    ),
]


def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def slow_pairwise(people: list[int], clusters: list[int], times: list[int] | None = None) -> tuple[float, ...]:
    """Over copies of the photos: each person's photos so many times, copies of one person making no pair."""
    drawn = [(p, c, copy) for p, c in zip(people, clusters, strict=True) for copy in range(times[p] if times else 1)]
    kept = joined = genuine = 0
    for (p, c, i), (q, d, j) in combinations(drawn, 2):
        if p == q and i != j:
            continue
        kept += p == q and c == d
        joined += c == d
        genuine += p == q
    precision, recall = (kept / whole if whole else 1.0 for whole in (joined, genuine))
    return precision, recall, harmonic(precision, recall)


def slow_bcubed(people: list[int], clusters: list[int], times: list[int] | None = None) -> tuple[float, ...]:
    drawn = [(p, c, copy) for p, c in zip(people, clusters, strict=True) for copy in range(times[p] if times else 1)]
    precision, recall = [], []
    for p, c, i in drawn:
        others = [(q, d) for q, d, j in drawn if q != p or i == j]
        right = sum(q == p and d == c for q, d in others)
        precision.append(right / sum(d == c for _, d in others))
        recall.append(right / sum(q == p for q, _ in others))
    mean = [sum(values) / len(values) for values in (precision, recall)]
    return mean[0], mean[1], harmonic(*mean)


def slow_nmi(people: list[int], clusters: list[int]) -> float:
    n = len(people)

    def entropy(names: list[int]) -> float:
        return -sum(names.count(x) / n * log(names.count(x) / n) for x in set(names))

    both = list(zip(people, clusters, strict=True))
    mutual = sum(
        both.count(cell) / n * log(n * both.count(cell) / (people.count(cell[0]) * clusters.count(cell[1])))
        for cell in set(both)
    )
    whole = (entropy(people) + entropy(clusters)) / 2
    return mutual / whole if whole else 1.0


def slow_ari(people: list[int], clusters: list[int]) -> float:
    """From the four kinds of pairs."""
    kinds = [(people[i] == people[j], clusters[i] == clusters[j]) for i, j in combinations(range(len(people)), 2)]
    a, b, c, d = (kinds.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False)))
    below = (a + b) * (b + d) + (a + c) * (c + d)
    return 2 * (a * d - b * c) / below if below else 1.0


@pytest.mark.parametrize(("people", "clusters"), CASES)
def test_all_agree_with_their_definitions(people: list[int], clusters: list[int]) -> None:
    table = tabulate(people, clusters)
    assert tuple(map(float, pairwise(table))) == pytest.approx(slow_pairwise(people, clusters), abs=1e-12)
    assert tuple(map(float, bcubed(table))) == pytest.approx(slow_bcubed(people, clusters), abs=1e-12)
    assert normalised_mutual_information(table) == pytest.approx(slow_nmi(people, clusters), abs=1e-12)
    assert adjusted_rand_index(table) == pytest.approx(slow_ari(people, clusters), abs=1e-12)


def test_drawn_people_count_as_copies_would() -> None:
    rng = np.random.default_rng(3)
    people, clusters = rng.integers(0, 6, 30).tolist(), rng.integers(0, 5, 30).tolist()
    weights = rng.multinomial(6, np.full(6, 1 / 6), size=8)
    table = tabulate(people, clusters)
    found = [np.transpose(measure(table, weights)) for measure in (pairwise, bcubed)]
    for row, times in enumerate(weights.tolist()):
        np.testing.assert_allclose(found[0][row], slow_pairwise(people, clusters, times), atol=1e-12)
        np.testing.assert_allclose(found[1][row], slow_bcubed(people, clusters, times), atol=1e-12)


def test_names_of_people_and_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    people, clusters = rng.integers(0, 4, 25), rng.integers(0, 4, 25)
    plain = tabulate(people, clusters)
    for order in list(permutations(range(4)))[:5]:
        renamed = tabulate(np.array(order)[people] * 100, -np.array(order)[clusters])
        assert pairwise(renamed) == pytest.approx(pairwise(plain))
        assert bcubed(renamed) == pytest.approx(bcubed(plain))
        assert adjusted_rand_index(renamed) == adjusted_rand_index(plain)
        assert normalised_mutual_information(renamed) == pytest.approx(normalised_mutual_information(plain))


def test_random_clusters_have_an_ari_near_zero_and_millions_of_photos_are_counted_exactly() -> None:
    rng = np.random.default_rng(7)
    table = tabulate(rng.integers(0, 3, 300_000), rng.integers(0, 3, 300_000))
    assert abs(adjusted_rand_index(table)) < 1e-4
    whole = tabulate(np.zeros(3_000_000, int), np.zeros(3_000_000, int))
    assert (adjusted_rand_index(whole), pairwise(whole).f) == (1.0, 1.0)


@pytest.mark.parametrize(("people", "clusters"), [([], []), ([1, 2], [1])])
def test_what_is_no_partition_is_refused(people: list[int], clusters: list[int]) -> None:
    with pytest.raises(DataError, match="give no table"):
        tabulate(people, clusters)

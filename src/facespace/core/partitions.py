"""How well clusters of photos agree with the people in them: pairwise F, BCubed, NMI and ARI.

All are exact, from the table that counts the photos of each person in each cluster; nothing goes through pairs.

Weights draw people anew (see `resampling`): whoever is drawn w times brings all photos w times, and two copies of one
photo, or of one person, make no pair. The clusters themselves stay as they were found.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.errors import DataError

Floats = NDArray[np.float64]


class Agreement(NamedTuple):
    """Precision, recall and their harmonic mean, 0..1: floats, or `(B,)` under B rows of weights."""

    precision: Floats
    recall: Floats
    f: Floats


@dataclass(frozen=True, eq=False)
class Table:
    """The cells of the table that are not empty, `(K,)` each, and how many people and clusters there are."""

    person: NDArray[np.int64]
    cluster: NDArray[np.int64]
    photos: NDArray[np.int64]
    people: int
    clusters: int

    @property
    def of_person(self) -> NDArray[np.int64]:
        """Photos of each person `(people,)`."""
        return np.bincount(self.person, self.photos, self.people).astype(np.int64)

    @property
    def of_cluster(self) -> NDArray[np.int64]:
        """Photos in each cluster `(clusters,)`."""
        return np.bincount(self.cluster, self.photos, self.clusters).astype(np.int64)


def tabulate(people: ArrayLike, clusters: ArrayLike) -> Table:
    """The table of N photos from their persons and their clusters, both int `(N,)` of any numbers.

    Raises DataError where there are no photos, or the two differ in length.
    """
    truth, found = np.asarray(people), np.asarray(clusters)
    if truth.shape != found.shape or truth.ndim != 1 or not truth.size:
        raise DataError(f"{truth.shape} persons and {found.shape} clusters give no table", hint="one each per photo")
    names, person = np.unique(truth, return_inverse=True)
    groups, cluster = np.unique(found, return_inverse=True)
    cells, photos = np.unique(cluster * len(names) + person, return_counts=True)
    return Table(cells % len(names), cells // len(names), photos, len(names), len(groups))


def pairwise(table: Table, weights: ArrayLike | None = None) -> Agreement:
    """Of the pairs that share a cluster, those that share a person (precision), and the other way round (recall).

    Where nothing was joined, nothing was joined wrongly: precision 1; where nobody has two photos, recall 1. `weights`
    `(B, people)` say how often each person counts.
    """
    w, inside = _weights(table, weights), table.photos * (table.photos - 1) / 2
    kept = w[:, table.person] @ inside
    mine = w[:, table.person] * table.photos
    every, own = _by_cluster(table, mine), _by_cluster(table, mine**2)
    joined = kept + ((every**2 - own) / 2).sum(axis=1)  # and the pairs of two people in one cluster
    genuine = w @ (table.of_person * (table.of_person - 1) / 2)
    return _agreement(_share(kept, joined), _share(kept, genuine), weights)


def bcubed(table: Table, weights: ArrayLike | None = None) -> Agreement:
    """Means over photos: the share of its cluster that is of its person, and of its person that is in its cluster.

    The photo itself counts. Bagga and Baldwin, "Entity-based cross-document coreferencing", ACL 1998. `weights`
    `(B, people)` say how often each person counts.
    """
    w = _weights(table, weights)[:, table.person]
    strangers = _by_cluster(table, w * table.photos)[:, table.cluster] - w * table.photos
    precision = (w * table.photos * (table.photos / (table.photos + strangers))).sum(axis=1)
    recall = w @ (table.photos * (table.photos / table.of_person[table.person]))
    photos = w @ table.photos
    return _agreement(precision / photos, recall / photos, weights)


def normalised_mutual_information(table: Table) -> float:
    """What cluster and person say of each other, over the mean of their entropies, 0..1.

    1 where both are one single group. Depends on the number of clusters more than the others do: many small clusters
    look good.
    """
    total = table.photos.sum()
    people, clusters = table.of_person, table.of_cluster
    share = table.photos / total
    expected = people[table.person] / total * clusters[table.cluster]  # times total: of whole numbers below 2^53
    mutual = float(np.sum(share * np.log(table.photos / expected)))
    entropy = float(_entropy(people / total) + _entropy(clusters / total))
    return min(1.0, max(0.0, 2 * mutual / entropy)) if entropy else 1.0


def adjusted_rand_index(table: Table) -> float:
    """Agreement over pairs, corrected for chance: 1 the same groups, 0 as good as random, below 0 worse.

    Hubert and Arabie, "Comparing partitions", Journal of Classification 2 (1985), in whole numbers. 1 where both are
    one group, or both all apart.
    """
    kept, people, clusters = (_pairs(part) for part in (table.photos, table.of_person, table.of_cluster))
    total = _pairs(table.photos.sum(keepdims=True))
    above = 2 * (total * kept - people * clusters)
    below = total * (people + clusters) - 2 * people * clusters
    return above / below if below else 1.0


def _weights(table: Table, weights: ArrayLike | None) -> Floats:
    return np.ones((1, table.people)) if weights is None else np.asarray(weights, dtype=np.float64)


def _by_cluster(table: Table, values: Floats) -> Floats:
    """Sums `(B, clusters)` of values `(B, K)`; the cells of a cluster stand together."""
    return np.add.reduceat(values, np.searchsorted(table.cluster, np.arange(table.clusters)), axis=1)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)


def _agreement(precision: Floats, recall: Floats, weights: ArrayLike | None) -> Agreement:
    total = precision + recall
    f = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return Agreement(precision, recall, f) if weights is not None else Agreement(precision[0], recall[0], f[0])


def _entropy(shares: Floats) -> float:
    return float(-(shares * np.log(shares)).sum())


def _pairs(counts: NDArray[np.int64]) -> int:
    """Pairs within groups of these sizes, as a Python number, which has no end."""
    return sum(count * (count - 1) // 2 for count in counts.tolist())

"""PCA and Joint Bayesian: vectors compared by how likely one person gave both, as DeepID2+ does.

A vector is x = m + μ + ε: the mean, what makes the person, and what makes the photo, both Gaussian around 0 with
covariances S_μ (between people) and S_ε (within). Two vectors share μ or do not; the score is the log of the ratio of
the two likelihoods. Chen et al., "Bayesian Face Revisited: A Joint Formulation", ECCV 2012, eq. 4-7.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.errors import DataError, UsageError

Floats = NDArray[np.float64]

Method = Literal["em", "moments"]
"""`em`: maximum likelihood by expectation and maximisation, where people have unequal numbers of photos the better use
of them; `moments`: in closed form, from the scatter within people and between their means."""

SINGULAR = 1e-10
"""A covariance whose least eigenvalue is below this share of the largest has lost a dimension."""


@dataclass(frozen=True, eq=False)
class PCA:
    """Principal components: the orthogonal directions of largest variance."""

    mean: Floats
    """`(D,)`."""
    axes: Floats
    """`(dim, D)`, orthonormal rows, the largest variance first; the largest entry of each is positive."""
    variances: Floats
    """`(dim,)`, of the vectors along the axes."""

    @classmethod
    def fit(cls, vectors: ArrayLike, dim: int) -> Self:
        """The first `dim` components of vectors `(N, D)`; UsageError where N vectors of length D have not so many."""
        x = np.asarray(vectors, np.float64)
        if not 1 <= dim <= min(len(x) - 1, x.shape[1]):
            most = min(len(x) - 1, x.shape[1])
            raise UsageError(f"{len(x)} vectors of length {x.shape[1]} have no {dim} components", hint=f"1 to {most}")
        mean = x.mean(0)
        variances, columns = np.linalg.eigh((x - mean).T @ (x - mean) / (len(x) - 1))
        axes = columns[:, ::-1].T[:dim]
        axes = axes * np.sign(axes[np.arange(dim), np.abs(axes).argmax(1)])[:, None]
        return cls(mean, axes, variances[::-1][:dim].clip(min=0))

    def transform(self, vectors: ArrayLike) -> Floats:
        """Coordinates float64 `(N, dim)` of vectors `(N, D)` along the axes, from the mean."""
        coordinates: Floats = (np.asarray(vectors, np.float64) - self.mean) @ self.axes.T
        return coordinates


@dataclass(frozen=True, eq=False)
class JointBayesian:
    """Mean `(D,)`, covariance between people S_μ and within them S_ε, both `(D, D)`."""

    mean: Floats
    between: Floats
    within: Floats

    @classmethod
    def fit(
        cls,
        vectors: ArrayLike,
        labels: ArrayLike,
        *,
        method: Method = "em",
        iterations: int = 200,
        tolerance: float = 1e-6,
    ) -> Self:
        """Learn from vectors `(N, D)` whose persons are `labels` `(N,)`; people with one photo help as well.

        EM ends after `iterations`, or when a round changes both covariances by less than `tolerance` of their size. The
        paper's M-step leaves out how uncertain μ and ε remain; here it is counted, which makes the likelihood rise.
        Raises DataError where the photos within people do not span all D dimensions.
        """
        if method not in get_args(Method) or iterations < 1 or not tolerance > 0:
            hint = "method em or moments, iterations >= 1, tolerance > 0"
            raise UsageError(f"method = {method!r}, iterations = {iterations}, tolerance = {tolerance}", hint=hint)
        seen = _People.of(np.asarray(vectors, np.float64), np.asarray(labels))
        if method == "moments":
            return cls(seen.mean, seen.between_moments(), seen.within)
        between, within = seen.means.T @ seen.means / len(seen.means), seen.within
        for _ in range(iterations):
            before = between, within
            between, within = seen.maximised(between, within)
            if all(_moved(a, b) < tolerance for a, b in zip(before, (between, within), strict=True)):
                break
        return cls(seen.mean, between, within)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """`log_ratio` as float32, in the shape of an embedder's similarity."""
        return self.log_ratio(a, b).astype(np.float32)

    def log_ratio(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """log p(a, b | one person) - log p(a, b | two), natural, of each row of `(Na, D)` with each of `(Nb, D)`.

        Float64 `(Na, Nb)`: r/2 and a constant, where r = a'Aa + b'Ab - 2a'Gb. Above 0 one person is likelier.
        """
        x, y = (np.asarray(rows, np.float64) - self.mean for rows in (a, b))
        own_x, own_y = (((rows @ self.a) * rows).sum(1) for rows in (x, y))
        ratio: Floats = (own_x[:, None] + own_y[None, :]) / 2 - x @ self.g @ y.T + self._constant
        return ratio

    @cached_property
    def g(self) -> Floats:
        """G = -(2 S_μ + S_ε)⁻¹ S_μ S_ε⁻¹, symmetric `(D, D)`."""
        g = -np.linalg.solve(2 * self.between + self.within, self.between) @ np.linalg.inv(self.within)
        return (g + g.T) / 2

    @cached_property
    def a(self) -> Floats:
        """A = (S_μ + S_ε)⁻¹ - (S_ε⁻¹ + G), symmetric `(D, D)`."""
        a: Floats = np.linalg.inv(self.between + self.within) - (np.linalg.inv(self.within) + self.g)
        return a

    @cached_property
    def _constant(self) -> float:
        """Half the difference of the log determinants of both joint covariances, `(2D, 2D)` each."""
        whole, joint, within = (
            float(np.linalg.slogdet(s)[1])
            for s in (self.between + self.within, 2 * self.between + self.within, self.within)
        )
        return whole - (joint + within) / 2


@dataclass(frozen=True, eq=False)
class _People:
    """What a fit needs of the vectors: the mean, and for each of C people the number of photos and their mean."""

    mean: Floats
    counts: NDArray[np.int64]
    """`(C,)`."""
    means: Floats
    """`(C, D)`, from the mean of all."""
    scatter: Floats
    """Σ (x - own mean)(x - own mean)', `(D, D)`."""

    @classmethod
    def of(cls, vectors: Floats, labels: NDArray[np.generic]) -> Self:
        if vectors.ndim != 2 or labels.shape != vectors.shape[:1] or not np.isfinite(vectors).all():
            raise DataError(f"vectors {vectors.shape} and labels {labels.shape} are not finite (N, D) and (N,)")
        names, person, counts = np.unique(labels, return_inverse=True, return_counts=True)
        mean = vectors.mean(0)
        means = np.zeros((len(names), vectors.shape[1]))
        np.add.at(means, person, vectors - mean)
        means /= counts[:, None]
        own = vectors - mean - means[person]
        people = cls(mean, counts, means, own.T @ own)
        eigenvalues = np.linalg.eigvalsh(people.scatter)
        if len(names) < 2 or not eigenvalues[0] > SINGULAR * eigenvalues[-1]:
            raise DataError(
                f"{len(vectors)} photos of {len(names)} people do not show how photos of one person differ in "
                f"{vectors.shape[1]} dimensions",
                hint="give more photos per person, or fewer dimensions: PCA.fit(vectors, dim).transform(vectors)",
            )
        return people

    @property
    def within(self) -> Floats:
        """The scatter over its degrees of freedom, an unbiased S_ε."""
        within: Floats = self.scatter / (self.counts.sum() - len(self.counts))
        return within

    def between_moments(self) -> Floats:
        """S_μ from the scatter of the means, unbiased but for what would be negative, which is set to 0."""
        n, c = int(self.counts.sum()), len(self.counts)
        mean_square = (self.means.T * self.counts) @ self.means / (c - 1)
        usual_count = (n - (self.counts**2).sum() / n) / (c - 1)
        values, axes = np.linalg.eigh((mean_square - self.within) / usual_count)
        between: Floats = (axes * values.clip(min=0)) @ axes.T
        return between

    def maximised(self, between: Floats, within: Floats) -> tuple[Floats, Floats]:
        """S_μ and S_ε after a round: the expected outer products of μ and ε given the photos and the present two."""
        new_between, new_within = np.zeros_like(between), self.scatter.copy()
        for count in np.unique(self.counts):
            means = self.means[self.counts == count]
            gain = np.linalg.solve(between + within / count, between).T  # of μ from a mean of so many photos
            expected = means @ gain.T
            left = means - expected
            unsure = len(means) * (between - gain @ between)
            new_between += expected.T @ expected + unsure
            new_within += count * (left.T @ left + unsure)
        new_between, new_within = new_between / len(self.counts), new_within / self.counts.sum()
        return (new_between + new_between.T) / 2, (new_within + new_within.T) / 2


def _moved(before: Floats, after: Floats) -> float:
    return float(np.linalg.norm(after - before) / max(np.linalg.norm(before), np.finfo(np.float64).tiny))

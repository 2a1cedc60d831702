"""PCA and Joint Bayesian against Gaussian densities written out, and on vectors drawn from the model."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from facespace.core.joint_bayesian import PCA, JointBayesian
from facespace.errors import DataError, UsageError

Floats = NDArray[np.float64]


def covariance(seed: int, dim: int, size: float) -> Floats:
    a = np.random.default_rng(seed).normal(size=(dim, dim + 2))
    return np.asarray(size * a @ a.T / dim)


def drawn(seed: int, counts: list[int], between: Floats, within: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Vectors m + μ + ε with m = (1, 2, ...), so many for each person."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    dim = len(between)
    people = rng.multivariate_normal(np.zeros(dim), between, size=len(counts))
    photos = rng.multivariate_normal(np.zeros(dim), within, size=len(labels))
    return np.arange(1.0, dim + 1) + people[labels] + photos, labels


def log_density(x: Floats, labels: NDArray[np.int64], model: JointBayesian) -> float:
    """log p of all photos: for each person a Gaussian over all coordinates of all photos, written out."""
    total = 0.0
    for person in np.unique(labels):
        own = x[labels == person] - model.mean
        n = len(own)
        whole = np.kron(np.ones((n, n)), model.between) + np.kron(np.eye(n), model.within)
        total += float(multivariate_normal(np.zeros(own.size), whole).logpdf(own.ravel()))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_log_ratio_is_that_of_the_full_densities(seed: int) -> None:
    """p(x1, x2) over 2D coordinates, with the shared person in the corners of the covariance and without."""
    between, within = covariance(seed, 4, 2.0), covariance(seed + 10, 4, 0.7)
    model = JointBayesian(np.arange(1.0, 5.0), between, within)
    x, _ = drawn(seed, [2] * 6, between, within)
    a, b = x[:5], x[5:]
    whole, zero = between + within, np.zeros((4, 4))
    one = multivariate_normal(np.zeros(8), np.block([[whole, between], [between, whole]]))
    two = multivariate_normal(np.zeros(8), np.block([[whole, zero], [zero, whole]]))
    expected = [
        [one.logpdf(pair) - two.logpdf(pair) for y in b for pair in [np.concatenate([x - model.mean, y - model.mean])]]
        for x in a
    ]
    np.testing.assert_allclose(model.log_ratio(a, b), expected, rtol=1e-9, atol=1e-9)
    assert model.similarity(a, b).dtype == np.float32
    np.testing.assert_allclose(model.similarity(a, b), expected, rtol=1e-5, atol=1e-5)


def test_r_is_the_form_of_the_paper_and_the_ratio_half_of_it_and_a_constant() -> None:
    model = JointBayesian(np.zeros(3), covariance(0, 3, 1.0), covariance(1, 3, 1.0))
    mu, eps = model.between, model.within
    g = -np.linalg.inv(2 * mu + eps) @ mu @ np.linalg.inv(eps)
    a = np.linalg.inv(mu + eps) - (np.linalg.inv(eps) + g)
    x, y = np.random.default_rng(0).normal(size=(2, 7, 3))
    r = np.array([[p @ a @ p + q @ a @ q - 2 * p @ g @ q for q in y] for p in x])
    gap = model.log_ratio(x, y) - r / 2
    np.testing.assert_allclose(gap, gap[0, 0], atol=1e-10)
    np.testing.assert_allclose(model.log_ratio(x, y), model.log_ratio(y, x).T, atol=1e-12)


@pytest.mark.parametrize("method", ["em", "moments"])
@pytest.mark.parametrize("counts", [[4] * 4000, [1, 2, 3, 9] * 1500], ids=["equal", "unequal"])
def test_the_fit_recovers_the_covariances(method: Any, counts: list[int]) -> None:
    between, within = covariance(3, 3, 2.0), covariance(4, 3, 0.5)
    x, labels = drawn(5, counts, between, within)
    model = JointBayesian.fit(x, labels, method=method)
    np.testing.assert_allclose(model.mean, [1, 2, 3], atol=0.15)
    for found, true in ((model.between, between), (model.within, within)):
        assert np.linalg.norm(found - true) < 0.05 * np.linalg.norm(true)


def test_em_climbs_to_where_no_small_step_leads_higher() -> None:
    """The likelihood rises in every round, and at the end is above that of the moments and of nudged covariances."""
    x, labels = drawn(6, [1, 2, 3, 5] * 6, covariance(3, 2, 1.0), covariance(4, 2, 0.5))
    rounds = [log_density(x, labels, JointBayesian.fit(x, labels, iterations=n)) for n in range(1, 12)]
    assert (np.diff(rounds) > -1e-9).all()
    model = JointBayesian.fit(x, labels, iterations=5000, tolerance=1e-12)
    best = log_density(x, labels, model)
    assert best >= rounds[-1]
    assert best > log_density(x, labels, JointBayesian.fit(x, labels, method="moments"))
    for seed in range(20):
        a, b = np.random.default_rng(seed).normal(size=(2, 2, 2)) * 0.02
        nudged = JointBayesian(model.mean, model.between + a + a.T, model.within + b + b.T)
        assert log_density(x, labels, nudged) < best + 1e-6


def test_a_shared_person_scores_higher() -> None:
    """Pairs of one person and of two from the model are told apart, and 0 parts most of them."""
    x, labels = drawn(7, [2] * 300, covariance(1, 6, 3.0), covariance(2, 6, 0.5))
    train = labels < 200
    model = JointBayesian.fit(x[train], labels[train])
    a, b = x[~train][::2], x[~train][1::2]
    scores = model.similarity(a, b)
    own = scores.diagonal()
    other = scores[~np.eye(len(scores), dtype=bool)]
    assert (own > 0).mean() > 0.95
    assert (other < 0).mean() > 0.9
    swapped = np.random.default_rng(0).permutation(len(x))
    again = JointBayesian.fit(x[swapped], labels[swapped] * 7 + 100)  # names and order of the people do not matter
    np.testing.assert_allclose(
        again.log_ratio(a, b), JointBayesian.fit(x, labels).log_ratio(a, b), rtol=1e-6, atol=1e-6
    )


def test_people_without_spread_between_them_are_told_apart_by_nothing() -> None:
    """S_μ = 0: every ratio is 1. The moments give it where the means spread no more than the photos do."""
    model = JointBayesian(np.zeros(2), np.zeros((2, 2)), np.eye(2))
    np.testing.assert_allclose(model.log_ratio(np.ones((2, 2)), np.eye(2)), 0, atol=1e-15)
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    found = JointBayesian.fit(x, [0, 0, 1, 1], method="moments")
    np.testing.assert_allclose(found.between, 0, atol=1e-15)


@pytest.mark.parametrize(
    ("vectors", "labels"),
    [
        (np.random.default_rng(0).normal(size=(8, 5)), [0, 0, 1, 1, 2, 2, 3, 3]),
        (np.random.default_rng(0).normal(size=(20, 3)), [0] * 20),
        (np.random.default_rng(0).normal(size=(20, 3)), range(20)),
        (np.ones((20, 3)), [0, 1] * 10),
        (np.full((20, 3), np.nan), [0, 1] * 10),
        (np.ones((20, 3)), [0, 1]),
        (np.ones(20), [0, 1] * 10),
    ],
    ids=["too few photos", "one person", "one photo each", "all equal", "nan", "labels", "shape"],
)
def test_photos_that_show_too_little_are_refused(vectors: Floats, labels: Any) -> None:
    with pytest.raises(DataError):
        JointBayesian.fit(vectors, labels)


@pytest.mark.parametrize("wrong", [{"method": "mle"}, {"iterations": 0}, {"tolerance": 0}])
def test_unknown_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError) as refused:
        JointBayesian.fit(*drawn(0, [3] * 5, np.eye(2), np.eye(2)), **wrong)
    assert refused.value.hint


def test_pca_is_the_singular_value_decomposition() -> None:
    x = np.random.default_rng(2).normal(size=(40, 6)) * [5, 1, 4, 2, 3, 0.5] + 7
    pca = PCA.fit(x, 4)
    _, singular, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(pca.variances, singular[:4] ** 2 / 39)
    np.testing.assert_allclose(np.abs(pca.axes @ right[:4].T), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.cov(pca.transform(x).T), np.diag(pca.variances), atol=1e-9)
    np.testing.assert_allclose(pca.transform(x).mean(0), 0, atol=1e-12)
    assert (pca.axes[np.arange(4), np.abs(pca.axes).argmax(1)] > 0).all()
    whole = PCA.fit(x, 6)
    np.testing.assert_allclose(whole.transform(x) @ whole.axes + whole.mean, x, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 6, 4])
def test_pca_has_no_more_components_than_there_are(dim: int) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    with pytest.raises(UsageError) as refused:
        PCA.fit(x, dim)
    assert "1 to 3" in refused.value.hint

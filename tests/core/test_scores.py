"""Scores against plain float64 loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facespace.core import scores
from facespace.core.contracts import AlignedFaces, Vectors
from facespace.errors import ModelError


def random_units(count: int, dim: int, seed: int = 0) -> np.ndarray:
    return scores.unit_vectors(np.random.default_rng(seed).normal(size=(count, dim)))


def test_unit_vectors_have_length_one_and_keep_their_direction() -> None:
    raw = np.random.default_rng(1).normal(scale=1e-20, size=(7, 5)).astype(np.float32)
    unit = scores.unit_vectors(raw)
    assert unit.dtype == np.float32
    for row, given_row in zip(unit.astype(float), raw.astype(float), strict=True):
        length = sum(x * x for x in given_row) ** 0.5
        np.testing.assert_allclose(row, given_row / length, rtol=1e-6)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_a_vector_without_direction_is_an_error_that_names_its_row(bad: list[float]) -> None:
    with pytest.raises(ModelError, match="row 1"):
        scores.unit_vectors(np.array([[1.0, 0.0], bad, [0.0, 1.0]]))


@given(st.floats(-1, 1))
def test_squared_distance_is_that_of_two_unit_vectors_with_the_cosine(c: float) -> None:
    """PAPERS U1: D = 2 - 2c, from two vectors drawn at that angle; and back."""
    a, b = np.array([1.0, 0.0]), np.array([c, (1 - c * c) ** 0.5])
    assert scores.squared_distance(c) == pytest.approx(((a - b) ** 2).sum(), abs=1e-12)
    assert scores.cosine(scores.squared_distance(c)) == pytest.approx(c, abs=1e-15)


def test_the_thresholds_of_facenet_are_angles() -> None:
    assert scores.cosine(1.1) == pytest.approx(0.45)
    assert np.degrees(np.arccos(scores.cosine(1.242))) == pytest.approx(67.7, abs=0.05)


def test_a_vector_is_at_distance_zero_from_itself_and_scores_are_symmetric() -> None:
    vectors = random_units(50, 16)
    rows, others = np.arange(50), np.arange(50)[::-1]
    np.testing.assert_allclose(scores.squared_distance(scores.pair_scores(vectors, rows, rows)), 0, atol=1e-6)
    forth, back = scores.pair_scores(vectors, rows, others), scores.pair_scores(vectors, others, rows)
    np.testing.assert_array_equal(forth, back)


class Streets:
    """An embedder whose similarity is the negative city-block distance, counting the cells that it computes."""

    name, dim, contract = "streets", 8, "c0ffee"

    def __init__(self) -> None:
        self.cells = 0

    def embed(self, faces: AlignedFaces) -> Vectors:
        return faces.reshape(len(faces), -1)[:, :8].astype(np.float32)

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        self.cells += len(a) * len(b)
        return -np.abs(a[:, None] - b[None]).sum(2)


class StreetsByRow(Streets):
    """The same, also row by row."""

    def pair_similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        self.cells += len(a)
        return -np.abs(a - b).sum(1)


def some_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return random_units(40, 8), rng.integers(0, 40, 9000), rng.integers(0, 40, 9000)


def test_pair_scores_are_the_dot_products_of_the_pairs_across_blocks() -> None:
    vectors, first, second = some_pairs()
    wide = vectors.astype(np.float64)
    expected = [wide[i] @ wide[j] for i, j in zip(first, second, strict=True)]
    np.testing.assert_allclose(scores.pair_scores(vectors, first, second), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [Streets, StreetsByRow])
def test_pair_scores_ask_the_model_for_its_own_similarity(kind: type[Streets]) -> None:
    """Row by row where it can do that, else in squares small enough; never the whole matrix."""
    vectors, first, second = some_pairs()
    embedder = kind()
    got = scores.pair_scores(vectors, first, second, embedder)
    np.testing.assert_allclose(got, -np.abs(vectors[first] - vectors[second]).sum(1), atol=1e-6)
    assert embedder.cells <= (9000 if kind is StreetsByRow else 9000 * 64)


def test_top_k_is_a_full_stable_sort_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties (doubled references) come in the order of their index, in whatever blocks the product is made."""
    monkeypatch.setattr(scores, "_PRODUCT_CELLS", 200)
    references = np.concatenate([random_units(30, 6), random_units(30, 6)])
    queries = random_units(17, 6, seed=3)
    indices, values = scores.top_k(queries, references, 5)
    for query, row, value in zip(queries, indices, values, strict=True):
        exact = np.round(references.astype(float) @ query.astype(float), 6)
        np.testing.assert_array_equal(row, np.argsort(-exact, kind="stable")[:5])
        np.testing.assert_allclose(value, exact[row], atol=2e-6)


def test_top_k_gives_no_more_than_there_are() -> None:
    indices, values = scores.top_k(random_units(2, 4), random_units(3, 4, seed=1), 10)
    assert indices.shape == values.shape == (2, 3)
    assert scores.top_k(random_units(2, 4), np.empty((0, 4), np.float32), 10)[0].shape == (2, 0)

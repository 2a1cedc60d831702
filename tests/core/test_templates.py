"""Templates against loops over templates, media and photos."""

import numpy as np
import pytest

from facespace.core.templates import pooled
from facespace.errors import DataError


def by_loops(vectors: np.ndarray, template: np.ndarray, media: np.ndarray, weights: np.ndarray) -> np.ndarray:
    rows = []
    for t in sorted(set(template.tolist())):
        means = []
        for m in sorted(set(media[template == t].tolist())):
            photos = [i for i in range(len(vectors)) if template[i] == t and media[i] == m]
            means.append(sum(float(weights[i]) * vectors[i].astype(np.float64) for i in photos) / len(photos))
        rows.append(sum(means) / len(means))
    return np.array(rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_photos_are_averaged_within_their_medium_and_media_within_their_template(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 5)).astype(np.float32)
    template, media = rng.integers(0, 9, 60) * 7 + 3, rng.integers(0, 5, 60)  # media numbers recur among templates
    weights = rng.uniform(0, 1, 60) if weighted else np.ones(60)
    got = pooled(vectors, template, media, weights if weighted else None)
    np.testing.assert_allclose(got, by_loops(vectors, template, media, weights), rtol=1e-5, atol=1e-7)
    assert got.dtype == np.float32


def test_a_film_of_many_frames_weighs_no_more_than_one_photo() -> None:
    vectors = np.array([[1, 0]] * 99 + [[0, 1]], np.float32)
    np.testing.assert_allclose(pooled(vectors, np.zeros(100), [1] * 99 + [2]), [[0.5, 0.5]])


def test_no_photos_are_no_templates_and_lengths_must_agree() -> None:
    assert pooled(np.zeros((0, 4), np.float32), [], []).shape == (0, 4)
    with pytest.raises(DataError, match="2 vectors"):
        pooled(np.zeros((2, 4), np.float32), [1], [1, 2])

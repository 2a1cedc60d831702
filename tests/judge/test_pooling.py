"""Templates pooled of photos, against loops; parts of any size give the same."""

import numpy as np
import pytest

from facespace.core.similarity import GroupAware
from facespace.judge import pooling
from facespace.judge.pooling import Templates, mean_scores, pool


def some_templates(weighted: bool) -> tuple[Templates, np.ndarray, np.ndarray, np.ndarray]:
    """Ninety rows of sixty photos in twelve templates; a photo may stand in several."""
    rng = np.random.default_rng(0)
    template = rng.permutation(np.append(np.arange(12), rng.integers(0, 12, 78)))
    media, photo = rng.integers(0, 4, 90), rng.integers(0, 60, 90)
    names = tuple(map(str, range(60)))
    vectors = rng.normal(size=(60, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    acquired = rng.random(60) > 0.3
    acquired[photo[template == 5]] = False
    return (
        Templates(names, str.encode, photo, template, media, weighted),
        vectors,
        acquired,
        rng.uniform(0.2, 1, 60).astype(np.float32),
    )


def means(
    templates: Templates, vectors: np.ndarray, acquired: np.ndarray, scores: np.ndarray
) -> list[np.ndarray | None]:
    """Mean over media of the mean over photos of weight times vector, over the same mean of weights."""
    found: list[np.ndarray | None] = []
    for t in range(12):
        rows = [i for i in range(90) if templates.template[i] == t and acquired[templates.photo[i]]]
        tops, weights = [], []
        for medium in {int(templates.media[i]) for i in rows}:
            photos = [templates.photo[i] for i in rows if templates.media[i] == medium]
            each = [float(scores[p]) if templates.weighted else 1.0 for p in photos]
            tops.append(sum(w * vectors[p].astype(np.float64) for w, p in zip(each, photos, strict=True)) / len(photos))
            weights.append(sum(each) / len(photos))
        found.append(np.mean(tops, 0) / np.mean(weights) if rows else None)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 20, 4096])
def test_a_template_is_the_weighted_mean_over_its_media(
    weighted: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "_ROWS", rows)
    given = some_templates(weighted)
    vectors, enrolled, belief = pool(*given)
    for t, mean in enumerate(means(*given)):
        assert enrolled[t] == (mean is not None)
        wanted = np.zeros(6) if mean is None else mean / np.linalg.norm(mean)
        np.testing.assert_allclose(vectors[t], wanted, atol=1e-6)
    assert not enrolled[5]
    assert belief[5] == 0
    assert belief[enrolled].min() > 0.2


def test_the_group_part_is_the_weighted_mean_as_it_stands() -> None:
    given = some_templates(weighted=True)
    vectors, enrolled, _ = pool(*given, GroupAware(split=4))
    for t, mean in enumerate(means(*given)):
        if mean is not None:
            np.testing.assert_allclose(vectors[t, :4], mean[:4] / np.linalg.norm(mean[:4]), atol=1e-6)
            np.testing.assert_allclose(vectors[t, 4:], mean[4:], atol=1e-6)
    assert enrolled.sum() == 11


def test_weights_of_nothing_enrol_nobody() -> None:
    templates, vectors, acquired, scores = some_templates(weighted=True)
    _, enrolled, _ = pool(templates, vectors, acquired, np.zeros_like(scores))
    assert not enrolled.any()


def test_mean_scores_are_over_all_pairs_of_photos() -> None:
    templates, vectors, acquired, _ = some_templates(weighted=False)

    class Sharp:
        name, dim, contract = "sharp", 6, "c"

        def embed(self, faces: np.ndarray) -> np.ndarray:
            raise NotImplementedError

        def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.asarray((a @ b.T) ** 3, np.float32)

    first, second = np.array([0, 1, 5, 7]), np.array([2, 1, 3, 5])
    got = mean_scores(templates, vectors, acquired, first, second, Sharp())
    for score, a, b in zip(got, first, second, strict=True):
        each = [
            float(vectors[p].astype(np.float64) @ vectors[q]) ** 3
            for p in templates.photo[templates.template == a]
            for q in templates.photo[templates.template == b]
            if acquired[p] and acquired[q]
        ]
        assert score == pytest.approx(np.mean(each) if each else -np.inf, abs=1e-6)
    assert templates.first_photos(acquired).keys() == set(range(12)) - {5}

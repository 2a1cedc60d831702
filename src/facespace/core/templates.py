"""Several photos of a person as one vector: photos of one medium first, such as frames of a film, then the media."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.contracts import Vectors
from facespace.errors import DataError


def pooled(vectors: Vectors, template: ArrayLike, media: ArrayLike, weights: ArrayLike | None = None) -> Vectors:
    """The mean over media of the mean over each medium's photos, float32 `(T, D)`, for the templates in rising order.

    `template` and `media` int `(N,)` belong to `vectors` `(N, D)`. `weights` `(N,)`, such as the detector's score,
    scale each vector before the means, so that a poor photo counts for less within its medium, and a medium of poor
    photos among the others. The rows are not of unit length. As public code pools for IJB-B and IJB-C (Whitelam et al.,
    CVPRW 2017). Raises DataError where the lengths differ.
    """
    of_template, of_media = np.asarray(template, np.int64), np.asarray(media, np.int64)
    scale = np.ones(len(vectors)) if weights is None else np.asarray(weights, np.float64)
    if not len(vectors) == len(of_template) == len(of_media) == len(scale):
        raise DataError(
            f"{len(vectors)} vectors, {len(of_template)} templates, {len(of_media)} media, {len(scale)} weights"
        )
    cells, cell = np.unique(np.stack([of_template, of_media], 1), axis=0, return_inverse=True)
    _, home = np.unique(cells[:, 0], return_inverse=True)
    means = _means(vectors * scale[:, None], cell.reshape(-1), len(cells))
    return _means(means, home.reshape(-1), int(home.max(initial=-1)) + 1).astype(np.float32)


def _means(rows: NDArray[np.float64], group: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Mean `(count, D)` of the rows of each group; every group has one."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(count))
    sums: NDArray[np.float64] = np.add.reduceat(rows[order], starts, axis=0) if count else rows[:0]
    return sums / np.bincount(group, minlength=count)[:, None]

"""Templates in a protocol: several photos or frames that stand together for a person, and how two are compared."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Embedder, Vectors
from facespace.core.scores import unit_vectors
from facespace.core.similarity import GroupAware
from facespace.core.templates import pooled
from facespace.faces.given import GivenFaces

Average = Literal["embedding", "score"]
"""Two templates are compared by their mean vectors, or by the mean over all pairs of a photo of each."""
_ROWS = 4096  # photos whose vectors are pooled at a time, in float64


@dataclass(frozen=True)
class Templates:
    """Row i, int64 `(R,)` each: photo `photo[i]` stands in template `template[i]`, as a part of medium `media[i]`.

    Templates are 0, 1, ... without a gap; `photo` are positions in `photos`, each name once; media are told apart
    within a template only. `weighted` lets a photo count by its detector score. `faces` are the set's own, if it names
    any.
    """

    photos: tuple[str, ...]
    read: Callable[[str], bytes]
    photo: NDArray[np.int64]
    template: NDArray[np.int64]
    media: NDArray[np.int64]
    weighted: bool = False
    average: Average = "embedding"
    faces: GivenFaces | None = None

    @property
    def count(self) -> int:
        """How many templates there are."""
        return int(self.template.max(initial=-1)) + 1

    def first_photos(self, usable: NDArray[np.bool_]) -> dict[int, str]:
        """For each template with a photo where `usable` bool `(N,)` is true, the first such."""
        rows = np.flatnonzero(usable[self.photo])
        templates, at = np.unique(self.template[rows], return_index=True)
        return {int(t): self.photos[self.photo[rows[i]]] for t, i in zip(templates, at, strict=True)}


def pool(
    templates: Templates,
    vectors: Vectors,
    acquired: NDArray[np.bool_],
    detector_scores: NDArray[np.float32],
    group_aware: GroupAware | None = None,
) -> tuple[Vectors, NDArray[np.bool_], NDArray[np.float32]]:
    """Vectors `(T, D)` of templates as their embedder compares them, who has one `(T,)`, and mean detector scores.

    Made of photos' `vectors` `(N, D)`; those not `acquired` are left out. A template without a photo is not enrolled:
    its row is zero.
    """
    rows = np.flatnonzero(acquired[templates.photo])
    rows = rows[np.argsort(templates.template[rows], kind="stable")]
    out, enrolled = np.zeros((templates.count, vectors.shape[1]), np.float32), np.zeros(templates.count, np.bool_)
    detected = np.zeros(templates.count, np.float32)
    for part in _whole_templates(templates.template[rows]):
        at = rows[part]
        template, media, photo = templates.template[at], templates.media[at], templates.photo[at]
        scores, present = detector_scores[photo, None], np.unique(template)
        detected[present] = pooled(scores, template, media)[:, 0]
        weights = scores[:, 0] if templates.weighted else np.ones(len(photo), np.float32)
        sums, total = pooled(vectors[photo], template, media, weights), pooled(weights[:, None], template, media)
        usable = (total[:, 0] > 0) & sums.any(1)
        mean = sums[usable] / total[usable]
        out[present[usable]] = unit_vectors(mean) if group_aware is None else group_aware.unit(mean)
        enrolled[present[usable]] = True
    return out, enrolled, detected


def _whole_templates(template: NDArray[np.int64]) -> Iterator[slice]:
    """Parts of rows sorted by template, none of which ends within one."""
    starts = np.flatnonzero(np.diff(template, prepend=-1))
    first = np.searchsorted(starts, np.arange(0, len(template), _ROWS))
    cuts = np.unique(np.append(starts, len(template))[first])
    yield from (slice(a, b) for a, b in pairwise([*cuts.tolist(), len(template)]))


def mean_scores(
    templates: Templates,
    vectors: Vectors,
    acquired: NDArray[np.bool_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    embedder: Embedder,
) -> NDArray[np.float32]:
    """For pairs `(P,)` of templates the mean similarity over all pairs of an acquired photo of each; -inf without one.

    Photos count alike, whatever their media.
    """
    rows = np.flatnonzero(acquired[templates.photo])
    rows = rows[np.argsort(templates.template[rows], kind="stable")]
    edges = np.searchsorted(templates.template[rows], np.arange(templates.count + 1))
    members = [templates.photo[rows[a:b]] for a, b in pairwise(edges.tolist())]
    scores = np.full(len(first), -np.inf, np.float32)
    for at, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        if members[a].size and members[b].size:
            scores[at] = embedder.similarity(vectors[members[a]], vectors[members[b]]).mean(dtype=np.float64)
    return scores

"""Searches of a gallery in which a person may stand several times, beside people who search for nobody.

As public code ranks for TinyFace and IJB: a search is for the person of the probe, and finds it with the first of its
rows. Rows of the person itself are in nobody's way; of others with the same score all come before it.
"""

import numpy as np
from numpy.typing import ArrayLike

from facespace.core.contracts import Vectors
from facespace.core.identification import Searches
from facespace.core.retrieval import NEVER, Compare
from facespace.errors import DataError

_CELLS = 1 << 24  # 64 MB of float32 scores at a time


def search_several(
    gallery: Vectors,
    owners: ArrayLike,
    probes: Vectors,
    people: ArrayLike,
    compare: Compare,
    *,
    enrolled: ArrayLike,
    acquired: ArrayLike,
) -> Searches:
    """Let every row of `probes` `(P, D)`, of `people` int `(P,)`, search the rows of `gallery` `(N, D)`, of `owners`.

    A search is mated where its person is among the owners. Rows of the gallery where `enrolled` bool `(N,)` is false
    are never returned, probes where `acquired` bool `(P,)` is false return nothing. Raises DataError where a score is
    no number.
    """
    owner, person = np.asarray(owners, np.int64), np.asarray(people, np.int64)
    absent, silent = ~np.asarray(enrolled, np.bool_), ~np.asarray(acquired, np.bool_)
    own, best = np.empty(len(probes), np.float32), np.empty(len(probes), np.float32)
    ranks = np.empty(len(probes), np.int64)
    block = max(1, _CELLS // max(1, len(gallery)))
    for start in range(0, len(probes), block):
        part = slice(start, start + block)
        scores = np.array(compare(probes[part], gallery), np.float32)
        scores[:, absent] = scores[silent[part]] = -np.inf
        if np.isnan(scores).any() or np.isposinf(scores).any():
            raise DataError("a score is not a number", hint="check the vectors of the model")
        mine = person[part, None] == owner
        best[part] = scores.max(1, initial=-np.inf)
        own[part] = scores.max(1, initial=-np.inf, where=mine)
        ranks[part] = 1 + ((scores >= own[part, None]) & ~mine).sum(1)
    ranks[np.isneginf(own)] = NEVER
    mated = np.isin(person, owner)
    return Searches(own[mated], ranks[mated], person[mated], best[~mated], person[~mated])

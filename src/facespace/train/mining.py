"""Offline mining inside a training: now and then the network of the moment names the triplets of the steps to come."""

from collections.abc import Iterator

import numpy as np
import torch

from facespace.data.batches import Batch, Reader
from facespace.data.folder import People
from facespace.losses.offline import batches_of, mine_offline, subset_of
from facespace.train.schedule import side
from facespace.train.state import State
from facespace.train.validate import embed_photos


def mined_batches(reader: Reader, state: State) -> Iterator[Batch]:
    """Batches of mined triplets from the state's position on, mined anew every `offline.every_steps` steps.

    The batches of the present period are part of the state: a training that goes on meets the same ones.
    """
    recipe = state.recipe
    assert recipe.offline is not None
    every = recipe.offline.every_steps * recipe.accumulate
    period, start = divmod(state.step * recipe.accumulate, every)
    while True:
        if state.mined_in != period or state.mined is None:
            state.mined, state.mined_in = _mine(reader.people, state, period), period
        plan = state.mined.numpy()
        if len(plan) == 0:  # nobody is mistaken for anybody: the sampler's batches serve as well
            plan = recipe.sampler.epoch(reader.people.labels, recipe.seed, period)
        plan = plan[np.arange(every) % len(plan)]

        def side_at(batch: int, first: int = period * every) -> int:
            return side(recipe.stages, (first + batch) // recipe.accumulate / state.total)

        yield from reader.batches(plan, period, start, side_at)
        period, start = period + 1, 0


def _mine(people: People, state: State, period: int) -> torch.Tensor:
    """Batches of triplets among a subset of the photos, int64 `(steps, batch)`, by the network as it is."""
    recipe = state.recipe
    assert recipe.offline is not None
    assert recipe.triplet is not None
    generator = np.random.default_rng((recipe.seed, period))
    size = side(recipe.stages, state.step / state.total)
    subset = subset_of(people.labels, recipe.offline, generator)
    vectors, positions = embed_photos(state.trunk, people, subset, size)  # the reader of the batches names damaged ones
    triplets = mine_offline(vectors, people.labels[positions], recipe.offline, recipe.triplet, generator)
    return torch.from_numpy(positions[batches_of(triplets, recipe.sampler.batch)])

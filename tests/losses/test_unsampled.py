"""Unsampled class rows under an optimiser: moved as it says, or frozen (item 20 of the options, U16)."""

import copy
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, AdamW, Optimizer

from facespace.errors import UsageError
from facespace.losses import ArcFace, MarginHead
from facespace.losses.unsampled import freeze_unsampled

OPTIMISERS: dict[str, Callable[[Iterable[Tensor]], Optimizer]] = {
    "sgd": lambda rows: SGD(rows, 0.1, momentum=0.9, weight_decay=0.01),
    "plain sgd": lambda rows: SGD(rows, 0.1, weight_decay=0.01),
    "adamw": lambda rows: AdamW(rows, 0.01, weight_decay=0.1),
    "adagrad": lambda rows: Adagrad(rows, 0.1, weight_decay=0.01),
}


def begin(sample: float = 0.4, centres: int = 1) -> MarginHead:
    """A float64 head of 12 classes; the same rows on every call."""
    torch.manual_seed(4)
    return MarginHead(12, 5, ArcFace(), 8.0, centres=centres, sample=sample).double()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Embeddings and labels of a step."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, 5, generator=g, dtype=torch.float64), torch.randint(12, (3,), generator=g)


def known(optimiser: Optimizer, head: MarginHead) -> dict[str, Tensor]:
    """Copies of the rows and of what is remembered of each."""
    state = optimiser.state[head.weight]
    kept = {name: x for name, x in state.items() if isinstance(x, Tensor) and x.shape == head.weight.shape}
    return {name: x.detach().clone() for name, x in {"weight": head.weight, **kept}.items()}


@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_frozen_rows_and_their_momenta_wait_for_their_next_turn(name: str, centres: int) -> None:
    """Step by step: rows not judged, and what is remembered of them, are to the bit as before.

    Judged ones end as if an optimiser had stepped with the whole gradient from the same state.
    """
    head = begin(centres=centres)
    optimiser = OPTIMISERS[name]([head.weight])
    freeze_unsampled(head, optimiser)
    before = known(optimiser, head)
    for seed in range(8):
        twin = begin(centres=centres)
        follower = OPTIMISERS[name]([twin.weight])
        twin.load_state_dict(head.state_dict())
        follower.load_state_dict(copy.deepcopy(optimiser.state_dict()))  # it keeps the tensors it is given
        for one, by in ((twin, follower), (head, optimiser)):
            by.zero_grad()
            one(*batch(seed)).loss.backward()
        idle = ~head.judged.clone()
        optimiser.step()
        follower.step()
        after = known(optimiser, head)
        for key, values in after.items():
            if key in before:
                assert torch.equal(values[idle], before[key][idle])
            else:
                assert not values[idle].any()
            assert torch.equal(values[~idle], known(follower, twin)[key][~idle])
        assert 0 < int(idle.sum()) < 12
        assert not head.judged.any()
        before = after


def test_without_it_they_move_as_the_optimiser_says() -> None:
    """Weight decay and momentum reach all rows: the default."""
    head = begin()
    optimiser = OPTIMISERS["sgd"]([head.weight])
    for seed in range(2):
        start = head.weight.detach().clone()
        head.judged.zero_()
        optimiser.zero_grad()
        head(*batch(seed)).loss.backward()
        optimiser.step()
        assert (head.weight != start).any(1).all()
        assert not head.judged.all()


def test_batches_of_one_step_count_together() -> None:
    """Gradients that gather over two batches teach the classes of both."""
    head = begin()
    optimiser = OPTIMISERS["sgd"]([head.weight])
    freeze_unsampled(head, optimiser)
    start = head.weight.detach().clone()
    head(*batch(0)).loss.backward()
    first = head.judged.clone()
    head(*batch(1)).loss.backward()
    met = head.judged.clone()
    assert int(met.sum()) > int(first.sum())
    optimiser.step()
    assert torch.equal((head.weight != start).any(1), met)


def test_a_restart_goes_on_with_the_same_steps() -> None:
    """Rows after four steps in one go, and after two, a checkpoint and two."""
    heads = [begin(), begin()]
    optimisers = [OPTIMISERS["sgd"]([head.weight]) for head in heads]
    for head, optimiser in zip(heads, optimisers, strict=True):
        freeze_unsampled(head, optimiser)
    for seed in range(4):
        if seed == 2:
            fresh = begin()
            fresh.load_state_dict(heads[1].state_dict())
            optimiser = OPTIMISERS["sgd"]([fresh.weight])
            optimiser.load_state_dict(copy.deepcopy(optimisers[1].state_dict()))
            freeze_unsampled(fresh, optimiser)
            heads[1], optimisers[1] = fresh, optimiser
        for head, optimiser in zip(heads, optimisers, strict=True):
            optimiser.zero_grad()
            head(*batch(seed)).loss.backward()
            optimiser.step()
    assert torch.equal(heads[0].weight, heads[1].weight)


def test_what_cannot_be_frozen_is_refused() -> None:
    """A head that judges against all classes; an optimiser of something else."""
    head, other = begin(), begin()
    for judged, rows in ((begin(sample=1.0), head.weight), (head, other.weight)):
        with pytest.raises(UsageError) as error:
            freeze_unsampled(judged, SGD([rows], 0.1))
        assert error.value.hint

"""Weights of a finished training that another begins with."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facespace.data.folder import People
from facespace.errors import ModelError
from facespace.losses.head import MarginHead
from facespace.losses.sharded import ShardedHead
from facespace.models.card import write_atomic
from facespace.models.nets.groupface import GroupFace, adopt
from facespace.models.nets.trunks import load_trunk
from facespace.train.recipe import Recipe

TRUNK = "trunk.safetensors"
CLASSES = "classes.safetensors"
"""The class rows of a run, beside its trunk: of use to those who train on the same people."""
SPREAD = 0.1
"""How far apart the sub-centres of a person begin that have one row to begin with, as a share of its length."""


@dataclass(frozen=True)
class Start:
    """What a finished run leaves to others."""

    trunk: dict[str, Tensor]
    rows: Tensor | None
    """Class rows `(C, D)` or `(C, K, D)`, where the file is there."""
    people: tuple[str, ...]
    """The names behind the class rows."""
    digest: str
    """SHA-256 of the weights."""

    @classmethod
    def read(cls, path: Path, recipe: Recipe) -> "Start":
        """From a run's folder or its `trunk.safetensors`.

        Raises ModelError where they are of another trunk than the recipe's; one with groups may begin with one without.
        """
        weights = path / TRUNK if path.is_dir() else path
        trunk, spec = load_trunk(weights)
        theirs, ours = ((one.name, one.size) for one in (spec, recipe.trunk))
        if theirs != ours:
            said = "is {} for {} pixels; the recipe's trunk is {} for {}".format(*theirs, *ours)
            raise ModelError(said, file=weights, hint="a run of a recipe with the same trunk")
        rows, people = read_rows(weights.with_name(CLASSES))
        return cls(trunk.state_dict(), rows, people, hashlib.sha256(weights.read_bytes()).hexdigest())

    def into(self, recipe: Recipe, trunk: nn.Module, head: MarginHead | None, people: People) -> "Begun":
        """Load what fits.

        A harmonic training makes its embedding layer anew, as the paper does. People keep their class rows, by name,
        where there are as many for each, or one, from which several sub-centres begin in small ways apart; not where
        the layer that makes embeddings is new, for the rows lie in the space of the old one.
        """
        anew = embedding_layer(trunk) if recipe.harmonic is not None else ()
        fresh = adopt(trunk, {name: value for name, value in self.trunk.items() if not name.startswith(anew)})
        space = ("instance.",) if isinstance(trunk, GroupFace) else embedding_layer(trunk)
        if head is None or self.rows is None or any(name.startswith(space) for name in fresh):
            return Begun(fresh, 0)
        place = {name: i for i, name in enumerate(self.people)}
        known = [(new, place[name]) for new, name in enumerate(people.names) if name in place]
        own = head.own if isinstance(head, ShardedHead) else range(len(people.names))
        to, of = (torch.tensor([pair[i] for pair in known if pair[0] in own], dtype=torch.int64) for i in (0, 1))
        taken = _begin_rows(head.weight, to - own.start, of, self.rows)
        return Begun(fresh, len(known) if taken else 0)


@dataclass(frozen=True)
class Begun:
    """What a training begins with."""

    fresh: list[str]
    """Names of the tensors of the trunk that are new."""
    known: int
    """People whose class rows are those of the start."""


@torch.no_grad()
def _begin_rows(weight: Tensor, to: Tensor, of: Tensor, rows: Tensor) -> bool:
    """Put the class rows `of` `(M,)` of `rows` `(C, D)` or `(C, K, D)` to the places `to` `(M,)` of those of a head;
    whether they fit.
    """
    given = rows[of].to(weight.device)
    if rows.shape[1:] == weight.shape[1:]:
        weight[to] = given
        return True
    if weight.ndim != 3 or rows.shape[1:] != weight.shape[2:]:
        return False
    one = given[:, None]  # (M, 1, D)
    weight[to] = one + SPREAD * one.norm(dim=2, keepdim=True) * nn.functional.normalize(weight[to], dim=2)
    return True


def embedding_layer(trunk: nn.Module) -> tuple[str, ...]:
    """How the names begin of what makes embeddings: the last linear layer and what follows it, or, under groups, all
    that lies above the shared feature.
    """
    if isinstance(trunk, GroupFace):
        return tuple(f"{name}." for name, _ in trunk.named_children() if name != "trunk")
    layers = [(name, layer) for name, layer in trunk.named_modules() if not list(layer.children())]
    last = max(i for i, (_, layer) in enumerate(layers) if isinstance(layer, nn.Linear))
    return tuple(f"{name}." for name, _ in layers[last:])


def save_rows(path: Path, head: MarginHead, people: People) -> None:
    """Write the class rows of a run, with the names of its people."""
    from safetensors.torch import save

    # One key: safetensors writes several in an order of chance, and equal runs should leave equal files.
    write_atomic(path, save({"weight": head.weight.detach().cpu().contiguous()}, {"people": json.dumps(people.names)}))


def read_rows(path: Path) -> tuple[Tensor | None, tuple[str, ...]]:
    """(class rows or None, names behind them); ModelError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None, ()
    try:
        with safe_open(path, framework="pt") as file:
            rows, people = file.get_tensor("weight"), tuple(map(str, json.loads((file.metadata() or {})["people"])))
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OSError) as error:
        raise ModelError(
            f"not the class rows of a run ({error})", file=path, hint="remove it, or train again"
        ) from error
    if len(people) != len(rows):
        raise ModelError(f"{len(rows)} class rows of {len(people)} people", file=path, hint="remove it, or train again")
    return rows, people

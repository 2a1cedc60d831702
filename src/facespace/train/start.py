"""Weights of a finished training that another begins with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facespace.data.folder import People
from facespace.errors import ModelError
from facespace.losses.head import MarginHead
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
    people: str
    """Digest of the names behind the class rows."""
    digest: str
    """SHA-256 of the weights."""

    @classmethod
    def read(cls, path: Path, recipe: Recipe) -> "Start":
        """From a run's folder or its `trunk.safetensors`.

        Raises ModelError where they are of another trunk than the recipe's; one with groups may begin with one without.
        """
        weights = path / TRUNK if path.is_dir() else path
        trunk, spec = load_trunk(weights)
        if (spec.name, spec.size) != (recipe.trunk.name, recipe.trunk.size):
            raise ModelError(f"is of {spec}, the recipe's trunk is {recipe.trunk}", file=weights)
        rows, people = read_rows(weights.with_name(CLASSES))
        return cls(trunk.state_dict(), rows, people, hashlib.sha256(weights.read_bytes()).hexdigest())

    def into(self, recipe: Recipe, trunk: nn.Module, head: MarginHead | None, people: People) -> list[str]:
        """Load what fits; names of the tensors of the trunk that stay fresh.

        A harmonic training makes its embedding layer anew, as the paper does. Class rows are taken where they are of
        the same people and as many for each; or one, from which several sub-centres begin in small ways apart.
        """
        anew = embedding_layer(trunk) if recipe.harmonic is not None else ()
        fresh = adopt(trunk, {name: value for name, value in self.trunk.items() if not name.startswith(anew)})
        if head is not None and self.rows is not None and self.knows(people):
            _begin_rows(head.weight, self.rows)
        return fresh

    def knows(self, people: People) -> bool:
        """Whether it has class rows, and these are of the same people."""
        return self.rows is not None and self.people == names_digest(people)


@torch.no_grad()
def _begin_rows(weight: Tensor, rows: Tensor) -> None:
    """Class rows `(C, D)` or `(C, K, D)` into those of a head, where they fit; its own are random."""
    if rows.shape == weight.shape:
        weight.copy_(rows)
    elif weight.ndim == 3 and rows.shape == weight[:, 0].shape:
        one = rows.to(weight.device)[:, None]  # (C, 1, D)
        weight.copy_(one + SPREAD * one.norm(dim=2, keepdim=True) * nn.functional.normalize(weight, dim=2))


def embedding_layer(trunk: nn.Module) -> tuple[str, ...]:
    """How the names begin of what makes embeddings: the last linear layer and what follows it, or, under groups, all
    that lies above the shared feature.
    """
    if isinstance(trunk, GroupFace):
        return tuple(f"{name}." for name, _ in trunk.named_children() if name != "trunk")
    layers = [(name, layer) for name, layer in trunk.named_modules() if not list(layer.children())]
    last = max(i for i, (_, layer) in enumerate(layers) if isinstance(layer, nn.Linear))
    return tuple(f"{name}." for name, _ in layers[last:])


def names_digest(people: People) -> str:
    """Digest of the people's names in the order of their labels."""
    return hashlib.sha256("\n".join(people.names).encode("utf-8", "surrogateescape")).hexdigest()


def save_rows(path: Path, head: MarginHead, people: People) -> None:
    """Write the class rows of a run."""
    from safetensors.torch import save

    # One key: safetensors writes several in an order of chance, and equal runs should leave equal files.
    write_atomic(path, save({"weight": head.weight.detach().cpu().contiguous()}, {"people": names_digest(people)}))


def read_rows(path: Path) -> tuple[Tensor | None, str]:
    """(class rows or None, digest of the names behind them); ModelError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None, ""
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("weight"), (file.metadata() or {})["people"]
    except (SafetensorError, KeyError, OSError) as error:
        raise ModelError(
            f"not the class rows of a run ({error})", file=path, hint="remove it, or train again"
        ) from error

"""A plan of ablations: recipes that differ in one thing, trained from one start with several seeds, and compared."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from facespace.errors import UsageError
from facespace.train.recipe import Recipe

Similarity = Literal["own", "cosine"]
"""`own`: the model's, group-aware where it is one; `cosine`: of the embeddings alone."""


@dataclass(frozen=True)
class Variant:
    """One row of the table: a recipe, what it begins with, and how its vectors are compared.

    Variants that differ in name, note and similarity alone share their trainings.
    """

    name: str
    """Of letters, digits, `.`, `_` and `-`: it becomes part of a folder's name."""
    recipe: Recipe
    """Its seed is replaced by each of the plan's."""
    start: str | None = None
    """The variant, listed before, whose weights this one begins with: None means the plan's first start, if any."""
    similarity: Similarity = "own"
    """How two vectors are compared."""
    clean_with: str | None = None
    """A variant with sub-centres, listed before: this one learns only from the photos near its dominant centres."""
    note: str = ""
    """A sentence for the table."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UsageError(f"{self.name!r} cannot name a folder", hint="letters, digits, '.', '_' and '-'")
        if self.similarity not in get_args(Similarity):
            raise UsageError(f"similarity {self.similarity!r} is unknown", hint="own or cosine")

    @property
    def training(self) -> tuple[Recipe, str | None, str | None]:
        """What decides the training: variants in which it is the same share it."""
        return self.recipe, self.start, self.clean_with

    @property
    def builds_on(self) -> tuple[str, ...]:
        """Names of the variants whose trainings must be finished before."""
        return tuple(name for name in (self.start, self.clean_with) if name is not None)


@dataclass(frozen=True)
class Run:
    """One training of a plan."""

    variant: Variant
    seed: int
    start: str | None = None
    """Name of the run whose weights it begins with."""
    clean_with: str | None = None
    """Name of the run whose sub-centres tell which photos it learns from."""

    @property
    def name(self) -> str:
        """The folder of the run within that of its plan."""
        return f"{self.variant.name}-seed{self.seed}"

    @property
    def recipe(self) -> Recipe:
        """The variant's, with the seed of this run."""
        return dataclasses.replace(self.variant.recipe, seed=self.seed)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the runs that must be finished before."""
        return tuple(name for name in (self.start, self.clean_with) if name is not None)


@dataclass(frozen=True)
class Plan:
    """Variants that are compared with each other on the same people; contradictions raise UsageError."""

    name: str
    variants: tuple[Variant, ...]
    seeds: int = 3
    """Each variant is trained with seeds 0, 1, ..."""
    start: tuple[Variant, ...] = ()
    """Trained first and once, with seed 0; variants begin with the weights of the first of them unless they name
    another."""
    comparisons: tuple[tuple[str, str], ...] = ()
    """Pairs (variant, baseline) whose difference the table shows, seed by seed on the same people."""
    judged_fars: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    """False accept rates at which the true accept rate is shown."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.all]
        double = sorted({name for name in names if names.count(name) > 1})
        if double or not self.variants or self.seeds < 1:
            raise UsageError(f"plan {self.name!r} needs variants of different names and a seed", hint=", ".join(double))
        for place, variant in enumerate(self.all):
            if unknown := set(variant.builds_on) - set(names[:place]):
                raise UsageError(f"variant {variant.name!r} builds on {sorted(unknown)}, not listed before it")
            if variant.clean_with is not None:
                _check_cleaning(variant, self.variant(variant.clean_with))
        if unknown := {name for pair in self.comparisons for name in pair} - set(names):
            raise UsageError(f"plan {self.name!r} compares {sorted(unknown)}, which it does not hold")
        if not all(0 < far < 1 for far in self.judged_fars):
            raise UsageError(f"plan {self.name!r}: false accept rates lie between 0 and 1")

    @property
    def all(self) -> tuple[Variant, ...]:
        """Starts and variants."""
        return (*self.start, *self.variants)

    def variant(self, name: str) -> Variant:
        """The variant, or start, of that name."""
        return next(variant for variant in self.all if variant.name == name)

    def only(self, pattern: str) -> "Plan":
        """The plan with the variants whose names match a pattern such as `arc*`, and those that they build on."""
        kept = {variant.name for variant in self.variants if fnmatchcase(variant.name, pattern)}
        if not kept:
            hint = "one of: " + ", ".join(variant.name for variant in self.variants)
            raise UsageError(f"no variant of {self.name!r} matches {pattern!r}", hint=hint)
        for variant in reversed(self.variants):  # what is built on, or trained for several, stands before
            if variant.name in kept:
                kept |= {self.trained_as(variant).name, *variant.builds_on}
        start = tuple(first for i, first in enumerate(self.start) if i == 0 or first.name in kept)
        variants = tuple(variant for variant in self.variants if variant.name in kept)
        names = {variant.name for variant in (*start, *variants)}
        pairs = tuple(pair for pair in self.comparisons if names.issuperset(pair))
        return dataclasses.replace(self, variants=variants, start=start, comparisons=pairs)

    def runs(self) -> Iterator[Run]:
        """All trainings, starts first, then seed by seed; those that variants share come once."""
        yield from (Run(first, 0, self._run(first.start, 0)) for first in self.start)
        for seed in range(self.seeds):
            for variant in self.variants:
                if self.trained_as(variant) is variant:
                    yield self.run(variant, seed)

    def run(self, variant: Variant, seed: int) -> Run:
        """The training behind a variant, which may be another's."""
        own = self.trained_as(variant)
        first = self.start[0].name if self.start and variant not in self.start else None
        return Run(own, seed, self._run(own.start or first, seed), self._run(own.clean_with, seed))

    def trained_as(self, variant: Variant) -> Variant:
        """The first variant with the same training."""
        alike = self.start if variant in self.start else self.variants
        return next(other for other in alike if other.training == variant.training)

    def seeds_of(self, variant: Variant) -> range:
        """Seeds that a variant, or a start, is trained with."""
        return range(1 if variant in self.start else self.seeds)

    def _run(self, name: str | None, seed: int) -> str | None:
        """Name of the run of a variant for a seed: starts have but one, and shared trainings the name of the first."""
        if name is None:
            return None
        variant = self.variant(name)
        return Run(self.trained_as(variant), 0 if variant in self.start else seed).name


def _check_cleaning(variant: Variant, other: Variant) -> None:
    """Refuse to clean with a training that has no sub-centres, or knew other people or other wrong names."""
    recipe, its = variant.recipe, other.recipe
    same = (recipe.mislabelled, recipe.held_out) == (its.mislabelled, its.held_out)
    if its.labels is None or its.labels.centres == 1 or not same:
        hint = "a recipe with centres > 1 and the same mislabelled and held_out"
        raise UsageError(f"variant {variant.name!r} cannot be cleaned with {other.name!r}", hint=hint)

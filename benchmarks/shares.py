"""How often two intervals of a share hold the truth where trials share people: Wilson's, and Korn and Graubard's.

    python benchmarks/shares.py [--sets 1000] [--seed 0]

Both are given as many independent trials as have the variance over people (`facespace.core.dependence`). Trials are of
one person, with 1 to 7 trials and a rate of his own (beta law), or of two, whose traits add up (normal, or Student's
with 3 degrees), people coming evenly or some more often. Prints one JSON document: coverage in each case, and the least
and most of each kind.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.dependence import share_over_people
from facespace.core.intervals import wilson_share

WAYS = ("wilson", "korn_graubard")


@dataclass(frozen=True)
class One:
    """Trials of one person each; `alike` is the correlation of two of the same person."""

    people: int
    rate: float
    alike: float
    kind: str = "one person"

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.bool_], list[NDArray[np.int64]]]:
        """Hits, and the person of each trial."""
        own, more = np.full(self.people, self.rate), 1 / self.alike - 1 if self.alike else 0
        if more:
            own = rng.beta(self.rate * more, (1 - self.rate) * more, self.people)
        who = np.repeat(np.arange(self.people), rng.integers(1, 8, self.people))
        return rng.random(who.size) < own[who], [who]


@dataclass(frozen=True)
class Two:
    """Trials of two people: hits where their traits and noise of standard deviation 1 pass a threshold."""

    people: int
    pairs: int
    rate: float
    spread: float
    fame: float
    kind: str

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.bool_], list[NDArray[np.int64]]]:
        """Hits, and both people of each trial."""
        often = np.arange(1, self.people + 1) ** -self.fame
        a = rng.choice(self.people, self.pairs, p=often / often.sum())
        b = (a + rng.integers(1, self.people, self.pairs)) % self.people
        traits = self._traits(rng, self.people)
        return traits[a] + traits[b] + rng.normal(size=self.pairs) >= self._threshold(), [a, b]

    def _traits(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        heavy = "heavy" in self.kind
        return self.spread * (rng.standard_t(3, count) / np.sqrt(3) if heavy else rng.normal(size=count))

    def _threshold(self) -> float:
        key = (self.kind, self.rate, self.spread)
        if key not in THRESHOLDS:
            rng = np.random.default_rng(999)
            many = self._traits(rng, 4_000_000).reshape(2, -1).sum(0) + rng.normal(size=2_000_000)
            THRESHOLDS[key] = float(np.quantile(many, 1 - self.rate))
        return THRESHOLDS[key]


THRESHOLDS: dict[tuple[str, float, float], float] = {}


def main() -> None:
    """Simulate all cases, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    found = [
        {**asdict(case), **covered(case, chosen.sets, np.random.default_rng([chosen.seed, number]))}
        for number, case in enumerate(cases())
    ]
    kinds = dict.fromkeys(case["kind"] for case in found)
    ends = {kind: {way: least_and_most(found, kind, way) for way in WAYS} for kind in kinds}
    json.dump({"sets": chosen.sets, "seed": chosen.seed, "least_and_most": ends, "cases": found}, sys.stdout, indent=2)


def cases() -> list[One | Two]:
    """Few and many people, rare and common errors."""
    rates = product((10, 30, 100, 400), (0.3, 0.05, 0.01, 0.002), (0.0, 0.1, 0.4))
    ones = [One(people, rate, alike) for people, rate, alike in rates if 4 * people * rate >= 1]
    sizes = ((20, 150), (60, 400), (400, 600), (100, 3000))
    shapes = product(("two, normal", "two, heavy tails"), (0.0, 0.7), sizes, (0.1, 0.01), (0.3, 0.7))
    return [*ones, *(Two(*size, rate, spread, fame, kind) for kind, fame, size, rate, spread in shapes)]


def covered(case: One | Two, sets: int, rng: np.random.Generator) -> dict[str, float]:
    """The share of intervals of either way that hold the rate."""
    held = dict.fromkeys(WAYS, 0)
    for _ in range(sets):
        hits, people = case.draw(rng)
        share = share_over_people(hits, *people)
        flat = share.rate in (0, 1)  # Wilson's was given all trials there
        both = wilson_share(share.rate, hits.size if flat else share.effective), share.ci95
        for way, (low, high) in zip(WAYS, both, strict=True):
            held[way] += low <= case.rate <= high
    return {way: count / sets for way, count in held.items()}


def least_and_most(found: list[dict[str, Any]], kind: str, way: str) -> tuple[float, float]:
    """Coverage of a way over all cases of a kind."""
    values = [case[way] for case in found if case["kind"] == kind]
    return min(values), max(values)


if __name__ == "__main__":
    main()

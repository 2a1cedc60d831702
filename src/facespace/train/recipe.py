"""Every setting of a training as frozen dataclasses; contradictions are refused when a recipe is made."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from facespace.data.augment import Augment
from facespace.data.sampler import Sampler, Shuffled
from facespace.errors import UsageError
from facespace.losses.broadface import Memory
from facespace.losses.groupface import GroupLabels
from facespace.losses.harmonic import Harmonic
from facespace.losses.head import AnyMargin, check_margin
from facespace.losses.offline import Offline
from facespace.losses.subcentres import DropSettings
from facespace.losses.term import Auxiliary
from facespace.losses.triplet import Triplet
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.schedule import Cosine, Resolution, Schedule, check_stages

Unsampled = Literal["move", "frozen"]
"""Class rows that a batch was not judged against: moved by momentum and weight decay, or left as they are."""


@dataclass(frozen=True)
class Labels:
    """Learning from who is in the photo, with a margin-softmax over the training people."""

    margin: AnyMargin
    """The margin in full force."""
    scale: float = 64.0
    """Scale s of the cosines."""
    learn_scale: bool = False
    """Whether s is learned from there (NormFace)."""
    centres: int = 1
    """Sub-centres of each person (sub-centre ArcFace: 3)."""
    pool_others: bool = True
    """Whether other people too are judged by their nearest sub-centre, or all of these stand in the softmax."""
    sample: float = 1.0
    """Share of the people that a batch is judged against, its own always among them (Partial FC: 0.1)."""
    unsampled: Unsampled = "move"
    """What the optimiser does with the class rows of the others; the first code of Partial FC froze them."""
    growth: tuple[float, float] = (0.0, 0.0)
    """The margin grows linearly from nothing to full between these shares of the training."""
    weight: float = 1.0
    """Weight of this loss in the sum."""

    def __post_init__(self) -> None:
        start, end = self.growth
        if not 0 <= start <= end <= 1 or not self.weight > 0:
            raise UsageError(
                f"labels: growth {self.growth} and weight {self.weight} need 0 <= start <= end <= 1 and > 0"
            )
        if self.unsampled not in get_args(Unsampled) or (self.unsampled == "frozen" and self.sample == 1):
            hint = "move, or frozen with sample < 1"
            raise UsageError(f"labels: unsampled = {self.unsampled!r} with sample = {self.sample}", hint=hint)
        if not self.pool_others and self.centres == 1:
            raise UsageError("labels: one sub-centre of each person has nothing to pool", hint="centres > 1")
        check_margin(self.margin, self.centres, self.sample, self.learn_scale)


@dataclass(frozen=True)
class Teacher:
    """Learning from the vectors of a better embedder, beside or instead of labels."""

    vector_weight: float = 1.0
    """Weight of 1 - cosine to the teacher's vector."""
    matrix_weight: float = 1.0
    """Weight of the squared difference of the batch's similarity matrices."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum."""

    rate: float = 0.1
    """Base learning rate."""
    momentum: float = 0.9
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay."""

    rate: float = 1e-3
    """Base learning rate."""
    weight_decay: float = 0.05


@dataclass(frozen=True)
class Adam:
    """Adam, with weight decay as a part of the gradient."""

    rate: float = 1e-3
    """Base learning rate."""
    weight_decay: float = 0.0


@dataclass(frozen=True)
class AdaGrad:
    """AdaGrad, as FaceNet was trained."""

    rate: float = 0.05
    """Base learning rate."""
    initial: float = 0.1
    """What each sum of squared gradients begins with; TensorFlow's value, the paper gives none.

    From 0 the first step moves every weight by the whole rate, however small its gradient: at 0.05 that brings a
    network of FaceNet to the brink of collapse, and it hardly recovers (docs/recipes.md).
    """

    def __post_init__(self) -> None:
        if not 0 <= self.initial < math.inf:
            raise UsageError(f"AdaGrad cannot begin with {self.initial} squared gradients", hint="initial >= 0")


@dataclass(frozen=True)
class Recipe:
    """All that decides a training besides its data: the same recipe on the same data gives the same weights."""

    name: str
    """Under which the recipe is asked for."""
    trunk: TrunkSpec
    """The network."""
    epochs: float
    """Passes over the training photos (of a sampler's epochs); a fraction is allowed."""
    labels: Labels | None = None
    """Margin-softmax on the people, or none."""
    memory: Memory | None = None
    """BroadFace's queue, for the class rows of `labels` to learn from, or none."""
    group_labels: GroupLabels | None = None
    """GroupFace's second loss, for a trunk with groups, or none."""
    auxiliary: tuple[Auxiliary, ...] = ()
    """Terms beside the main loss."""
    triplet: Triplet | None = None
    """FaceNet's loss, or none."""
    offline: Offline | None = None
    """Batches made of triplets that were mined with the network of some steps ago, or none."""
    harmonic: Harmonic | None = None
    """Vectors that can be compared with those of an older model, which is named as the teacher at the command."""
    teacher: Teacher | None = None
    """A teacher's vectors as targets, or none; which teacher is said at the command."""
    sampler: Sampler = field(default_factory=Shuffled)
    """Which photos make a batch."""
    augment: Augment = field(default_factory=Augment)
    """What may happen to a training face."""
    optimiser: SGD | AdamW | Adam | AdaGrad = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Cosine)
    """Learning rate over the training, as a share of the base rate."""
    warmup: float = 0.02
    """Share of the training in which the rate rises from 0."""
    resolutions: tuple[Resolution, ...] = ()
    """Side of the faces by progress; empty means the trunk's own size throughout."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step."""
    clip_norm: float = 5.0
    """Gradients of the trunk longer than this are shortened; 0 turns it off."""
    autocast: Literal["off", "auto", "bf16"] = "off"
    """bf16 arithmetic in the trunk: never, where a probe finds it faster, or always."""
    held_out: int = 100
    """People kept out of the training to choose among its states."""
    cleaning: DropSettings = field(default_factory=DropSettings)
    """Which photos a run with sub-centres is taken to doubt; which run is said at the command."""
    mislabelled: float = 0.0
    """Share of the training photos that are given somebody else's name, to learn what noise does."""
    seed: int = 0

    def __post_init__(self) -> None:
        for forbidden, what, hint in self._contradictions():
            if forbidden:
                raise UsageError(f"recipe {self.name!r}: {what}", hint=hint)
        for fits, what, value, range_ in self._ranges():
            if not fits:
                raise UsageError(f"recipe {self.name!r}: {what} = {value:g}", hint=f"{what} {range_}")
        check_stages(self.stages, self.trunk.size)

    def _contradictions(self) -> Iterator[tuple[bool, str, str]]:
        """What cannot be put together: (whether this recipe does, in words, what to do)."""
        labels, groups = self.labels, self.trunk.groups
        mined, pairs = self.triplet or self.harmonic, not isinstance(self.sampler, Shuffled)
        has_goal = labels or mined or self.teacher
        yield not has_goal, "there is nothing to learn from", "labels, triplet, harmonic or teacher"
        yield bool(mined) and not pairs, "triplets need batches of people by photos", "sampler=PeopleByPhotos(...)"
        yield self.offline is not None and self.triplet is None, "offline mining needs a triplet loss", "triplet=..."
        yield self.memory is not None and labels is None, "a queue teaches class rows, and there are none", "labels=..."
        yield (
            self.memory is not None and labels is not None and labels.sample < 1,
            "a queue is for all people to see, not for a sample of them",
            "sample=1, or no memory",
        )
        count = 0 if groups is None else groups.count
        yield self.group_labels is not None and count == 0, "group labels need groups", "trunk=TrunkSpec(groups=...)"
        reads = [term.name for term in self.auxiliary if term.reads_classes]
        plain_rows = labels is not None and labels.centres == 1 and labels.margin.normalised
        yield bool(reads) and not plain_rows, f"{reads} compare with class rows", "labels with a margin, centres=1"
        names = [term.name for term in self.auxiliary]
        yield len(set(names)) < len(names), f"a term comes twice in {names}", "give it once, with its weight"
        yield not 0 <= self.mislabelled < 1, f"mislabelled = {self.mislabelled}", "a share in 0..1 without 1"

    def _ranges(self) -> Iterator[tuple[bool, str, float, str]]:
        """Numbers: (whether it is in its range, its name, itself, the range in words)."""
        yield 0 < self.epochs < math.inf, "epochs", self.epochs, "> 0"
        yield self.accumulate >= 1, "accumulate", self.accumulate, ">= 1"
        yield 0 <= self.warmup < 1, "warmup", self.warmup, ">= 0 and < 1"
        yield self.held_out >= 0, "held_out", self.held_out, ">= 0"
        yield self.optimiser.rate > 0, "rate", self.optimiser.rate, "> 0"
        yield self.clip_norm >= 0, "clip_norm", self.clip_norm, ">= 0"
        yield self.seed >= 0, "seed", self.seed, ">= 0"

    @property
    def wants_teacher(self) -> bool:
        """Whether the command must name a model whose vectors are learnt from."""
        return self.teacher is not None or self.harmonic is not None

    def steps(self, per_epoch: int) -> int:
        """Steps of the whole training, where an epoch has so many batches."""
        return max(1, round(self.epochs * per_epoch) // self.accumulate)

    @property
    def stages(self) -> tuple[Resolution, ...]:
        """The resolutions, with the default filled in."""
        return self.resolutions or (Resolution(0.0, self.trunk.size),)

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values; each choice carries the name of its class under `kind`."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain

    @property
    def digest(self) -> str:
        """Short id of all settings: a run folder belongs to one of them."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {
            f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value

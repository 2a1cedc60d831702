"""The papers' trainings with their published settings, in one table; docs/recipes.md marks what was not published.

None of them was run here: their photos are not ours to ship, and two cores would not see their end. Lengths are those
of the published data: an epoch of other photos is another number of steps, and the rate falls at the same shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from facespace.data.augment import Augment
from facespace.data.sampler import FaceNetBatches, PeopleByPhotos, Shuffled
from facespace.losses.adaptive import AdaFace, AnnealedSphereFace, CurricularFace, MagFace, MVSoftmax
from facespace.losses.agents import Inter, Intra
from facespace.losses.broadface import Memory
from facespace.losses.groupface import GroupLabels
from facespace.losses.harmonic import Harmonic
from facespace.losses.head import AnyMargin
from facespace.losses.margins import ArcFace, Combined, CosFace, NormFace, Softmax, SphereFace
from facespace.losses.term import Auxiliary
from facespace.losses.triplet import Triplet
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.recipe import SGD, AdaGrad, Adam, Labels, Recipe
from facespace.train.schedule import Polynomial, Steps


@dataclass(frozen=True)
class Source:
    """The photos of a paper, as it counts them; none are shipped."""

    name: str
    photos: int
    people: int


FACENET = Source("FaceNet's own", 200_000_000, 8_000_000)
"""100 to 200 million photos of about 8 million people, which nobody else has."""
CASIA = Source("CASIA-WebFace", 490_000, 10_572)
MS1MV2 = Source("MS1MV2", 5_822_653, 85_742)
MS1MV0 = Source("MS1MV0", 10_000_000, 100_000)
"""MS-Celeb-1M as it was collected, in round numbers."""
MS1M_V1C = Source("MS-Celeb-1M-v1c-r", 3_280_000, 72_778)
GLINT360K = Source("Glint360K", 17_091_657, 360_232)
PRODUCTS = Source("Stanford Online Products", 59_551, 11_318)
"""The half to learn from."""


@dataclass(frozen=True)
class Published:
    """A recipe with what it is meant for."""

    recipe: Recipe
    source: Source
    twin: str
    """The small recipe that does the same."""
    start: str = ""
    """The recipe whose run it begins with, if any."""
    teacher: str = ""
    """The recipe whose model its vectors must be comparable with, if any."""

    @property
    def steps(self) -> int:
        """Steps of the whole training on the published data."""
        sampler = self.recipe.sampler
        if isinstance(sampler, Shuffled):
            return self.recipe.steps(self.source.photos // sampler.batch)
        return self.recipe.steps(self.source.people // sampler.people)

    @property
    def photos_seen(self) -> int:
        """Faces that pass the network in training."""
        return self.steps * self.recipe.sampler.batch


R18, R34 = TrunkSpec("iresnet18", dim=128), TrunkSpec("iresnet34")
R50, R100 = TrunkSpec("iresnet50"), TrunkSpec("iresnet100")


def _plain(name: str, trunk: TrunkSpec, epochs: float, **settings: Any) -> Recipe:
    """A recipe without what none of the papers has: no warm-up, no shortened gradients, nobody held out."""
    return Recipe(name, trunk, epochs, **{"warmup": 0.0, "clip_norm": 0.0, "held_out": 0} | settings)


def _facenet(name: str, trunk: TrunkSpec, **changes: Any) -> Recipe:
    """Section 3.2: all pairs of some 40 photos of a person, random negatives, 1,800 faces a batch; AdaGrad."""
    settings = {"triplet": Triplet(), "optimiser": AdaGrad(0.05), "schedule": Steps((0.9,)), "augment": Augment(0.0)}
    return _plain(name, trunk, 1, sampler=FaceNetBatches(40, 40, 200), **settings | changes)


def _named(
    name: str,
    trunk: TrunkSpec,
    margin: AnyMargin,
    per_epoch: int,
    falls: tuple[int, ...],
    end: int,
    scale: float = 64.0,
    batch: int = 512,
    rate: float = 0.1,
    **changes: Any,
) -> Recipe:
    """Names learnt with SGD, a tenth of the rate after each of `falls`, until `end`.

    Both are counted in iterations, of which an epoch has `per_epoch`; or in epochs, where that is 1.
    """
    settings: dict[str, Any] = {
        "labels": Labels(margin, scale),
        "sampler": Shuffled(batch),
        "optimiser": SGD(rate),
        "schedule": Steps(tuple(fall / end for fall in falls)),
    }
    return _plain(name, trunk, end / per_epoch, **settings | changes)


def _on_casia(name: str, margin: AnyMargin, scale: float = 64.0, **changes: Any) -> Recipe:
    """The comparisons of ArcFace: 32,000 iterations, the rate falls after 20,000 and 28,000."""
    return _named(f"{name}_r50_casia", R50, margin, CASIA.photos // 512, (20_000, 28_000), 32_000, scale, **changes)


def _on_ms1m(name: str, margin: AnyMargin, trunk: TrunkSpec = R100, source: Source = MS1MV2, **changes: Any) -> Recipe:
    """ArcFace on a large set: 180,000 iterations, the rate falls after 100,000 and 160,000."""
    return _named(name, trunk, margin, source.photos // 512, (100_000, 160_000), 180_000, **changes)


def _tuned(name: str, trunk: TrunkSpec, margin: AnyMargin | None = None, batch: int = 512, **changes: Any) -> Recipe:
    """GroupFace and BroadFace go on from a finished training: 50,000, 20,000 and 10,000 iterations from 5e-3 on."""
    per_epoch, margin = MS1MV2.photos // batch, margin or ArcFace(0.5)
    return _named(name, trunk, margin, per_epoch, (50_000, 70_000), 80_000, batch=batch, rate=5e-3, **changes)


def _grouped(count: int, **changes: Any) -> TrunkSpec:
    return TrunkSpec("iresnet100", groups=Groups(count, 4096, 256, **changes))


def _of_facenet() -> Iterator[Published]:
    for name, size in (("nn1", 220), ("nn2", 224), ("nn3", 160), ("nn4", 96), ("nns1", 165), ("nns2", 140)):
        recipe = _facenet(f"facenet_{name}", TrunkSpec(f"facenet_{name}", size, 128))
        yield Published(recipe, FACENET, "facenet_small")
    newer = TrunkSpec("facenet_nn2", 224, 128)
    harmonic = _facenet("facenet_harmonic", newer, triplet=None, harmonic=Harmonic())
    yield Published(harmonic, FACENET, "harmonic_small", start="facenet_nn2", teacher="facenet_nn1")


def _of_arcface() -> Iterator[Published]:
    twins: dict[str, AnyMargin] = {
        "softmax": Softmax(),
        "normface": NormFace(),
        "sphereface": SphereFace(1.35, past_pi="none"),
        "cosface": CosFace(0.35),
        "arcface": ArcFace(0.5),
        "cm1": Combined(1.0, 0.3, 0.2),
        "cm2": Combined(0.9, 0.4, 0.15),
    }
    for name, margin in twins.items():
        yield Published(_on_casia(name, margin), CASIA, f"{name}_small")
    for percent in (40, 45, 55):
        yield Published(_on_casia(f"arcface_m{percent}", ArcFace(percent / 100)), CASIA, "arcface_small")
    yield Published(_on_casia("normface_s20", NormFace(), 20.0), CASIA, "normface_small")
    terms: dict[str, tuple[Auxiliary, ...]] = {
        "intra": (Intra(),),
        "inter": (Inter(),),
        "intra_inter": (Intra(), Inter()),
    }
    for name, auxiliary in terms.items():
        yield Published(_on_casia(f"normface_{name}", NormFace(), auxiliary=auxiliary), CASIA, "normface_small")
        yield Published(_on_casia(f"arcface_{name}", ArcFace(0.5), auxiliary=auxiliary), CASIA, "arcface_small")
    yield Published(_angular_triplets(), CASIA, "triplet_small", start="softmax_r50_casia")
    falls, end = (16_000, 24_000), 28_000
    annealed = _named("sphereface_annealed_r50_casia", R50, AnnealedSphereFace(), CASIA.photos // 512, falls, end)
    yield Published(annealed, CASIA, "sphereface_annealed_small")
    for name, at_scale in (("arcface", ArcFace(0.5)), ("cosface", CosFace(0.35))):
        yield Published(_on_ms1m(f"{name}_r100_ms1mv2", at_scale), MS1MV2, f"{name}_small")


def _angular_triplets() -> Recipe:
    """The triplet loss on angles that ArcFace is compared with, five photos of a person; begins with softmax."""
    sampler = PeopleByPhotos(102, 5)
    return _plain(
        "triplet_r50_casia",
        R50,
        32_000 / (CASIA.people // sampler.people),
        triplet=Triplet(0.35, negatives="semihard_random", metric="angle"),
        sampler=sampler,
        optimiser=SGD(5e-3),
        schedule=Steps((20_000 / 32_000, 28_000 / 32_000)),
    )


def _of_many_people() -> Iterator[Published]:
    """Sub-centres against wrong names, sampled classes against their number."""
    plain = _on_ms1m("arcface_r50_ms1mv0", ArcFace(0.5), R50, MS1MV0)
    yield Published(plain, MS1MV0, "arcface_small")
    centres = replace(plain, name="subcentre_arcface_r50", labels=Labels(ArcFace(0.5), centres=3))
    yield Published(centres, MS1MV0, "subcentre_small")
    sampled = _plain(
        "partial_fc_r100",
        R100,
        20,
        labels=Labels(CosFace(0.4), sample=0.1),
        sampler=Shuffled(1024),
        optimiser=SGD(0.1, weight_decay=1e-4),
        schedule=Polynomial(2.0),
        clip_norm=5.0,
        autocast="auto",
    )
    yield Published(sampled, GLINT360K, "partial_fc_small")
    everyone = replace(sampled, name="cosface_r100_glint360k", labels=Labels(CosFace(0.4)))
    yield Published(everyone, GLINT360K, "cosface_small")


def _of_groupface() -> Iterator[Published]:
    yield Published(_on_ms1m("groupface_start_r100", ArcFace(0.5), _grouped(0)), MS1MV2, "groupface_start_small")
    learned = GroupLabels("self_distributed", 32, 0.1)
    variants: dict[str, tuple[TrunkSpec, GroupLabels | None]] = {
        "groupface_r100": (_grouped(32), learned),
        "groupface_r100_hard": (_grouped(32, mode="hard"), learned),
        "groupface_r100_k4": (_grouped(4), learned),
        "groupface_r100_k16": (_grouped(16), learned),
        "groupface_r100_naive": (_grouped(32), replace(learned, mode="naive")),
        "groupface_r100_no_labels": (_grouped(32), None),
    }
    for name, (trunk, group_labels) in variants.items():
        recipe = _tuned(name, trunk, batch=1024, group_labels=group_labels)
        yield Published(recipe, MS1MV2, "groupface_small", start="groupface_start_r100")


def _of_broadface() -> Iterator[Published]:
    twin, memory = "broadface_small", Memory(32_768)
    queues = {
        "": memory,
        "_8k": Memory(8_192),
        "_2k": Memory(2_048),
        "_as_is": replace(memory, compensate=False),
    }
    for suffix, queue in queues.items():
        recipe = _tuned(f"broadface_r100{suffix}", R100, memory=queue)
        yield Published(recipe, MS1MV2, twin, start="arcface_r100_ms1mv2")
    on_cosface = _tuned("broadface_cosface_r100", R100, CosFace(0.35), memory=memory)
    yield Published(on_cosface, MS1MV2, twin, start="cosface_r100_ms1mv2")
    for name, trunk in (("r34", R34), ("r18", R18), ("mobilefacenet", TrunkSpec("mobilefacenet", dim=128))):
        start = f"arcface_{name}_ms1mv2"
        yield Published(_on_ms1m(start, ArcFace(0.5), trunk), MS1MV2, "arcface_small")
        yield Published(_tuned(f"broadface_{name}", trunk, memory=memory), MS1MV2, twin, start=start)
    yield Published(_of_products(), PRODUCTS, twin)


def _of_products() -> Recipe:
    """The official code of BroadFace, which finds images of the same product; its network is another."""
    return _plain(
        "broadface_r50_retrieval",
        TrunkSpec("iresnet50", dim=128),
        100,
        labels=Labels(ArcFace(0.5)),
        memory=Memory(32_000),
        sampler=Shuffled(128),
        optimiser=Adam(1e-4, 1e-5),
        schedule=Steps((0.4, 0.6, 0.8), 0.2),
    )


def _of_adaptive_margins() -> Iterator[Published]:
    """By their public code; lengths in epochs."""
    ada = _named("adaface_r50_ms1mv2", R50, AdaFace(), 1, (12, 20, 24), 26, batch=256, optimiser=SGD(0.1, 0.9, 1e-4))
    ada = replace(ada, augment=Augment(downscale_p=0.2), autocast="auto")
    mag = _named("magface_r100_ms1mv2", R100, MagFace(past_pi="easy_margin"), 1, (10, 18, 22), 25)
    curricular = _named("curricularface_r100_ms1mv2", R100, CurricularFace(), 1, (10, 18, 22), 24)
    mobile, decay = TrunkSpec("mobilefacenet"), SGD(0.1, 0.9, 1e-4)
    guided = _named("mv_softmax_mobilefacenet", mobile, MVSoftmax(), 1, (10, 13, 16), 18, scale=32.0, optimiser=decay)
    yield Published(ada, MS1MV2, "adaface_small")
    yield Published(mag, MS1MV2, "magface_small")
    yield Published(curricular, MS1MV2, "curricularface_small")
    yield Published(guided, MS1M_V1C, "mv_softmax_small")


PAPERS: dict[str, Published] = {
    published.recipe.name: published
    for family in (
        _of_facenet(),
        _of_arcface(),
        _of_many_people(),
        _of_groupface(),
        _of_broadface(),
        _of_adaptive_margins(),
    )
    for published in family
}
"""Trainings by the names of their recipes, each after those that it begins with."""

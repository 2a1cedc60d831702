"""Which negatives triplets should meet, and how long their vectors should be."""

from facespace.data.sampler import PeopleByPhotos
from facespace.losses.offline import Offline
from facespace.losses.triplet import Negatives, Triplet
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Variant
from facespace.train.planned.budget import BUDGET, NAME, SIZE, against
from facespace.train.recipe import AdamW, Recipe
from facespace.train.recipes import LIGHT


def _triplets(
    name: str,
    note: str,
    negatives: Negatives = "semihard_hardest",
    offline: Offline | None = None,
    dim: int = 128,
    trunk: str = NAME,
) -> Variant:
    recipe = Recipe(
        name,
        TrunkSpec(trunk, SIZE, dim),
        epochs=BUDGET.triplet_epochs,
        triplet=Triplet(negatives=negatives),
        offline=offline,
        sampler=PeopleByPhotos(45, 8),
        augment=LIGHT,
        optimiser=AdamW(2e-3),
        warmup=0.1,
        held_out=0,
    )
    return Variant(name, recipe, note=note)


FACENET = Plan(
    "facenet",
    (
        _triplets("semihard", "online, the nearest semi-hard negative of each pair"),
        _triplets("semihard_random", "online, a random semi-hard negative", "semihard_random"),
        _triplets("hardest", "online, the nearest negative of all", "hardest"),
        _triplets("offline", "batches of triplets mined every 50 steps, semi-hard", offline=Offline(50)),
        _triplets("offline_hardest", "the same with the nearest negatives", "hardest", Offline(50, hard="hardest")),
    ),
    BUDGET.seeds,
    (),
    against("semihard", "semihard_random", "hardest", "offline", "offline_hardest"),
)


SIZES = Plan(
    "facenet_sizes",
    (
        _triplets("dim_128", "semi-hard triplets, vectors of length 128"),
        _triplets("dim_64", "of length 64", dim=64),
        _triplets("dim_256", "of length 256", dim=256),
        _triplets("dim_512", "of length 512", dim=512),
        _triplets("tiny", "length 128, a quarter of the products", trunk="iresnet10-tiny"),
    ),
    1,
    (),
    against("dim_128", "dim_64", "dim_256", "dim_512", "tiny"),
)

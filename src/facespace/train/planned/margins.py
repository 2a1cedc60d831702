"""What margins are worth, on clean names and on wrong ones, and the terms beside them."""

from dataclasses import replace
from typing import Any

from facespace.losses.agents import Inter, Intra
from facespace.losses.broadface import Memory
from facespace.losses.margins import ArcFace, CosFace, NormFace, Softmax, SphereFace
from facespace.losses.subcentres import DropSettings
from facespace.train.plan import Plan, Variant
from facespace.train.planned.budget import BUDGET, SCALE, START, against, tuned
from facespace.train.recipe import Labels


def _margins(mislabelled: float = 0.0, start: str | None = None) -> tuple[Variant, ...]:
    """Margins in their papers' sizes, all at one scale."""
    changes: dict[str, Any] = {"start": start, "mislabelled": mislabelled}
    centres = Labels(ArcFace(0.5), scale=SCALE, growth=(0.0, 0.5), centres=3)
    return (
        tuned("softmax", Softmax(), "plain W f + b", **changes),
        tuned("normface", NormFace(), f"softmax on cosines, s = {SCALE:g}", **changes),
        tuned("sphereface", SphereFace(1.35), "cos(1.35 theta), monotone", **changes),
        tuned("cosface", CosFace(0.35), "cos(theta) - 0.35", **changes),
        tuned("arcface", ArcFace(0.5), "cos(theta + 0.5)", **changes),
        tuned("subcentre", ArcFace(0.5), "ArcFace with 3 sub-centres for each person", labels=centres, **changes),
    )


MARGINS = Plan(
    "margins",
    (
        *_margins(),
        tuned("normface_64", NormFace(), "s = 64", labels=Labels(NormFace(), scale=64.0)),
        tuned("arcface_035", ArcFace(0.35), "cos(theta + 0.35)"),
    ),
    BUDGET.seeds,
    (Variant("start", START, note="NormFace, what all others go on from"),),
    against("normface", "softmax", "sphereface", "cosface", "arcface", "normface_64")
    + against("arcface", "softmax", "sphereface", "cosface", "subcentre", "arcface_035"),
)


def _cleaned(name: str, note: str, cut_deg: float) -> Variant:
    drop = DropSettings(cut_deg)
    plain = tuned(name, ArcFace(0.5), note, start="start", mislabelled=NOISE, cleaning=drop)
    return replace(plain, clean_with="subcentre")


NOISE = 0.2
"""Share of the photos that go under somebody else's name."""
MARGINS_NOISY = Plan(
    "margins_noisy",
    (
        # A start for each seed: which photos are mislabelled hangs on it, and no start may have seen them right.
        Variant("start", replace(START, mislabelled=NOISE), note="NormFace, with the wrong names of its seed"),
        *_margins(NOISE, "start"),
        _cleaned("cleaned", "without the photos that `subcentre` has more than 75 degrees off", 75.0),
        _cleaned("cleaned_70", "more than 70 degrees", 70.0),
        _cleaned("cleaned_80", "more than 80 degrees", 80.0),
    ),
    BUDGET.seeds,
    (),
    against("normface", "softmax", "sphereface", "cosface", "arcface")
    + against("arcface", "softmax", "sphereface", "cosface", "subcentre", "cleaned")
    + against("subcentre", "cleaned")
    + against("cleaned", "cleaned_70", "cleaned_80"),
)


CLAIMS = Plan(
    "claims",
    (
        tuned("arcface_040", ArcFace(0.4), "cos(theta + 0.4)"),
        tuned("arcface_050", ArcFace(0.5), "cos(theta + 0.5)"),
        tuned("arcface_055", ArcFace(0.55), "cos(theta + 0.55)"),
        tuned("normface", NormFace(), "softmax on cosines, s = 24"),
        tuned("intra", NormFace(), "NormFace with the intra term", auxiliary=(Intra(),)),
        tuned("inter", NormFace(), "NormFace with the inter term", auxiliary=(Inter(),)),
        tuned("arcface_intra_inter", ArcFace(0.5), "ArcFace with both", auxiliary=(Intra(), Inter())),
        tuned(
            "partial_fc",
            ArcFace(0.5),
            "a tenth of the classes in each step",
            labels=Labels(ArcFace(0.5), scale=SCALE, growth=(0.0, 0.5), sample=0.1),
        ),
        tuned("cosface", CosFace(0.35), "cos(theta) - 0.35"),
        tuned("cosface_queue", CosFace(0.35), "the same with 8,192 past embeddings", memory=Memory(8192)),
    ),
    1,
    (Variant("start", START, note="NormFace, what all but the triplets go on from"),),
    against("arcface_050", "arcface_040", "arcface_055", "arcface_intra_inter", "partial_fc")
    + against("normface", "intra", "inter")
    + against("cosface", "cosface_queue"),
)

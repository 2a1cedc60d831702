"""The population: how a person's traits are drawn from two numbers.

Traits are normal around the mean of a sex and partly shared within a family; skin, hair and eyes go together loosely.
"""

from collections.abc import Sequence

import numpy as np

from facespace.data.drawn.identity import (
    BeardStyle,
    Brows,
    Colour,
    Eyes,
    Frame,
    Habits,
    Hair,
    HairStyle,
    Identity,
    Mouth,
    Nose,
    Skin,
    Skull,
    Stream,
)
from facespace.errors import UsageError

FAMILY = 3
"""People of neighbouring indices (0-2, 3-5, ...) are relatives: the look-alikes that make recognition hard."""
_KINSHIP = 0.3  # share of a trait's variance that relatives have in common

_SKIN: tuple[Colour, ...] = (
    (244, 212, 192), (238, 200, 174), (228, 184, 152), (218, 168, 132), (202, 150, 114),
    (182, 130, 96), (158, 110, 80), (134, 92, 68), (110, 74, 56),
)  # fmt: skip
_HAIR: tuple[Colour, ...] = (
    (26, 22, 22), (44, 32, 28), (70, 46, 34), (100, 66, 42), (128, 88, 54),
    (164, 122, 76), (206, 170, 112), (228, 204, 150),
)  # fmt: skip
_RED_HAIR: Colour = (156, 74, 38)
_IRIS: tuple[Colour, ...] = ((52, 32, 22), (86, 54, 32), (112, 88, 48), (86, 112, 72), (110, 134, 150), (78, 118, 164))
_FRAMES: tuple[Colour, ...] = (
    (28, 26, 30), (92, 54, 34), (150, 36, 44), (40, 62, 110), (120, 120, 126), (176, 140, 70),
)  # fmt: skip
_HERS: tuple[HairStyle, ...] = ("bob", "long", "long", "wavy", "bun", "curly", "short")
_HIS: tuple[HairStyle, ...] = ("short", "short", "side part", "quiff", "buzz", "curly")
_BEARDS: tuple[BeardStyle, ...] = ("stubble", "moustache", "goatee", "full")
_FRAME_SHAPES: tuple[Frame, ...] = ("round", "square", "browline")


class _Traits:
    """Draws of one person, each half way between what the family shares and what is the person's own."""

    def __init__(self, seed: int, index: int) -> None:
        self.own = np.random.default_rng([seed, Stream.OWN, index])
        self._kin = np.random.default_rng([seed, Stream.KIN, index // FAMILY])

    def normal(self, mean: float, spread: float, kinship: float = _KINSHIP) -> float:
        """A normal value, cut at two spreads from its mean; relatives correlate by `kinship`."""
        own, kin = self.own.standard_normal(), self._kin.standard_normal()
        z = kinship**0.5 * kin + (1 - kinship) ** 0.5 * own
        return float(mean + spread * np.clip(z, -2, 2))

    def share(self, mean: float, spread: float, kinship: float = _KINSHIP) -> float:
        """Like `normal`, cut to 0..1."""
        return float(np.clip(self.normal(mean, spread, kinship), 0, 1))

    def chance(self, probability: float) -> bool:
        return bool(self.own.random() < probability)

    def on(self, ramp: Sequence[Colour], place: float, jitter: float) -> Colour:
        """A colour at `place` in 0..1 along a ramp, with a little of the person's own."""
        at = place * (len(ramp) - 1)
        mixed = [float(np.interp(at, range(len(ramp)), [c[k] for c in ramp])) for k in range(3)]
        r, g, b = (np.array(mixed) + jitter * self.own.standard_normal(3)).clip(8, 252).tolist()
        return (r, g, b)


def person(seed: int, index: int) -> Identity:
    """Person number `index` of the population `seed`: a pure function of the two.

    Raises UsageError for a negative seed or index.
    """
    if seed < 0 or index < 0:
        raise UsageError(f"a drawn person needs seed >= 0 and index >= 0, not {seed} and {index}")
    traits = _Traits(seed, index)
    feminine = traits.chance(0.5)
    age = traits.share(0.32, 0.27, 0.0)
    tone = traits.share(0.42, 0.30, 0.85)
    skull = _skull(traits, feminine)
    hair = _hair(traits, feminine, age, tone)
    return Identity(
        seed=seed,
        index=index,
        skull=skull,
        eyes=_eyes(traits, feminine, age, tone),
        brows=_brows(traits, feminine, hair.colour),
        nose=_nose(traits, feminine),
        mouth=_mouth(traits, feminine),
        skin=_skin(traits, skull, age, tone),
        hair=hair,
        habits=_habits(traits),
    )


def _skull(traits: _Traits, feminine: bool) -> Skull:
    return Skull(
        width=traits.normal(42.0 if feminine else 43.5, 2.2),
        top=traits.normal(61, 2.5),
        chin=traits.normal(63 if feminine else 66, 2.2),
        jaw=traits.normal(0.77 if feminine else 0.84, 0.05),
        chin_width=traits.normal(9.5 if feminine else 13.0, 2.2),
        cheeks=traits.share(0.5, 0.28),
        brow_ridge=max(0.3, traits.normal(1.0 if feminine else 2.6, 0.7)),
        ear_size=traits.normal(11.5, 1.6),
        ear_out=traits.normal(3.4, 1.1),
    )


def _eyes(traits: _Traits, feminine: bool, age: float, tone: float) -> Eyes:
    return Eyes(
        spacing=traits.normal(17.6, 0.7),
        width=traits.normal(7.8, 0.6),
        opening=traits.normal(4.9 if feminine else 4.3, 0.6),
        tilt=traits.normal(0.04, 0.07),
        crease=traits.share(0.6, 0.35),
        bags=float(np.clip(traits.share(0.2, 0.2) + 0.5 * age - 0.15, 0, 1)),
        lashes=traits.normal(1.5 if feminine else 0.9, 0.2),
        iris=traits.normal(3.8, 0.22),
        colour=traits.on(_IRIS, traits.share(0.55 - 0.75 * tone, 0.35, 0.5), 6),
    )


def _brows(traits: _Traits, feminine: bool, hair: Colour) -> Brows:
    shade = traits.normal(0.72, 0.14)
    return Brows(
        gap=traits.normal(11.2 if feminine else 9.8, 1.1),
        thickness=traits.normal(1.7 if feminine else 2.6, 0.5),
        arch=traits.normal(2.2 if feminine else 1.4, 0.8),
        tilt=traits.normal(-0.10, 0.09),
        length=traits.normal(10.2, 0.9),
        colour=(hair[0] * shade, hair[1] * shade, hair[2] * shade),
    )


def _nose(traits: _Traits, feminine: bool) -> Nose:
    return Nose(
        tip=traits.normal(20.0, 1.1),
        width=traits.normal(7.2 if feminine else 8.2, 1.0),
        bridge=traits.normal(3.4, 0.6),
        height=traits.normal(11.5, 1.8),
    )


def _mouth(traits: _Traits, feminine: bool) -> Mouth:
    return Mouth(
        width=traits.normal(14.5, 1.0),
        y=traits.normal(40.7, 0.8),
        upper=traits.normal(3.0 if feminine else 2.2, 0.7),
        lower=traits.normal(4.2 if feminine else 3.2, 0.8),
        bow=traits.share(0.5, 0.3),
        redness=float(np.clip(traits.normal(0.55 if feminine else 0.3, 0.15), 0.05, 1)),
    )


def _skin(traits: _Traits, skull: Skull, age: float, tone: float) -> Skin:
    own = traits.own
    freckled = tone < 0.45 and traits.chance(0.3)
    scarred = traits.chance(0.08)
    moles = [
        (float(own.uniform(-0.75, 0.75)) * skull.width, float(own.uniform(8, 54)), float(own.uniform(0.7, 1.3)))
        for _ in range(int(own.choice(4, p=[0.45, 0.3, 0.15, 0.1])))
    ]
    return Skin(
        colour=traits.on(_SKIN, tone, 3),
        age=age,
        flush=traits.share(0.4, 0.25),
        freckles=int(own.integers(30, 90)) if freckled else 0,
        moles=tuple(moles),
        scar=(float(own.uniform(-26, 26)), float(own.uniform(8, 34)), float(own.uniform(0, 3.1))) if scarred else None,
    )


def _hair(traits: _Traits, feminine: bool, age: float, tone: float) -> Hair:
    style = _hair_style(traits, feminine, age, tone)
    fringed = style in ("bob", "long", "short", "wavy") and traits.chance(0.35)
    bearded = not feminine and traits.chance(0.5)
    return Hair(
        style=style,
        colour=_hair_colour(traits, age, tone),
        line=traits.normal(-36.5, 2.6) - (5 * age if not feminine else 0),
        volume=max(2.0, traits.normal(6.5, 2.2)),
        part=float(np.clip(traits.normal(0, 0.45, 0.0), -0.7, 0.7)),
        fringe=traits.share(0.75, 0.2) if fringed else 0.0,
        peak=traits.normal(0.5 if feminine else -1.5 * age, 1.6),
        beard=_BEARDS[int(traits.own.integers(len(_BEARDS)))] if bearded else "none",
        beard_density=traits.share(0.65, 0.2),
    )


def _hair_style(traits: _Traits, feminine: bool, age: float, tone: float) -> HairStyle:
    if not feminine and traits.chance(0.08 + 0.3 * max(age - 0.4, 0)):
        return "bald"
    styles: tuple[HairStyle, ...] = (*(_HERS if feminine else _HIS), "afro" if tone > 0.65 else "wavy")
    return styles[int(traits.own.integers(len(styles)))]


def _hair_colour(traits: _Traits, age: float, tone: float) -> Colour:
    pigment = traits.on(_HAIR, traits.share(0.85 - 1.3 * tone, 0.28, 0.5), 2.5)
    if tone < 0.4 and traits.chance(0.12):
        pigment = _RED_HAIR
    grey = float(np.clip((age - 0.55) * 2.2, 0, 0.9)) if traits.chance(0.7) else 0.0
    r, g, b = (p + grey * (s - p) for p, s in zip(pigment, (200, 200, 204), strict=True))
    return (r, g, b)


def _habits(traits: _Traits) -> Habits:
    return Habits(
        glasses=0.85 if traits.chance(0.25) else 0.06,
        frame=_FRAME_SHAPES[int(traits.own.integers(len(_FRAME_SHAPES)))],
        frame_colour=_FRAMES[int(traits.own.integers(len(_FRAMES)))],
    )

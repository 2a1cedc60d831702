"""Who a drawn person is: everything that stays when the photo changes.

Lengths are in face units: one unit is one pixel of the aligned 112x112 face, x to the right and y down, with the origin
midway between the eyes. Colours are RGB, 0..255.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Colour = tuple[float, float, float]
HairStyle = Literal["bald", "buzz", "short", "side part", "quiff", "curly", "afro", "bob", "long", "wavy", "bun"]
BeardStyle = Literal["none", "stubble", "moustache", "goatee", "full"]
Frame = Literal["round", "square", "browline"]


class Stream(IntEnum):
    """The independent streams of randomness: part of the seed of every generator."""

    OWN = 1
    KIN = 2
    SHOT = 3
    FRECKLES = 4
    HAIR = 5
    WORN = 6
    OBSTACLE = 7
    ROOM = 8
    CROWD = 9
    CLOTHES = 10


@dataclass(frozen=True)
class Skull:
    """Outline and relief of the head."""

    width: float  # half width at the cheekbones
    top: float  # height of the crown above the eyes
    chin: float  # drop of the chin below the eyes
    jaw: float  # half width at mouth height, as a share of `width`
    chin_width: float  # half width of the chin: pointed to square
    cheeks: float  # 0 hollow .. 1 full
    brow_ridge: float  # depth of the relief above the eyes
    ear_size: float
    ear_out: float  # how far the ears stand off


@dataclass(frozen=True)
class Eyes:
    """The eyes; `spacing` is half the distance of their centres."""

    spacing: float
    width: float  # half
    opening: float  # half
    tilt: float  # rise of the outer corner, in units per unit
    crease: float  # 0..1, how visible the fold of the upper lid is
    bags: float  # 0..1
    lashes: float  # thickness of the upper lash line
    iris: float  # radius
    colour: Colour


@dataclass(frozen=True)
class Brows:
    """The eyebrows."""

    gap: float  # above the eye's centre
    thickness: float
    arch: float
    tilt: float
    length: float  # half
    colour: Colour


@dataclass(frozen=True)
class Nose:
    """The nose, seen from the front."""

    tip: float  # y of the tip
    width: float  # half, at the nostrils
    bridge: float  # half width of the ridge
    height: float  # of the tip over the face


@dataclass(frozen=True)
class Mouth:
    """The mouth at rest."""

    width: float  # half
    y: float
    upper: float  # thickness of the lips
    lower: float
    bow: float  # depth of the cupid's bow
    redness: float  # 0..1


@dataclass(frozen=True)
class Skin:
    """Skin, its marks and its age."""

    colour: Colour
    age: float  # 0 child-smooth .. 1 lined
    flush: float  # 0..1, red of cheeks and nose
    freckles: int
    moles: tuple[tuple[float, float, float], ...]  # x, y, radius
    scar: tuple[float, float, float] | None  # x, y, angle in radians


@dataclass(frozen=True)
class Hair:
    """Hair of the head, and beard."""

    style: HairStyle
    colour: Colour
    line: float  # y of the hairline over the middle of the forehead
    volume: float  # thickness over the crown
    part: float  # -1 left .. 1 right, as a share of the half width
    fringe: float  # 0 none .. 1 down to the brows
    peak: float  # widow's peak, or receding temples where negative
    beard: BeardStyle
    beard_density: float  # 0..1


@dataclass(frozen=True)
class Habits:
    """What a person tends to wear."""

    glasses: float  # probability of wearing them in a photo
    frame: Frame
    frame_colour: Colour


@dataclass(frozen=True)
class Identity:
    """One drawn person; `(seed, index)` names them and makes them, see `population.person`."""

    seed: int
    index: int
    skull: Skull
    eyes: Eyes
    brows: Brows
    nose: Nose
    mouth: Mouth
    skin: Skin
    hair: Hair
    habits: Habits

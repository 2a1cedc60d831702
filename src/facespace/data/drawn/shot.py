"""What changes from photo to photo: pose, light, expression, what is worn, what is in the way, the camera."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from facespace.data.drawn.identity import Colour, Identity, Stream

Obstacle = Literal["mask", "scarf", "hat", "hand", "bar", "sunglasses"]


@dataclass(frozen=True)
class Pose:
    """Turn of the head in radians; positive yaw looks to the right of the picture, positive pitch looks down."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


@dataclass(frozen=True)
class Light:
    """One soft lamp and the light of the room."""

    direction: tuple[float, float, float] = (-0.25, -0.45, 0.86)  # towards the lamp: x right, y down, z to the camera
    strength: float = 0.62  # of the lamp; the room gives the rest
    gloss: float = 0.10
    colour: Colour = (1.0, 1.0, 1.0)  # gain of each channel of the lamp


@dataclass(frozen=True)
class Expression:
    """State of the face; all zero is at rest."""

    smile: float = 0.0  # -1 .. 1
    mouth_open: float = 0.0  # 0 .. 1
    brow_raise: float = 0.0  # -1 .. 1
    blink: float = 0.0  # 0 open .. 1 shut
    gaze: tuple[float, float] = (0.0, 0.0)  # -1 .. 1 each way


@dataclass(frozen=True)
class Camera:
    """From light to bytes, applied in this order."""

    gains: Colour = (1.0, 1.0, 1.0)  # white balance and exposure
    gamma: float = 1.0
    blur: float = 0.0  # sigma in pixels of an aligned face
    motion: float = 0.0  # length of a smear in pixels of an aligned face
    resolution: float = 1.0  # share of the pixels kept along each side
    noise: float = 0.0  # standard deviation in grey levels
    jpeg: int | None = None  # quality, or none


@dataclass(frozen=True)
class Shot:
    """One photo's circumstances; the default is a frontal passport photo without any flaw.

    `entropy` seeds what has no name of its own: background, strands, noise of the sensor.
    """

    pose: Pose = field(default_factory=Pose)
    light: Light = field(default_factory=Light)
    expression: Expression = field(default_factory=Expression)
    camera: Camera = field(default_factory=Camera)
    glasses: bool = False
    obstacle: Obstacle | None = None
    shaved: bool = False
    hair_change: float = 0.0  # -1 thinner and combed back .. 1 fuller and into the forehead
    tan: float = 0.0  # -1 paler .. 1 darker skin; make-up works alike
    backdrop: Colour = (176, 186, 196)
    misplaced: tuple[float, float] = (0.0, 0.0)  # error of the alignment in pixels
    entropy: int = 0


def take_shot(identity: Identity, photo: int) -> Shot:
    """Circumstances of photo number `photo` of a person: a pure function of the two."""
    rng = np.random.default_rng([identity.seed, Stream.SHOT, identity.index, photo])
    obstacles: tuple[Obstacle, ...] = ("mask", "scarf", "hat", "hat", "hand", "hand", "bar", "sunglasses")
    return Shot(
        pose=random_pose(rng),
        light=random_light(rng),
        expression=random_expression(rng),
        camera=random_camera(rng, sum(identity.skin.colour) / 3),
        glasses=bool(rng.random() < identity.habits.glasses),
        obstacle=obstacles[int(rng.integers(len(obstacles)))] if rng.random() < 0.13 else None,
        shaved=bool(rng.random() < 0.2),
        hair_change=_cut_normal(rng, 0.45, 1.0),
        tan=_cut_normal(rng, 0.4, 1.0),
        backdrop=random_backdrop(rng),
        misplaced=(_cut_normal(rng, 0.6, 1.5), _cut_normal(rng, 0.6, 1.5)),
        entropy=int(rng.integers(2**31)),
    )


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose with yaw up to 35, pitch up to 18 and roll up to 25 degrees."""
    return Pose(yaw=_cut_normal(rng, 0.25, 0.61), pitch=_cut_normal(rng, 0.12, 0.31), roll=_cut_normal(rng, 0.14, 0.44))


def random_light(rng: np.random.Generator) -> Light:
    """A lamp anywhere in front, from weak to hard, from warm to cold."""
    azimuth, height = rng.uniform(-1.25, 1.25), rng.uniform(-0.25, 0.95)
    direction = (np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height))
    warmth = _cut_normal(rng, 0.05, 0.12)
    return Light(
        direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        strength=float(rng.uniform(0.3, 0.85)),
        gloss=float(rng.uniform(0.02, 0.2)),
        colour=(1 + warmth, 1.0, 1 - warmth),
    )


def random_expression(rng: np.random.Generator) -> Expression:
    """Mostly smiling or at rest, sometimes talking, seldom blinking."""
    return Expression(
        smile=float(np.clip(rng.normal(0.4, 0.42), -0.4, 1)),
        mouth_open=float(rng.uniform(0.15, 1)) if rng.random() < 0.35 else 0.0,
        brow_raise=_cut_normal(rng, 0.4, 1.0),
        blink=float(rng.uniform(0.4, 1)) if rng.random() < 0.07 else float(rng.uniform(0, 0.25)),
        gaze=(_cut_normal(rng, 0.35, 0.9), _cut_normal(rng, 0.2, 0.6)),
    )


def random_camera(rng: np.random.Generator, tone: float) -> Camera:
    """From a good camera in good light to a cheap one at night, its exposure measured on skin of a mean grey level."""
    exposure, tint = (145 / tone) ** 0.3 * 2 ** _cut_normal(rng, 0.28, 0.6), rng.normal(0, 0.04, 3)
    poor = rng.random() < 0.22
    return Camera(
        gains=_colour(exposure * (1 + tint)),
        gamma=float(2 ** _cut_normal(rng, 0.25, 0.5)),
        blur=float(rng.uniform(0.3, 1.5)) if poor else float(rng.uniform(0, 0.5)),
        motion=float(rng.uniform(2, 5)) if rng.random() < 0.08 else 0.0,
        resolution=float(rng.uniform(0.4, 0.9)) if poor else 1.0,
        noise=float(rng.uniform(4, 14)) if poor else float(rng.uniform(1, 5)),
        jpeg=int(rng.integers(35, 96)),
    )


def random_backdrop(rng: np.random.Generator) -> Colour:
    """A muted colour of a wall, dark to light."""
    return _colour(np.clip(rng.uniform(50, 220) + rng.normal(0, 16, 3), 10, 245))


def cloth_colour(rng: np.random.Generator) -> Colour:
    """A colour of clothes, seldom a loud one."""
    return _colour(np.clip(rng.uniform(45, 205) + rng.normal(0, 24, 3), 16, 235))


def _cut_normal(rng: np.random.Generator, spread: float, limit: float) -> float:
    return float(np.clip(spread * rng.standard_normal(), -limit, limit))


def _colour(values: np.ndarray) -> Colour:
    return (float(values[0]), float(values[1]), float(values[2]))

"""Faces drawn by a program: the data that needs no download and shows nobody.

A person is an `Identity`, made by `person(seed, index)`; a photo of them adds a `Shot`: pose, light, expression, what
is worn or in the way, camera. Both are pure functions of their numbers. The head is painted flat, given relief, lit,
turned and laid over a backdrop. Reading order: identity, population, shot, curves, brush, form, hair, skin, features,
worn, camera, figure, scene, tree.
"""

from facespace.data.drawn.identity import Identity
from facespace.data.drawn.population import person
from facespace.data.drawn.scene import draw_crop, draw_photo
from facespace.data.drawn.shot import Shot, take_shot
from facespace.data.drawn.tree import write_people

__all__ = ["Identity", "Shot", "draw_crop", "draw_photo", "person", "take_shot", "write_people"]

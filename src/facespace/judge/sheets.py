"""Contact sheets: faces side by side, as a PNG, or as one page of HTML with a row for each case."""

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB uint8 `(S, S, 3)`."""
SHOWN = 6
"""Faces of a side of a case; more say little more."""
_STYLE = """
:root { --page: #fbfbfa; --card: #fff; --ink: #1d2126; --soft: #59616b; --line: #dfe2e6; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #a3abb5; --line: #343a41; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.5rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 0; color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px;
  margin: 14px 0; }
.sides { margin-top: 8px; display: flex; flex-wrap: wrap; gap: 12px 28px; }
figure { margin: 0; min-width: 0; }
.faces { display: flex; flex-wrap: wrap; gap: 3px; }
.faces img { display: block; width: min(112px, 26vw); height: auto; border-radius: 4px; }
figcaption { color: var(--soft); font-size: .8rem; padding-bottom: 4px; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Side:
    """Some faces and what they are called."""

    caption: str
    faces: Sequence[Picture]


@dataclass(frozen=True)
class Case:
    """What is suspected, in words, and the faces to look at."""

    title: str
    why: str
    sides: Sequence[Side]


def grid(faces: Sequence[Picture]) -> Picture:
    """At least one face row by row, on a grid as square as can be; empty places are white."""
    columns = math.ceil(math.sqrt(len(faces)))
    rows, side = math.ceil(len(faces) / columns), faces[0].shape[0]
    sheet = np.full((rows, columns, side, side, 3), 255, np.uint8)
    for place, face in enumerate(faces):
        sheet[place // columns, place % columns] = face
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)


def png(picture: Picture) -> bytes:
    """A picture RGB as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def page(title: str, about: str, cases: Sequence[Case]) -> str:
    """One self-contained page, a section for each case; pictures inside it, nothing from the network."""
    body = "\n".join(_section(case) for case in cases) or "<p>Nothing was found.</p>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body><main>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>{html.escape(about)}</p>\n{body}\n</main></body>\n</html>\n"
    )


def _section(case: Case) -> str:
    sides = "\n".join(_figure(side) for side in case.sides if side.faces)
    shown = f'\n<div class="sides">\n{sides}\n</div>' if sides else ""
    return f"<section>\n<h2>{html.escape(case.title)}</h2>\n<p>{html.escape(case.why)}</p>{shown}\n</section>"


def _figure(side: Side) -> str:
    caption = html.escape(side.caption)
    faces = "".join(f'<img src="{data_url(face)}" alt="{caption}">' for face in side.faces)
    return f'<figure><figcaption>{caption}</figcaption><div class="faces">{faces}</div></figure>'


def data_url(face: Picture) -> str:
    """A picture RGB as an address that holds it, as JPEG."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()

"""IJB-B and IJB-C 1:N, in InsightFace's layout: templates of all probes against the set's two galleries."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facespace.errors import DataError
from facespace.judge.galleries import STRANGER, Gallery, GalleryProtocol
from facespace.judge.readers.ijb import Kind, Listed, listed_templates

GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
_COLUMNS = ("TEMPLATE_ID", "SUBJECT_ID")


def ijb_searches(data: Path, kind: Kind, weighted: bool = False) -> GalleryProtocol:
    """Mixed media of everybody against each of the two galleries; who is in one only is a stranger to the other.

    The lists are `meta/ijbc_1N_gallery_G1.csv`, `..._G2.csv` and `ijbc_1N_probe_mixed.csv`, or IJB-B's with S1 and S2,
    with the columns TEMPLATE_ID and SUBJECT_ID; templates, photos and faces are those of `readers.ijb`. Raises
    DataError that names the line of what is wrong.
    """
    listed = listed_templates(data, kind, weighted)
    persons = np.full(len(listed.ids), STRANGER)
    folder = data / "meta"
    galleries = tuple(
        Gallery(name, _named(folder / f"{kind}_1N_gallery_{name}.csv", listed, persons)) for name in GALLERIES[kind]
    )
    probes = _named(folder / f"{kind}_1N_probe_mixed.csv", listed, persons)
    names = tuple(map(str, listed.ids.tolist()))
    return GalleryProtocol(f"{kind}-1n", listed.templates, names, persons, probes, galleries)


def _named(path: Path, listed: Listed, persons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the templates of a list, each once, rising; their subjects are written into `persons`."""
    lines, ids, subjects = _columns(path)
    places = listed.place(ids, path, lines)
    for line, place, subject in zip(lines.tolist(), places.tolist(), subjects.tolist(), strict=True):
        if persons[place] not in (STRANGER, subject):
            what = f"template {listed.ids[place]} is subject {subject}'s, and was {persons[place]}'s before"
            raise DataError(f"line {line}: {what}", file=path)
        persons[place] = subject
    return np.unique(places)


def _columns(path: Path) -> tuple[NDArray[np.int64], ...]:
    """Numbers of the lines, templates and subjects, int64 `(R,)` each."""
    rows: list[tuple[int, int, int]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().upper() for name in next(reader, [])]
            if not set(_COLUMNS) <= set(header):
                raise DataError(f"line 1 has not the columns {', '.join(_COLUMNS)}", file=path)
            at = [header.index(name) for name in _COLUMNS]
            for row in reader:
                fields = [row[i].strip() for i in at if i < len(row)]
                if len(fields) != 2 or not all(field.isdecimal() and len(field) < 10 for field in fields):
                    raise DataError(f"line {reader.line_num} is not: template, subject, ...", file=path)
                rows.append((reader.line_num, int(fields[0]), int(fields[1])))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"no readable list ({error})", file=path) from error
    if not rows:
        raise DataError("an empty list", file=path)
    return tuple(np.array(rows, np.int64).T)

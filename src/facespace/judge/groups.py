"""Does a model err more on some people than on others? FMR and FNMR per group, at one threshold for all.

As in ISO/IEC 19795-10, a genuine pair belongs to the group of its person, and an impostor pair to the group that both
of its people are in; pairs across groups count in none. A search belongs to the group of who searches. Groups come from
a table that is given, never from looking at faces: without one the document says that nothing was measured.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.dependence import Share, share_over_people
from facespace.core.intervals import Interval, rule_of_3
from facespace.core.verification import accepts, at_far
from facespace.errors import DataError
from facespace.judge.people import PairPeople
from facespace.judge.protocols import PairProtocol
from facespace.judge.run import Evaluation

NOT_MEASURED = "not measured"
KEYS = ("person", "photo")
_MOST_BYTES = 1 << 28
_MOST_GROUPS = 100


@dataclass(frozen=True)
class GroupTable:
    """A table of `person` or `photo` and any other columns: for each column, who is in which group."""

    key: str
    columns: dict[str, dict[str, str]]

    def of(self, column: str, photos: Sequence[str], people: Sequence[str] | None) -> NDArray[np.str_]:
        """The group of each photo `(N,)`, whose persons are `people`; empty where the table does not know it.

        Raises DataError where the table names none of them, or speaks of persons where the data name nobody.
        """
        keys = people if self.key == "person" else photos
        if keys is None:
            hint = "a table with the column photo, which has the photos as the data name them"
            raise DataError("these data do not say whose the photos are, and the groups are of persons", hint=hint)
        groups = np.array([self.columns[column].get(key, "") for key in keys], np.str_)
        if not (groups != "").any():
            hint = f"its {self.key} must be written as in the data: {keys[0]}"
            raise DataError(f"the column {column} of the groups names none of the {len(photos):,} photos", hint=hint)
        return groups

    def unmatched(self, photos: Sequence[str], people: Sequence[str] | None) -> str | None:
        """Rows that name nobody in the data, and photos in no group, in words; None where there are neither.

        Raises DataError as `of`.
        """
        groups = np.array([self.of(column, photos, people) for column in self.columns])
        rows = list(dict.fromkeys(name for column in self.columns.values() for name in column))
        known = set(photos if self.key == "photo" else people or ())
        strays = [name for name in rows if name not in known]
        found = []
        if strays:
            which = f"name{'s' if len(strays) == 1 else ''} {'nobody' if self.key == 'person' else 'no photo'}"
            first = "" if len(strays) == 1 else "first "
            found.append(f"{len(strays):,} of {len(rows):,} rows {which} ({first}{strays[0]})")
        if without := int((groups == "").all(axis=0).sum()):
            found.append(f"{without:,} of {len(photos):,} photos {'is' if without == 1 else 'are'} in no group")
        return "; ".join(found) or None


@dataclass(frozen=True)
class GroupRate:
    """The error rate in one group; or why it is refused."""

    group: str
    trials: int
    share: Share | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"group", "rate", "ci95", "trials", "people", "refused"}`; null where refused."""
        share = {"rate": None, "ci95": None, "trials": self.trials, "people": None}
        return {"group": self.group, **(self.share.as_json() if self.share else share), "refused": self.refused}


@dataclass(frozen=True)
class Ratio:
    """How unlike the groups are: the worst rate over another, and the 95 % interval of that; or why it is refused."""

    value: float | None = None
    ci95: Interval | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"ratio", "ci95", "refused"}`; null where refused."""
        return {"ratio": self.value, "ci95": self.ci95, "refused": self.refused}


@dataclass(frozen=True)
class Differential:
    """One kind of error in the groups of one column, at one threshold."""

    column: str
    error: str
    threshold: float
    overall: Share
    groups: tuple[GroupRate, ...]
    worst_to_best: Ratio
    worst_to_mean: Ratio
    """To the geometric mean of all groups."""

    def as_json(self) -> dict[str, Any]:
        """`{"column", "error", "threshold", "overall", "groups", "worst_to_best", "worst_to_geometric_mean"}`."""
        return {
            "column": self.column,
            "error": self.error,
            "threshold": self.threshold,
            "overall": self.overall.as_json(),
            "groups": [group.as_json() for group in self.groups],
            "worst_to_best": self.worst_to_best.as_json(),
            "worst_to_geometric_mean": self.worst_to_mean.as_json(),
        }


@dataclass(frozen=True)
class Decided:
    """Decisions of one kind, each about one or two photos: whether it was an error, and photos and people by number."""

    error: str
    """What an error is called: FMR, FNMR, FPIR or FNIR."""
    wrong: NDArray[np.bool_]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    """The same as `first` where a decision is about one photo."""
    a: NDArray[np.int64]
    """Whose the first photo is."""
    b: NDArray[np.int64]


def read_groups(path: Path) -> GroupTable:
    """The table in a CSV file: a column `person` (the folder) or `photo` (`person/photo.jpg`), and one or more others.

    An empty cell puts nobody in a group. Raises DataError naming the line of what is wrong.
    """
    rows = _rows(path)
    header = [name.strip() for name in rows[0][1]]
    keys = [key for key in KEYS if key in header]
    if len(keys) != 1 or len(header) < 2 or len(set(header)) < len(header) or not all(header):
        raise DataError(
            f"line 1: {', '.join(header)}: one column person or photo and others with a name each are needed",
            file=path,
            hint="such as person,age,sex",
        )
    at, columns = header.index(keys[0]), {name: dict[str, str]() for name in header if name != keys[0]}
    seen: set[str] = set()
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(f"line {line}: {len(cells)} cells under {len(header)} names", file=path)
        if (name := cells[at].strip()) in seen:
            raise DataError(f"line {line}: {name} stands there a second time", file=path)
        seen.add(name)
        for column, cell in zip(header, cells, strict=True):
            if column != keys[0] and cell.strip():
                columns[column][name] = cell.strip()
    for column, groups in columns.items():
        if len(set(groups.values())) > _MOST_GROUPS:
            hint = "give bands, such as 20-29 for an age, or leave the column out"
            raise DataError(f"column {column} has more than {_MOST_GROUPS} groups", file=path, hint=hint)
    return GroupTable(keys[0], columns)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Numbers and cells of the lines that are not empty."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError("a table of more than 256 MB", file=path)
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        hint = "give a CSV file such as person,age,sex"
        raise DataError(f"cannot be read ({error.strerror})", file=path, hint=hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a CSV file in UTF-8 ({error})", file=path) from error
    if not rows:
        raise DataError("an empty table", file=path, hint="such as person,age,sex")
    return rows


def differentials(
    table: GroupTable,
    photos: Sequence[str],
    people: Sequence[str] | None,
    decided: Sequence[Decided],
    threshold: float,
) -> tuple[Differential, ...]:
    """Every kind of decisions in the groups of every column; `photos` and whose they are, by name, or None.

    Raises DataError as `GroupTable.of`.
    """
    found = []
    for column in table.columns:
        groups = table.of(column, photos, people)
        found += [_differential(column, groups, kind, threshold) for kind in decided if kind.wrong.size]
    return tuple(found)


def pair_differentials(evaluation: Evaluation, table: GroupTable) -> tuple[Differential, ...]:
    """FNMR and FMR per group at the threshold of the accuracy, and at that of each FAR the pairs support."""
    protocol, figures = evaluation.protocol, evaluation.figures
    thresholds = [figures.threshold]
    thresholds += [at_far(figures.curve, rate.far).threshold for rate in figures.tar_at_far if not rate.refused]
    found: list[Differential] = []
    for threshold in thresholds:
        accepted = accepts(evaluation.scores, threshold, figures.ties)
        found += differentials(table, protocol.photos, protocol.people_of_photos, _both(protocol, accepted), threshold)
    return tuple(found)


def _both(protocol: PairProtocol, accepted: NDArray[np.bool_]) -> list[Decided]:
    """Genuine pairs that were not accepted, and impostor pairs that were; people are those of the intervals."""
    people = PairPeople.of(protocol)
    return [
        Decided(
            error,
            accepted[kind] != genuine,
            protocol.first[kind],
            protocol.second[kind],
            people.a[kind],
            people.b[kind],
        )
        for error, genuine, kind in (("FNMR", True, protocol.same), ("FMR", False, ~protocol.same))
    ]


def as_json(measured: Sequence[Differential] | None) -> list[dict[str, Any]] | str:
    """The list of differentials, or the words `not measured`."""
    return NOT_MEASURED if measured is None else [one.as_json() for one in measured]


def _differential(column: str, groups: NDArray[np.str_], decided: Decided, threshold: float) -> Differential:
    overall = share_over_people(decided.wrong, decided.a, decided.b)
    rates = []
    for group in np.unique(groups[groups != ""]).tolist():
        within = (groups[decided.first] == group) & (groups[decided.second] == group)
        rates.append(_rate(group, decided, within, overall.rate))
    return Differential(
        column,
        decided.error,
        threshold,
        overall,
        tuple(rates),
        _ratio(rates, to_mean=False),
        _ratio(rates, to_mean=True),
    )


def _rate(group: str, decided: Decided, within: NDArray[np.bool_], overall: float) -> GroupRate:
    """Refused where one error would already be more than the rate of all, or all trials are of one person."""
    count = int(within.sum())
    if count == 0 or 1 / count > max(overall, 1e-12):
        least = f": even without an error they would only show that it is below {rule_of_3(count):.2g}" if count else ""
        return GroupRate(
            group, count, refused=f"{count:,} trials cannot show an {decided.error} of {overall:.2g}{least}"
        )
    share = share_over_people(decided.wrong[within], decided.a[within], decided.b[within])
    if share.people < 2:
        return GroupRate(group, count, refused="one person cannot stand for a group")
    return GroupRate(group, count, share)


def _ratio(rates: Sequence[GroupRate], *, to_mean: bool) -> Ratio:
    """The worst rate over the geometric mean of all, or over the best; its interval is made of those of the rates.

    Groups draw from different people, so on the scale of logarithms the distances to the ends of their intervals add up
    as squares, for each side of its own (Zou and Donner, "Construction of confidence limits", Statistics in Medicine 27
    (2008)). The worst of several is worse by chance alone, and the more so the wider the intervals are.
    """
    shares = [rate.share for rate in rates if rate.share]
    if len(shares) < max(2, len(rates)):
        return Ratio(refused="a group has no rate" if len(rates) > 1 else "one group has nothing to differ from")
    if not all(share.rate for share in shares):
        return Ratio(refused="a group without an error makes the ratio endless: judge on more people")
    logs = np.log([share.rate for share in shares])
    weights = np.full(len(shares), -1 / len(shares)) if to_mean else -1.0 * (np.arange(len(shares)) == logs.argmin())
    weights[logs.argmax()] += 1
    middle = float(weights @ logs)
    ends = np.log([share.ci95 for share in shares])  # (groups, 2), finite: rates above 0
    lower, upper = (
        np.where(weights > 0, *pair) - logs for pair in ((ends[:, 0], ends[:, 1]), (ends[:, 1], ends[:, 0]))
    )
    low = math.exp(max(0.0, middle - float(np.linalg.norm(weights * lower))))
    high = math.exp(max(0.0, middle + float(np.linalg.norm(weights * upper))))
    return Ratio(math.exp(middle), (low, high))

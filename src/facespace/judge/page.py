"""What all pages share: how they are made, how numbers stand in them, where they may be written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from facespace.core.intervals import Interval
from facespace.errors import UsageError

Chart = tuple[str, str]
"""SVG, and what it shows."""


@dataclass(frozen=True)
class Content:
    """What one kind of report says beside what all say."""

    template: str
    charts: Sequence[Chart]
    facts: Mapping[str, Any]
    """What its template shows, by name."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What its document has beyond that of the evaluation."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Charts that are not there, by name, and why."""


def check_report(path: Path) -> None:
    """UsageError, before any work is done, for a page that could not be written, or is not named as one."""
    if not path.is_dir() and path.suffix.lower() not in (".html", ".htm"):
        hint = f"--report {path.with_suffix('.html')}"
        raise UsageError("a report is a page of HTML, its JSON lies beside it", file=path, hint=hint)
    for file in (path, path.parent / f"{path.stem}.json"):
        if file.is_dir():
            raise UsageError("is a folder, and a report is a file", file=file, hint=f"--report {path / 'report.html'}")
        there = file.exists()
        try:
            file.open("ab").close()  # rights alone do not tell whether the system takes a file
        except OSError as error:
            hint = "name a file in a folder that exists and may be written to"
            raise UsageError(f"no report can be written here ({error.strerror})", file=file, hint=hint) from error
        if not there:
            file.unlink()


def templates() -> Environment:
    """Where pages are made: everything escaped, nothing undefined."""
    found = Environment(
        loader=PackageLoader("facespace.judge"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"percent": percent, "span": span, "chance": chance, "plain": _plain}
    return found


def percent(share: float | None, digits: int = 2) -> str:
    """A share as a percentage: `98.48 %`; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def span(interval: Interval | None, digits: int = 2) -> str:
    """An interval of shares: `98.1 to 98.9 %`."""
    return "–" if interval is None else f"{100 * interval[0]:.{digits}f} to {100 * interval[1]:.{digits}f} %"


def chance(p: float) -> str:
    """A p-value to three digits: `0.042`, or `< 0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _plain(value: object) -> str:
    """A setting as people read it: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

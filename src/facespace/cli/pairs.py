"""What `facespace evaluate` prints of pairs, judged by one model or compared across two."""

from typing import TYPE_CHECKING

import typer

from facespace.cli import shell

if TYPE_CHECKING:
    from facespace.judge.compatibility import CompatibilityEvaluation, Gap
    from facespace.judge.figures import Figures, RateAtFar
    from facespace.judge.run import Evaluation

Row = tuple[str, str, str, str]
"""Figure, value, interval, achieved FAR."""


def print_pairs(result: "Evaluation") -> None:
    """The figures, one to a row; why others are missing, to stderr."""
    folds = len(result.figures.folds.accuracy)
    protocol = f"{result.protocol.name}, {len(result.scores):,} pairs in {folds} folds"
    typer.echo(f"{result.model['name']} on {protocol}, {result.protocol.images:,} photos\n")
    shell.show_table(("figure", "value", "95 % interval", "achieved FAR"), _rows(result))
    _say_refused(result.figures)


def print_accuracies(result: "Evaluation") -> None:
    """The accuracy in each group of a set that has groups."""
    from facespace.judge.page import percent, span

    if not result.accuracies:
        return
    typer.echo("\naccuracy by group, each at its own thresholds\n")
    rows = [
        (one.group, f"{one.pairs:,}", percent(one.accuracy), span(one.ci95), f"{one.threshold:.4f}")
        for one in result.accuracies
    ]
    shell.show_table(("group", "pairs", "accuracy", "95 % interval", "threshold"), rows)


def _say_refused(figures: "Figures") -> None:
    for name, rates in (("TAR", figures.tar_at_far), ("VAL", figures.val_at_far)):
        for rate in rates:
            if rate.refused:
                shell.say(f"Refused: {_name(name, rate)}: {rate.refused}.")


def _rows(result: "Evaluation") -> list[Row]:
    return [
        *_figure_rows(result.figures),
        ("photos without a usable face", str(len(result.failures)), "", ""),
        ("photos per second", f"{result.images_per_s:.1f}", "", ""),
    ]


def _figure_rows(figures: "Figures") -> list[Row]:
    from facespace.judge.page import percent, span

    return [
        ("accuracy", percent(figures.accuracy), span(figures.accuracy_ci95), ""),
        *(_rate_row("TAR", rate) for rate in figures.tar_at_far),
        *(_rate_row("VAL", rate) for rate in figures.val_at_far),
        ("EER", percent(figures.eer), span(figures.eer_ci95), ""),
        ("AUC", f"{figures.auc:.5f}", "", ""),
        ("threshold", f"{figures.threshold:.4f}", "", ""),
    ]


def _rate_row(name: str, rate: "RateAtFar") -> Row:
    from facespace.judge.page import percent, span

    value = "refused" if rate.refused else percent(rate.rate)
    return _name(name, rate), value, span(rate.ci95), percent(rate.achieved_far, 3)


def _name(name: str, rate: "RateAtFar") -> str:
    return f"{name} at FAR {100 * rate.far:g} %"


def print_compatibility(result: "CompatibilityEvaluation") -> None:
    """A column for each comparison; then what is gained or lost; why others are missing, to stderr."""
    older, newer = (model["name"] for model in result.models)
    plain = result.comparisons[0].figures
    pairs = f"{len(result.protocol.same):,} pairs in {len(plain.folds.accuracy)} folds"
    typer.echo(f"{newer} (v2) with vectors of {older} (v1) on {result.protocol.name}, {pairs}")
    typer.echo("mixed: one photo of a pair by each, both ways round, with one threshold; 95 % intervals in brackets\n")
    columns = [_figure_rows(comparison.figures) for comparison in result.comparisons]
    rows = [
        (same[0][0], *(_cell(value, interval) for _, value, interval, _ in same)) for same in zip(*columns, strict=True)
    ]
    shell.show_table(("figure", *(comparison.name for comparison in result.comparisons)), rows)
    typer.echo()
    names = ("accuracy", *(f"VAL at FAR {100 * rate.far:g} %" for rate in plain.val_at_far))
    gaps = [
        (f"{d.name} less {d.less}", _points(d.accuracy), *(_points(gap) for _, gap in d.val_at_far))
        for d in result.differences
    ]
    shell.show_table(("difference in points", *names), gaps)
    shell.say(f"{len(result.failures)} photos without a usable face; {result.images_per_s:.1f} photos per second.")
    _say_refused(plain)


def _cell(value: str, interval: str) -> str:
    return value if interval in ("", "–") else f"{value} ({interval.removesuffix(' %')})"


def _points(gap: "Gap") -> str:
    """`+1.2 (-0.3 to +2.7)`, in percentage points."""
    if gap.value is None or gap.ci95 is None:
        return "refused"
    value, low, high = (f"{round(100 * number, 2) + 0.0:+.2f}" for number in (gap.value, *gap.ci95))  # no -0.0
    return f"{value} ({low} to {high})"

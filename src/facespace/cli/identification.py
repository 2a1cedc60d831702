"""What `facespace evaluate --protocol identification` prints, and the groups of any protocol."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from facespace.cli import shell

if TYPE_CHECKING:
    from facespace.judge.groups import Differential, Ratio
    from facespace.judge.identified import AtSize
    from facespace.judge.searching import IdentificationEvaluation

Row = tuple[str, ...]


def print_identification(result: "IdentificationEvaluation") -> None:
    """The figures, one to a row; thresholds by the size of the gallery; why others are missing, to stderr."""
    from facespace.judge.page import percent, span

    protocol, searches = result.protocol, result.searches
    extra = len(protocol.names) - protocol.own
    typer.echo(
        f"{result.model['name']} on identification: {searches.mates.size:,} searches of enrolled people, "
        f"{searches.tops.size:,} of others; a gallery of {len(protocol.gallery):,} people with {extra:,} distractors\n"
    )
    rows: list[Row] = [
        (f"rank {rank.k}", percent(rank.share.rate), span(rank.share.ci95), "", "")
        for rank in result.closed_set
        if rank.share
    ]
    for at in result.open_set:
        name = f"TPIR at FPIR {100 * at.fpir:g} %"
        if at.found:
            found = at.found
            figures = (percent(found.tpir.rate), span(found.tpir.ci95), percent(found.fpir.rate, 3))
            rows.append((name, *figures, f"{found.threshold:.4f}"))
        else:
            rows.append((name, "refused", "–", "–", "–"))
    rows += [
        ("searches without a usable face", str(result.silent), "", "", ""),
        ("people who could not be enrolled", str(len(result.unenrolled)), "", "", ""),
        ("photos per second", f"{result.images_per_s:.1f}", "", "", ""),
    ]
    shell.show_table(("figure", "value", "95 % interval", "achieved FPIR", "threshold"), rows)
    typer.echo("\nthresholds for a gallery of N people, over all galleries that the people of the data give\n")
    heads = ("N", "FPIR", "threshold", "95 % interval", "if independent", "FPIR of other people", "inside interval")
    shell.show_table(heads, [_size_row(row) for row in result.thresholds if row.point])
    reasons = {f"TPIR at FPIR {100 * at.fpir:g} %: {at.refused}" for at in result.open_set if at.refused}
    reasons |= {f"{row.refused}" for row in result.thresholds if row.refused}
    for reason in sorted(reasons):
        shell.say(f"Refused: {reason}.")
    print_groups(result.groups)


def _size_row(row: "AtSize") -> Row:
    from facespace.judge.page import percent

    assert row.point
    held, (low, high) = row.held_out, row.point.ci95
    met = (percent(held.fpir, 3), f"{held.inside} of {held.trials} times") if held else ("refused", "–")
    interval = f"{low:.4f} to {high:.4f}"
    size, fpir = f"{row.people:,}", f"{100 * row.fpir:g} %"
    return size, fpir, f"{row.point.threshold:.4f}", interval, percent(row.point.if_independent, 3), *met


def print_groups(measured: "Iterable[Differential] | None") -> None:
    """A table per column, error and threshold; nothing where nothing was measured, which the JSON says in words."""
    from facespace.judge.page import percent, span

    for one in measured or ():
        typer.echo(f"\n{one.error} by {one.column} at the threshold {one.threshold:.4f}\n")
        rows: list[Row] = [
            (rate.group, f"{rate.trials:,}", percent(rate.share.rate, 3), span(rate.share.ci95, 3))
            if rate.share
            else (rate.group, f"{rate.trials:,}", "refused", "–")
            for rate in one.groups
        ]
        rows.append(("all", f"{one.overall.trials:,}", percent(one.overall.rate, 3), span(one.overall.ci95, 3)))
        rows.append(_ratio_row("worst / best", one.worst_to_best))
        rows.append(_ratio_row("worst / geometric mean", one.worst_to_mean))
        shell.show_table(("group", "trials", one.error, "95 % interval"), rows)
        for rate in one.groups:
            if rate.refused:
                shell.say(f"Refused: {one.error} of {one.column} {rate.group} at {one.threshold:.4f}: {rate.refused}.")
        if reason := one.worst_to_best.refused:  # that of both ratios
            shell.say(f"Refused: ratios of {one.error} by {one.column} at {one.threshold:.4f}: {reason}.")


def _ratio_row(name: str, ratio: "Ratio") -> Row:
    if ratio.value is None or ratio.ci95 is None:
        return name, "", "refused", "–"
    return name, "", f"{ratio.value:.2f}", f"{ratio.ci95[0]:.2f} to {ratio.ci95[1]:.2f}"

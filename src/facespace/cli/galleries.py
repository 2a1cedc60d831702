"""What `facespace evaluate` prints of a set that lists its own galleries."""

from typing import TYPE_CHECKING

import typer

from facespace.cli import shell

if TYPE_CHECKING:
    from facespace.judge.galleries import GalleryEvaluation, MeanOfGalleries, Searched

Row = tuple[str, ...]


def print_galleries(result: "GalleryEvaluation") -> None:
    """The figures of each gallery, one to a row; why others are missing, to stderr."""
    protocol = result.protocol
    probes, photos = f"{len(protocol.probes):,} searches", f"{len(protocol.templates.photos):,} photos"
    typer.echo(f"{result.model['name']} on {protocol.name}: {probes}, {photos}")
    for one in result.searched:
        searches = f"{one.searches.mates.size:,} searches of people in it, {one.searches.tops.size:,} of others"
        typer.echo(f"\ngallery {one.gallery.name} of {len(one.gallery.rows):,}: {searches}\n")
        shell.show_table(("figure", "value", "95 % interval", "achieved FPIR", "threshold"), _rows(one))
        for at in one.open_set:
            if at.refused:
                shell.say(f"Refused: TPIR at FPIR {100 * at.fpir:g} % in {one.gallery.name}: {at.refused}.")
    if result.mean:
        typer.echo("\nmean of the galleries, each counting alike\n")
        shell.show_table(("figure", "value"), _mean_rows(result.mean))
    shell.say(f"{result.silent} searches without a usable face; {result.images_per_s:.1f} photos per second.")


def _mean_rows(mean: "MeanOfGalleries") -> list[Row]:
    from facespace.judge.page import percent

    rows: list[Row] = [(f"rank {k}", percent(rate)) for k, rate in mean.rates.items()]
    return rows + [(f"TPIR at FPIR {100 * fpir:g} %", percent(tpir)) for fpir, tpir in mean.tpirs.items()]


def _rows(one: "Searched") -> list[Row]:
    from facespace.judge.page import percent, span

    ranks = [(rank.k, rank.share) for rank in one.closed_set if rank.share]
    rows: list[Row] = [(f"rank {k}", percent(share.rate), span(share.ci95), "", "") for k, share in ranks]
    for at in one.open_set:
        if at.found:
            tpir, fpir = at.found.tpir, at.found.fpir
            figures = (percent(tpir.rate), span(tpir.ci95), percent(fpir.rate, 3), f"{at.found.threshold:.4f}")
            rows.append((f"TPIR at FPIR {100 * at.fpir:g} %", *figures))
    rows.append(("templates that could not be enrolled", str(len(one.unenrolled)), "", "", ""))
    return rows

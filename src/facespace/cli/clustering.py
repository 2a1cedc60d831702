"""The clustering protocol at the command line."""

from typing import TYPE_CHECKING

import typer

from facespace.cli import shell

if TYPE_CHECKING:
    from facespace.judge.clustering import ClusteringEvaluation


def print_clustering(result: "ClusteringEvaluation") -> None:
    """The figures, one to a row."""
    from facespace.judge.page import percent, span

    photos = f"{len(result.protocol.photos):,} photos of {result.protocol.people:,} people"
    typer.echo(f"{result.model['name']} on {result.protocol.name}, {photos} in {result.found:,} clusters")
    joins = f"{result.linkage} linkage, similarity at least {result.point.threshold:.4f} ({result.point.at})"
    typer.echo(f"{joins}; intervals draw people, clusters stay\n")
    rows = [
        (f"{name} {part}", percent(share.value), span(share.ci95))
        for name, agreed in (("pairwise", result.pairwise), ("BCubed", result.bcubed))
        for part, share in (("precision", agreed.precision), ("recall", agreed.recall), ("F", agreed.f))
    ]
    rows += [
        ("NMI", f"{result.nmi:.4f}", ""),
        ("ARI", f"{result.ari:.4f}", ""),
        ("photos without a usable face", str(len(result.failures)), ""),
        ("photos per second", f"{result.images_per_s:.1f}", ""),
    ]
    shell.show_table(("figure", "value", "95 % interval"), rows)

"""What `facespace evaluate --protocol retrieval` prints."""

from typing import TYPE_CHECKING

import typer

from facespace.cli import shell

if TYPE_CHECKING:
    from facespace.judge.retrieval import RetrievalEvaluation


def print_retrieval(result: "RetrievalEvaluation") -> None:
    """The figures, one to a row; why others are missing, to stderr."""
    from facespace.judge.page import percent, span

    queries = f"{len(result.ranks.queries):,} queries among {len(result.protocol.photos):,} photos"
    typer.echo(f"{result.model['name']} on {result.protocol.name}, {queries} of {result.protocol.people:,} people\n")
    shown = [recall for recall in result.recall_at if not recall.refused]
    rows = [(f"recall at {recall.k:,}", percent(recall.recall), span(recall.ci95)) for recall in shown]
    rows += [
        ("mean average precision at R", percent(result.map_at_r), span(result.map_at_r_ci95)),
        ("photos without a mate, left out", str(result.ranks.alone), ""),
        ("photos without a usable face", str(len(result.failures)), ""),
        ("photos per second", f"{result.images_per_s:.1f}", ""),
    ]
    shell.show_table(("figure", "value", "95 % interval"), rows)
    for refused in (recall for recall in result.recall_at if recall.refused):
        shell.say(f"Refused: recall at {refused.k:,}: {refused.refused}.")

"""What reports say of identification, clustering and retrieval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facespace.core.identification import Searches
from facespace.core.partitions import tabulate
from facespace.judge.clustering import ClusteringEvaluation
from facespace.judge.galleries import GalleryEvaluation
from facespace.judge.identified import AtFpir, RankK
from facespace.judge.page import Chart, Content
from facespace.judge.panels import (
    agreement_chart,
    clusters_chart,
    cmc_chart,
    fpir_chart,
    gallery_chart,
    recall_chart,
    search_chart,
)
from facespace.judge.retrieval import RetrievalEvaluation
from facespace.judge.searching import IdentificationEvaluation

WORST = 10
"""Rows of tables of what went worst."""


def identification_content(evaluation: IdentificationEvaluation) -> Content:
    """CMC, scores, DET, thresholds by the size of the gallery."""
    protocol = evaluation.protocol
    rank, size = protocol.enrolment.rank, len(protocol.gallery)
    charts, missing = _search_charts(evaluation.searches, size, rank, evaluation.closed_set, evaluation.open_set)
    gallery = gallery_chart(evaluation)
    if gallery:
        charts.append((gallery, "The threshold that a gallery of so many people needs, with 95 % intervals."))
    else:
        missing["thresholds by gallery"] = "the people support one size of gallery or none"
    return Content("identification.html", charts, {}, missing=missing)


def gallery_content(evaluation: GalleryEvaluation) -> Content:
    """CMC, scores and DET of each gallery."""
    charts: list[Chart] = []
    missing: dict[str, str] = {}
    for one in evaluation.searched:
        size, where = len(one.gallery.rows), f" of {one.gallery.name}"
        found, why = _search_charts(one.searches, size, 1, one.closed_set, one.open_set, where)
        charts, missing = charts + found, missing | why
    return Content("galleries.html", charts, {}, missing=missing)


def _search_charts(
    searches: Searches,
    size: int,
    rank: int,
    closed_set: Sequence[RankK],
    open_set: Sequence[AtFpir],
    where: str = "",
) -> tuple[list[Chart], dict[str, str]]:
    """What the searches of a gallery give, and why the rest is not there."""
    charts: list[Chart] = []
    missing = {}
    if searches.mates.size:
        caption = f"CMC{where}: how often the mate is among the first k candidates, with 95 % intervals."
        charts.append((cmc_chart(searches, size, closed_set), caption))
    else:
        missing[f"CMC{where}"] = "nobody who searches is enrolled"
    charts.append(
        (
            search_chart(searches, open_set),
            f"Scores{where} of mates, and of the best candidates of people who are not enrolled; the dashed line is "
            "the threshold of the highest FPIR above.",
        )
    )
    if det := fpir_chart(searches, rank, open_set):
        charts.append((det, f"Detection error trade-off{where}: misses against strangers answered."))
    else:
        missing[f"DET{where}"] = "it takes searches of enrolled people and of others"
    return charts, missing


class Found(NamedTuple):
    """How one person's queries fared, on average."""

    name: str
    queries: int
    recall_at_1: float
    map_at_r: float


def retrieval_content(evaluation: RetrievalEvaluation) -> Content:
    """Recall over K, and who is found worst."""
    caption = "How often a mate is among the K nearest, with 95 % intervals."
    return Content("retrieval.html", [(recall_chart(evaluation), caption)], {"worst": worst_found(evaluation)})


def worst_found(evaluation: RetrievalEvaluation) -> list[Found]:
    """The people with the least mean average precision; nobody of whom all is found."""
    protocol, ranks = evaluation.protocol, evaluation.ranks
    asked = protocol.labels[ranks.queries]
    people, person = np.unique(asked, return_inverse=True)
    queries = np.bincount(person)
    precision = np.bincount(person, ranks.average_precision) / queries
    at_1 = np.bincount(person, ranks.found_within(1)) / queries
    names = [protocol.names[label] for label in people]
    order = [int(i) for i in np.argsort(precision, kind="stable")[:WORST] if precision[i] < 1]
    return [Found(names[i], int(queries[i]), float(at_1[i]), float(precision[i])) for i in order]


class Scattered(NamedTuple):
    """A person in several clusters."""

    name: str
    photos: int
    clusters: int
    together: int
    """Photos in the cluster that has most."""


class Mixed(NamedTuple):
    """A cluster of several people."""

    photos: int
    people: int
    names: tuple[str, ...]
    """The three with most photos in it."""


def clustering_content(evaluation: ClusteringEvaluation) -> Content:
    """Agreement over the threshold, how many clusters, and which went wrong."""
    looked_at = "a threshold chosen here would be chosen on the data that judge it"
    agreement, clusters = agreement_chart(evaluation), clusters_chart(evaluation)
    charts: list[Chart] = []
    if agreement and clusters:
        charts = [
            (
                agreement,
                f"Agreement with the people at every threshold, the dashed line is the one judged at; {looked_at}.",
            ),
            (clusters, "How many clusters there are at every threshold."),
        ]
    missing = {} if charts else {"agreement over the threshold": "no two photos gave a face"}
    facts = {"scattered": scattered(evaluation), "mixed": mixed(evaluation)}
    return Content("clustering.html", charts, facts, missing=missing)


def scattered(evaluation: ClusteringEvaluation) -> list[Scattered]:
    """The people in most clusters."""
    protocol = evaluation.protocol
    table = tabulate(protocol.labels, evaluation.clusters)
    clusters = np.bincount(table.person, minlength=table.people)
    together = np.zeros(table.people, np.int64)
    np.maximum.at(together, table.person, table.photos)
    names = [protocol.names[label] for label in np.unique(protocol.labels)]
    order = [int(i) for i in np.argsort(-clusters, kind="stable")[:WORST] if clusters[i] > 1]
    return [Scattered(names[i], int(table.of_person[i]), int(clusters[i]), int(together[i])) for i in order]


def mixed(evaluation: ClusteringEvaluation) -> list[Mixed]:
    """The clusters with most people."""
    protocol = evaluation.protocol
    table = tabulate(protocol.labels, evaluation.clusters)
    people = np.bincount(table.cluster, minlength=table.clusters)
    names = [protocol.names[label] for label in np.unique(protocol.labels)]
    rows = []
    for i in np.argsort(-people, kind="stable")[:WORST]:
        if people[i] > 1:
            cells = np.flatnonzero(table.cluster == i)
            most = cells[np.argsort(-table.photos[cells], kind="stable")[:3]]
            shown = tuple(names[person] for person in table.person[most])
            rows.append(Mixed(int(table.of_cluster[i]), int(people[i]), shown))
    return rows

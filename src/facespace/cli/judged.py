"""What `facespace evaluate` prints, whatever the protocol."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facespace.judge.compatibility import CompatibilityEvaluation
    from facespace.judge.groups import Differential
    from facespace.judge.report import Reported


def print_evaluation(result: "Reported | CompatibilityEvaluation", measured: "Sequence[Differential] | None") -> None:
    """The figures; of pairs, what was `measured` by group besides."""
    from facespace.cli.clustering import print_clustering
    from facespace.cli.galleries import print_galleries
    from facespace.cli.identification import print_groups, print_identification
    from facespace.cli.pairs import print_accuracies, print_compatibility, print_pairs
    from facespace.cli.retrieval import print_retrieval
    from facespace.judge.clustering import ClusteringEvaluation
    from facespace.judge.compatibility import CompatibilityEvaluation
    from facespace.judge.galleries import GalleryEvaluation
    from facespace.judge.retrieval import RetrievalEvaluation
    from facespace.judge.searching import IdentificationEvaluation

    match result:
        case RetrievalEvaluation():
            print_retrieval(result)
        case ClusteringEvaluation():
            print_clustering(result)
        case IdentificationEvaluation():
            print_identification(result)
        case GalleryEvaluation():
            print_galleries(result)
        case CompatibilityEvaluation():
            print_compatibility(result)
        case _:
            print_pairs(result)
            print_accuracies(result)
            print_groups(measured)

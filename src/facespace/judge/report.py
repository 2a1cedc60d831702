"""An evaluation as one page of HTML: figures, charts, pictures, surroundings; no script, nothing from the network.

Beside the page stands the same as JSON; of pairs with all scores, for `facespace compare`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from facespace.judge.clustering import ClusteringEvaluation
from facespace.judge.contents import clustering_content, gallery_content, identification_content, retrieval_content
from facespace.judge.galleries import GalleryEvaluation, GalleryProtocol
from facespace.judge.groups import NOT_MEASURED, Differential, as_json
from facespace.judge.measures import attempt, people_map
from facespace.judge.page import Content, check_report, templates
from facespace.judge.paired import pair_content
from facespace.judge.panels import curve_chart, map_chart
from facespace.judge.retrieval import RetrievalEvaluation
from facespace.judge.run import Evaluation
from facespace.judge.searching import IdentificationEvaluation

MOST_FAILURES = 100
"""Rows of the page; the document beside it has all."""

Curve = tuple[str, ArrayLike, ArrayLike]
"""Name, x and y of a line such as the loss over the steps of a training."""
Reported = Evaluation | IdentificationEvaluation | GalleryEvaluation | ClusteringEvaluation | RetrievalEvaluation


@dataclass(frozen=True)
class Report:
    """An evaluation and what is known of its model."""

    evaluation: Reported
    title: str | None = None
    about: Mapping[str, Any] | None = None
    """The model's card."""
    recipe: Mapping[str, Any] | None = None
    """That of its training."""
    curves: Sequence[Curve] = ()
    """Those of its training."""
    groups: Sequence[Differential] | None = None
    """Errors by group, where the evaluation does not hold them itself."""

    def write(self, path: Path) -> None:
        """The page to `path` and the document beside it as `.json`. UsageError as `check_report`."""
        check_report(path)
        text = json.dumps(self.document(), allow_nan=False)
        path.write_text(self.html(), encoding="utf-8")
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")

    def document(self) -> dict[str, Any]:
        """All that the page says; null for what is not measured."""
        return {
            **self.evaluation.as_json(),
            **self.content.extra,
            "groups": as_json(self._groups),
            "card": None if self.about is None else dict(self.about),
            "recipe": None if self.recipe is None else dict(self.recipe),
        }

    def html(self) -> str:
        """The page."""
        evaluation, content = self.evaluation, self.content
        shown = evaluation.compared if isinstance(evaluation, Evaluation) else evaluation.embedded
        people = attempt(people_map, self._whose, shown)
        missing = content.missing if not isinstance(people, str) else {**content.missing, "map of people": people}
        return (
            templates()
            .get_template(content.template)
            .render(
                title=self.title or f"{evaluation.model['name']} on {evaluation.protocol.name}",
                e=evaluation,
                charts=content.charts,
                curves=[curve_chart(*curve) for curve in self.curves],
                people=None if isinstance(people, str) else people,
                map=None if isinstance(people, str) else map_chart(people),
                missing=missing,
                groups=[one.as_json() for one in self._groups or ()],
                not_measured=NOT_MEASURED,
                most_failures=MOST_FAILURES,
                about=self.about or {},
                recipe=self.recipe or {},
                **content.facts,
            )
        )

    @cached_property
    def content(self) -> Content:
        """What is said of this protocol alone."""
        match self.evaluation:
            case Evaluation():
                return pair_content(self.evaluation)
            case IdentificationEvaluation():
                return identification_content(self.evaluation)
            case GalleryEvaluation():
                return gallery_content(self.evaluation)
            case ClusteringEvaluation():
                return clustering_content(self.evaluation)
            case RetrievalEvaluation():
                return retrieval_content(self.evaluation)

    @property
    def _whose(self) -> Sequence[str] | None:
        """By name, whose each row of the vectors is; None where the data name nobody."""
        protocol = self.evaluation.protocol
        if isinstance(protocol, GalleryProtocol):
            return protocol.people_of_photos
        if protocol.labels is None or protocol.names is None:
            return None
        return [protocol.names[label] for label in protocol.labels]

    @property
    def _groups(self) -> Sequence[Differential] | None:
        return self.evaluation.groups if isinstance(self.evaluation, IdentificationEvaluation) else self.groups

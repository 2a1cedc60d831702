"""Pairs with the scores that a model gave them: what an evaluation leaves behind to be compared with another."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.verification import Ties
from facespace.errors import DataError
from facespace.judge.run import Evaluation

_HINT = "give the .json that `facespace evaluate --report` writes beside its page"


@dataclass(frozen=True)
class Scored:
    """Pairs of `photos`: `labels` to `folds` as of a `PairProtocol`, and `scores` float32 `(P,)`.

    A score of -inf means that a photo gave no face. `digest` is that of the photos.
    """

    model: Mapping[str, Any]
    protocol: str
    digest: str
    photos: tuple[str, ...]
    labels: NDArray[np.int64] | None
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    scores: NDArray[np.float32]
    ties: Ties = "accept"

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Scored":
        """What is left of an evaluation."""
        pairs = evaluation.protocol
        return cls(
            model=evaluation.model,
            protocol=pairs.name,
            digest=evaluation.digest,
            photos=pairs.photos,
            labels=pairs.labels,
            first=pairs.first,
            second=pairs.second,
            same=pairs.same,
            folds=pairs.folds,
            scores=evaluation.scores,
            ties=evaluation.figures.ties,
        )

    def pairs_as_json(self) -> dict[str, Any]:
        """`{"photos", "labels", "first", "second", "same", "folds", "scores"}`; a score is null for want of a face.

        `labels` are null where the data name nobody.
        """
        scores = [None if np.isneginf(score) else float(score) for score in self.scores]
        columns = {key: getattr(self, key).tolist() for key in ("first", "second", "same", "folds")}
        labels = None if self.labels is None else self.labels.tolist()
        return {"photos": list(self.photos), "labels": labels, **columns, "scores": scores}


def read_scored(path: Path) -> Scored:
    """The pairs in the document beside a report. Raises DataError where there are none, or they make no sense."""
    try:
        document = json.loads(path.read_bytes())
        _require_pairs(document, path)
        pairs = document["pairs_scored"]
        columns = [np.array(pairs[key], dtype=np.int64) for key in ("first", "second", "folds")]
        same = np.array(pairs["same"], dtype=np.bool_)
        scores = np.array([-np.inf if score is None else score for score in pairs["scores"]], dtype=np.float32)
        labels = pairs.get("labels")
        ties: Ties = "reject" if document["ties"] == "reject" else "accept"
        found = Scored(
            model={key: document["model"][key] for key in ("name", "contract", "dim")},
            protocol=str(document["protocol"]),
            digest=str(document["data"]["digest"]),
            photos=tuple(map(str, pairs["photos"])),
            labels=None if labels is None else np.array(labels, dtype=np.int64),
            first=columns[0],
            second=columns[1],
            same=same,
            folds=columns[2],
            scores=scores,
            ties=ties,
        )
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path, hint=_HINT) from error
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise DataError("holds no scored pairs that can be read", file=path, hint=_HINT) from error
    _check(found, path)
    return found


def _require_pairs(document: Any, path: Path) -> None:
    """DataError for what is another document of ours: of a protocol without pairs, or without the score of each."""
    if not isinstance(document, dict) or "pairs_scored" in document:
        return
    if "protocol" in document and "pairs" not in document:
        hint = "compare documents of pairs, such as --protocol folder or lfw give"
        raise DataError(f"a document of {document['protocol']} has no pairs", file=path, hint=hint)
    raise DataError("has no score for each pair", file=path, hint=_HINT)


def _check(found: Scored, path: Path) -> None:
    columns = (found.first, found.second, found.same, found.folds, found.scores)
    if not found.scores.size or any(column.shape != found.scores.shape for column in columns):
        raise DataError("its columns of pairs differ in length, or are empty", file=path, hint=_HINT)
    places = np.concatenate((found.first, found.second))
    if places.min() < 0 or places.max() >= len(found.photos):
        raise DataError("a pair names a photo that is not listed", file=path, hint=_HINT)
    if found.labels is not None and found.labels.shape != (len(found.photos),):
        raise DataError("its labels are not one for each photo", file=path, hint=_HINT)
    if np.isnan(found.scores).any() or np.isposinf(found.scores).any():
        raise DataError("a score is not a number", file=path, hint=_HINT)

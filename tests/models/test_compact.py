"""The packaged model: it is there, says what it is, and tells people apart."""

from pathlib import Path

import numpy as np
import pytest

import facespace
from facespace.data.batches import read_crop
from facespace.data.drawn import draw_crop, person
from facespace.data.folder import open_people
from facespace.errors import Refused
from facespace.models.card import require_commercial
from facespace.models.embedder import NetEmbedder
from facespace.models.shelf import PACKAGED


@pytest.fixture(scope="module")
def compact() -> NetEmbedder:
    """The model by its name, in one thread."""
    return facespace.load("compact", threads=1)


def test_compact_is_small_and_its_card_states_threshold_limits_and_terms(compact: NetEmbedder) -> None:
    assert (PACKAGED / "compact.onnx").stat().st_size <= 10_000_000
    (point,) = compact.card.operating_points
    assert point.at == "FMR=0.001"
    assert point.ci95 is not None
    assert point.ci95[0] < point.threshold < point.ci95[1]
    assert compact.card.numbers[0]["limits"]
    assert "research and evaluation only" in compact.card.licence
    with pytest.raises(Refused):
        require_commercial(compact.card)


def test_compact_gives_unit_vectors_that_do_not_depend_on_the_batch(compact: NetEmbedder) -> None:
    faces = np.stack([draw_crop(person(0, index), 0) for index in range(9)])
    vectors = compact.embed(faces)
    assert vectors.shape == (9, compact.dim)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(9), abs=1e-6)
    assert np.array_equal(vectors[4:5], compact.embed(faces[4:5]))


@pytest.mark.shared
def test_compact_keeps_strangers_apart_at_its_threshold(compact: NetEmbedder, shared: Path) -> None:
    """One photo each of people who were in no training: few of their pairs reach the threshold, as the card says."""
    people = open_people(shared / "data/devtest.tar")
    first = [int(np.flatnonzero(people.labels == label)[0]) for label in range(150)]
    second = [int(np.flatnonzero(people.labels == label)[1]) for label in range(150)]
    one, other = (compact.embed(np.stack([read_crop(people, p) for p in group])) for group in (first, second))
    scores = compact.similarity(one, other)
    accepted = scores >= compact.card.operating_points[0].threshold
    impostors = accepted[~np.eye(150, dtype=bool)]
    assert impostors.mean() < 0.005
    assert np.diag(accepted).mean() > 0.4

"""The packaged model: it is there, says what it is, and tells people apart."""

import math
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import facespace
from facespace.data.batches import read_crop
from facespace.data.drawn import draw_crop, person
from facespace.data.folder import open_people
from facespace.errors import Refused
from facespace.faces.detect import Aligned
from facespace.models.card import require_commercial
from facespace.models.embedder import NetEmbedder
from facespace.models.matching import decision_point, verify
from facespace.models.shelf import PACKAGED


@pytest.fixture(scope="module")
def compact() -> NetEmbedder:
    """The model by its name, in one thread."""
    return facespace.load("compact", threads=1)


def test_compact_is_small_and_its_card_states_threshold_limits_and_terms(compact: NetEmbedder) -> None:
    assert (PACKAGED / "compact.onnx").stat().st_size <= 10_000_000
    points = compact.card.operating_points
    assert [point.at for point in points] == ["FMR=0.01", "FMR=0.001", "FMR=0.0001"]
    for point, fmr in zip(points, (1e-2, 1e-3, 1e-4), strict=True):
        assert point.contract == compact.contract
        assert point.ci95 is not None
        assert point.ci95[0] < point.threshold < point.ci95[1]
        assert point.fmr_ci95 is not None
        assert point.fmr_others95 is not None
        assert point.fmr_others95[0] < point.fmr_ci95[0] < fmr < point.fmr_ci95[1] < point.fmr_others95[1]
    assert [a.threshold < b.threshold for a, b in pairwise(points)] == [True, True]
    assert [a.fnmr is not None and b.fnmr is not None and a.fnmr < b.fnmr for a, b in pairwise(points)] == [True, True]
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


def test_verify_says_by_compact_how_much_likelier_one_person_is(compact: NetEmbedder, tmp_path: Path) -> None:
    """The ratio by hand: the card's straight line, kept within what 400 people can show."""
    photos = []
    for number, (who, shot) in enumerate([(0, 0), (0, 1), (1, 0)]):
        photos.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(photos[-1]), draw_crop(person(0, who), shot)[:, :, ::-1])
    known = compact.card.calibration
    assert known is not None
    assert known.logistic is not None
    assert (known.contract, known.detector, known.people) == (compact.contract, "aligned", 400)
    assert (known.least, known.most) == pytest.approx((-math.log(400 / 3), math.log(400 * 399 / 2 / 3)))
    for other, fmr in ((1, None), (2, None), (2, 0.01)):
        verdict = verify(photos[0], photos[other], compact, Aligned(), fmr=fmr)
        line = known.logistic.slope * verdict.similarity + known.logistic.offset
        assert verdict.log_likelihood_ratio == pytest.approx(min(max(line, known.least), known.most))
        assert verdict.at == f"FMR={fmr or 0.001:g}"
        assert verdict.calibrated_on == known
        assert verdict.other_detector == ""


@pytest.mark.shared
def test_compact_keeps_strangers_apart_at_its_threshold(compact: NetEmbedder, shared: Path) -> None:
    """One photo each of people who were in no training: few of their pairs reach the threshold, as the card says."""
    people = open_people(shared / "data/devtest.tar")
    first = [int(np.flatnonzero(people.labels == label)[0]) for label in range(150)]
    second = [int(np.flatnonzero(people.labels == label)[1]) for label in range(150)]
    one, other = (compact.embed(np.stack([read_crop(people, p) for p in group])) for group in (first, second))
    scores = compact.similarity(one, other)
    accepted = scores >= decision_point(compact).threshold
    impostors = accepted[~np.eye(150, dtype=bool)]
    assert impostors.mean() < 0.005
    assert np.diag(accepted).mean() > 0.4

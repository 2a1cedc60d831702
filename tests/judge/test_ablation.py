"""The statistics of compared variants, from vectors to the table."""

import dataclasses
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core import verification
from facespace.core.similarity import GroupAware
from facespace.judge.ablation import (
    EER,
    LFW,
    Row,
    Table,
    Trained,
    difference,
    figure,
    measure,
    measure_lfw,
    tar_name,
)
from facespace.judge.protocols import PairProtocol

PEOPLE, EACH = 30, 4
LABELS = np.repeat(np.arange(PEOPLE), EACH)
FARS = (0.1, 0.01)
BASE = np.random.default_rng(0).normal(size=(PEOPLE, 8))[LABELS]
NOISE = np.random.default_rng(1).normal(size=BASE.shape)


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def trained(seed: int, spread: float) -> Trained:
    """A training whose vectors share most of their noise with others, as variants of one recipe do."""
    own = 0.1 * np.random.default_rng([seed, 7]).normal(size=BASE.shape)
    measures, _ = measure(unit(BASE + spread * NOISE + own), LABELS, FARS, replicates=200)
    return Trained(seed, "finished", photos=1000, minutes=2.0 + seed, measures=measures)


@pytest.fixture(scope="module")
def rows() -> tuple[Row, Row]:
    better = Row("better", "with less noise", tuple(trained(seed, 0.8) for seed in range(3)))
    worse = Row("worse", "", tuple(trained(seed, 0.9) for seed in range(3)))
    return better, worse


def test_the_plain_figures_are_those_of_verification(rows: tuple[Row, Row]) -> None:
    vectors = unit(BASE + NOISE)
    measures, refused = measure(vectors, LABELS, (*FARS, 1e-5), replicates=20)
    i, j = np.triu_indices(len(vectors), 1)
    curve = verification.roc((vectors @ vectors.T)[i, j], LABELS[i] == LABELS[j])
    assert list(measures) == ["TAR at FAR 10 %", "TAR at FAR 1 %", EER]
    for far in FARS:
        assert measures[tar_name(far)][0] == pytest.approx(verification.at_far(curve, far).tar, abs=1e-9)
    assert measures[EER][0] == pytest.approx(verification.equal_error(curve)[0], abs=1e-6)
    assert list(refused) == ["TAR at FAR 0.001 %"]
    assert "6,960 impostor pairs cannot show" in refused["TAR at FAR 0.001 %"]


def test_replicates_draw_the_same_people_whatever_the_vectors() -> None:
    """A model and the same one turned by a rotation agree in every replicate."""
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    one, other = (measure(unit(rows), LABELS, FARS, replicates=50)[0] for rows in (BASE + NOISE, (BASE + NOISE) @ turn))
    for name, values in one.items():
        assert values == pytest.approx(other[name], abs=1e-3)


def test_the_group_aware_similarity_is_used_where_it_is_given() -> None:
    vectors = unit(BASE + NOISE)
    telling = np.concatenate([vectors, 10 * BASE.astype(np.float32)], axis=1)  # vhat that knows the person
    plain = measure(vectors, LABELS, FARS, replicates=5)[0][EER]
    assert measure(telling, LABELS, FARS, GroupAware(8, beta=0.0), 5)[0][EER] == pytest.approx(plain)
    assert (measure(telling, LABELS, FARS, GroupAware(8), 5)[0][EER] < 0.8 * plain).all()


def test_accuracy_on_lfw_is_drawn_by_folds() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(BASE + 1.2 * NOISE)
    first, second = rng.integers(0, len(LABELS), (2, 400))
    same, folds = LABELS[first] == LABELS[second], np.arange(400) % 5
    same[:50] = True  # enough of both kinds in each fold
    protocol = PairProtocol("lfw", (), LABELS, first, second, same, folds, lambda name: b"")
    values = measure_lfw(vectors, protocol, replicates=300)[LFW]
    scores = np.einsum("nd,nd->n", vectors[first], vectors[second])
    accuracy = verification.over_folds(scores, same, folds, verification.best_threshold).accuracy
    assert values[0] == pytest.approx(accuracy.mean())
    assert accuracy.min() <= values.min() <= values.max() <= accuracy.max()
    assert values[1:].std() == pytest.approx(accuracy.std() / np.sqrt(5), rel=0.2)
    padded = np.concatenate([vectors, np.zeros_like(vectors)], axis=1)
    assert measure_lfw(padded, protocol, GroupAware(8), replicates=300)[LFW] == pytest.approx(values)


def test_a_figure_is_a_mean_over_seeds_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    values = 0.5 + 0.05 * rng.normal(size=(3, 1)) + 0.01 * rng.normal(size=(1, 2001))
    found = figure(values)
    assert found.value == pytest.approx(values[:, 0].mean())
    assert found.seed_sd == pytest.approx(np.std(values[:, 0], ddof=1))
    assert found.per_seed == tuple(values[:, 0])
    half = (found.ci95[1] - found.ci95[0]) / 2
    of_seeds, of_people = values[:, 1:].mean(axis=1).std(ddof=1) / np.sqrt(3), 0.01
    assert half == pytest.approx(1.96 * np.hypot(of_seeds, of_people), rel=0.15)
    one = figure(values[:1])
    assert one.seed_sd is None
    assert (one.ci95[1] - one.ci95[0]) / 2 == pytest.approx(1.96 * of_people, rel=0.1)
    assert figure(values - 0.52).ci95[0] == 0.0  # no rate is below
    assert figure(values - 0.52, least=-1.0).ci95[0] < 0


def test_differences_are_paired_and_so_more_certain_than_either_figure(rows: tuple[Row, Row]) -> None:
    better, worse = rows
    less = difference(better, worse)
    assert less.seeds == 3
    for name, value in less.figures.items():
        assert value.value == pytest.approx(better.figures[name].value - worse.figures[name].value)
    name = tar_name(0.01)
    width, alone = (found.ci95[1] - found.ci95[0] for found in (less.figures[name], better.figures[name]))
    assert width < 0.6 * alone
    assert less.figures[name].ci95[0] > 0
    assert difference(better, better).figures[name].ci95 == (0.0, 0.0)


def test_seeds_are_matched_by_number_and_those_of_one_side_left_out(rows: tuple[Row, Row]) -> None:
    better, worse = rows
    lost = Trained(1, "diverged", "10 losses in a row were not finite", photos=500, minutes=1.0)
    partly = dataclasses.replace(better, trained=(better.trained[0], lost, better.trained[2]))
    less = difference(partly, worse)
    name = tar_name(0.1)
    assert less.figures[name].per_seed == pytest.approx(
        [better.figures[name].per_seed[i] - worse.figures[name].per_seed[i] for i in (0, 2)]
    )
    assert partly.seeds == "2 (1 diverged)"
    nothing = difference(dataclasses.replace(better, trained=(lost,)), worse)
    assert (nothing.seeds, nothing.figures) == (0, {})


def test_a_start_trained_once_stands_against_every_seed(rows: tuple[Row, Row]) -> None:
    better, worse = rows
    once = dataclasses.replace(worse, trained=worse.trained[:1])
    less = difference(better, once)
    name = tar_name(0.1)
    assert less.figures[name].per_seed == pytest.approx(
        [value - once.figures[name].value for value in better.figures[name].per_seed]
    )


def table(rows: tuple[Row, Row]) -> Table:
    better, worse = rows
    lost = Trained(2, "diverged", "10 losses in a row were not finite", photos=500, minutes=1.0)
    partly = dataclasses.replace(worse, trained=(*worse.trained[:2], lost))
    idle = Row("idle", "", tuple(Trained(seed, "missing") for seed in range(3)))
    every = (better, partly, idle)
    refused = {"TAR at FAR 0.001 %": "too few pairs"}
    return Table("noise", 30, 120, "abc", every, (difference(better, partly), difference(better, idle)), refused)


def test_the_table_as_json_holds_every_seed(rows: tuple[Row, Row]) -> None:
    document = json.loads(json.dumps(table(rows).as_json(), allow_nan=False))
    assert document["judged"] == {"people": 30, "photos": 120, "digest": "abc"}
    better, partly, idle = document["variants"]
    assert better["figures"][EER]["seed_sd"] > 0
    assert len(better["figures"][EER]["per_seed"]) == 3
    assert [row["status"] for row in partly["trainings"]] == ["finished", "finished", "diverged"]
    assert idle["figures"] == {}
    assert document["differences"][0]["baseline"] == "worse"
    assert document["differences"][1]["figures"] == {}


def test_the_table_to_read(rows: tuple[Row, Row]) -> None:
    text = table(rows).markdown()
    lines = text.splitlines()
    assert lines[0] == "## noise"
    assert "All pairs of 120 photos of 30 people." in text
    better = next(line for line in lines if line.startswith("| `better` | 3 |"))
    value = rows[0].figures[tar_name(0.1)]
    low, high = (100 * end for end in value.ci95)
    assert f"{100 * value.value:.1f} % ({low:.1f} to {high:.1f}) ± {100 * (value.seed_sd or 0):.1f}" in better
    assert better.endswith("| 1,000 | 3.0 |")
    assert "| `worse` | 2 (1 diverged) |" in text
    assert "| `idle` | 0 (3 missing) | – | – | – | – | – |" in text
    assert "| `better` | `worse` | 2 | +" in text
    assert "| `better` | `idle` | 0 | – | – | – |" in text
    assert "- `better`: with less noise" in lines
    assert "- `worse`, seed 2, diverged: 10 losses in a row were not finite" in lines
    assert "- too few pairs" in lines
    columns = {line.count("|") for line in lines if line.startswith(("| `better` | 3", "| variant | s"))}
    assert columns == {8}

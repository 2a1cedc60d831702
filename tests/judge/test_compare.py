"""Two models on the same pairs: figures by their definitions, and verdicts where the truth is known."""

import json
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from facespace.cli import app
from facespace.errors import DataError, UsageError
from facespace.judge.compare import Comparison, compare, write_comparison
from facespace.judge.people import PairPeople
from facespace.judge.scored import Scored, read_scored
from tiny_onnx import save_tiny


def scored(noise: float, seed: int, people: int = 60, name: str = "a") -> Scored:
    """Genuine pairs score 1 and impostor pairs 0, give or take the noise: the less of it, the better."""
    photos = tuple(f"p{person:02d}/{i}.jpg" for person in range(people) for i in range(3))
    rng = np.random.default_rng(5)  # the pairs; the same for every model
    genuine = [(3 * p + i, 3 * p + j) for p in range(people) for i, j in ((0, 1), (0, 2), (1, 2))]
    impostors = []
    while len(impostors) < len(genuine):
        a, b = rng.integers(0, len(photos), 2).tolist()
        if a // 3 != b // 3:
            impostors.append((a, b))
    first, second = np.array(genuine + impostors).T
    same = np.arange(len(first)) < len(genuine)
    folds = (np.arange(len(first)) % 5) + 1
    scores = (same + noise * np.random.default_rng(seed).normal(size=len(first))).astype(np.float32)
    model = {"name": name, "contract": f"c-{name}", "dim": 3}
    labels = np.repeat(np.arange(people), 3)
    return Scored(model, "folder", "d" * 64, photos, labels, first, second, same, folds, scores)


@pytest.fixture(scope="module")
def result() -> Comparison:
    return compare(scored(0.6, 1, name="<poor>"), scored(0.3, 2, name="good"))


def best_right(scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Each fold at the threshold with most right decisions on the others, tried one by one."""
    right = np.empty(len(scores), bool)
    for fold in np.unique(folds):
        others, held = folds != fold, folds == fold
        tried = sorted([*scores[others].tolist(), np.inf], reverse=True)
        best = max(tried, key=lambda t, o=others: (int(((scores[o] >= t) == same[o]).sum()), t))
        right[held] = (scores[held] >= best) == same[held]
    return right


def test_figures_and_their_differences_are_those_of_the_definitions(result: Comparison) -> None:
    one, other = scored(0.6, 1), scored(0.3, 2)
    right = [best_right(s.scores, s.same, s.folds) for s in (one, other)]
    accuracy = [np.mean([r[one.folds == f].mean() for f in range(1, 6)]) for r in right]
    gaps = {gap.figure: gap for gap in result.gaps}
    assert gaps["accuracy"].first == pytest.approx(accuracy[0], abs=1e-12)
    assert gaps["accuracy"].difference == pytest.approx(accuracy[1] - accuracy[0], abs=1e-12)
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert [result.decisions.only_first, result.decisions.only_second] == only
    tail = sum(comb(sum(only), k) for k in range(min(only) + 1)) / 2 ** sum(only)
    assert result.decisions.p_value == pytest.approx(min(1, 2 * tail), rel=1e-9)
    values = (gaps["TAR at FAR 1 %"].first, gaps["TAR at FAR 1 %"].second)
    for scores, value in zip((one.scores, other.scores), values, strict=True):
        allowed = [t for t in scores.tolist() if (scores[~one.same] >= t).mean() <= 0.01]
        assert value == pytest.approx((scores[one.same] >= min(allowed)).mean(), abs=1e-12)


def test_the_better_model_is_found_and_a_model_does_not_differ_from_itself(result: Comparison) -> None:
    verdicts = {gap.figure: gap.verdict for gap in result.gaps}
    assert verdicts["accuracy"] == verdicts["EER"] == "second"
    assert verdicts["TAR at FAR 0.01 %"] == "refused"
    turned = compare(scored(0.3, 2), scored(0.6, 1))
    assert {gap.figure: gap.verdict for gap in turned.gaps}["EER"] == "first"
    alike = compare(scored(0.4, 3), scored(0.4, 3))
    assert {gap.verdict for gap in alike.gaps if not gap.refused} == {"undecided"}
    low, high = alike.gaps[0].ci95 or (0, 0)
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / 60), rel=0.05)  # 60 people do not exclude less
    assert alike.gaps[0].p_value == 1


def test_other_pairs_and_other_photos_are_refused() -> None:
    one = scored(0.4, 1)
    for other in (
        replace(one, digest="e" * 64),
        replace(one, first=one.second, second=one.first),
        replace(one, folds=one.folds[::-1].copy()),
        replace(one, ties="reject"),
    ):
        with pytest.raises(UsageError, match="the two were"):
            compare(one, other)


def test_people_are_those_of_the_labels_or_else_of_genuine_pairs() -> None:
    one = scored(0.4, 1)
    named, inferred = PairPeople.of(one), PairPeople.of(replace(one, labels=None))
    assert (named.named, inferred.named, named.count, inferred.count) == (True, False, 60, 60)
    for people in (named, inferred):
        np.testing.assert_array_equal(people.a == people.b, one.same)
    chain = replace(
        one, labels=None, photos=tuple("abcde"), first=np.array([0, 1, 0]), second=np.array([1, 2, 3]),
        same=np.array([True, True, False]),
    )  # fmt: skip
    found = PairPeople.of(chain)
    assert found.a.tolist() == [found.b[0], found.b[0], found.b[0]]
    assert found.b[0] == found.b[1] != found.b[2]
    both = [compare(pairs, replace(pairs, scores=-pairs.scores)) for pairs in (one, replace(one, labels=None))]
    assert [comparison.as_json()["intervals"] for comparison in both] == ["people", "inferred people"]
    assert both[0].gaps == both[1].gaps


def test_a_difference_of_accuracies_is_over_people(result: Comparison) -> None:
    """Its standard error, in loops over all couples of pairs that share a person."""
    one, other = scored(0.6, 1), scored(0.3, 2)
    gap = next(gap for gap in result.gaps if gap.figure == "accuracy")
    right = [best_right(s.scores, s.same, s.folds).astype(float) for s in (one, other)]
    values = [np.mean([r[one.folds == f].mean() for f in range(1, 6)]) for r in right]
    sizes = np.bincount(one.folds)[one.folds]
    moved = (right[1] - values[1] - right[0] + values[0]) / (5 * sizes)
    a, b = one.labels[one.first], one.labels[one.second]  # type: ignore[index]
    shared = (a[:, None] == a) | (a[:, None] == b) | (b[:, None] == a) | (b[:, None] == b)
    variance = max(float(moved @ shared @ moved) * 60 / 59, float(moved @ moved))
    costs = []
    for s, value in zip((one, other), values, strict=True):
        best = max(float(((s.scores >= t) == s.same).mean()) for t in s.scores)
        costs.append(best - value)  # what choosing the threshold on other folds costs
    error = np.sqrt(variance + max(costs) ** 2 / 2)
    half = stats.t.ppf(0.975, 59) * error
    assert gap.ci95 == pytest.approx((values[1] - values[0] - half, values[1] - values[0] + half), abs=2e-4)
    assert gap.p_value == pytest.approx(2 * stats.t.sf(abs(values[1] - values[0]) / error, 59), rel=0.05)


def test_the_page_names_both_escapes_them_and_needs_nothing_else(result: Comparison, tmp_path: Path) -> None:
    write_comparison(result, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "&lt;poor&gt;" in text
    assert "<poor>" not in text
    assert text.count("<svg") == 2
    assert not any(word in text for word in ("<script", "http:", "https:", "@import", "url("))
    assert json.loads(json.dumps(result.as_json(), allow_nan=False))["differences"][0]["verdict"] == "second"


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{", '{"pairs_scored": 3}',
        json.dumps({"model": {"name": "a", "contract": "c", "dim": 1}, "protocol": "p", "ties": "accept",
                    "data": {"digest": "d"}, "pairs_scored": {"photos": ["a"], "first": [0], "second": [5],
                    "same": [True], "folds": [1], "scores": [0.5]}}),
    ],
)  # fmt: skip
def test_a_document_without_scored_pairs_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError) as refused:
        read_scored(tmp_path / "a.json")
    assert refused.value.hint
    assert "Error" not in str(refused.value)
    with pytest.raises(DataError):
        read_scored(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"protocol": "retrieval", "queries": 3}, "a document of retrieval has no pairs"),
        ({"protocol": "folder", "pairs": 3}, "has no score for each pair"),
    ],
)
def test_another_document_of_ours_is_called_by_its_name(content: dict, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=says):
        read_scored(tmp_path / "a.json")


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout


def test_models_and_documents_give_the_same_comparison(tmp_path: Path) -> None:
    from facespace.data.drawn import write_people

    write_people(tmp_path / "people", people=6, photos=3)
    models = [tmp_path / f"{name}.onnx" for name in ("one", "two")]
    for seed, path in enumerate(models):
        save_tiny(path, card={"commercial": False}, dim=8, seed=seed)
        where = ("--data", tmp_path / "people", "--detector", "aligned", "--quiet")
        assert call("evaluate", path, *where, "--report", path.with_suffix(".html"))[0] == 0
    status, out = call("compare", *models, *where, "--json", "--report", tmp_path / "both.html")
    assert status == 0
    assert (tmp_path / "both.html").stat().st_size < 200_000
    read = call("compare", *(path.with_suffix(".json") for path in models), "--json")
    assert read[0] == 0
    now, then = json.loads(out), json.loads(read[1])
    assert now["differences"] == then["differences"]
    assert "less one on folder" in call("compare", *(path.with_suffix(".json") for path in models))[1]
    for words in (
        (*models,),
        (models[0].with_suffix(".json"), models[1]),
        (*models, "--data", tmp_path, "--folds", "1"),
    ):
        assert call("compare", *words)[0] == 2

"""Two models on the same pairs, with one photo of a pair by each, against vectors made one by one."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from facespace.cli import app
from facespace.core.contracts import AlignedFaces, Face, Photo, Vectors
from facespace.core.scores import unit_vectors
from facespace.data.drawn import write_people
from facespace.data.folder import PhotoRef
from facespace.errors import ContractMismatch
from facespace.faces.detect import Aligned
from facespace.judge.compatibility import COMPARISONS, DIFFERENCES, check_comparable, run_compatibility
from facespace.judge.protocols import PairProtocol, made_pairs
from facespace.judge.run import run
from facespace.models.rescored import Rescored
from tiny_onnx import save_tiny

TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


class Colours:
    """A person is a colour: the mean red, green and blue of the face, in axes that are turned by `turn`."""

    contract, dim = "c0105", 3

    def __init__(self, name: str = "v1", turn: np.ndarray | None = None) -> None:
        self.name, self.turn = name, np.eye(3) if turn is None else turn
        self.seen = 0

    def embed(self, faces: AlignedFaces) -> Vectors:
        self.seen += len(faces)
        return unit_vectors((faces.reshape(len(faces), -1, 3).mean(1) - 127.3) @ self.turn)

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return a @ b.T

    def pair_similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return np.einsum("nd,nd->n", a, b)


class BlackHasNoFace(Aligned):
    """Finds a face everywhere but in black photos."""

    def detect(self, photo: Photo) -> list[Face]:
        return super().detect(photo) if photo.any() else []


def newer() -> Colours:
    """Nearly the axes of v1."""
    return Colours("v2", np.eye(3) + 0.2 * np.random.default_rng(2).normal(size=(3, 3)))


def png(rgb: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (112, 112), rgb).save(stream, "PNG")
    return stream.getvalue()


def people(count: int = 40, each: int = 3) -> dict[str, bytes]:
    content = {}
    for i in range(count):
        own = np.random.default_rng([i]).integers(30, 225, 3)
        for j in range(each):
            rgb = own + np.random.default_rng([i, j]).integers(-15, 16, 3)
            content[f"p{i:02d}/{j}.png"] = png(tuple(rgb.tolist()))
    return content


def protocol_of(content: dict[str, bytes]) -> PairProtocol:
    return made_pairs([PhotoRef(name.split("/")[0], name) for name in content], content.__getitem__)


def slow_scores(protocol: PairProtocol, content: dict[str, bytes], models: list[Colours]) -> dict[str, np.ndarray]:
    """Scores of all comparisons, pair by pair in float64."""
    vectors: list[dict[str, np.ndarray]] = [{}, {}]
    for version, model in enumerate(models):
        for name in protocol.photos:
            mean = np.asarray(Image.open(io.BytesIO(content[name])), np.float64).mean((0, 1)) - 127.3
            vectors[version][name] = mean @ model.turn / np.linalg.norm(mean @ model.turn)
    directions = {"v1-v1": [(0, 0)], "v2-v2": [(1, 1)], "v1-v2": [(0, 1)], "v2-v1": [(1, 0)], "mixed": [(0, 1), (1, 0)]}
    return {
        name: np.array(
            [
                vectors[a][protocol.photos[i]] @ vectors[b][protocol.photos[j]]
                for a, b in ways
                for i, j in zip(protocol.first, protocol.second, strict=True)
            ]
        )
        for name, ways in directions.items()
    }


def slow_accuracy(scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> list[float]:
    """Of each fold, at the best threshold of the others."""
    found = []
    for fold in np.unique(folds):
        s, y = scores[folds != fold], same[folds != fold]
        right = {t: int((s[y] >= t).sum() + (s[~y] < t).sum()) for t in np.unique(s).tolist()}
        threshold = max(t for t, count in right.items() if count == max(right.values()))
        found.append(float(((scores[folds == fold] >= threshold) == same[folds == fold]).mean()))
    return found


def test_every_comparison_is_that_of_vectors_made_one_by_one() -> None:
    content, models = people(), [Colours(), newer()]
    protocol = protocol_of(content)
    result = run_compatibility(protocol, *models, Aligned(), threads=2)
    expected = slow_scores(protocol, content, models)
    assert {comparison.name for comparison in result.comparisons} == COMPARISONS.keys() == expected.keys()
    for comparison in result.comparisons:
        scores = expected[comparison.name]
        np.testing.assert_allclose(comparison.scores, scores, atol=1e-6)
        times = len(scores) // len(protocol.same)
        assert times == (2 if comparison.name == "mixed" else 1)
        accuracy = slow_accuracy(comparison.scores, np.tile(protocol.same, times), np.tile(protocol.folds, times))
        np.testing.assert_allclose(comparison.figures.folds.accuracy, accuracy, atol=1e-12)
        wins = scores[np.tile(protocol.same, times)][:, None] - scores[~np.tile(protocol.same, times)][None]
        assert comparison.figures.auc == pytest.approx((np.sign(wins).mean() + 1) / 2, abs=1e-4)


def test_each_model_alone_is_judged_as_it_is_elsewhere() -> None:
    content, models = people(), [Colours(), newer()]
    protocol = protocol_of(content)
    together = run_compatibility(protocol, *models, Aligned(), threads=1)
    by_name = {comparison.name: comparison for comparison in together.comparisons}
    for name, model in zip(("v1-v1", "v2-v2"), models, strict=True):
        alone = run(protocol, model, Aligned(), threads=1)
        np.testing.assert_array_equal(by_name[name].scores, alone.scores)
        assert by_name[name].figures.as_json() == alone.figures.as_json()
        assert together.digest == alone.digest


def test_a_photo_is_read_once_and_embedded_once_by_each_model() -> None:
    content, reads, v1, v2 = people(), list[str](), Colours(), newer()
    photos = [PhotoRef(name.split("/")[0], name) for name in content]
    protocol = made_pairs(photos, lambda name: (reads.append(name), content[name])[1])
    run_compatibility(protocol, v1, v2, Aligned(), threads=2)
    assert sorted(reads) == sorted(protocol.photos)
    assert v1.seen == v2.seen == len(protocol.photos)


def test_a_model_is_compatible_with_itself_and_that_is_no_certainty() -> None:
    result = run_compatibility(protocol_of(people()), Colours(), Colours("again"), Aligned(), threads=1)
    plain, *others = result.comparisons
    for other in others:
        assert other.figures.auc == plain.figures.auc
        assert other.figures.as_json()["accuracy"] == plain.figures.as_json()["accuracy"]
        np.testing.assert_allclose(
            [rate.ci95 or (0, 0) for rate in other.figures.tar_at_far],
            [rate.ci95 or (0, 0) for rate in plain.figures.tar_at_far],
        )
    for difference in result.differences:
        assert difference.accuracy.value == 0
        assert difference.accuracy.ci95 is not None
        assert difference.accuracy.ci95[0] < 0 < difference.accuracy.ci95[1]


def test_models_that_were_trained_apart_are_not_compatible() -> None:
    """Both tell people apart; together they are at chance, or worse."""
    result = run_compatibility(protocol_of(people()), Colours(), Colours("turned", TURN), Aligned(), threads=1)
    auc = {comparison.name: comparison.figures.auc for comparison in result.comparisons}
    assert auc["v1-v1"] == pytest.approx(auc["v2-v2"], abs=1e-6)
    assert auc["v1-v1"] > 0.9
    assert auc["mixed"] < 0.7
    lost = next(d for d in result.differences if (d.name, d.less) == ("mixed", "v1-v1"))
    assert lost.accuracy.ci95 is not None
    assert lost.accuracy.ci95[1] < 0


def test_differences_are_over_the_people_of_the_same_pairs() -> None:
    """Both directions of a pair of photos are one trial; the variance in loops over all couples that share a person."""
    protocol = protocol_of(people(60))
    result = run_compatibility(protocol, Colours(), newer(), Aligned(), threads=1)
    found = {comparison.name: comparison for comparison in result.comparisons}
    assert tuple((difference.name, difference.less) for difference in result.differences) == DIFFERENCES
    assert protocol.labels is not None
    a, b = protocol.labels[protocol.first], protocol.labels[protocol.second]
    shared = (a[:, None] == a) | (a[:, None] == b) | (b[:, None] == a) | (b[:, None] == b)
    for difference in result.differences:
        moved, costs, means = np.zeros((2, len(a))), [], []
        for side, name in enumerate((difference.name, difference.less)):
            scores, times = found[name].scores, len(found[name].scores) // len(a)
            same, folds = np.tile(protocol.same, times), np.tile(protocol.folds, times)
            thresholds = dict(zip(np.unique(folds).tolist(), found[name].figures.folds.thresholds, strict=True))
            right = (scores >= [thresholds[fold] for fold in folds.tolist()]) == same
            means.append(np.mean([right[folds == fold].mean() for fold in thresholds]))
            weights = np.array([1 / (len(thresholds) * (folds == fold).sum()) for fold in folds.tolist()])
            moved[side] = (weights * (right - means[side])).reshape(times, -1).sum(0)
            costs.append(max(float(weights @ ((scores >= t) == same)) for t in scores) - means[side])
        gap = moved[0] - moved[1]
        variance = max(gap @ shared @ gap * 60 / 59, gap @ gap) + max(costs) ** 2 / 2
        half = stats.t.ppf(0.975, 59) * np.sqrt(variance)
        assert difference.accuracy.value == pytest.approx(means[0] - means[1], abs=1e-12)
        assert difference.accuracy.ci95 == pytest.approx(
            (means[0] - means[1] - half, means[0] - means[1] + half), rel=0.02
        )
        far, shown = difference.val_at_far[0]
        assert far == 1e-2
        rates = [found[name].figures.val_at_far[0].rate for name in (difference.name, difference.less)]
        assert shown.value == pytest.approx(rates[0] - rates[1], abs=1e-12)
        assert "cannot show a FAR of 0.0001" in str(difference.val_at_far[2][1].refused)


def test_photos_without_a_face_are_missing_in_every_comparison() -> None:
    content = people()
    content["p03/1.png"], content["p07/0.png"] = png((0, 0, 0)), b"not an image"
    protocol = protocol_of(content)
    result = run_compatibility(protocol, Colours(), newer(), BlackHasNoFace(), threads=2)
    lost = [
        any(protocol.photos[i] in ("p03/1.png", "p07/0.png") for i in pair)
        for pair in zip(protocol.first, protocol.second, strict=True)
    ]
    for comparison in result.comparisons:
        times = len(comparison.scores) // len(lost)
        np.testing.assert_array_equal(np.isneginf(comparison.scores), lost * times)
    failures = result.as_json()["failures"]
    assert (failures["to_acquire"], failures["genuine_pairs"]) == (2, 4)


def test_ties_and_workers_are_passed_on() -> None:
    protocol = protocol_of(people())
    one, other = (run_compatibility(protocol, Colours(), newer(), Aligned(), threads=t, ties="reject") for t in (1, 3))
    for a, b in zip(one.comparisons, other.comparisons, strict=True):
        assert a.figures.as_json() == b.figures.as_json()
        assert a.figures.ties == "reject"


def test_what_cannot_be_compared_is_refused_with_words() -> None:
    wide = Colours("wide")
    wide.dim = 5
    with pytest.raises(ContractMismatch, match="'wide' have length 5, those of 'v1' 3") as refused:
        check_comparable(Colours(), wide)
    assert "dimension of the old one" in refused.value.hint
    odd = Rescored(Colours(), lambda a, b: -np.abs(a @ b.T), "odd")
    for pair in ((Colours(), odd), (odd, Colours())):
        with pytest.raises(ContractMismatch, match=r"'v1\+odd' compares its vectors by more than their cosines"):
            check_comparable(*pair)


def test_the_document_is_strict_json_with_the_keys_of_the_page() -> None:
    document = run_compatibility(protocol_of(people()), Colours(), newer(), Aligned(), threads=1).as_json()
    assert set(document) == {
        *("models", "protocol", "pairs", "folds", "comparisons", "differences"),
        *("failures", "speed", "data", "environment"),
    }
    assert document["models"]["v2"] == {"name": "v2", "contract": "c0105", "dim": 3}
    for comparison in document["comparisons"]:
        assert set(comparison) == {
            *("comparison", "accuracy", "val_at_far", "tar_at_far", "eer", "auc", "threshold", "ties", "intervals")
        }
    for difference in document["differences"]:
        assert set(difference) == {"comparison", "less", "accuracy", "val_at_far"}
        assert set(difference["accuracy"]) == {"mean", "ci95", "refused"}
        assert all(set(gap) == {"far", "mean", "ci95", "refused"} for gap in difference["val_at_far"])
    assert json.loads(json.dumps(document, allow_nan=False)) is not None


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_people(root / "people", people=6, photos=4)
    for name, kind in (("old", {}), ("new", {"seed": 1}), ("wide", {"dim": 9})):
        save_tiny(root / f"{name}.onnx", card={}, **kind)
    save_tiny(root / "bare.onnx")
    return root


def call(drawn: Path, *arguments: str) -> tuple[int, str, str]:
    words = ["evaluate", str(drawn / "new.onnx"), "--data", str(drawn / "people"), "--detector", "aligned", "--quiet"]
    result = CliRunner().invoke(app, [*words, *(argument.format(drawn=drawn) for argument in arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_line_shows_a_column_for_each_comparison(drawn: Path) -> None:
    status, out, err = call(drawn, "--compatible-with", "{drawn}/old.onnx", "--flip", "sum")
    assert status == 0
    assert "new+flip (v2) with vectors of old+flip (v1) on folder" in out
    for word in ("v1-v1", "mixed", "v2-v2", "v1-v2", "v2-v1", "EER", "mixed less v1-v1", "VAL at FAR 1 %"):
        assert word in out
    assert "Refused: " in err
    status, out, _ = call(drawn, "--compatible-with", "{drawn}/old.onnx", "--json", "--ties", "reject")
    document = json.loads(out)
    assert status == 0
    assert document["models"]["v1"]["name"] == "old"
    assert {comparison["ties"] for comparison in document["comparisons"]} == {"reject"}


@pytest.mark.parametrize(
    ("extra", "code", "status"),
    [
        (["{drawn}/wide.onnx"], "contract_mismatch", 4),
        (["{drawn}/bare.onnx"], "bad_card", 4),
        (["{drawn}/absent.onnx"], "model_not_found", 4),
        (["{drawn}/old.onnx", "--report", "r.html"], "usage", 2),
        (["{drawn}/old.onnx", "--protocol", "retrieval"], "usage", 2),
        (["{drawn}/old.onnx", "--commercial"], "refused", 7),
        (["{drawn}/old.onnx", "--data", "{drawn}/people/drawn-0000"], "bad_data", 5),
    ],
)
def test_contradictions_and_missing_models_have_their_status(
    drawn: Path, extra: list[str], code: str, status: int
) -> None:
    got, out, _ = call(drawn, "--compatible-with", *extra, "--json")
    assert json.loads(out)["error"]["code"] == code
    assert got == status


def test_the_hint_for_an_old_model_without_a_card_does_not_lead_astray(drawn: Path) -> None:
    _, _, err = call(drawn, "--compatible-with", "{drawn}/bare.onnx")
    assert "--channels, --mean and --std speak of" in err

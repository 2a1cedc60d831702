"""What the papers ask of the four systems, by number: each claim and each trap has a test that carries its number.

A test is named after what it covers: `test_u17_...`, `test_u5_u14_...`, `test_trap9_...`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent

CLAIMS = {
    1: "D = 2 - 2c; the paper's thresholds as angles; symmetric, zero on the diagonal",
    2: "T and dT/dc of every margin",
    3: "embeddings along their class row or another, either way round: finite; the slope in f tends to sin(theta + m)",
    4: "T never rises with the angle, but for the rules that are known to",
    5: "reductions: m = 0, Combined, one sub-centre, all classes sampled, no queue, one group",
    6: "lengths of embeddings and rows, and the order of both, do not matter",
    7: "one class, the worst logits, half precision",
    8: "SphereFace: lambda, psi, the annealing in a checkpoint",
    9: "triplets: value and gradient; squared and plain distances differ",
    10: "miners equal brute force, ties included",
    11: "batches without triplets, and collapsed ones",
    12: "VAL and FAR by hand, folds, the error of a mean",
    13: "harmonic: v1 has no gradient, the pool is the union, triplets mix versions",
    14: "sub-centres: the winner alone learns; the drop step",
    15: "Intra and Inter",
    16: "Partial FC: positives always in, zero gradients outside, several processes equal one",
    17: "group labels: ptilde, its expectation, the window, no gradient",
    18: "GroupFace: soft and hard, vbar = v + v^G; the group-aware similarity",
    19: "BroadFace: compensation, the queue and its state",
    20: "BroadFace: which gradient goes where",
    21: "center, ring, marginal, range, contrastive",
    22: "FaceNet's networks: weights, products, shapes",
    23: "alignment: identity, no reflection, the narrow template",
    24: "AdaFace, MagFace, CurricularFace",
}
SLOPES = (2, 3, 5, 6, 7, 9, 11, 13, 14, 15, 16, 17, 18, 20, 21, 24)
"""Claims about gradients as well as values."""

TRAPS = {
    1: "cvqluu/Angular-Penalty-Softmax-Losses-Pytorch",
    2: "ronghuaiyang/arcface-pytorch",
    3: "ZhaoJ9014/face.evoLVe, kakaoenterprise/BroadFace: the root of 1 - c^2",
    4: "deepinsight/insightface, arcface_torch",
    5: "deepinsight/insightface, subcenter_arcface",
    6: "davidsandberg/facenet, triplets",
    7: "davidsandberg/facenet, center loss",
    8: "KaiyangZhou/pytorch-center-loss",
    9: "tbmoon/facenet, tamerthamoqa/facenet-pytorch-glint360k",
    10: "adambielski/siamese-triplet",
    11: "tensorflow/addons",
    12: "KevinMusgrave/pytorch-metric-learning",
    13: "cmusatyalab/openface",
    14: "SeungyounShin/GroupFace",
    15: "leoluopy/GroupFacePytorch",
    16: "psj0919/groupface_sj",
    17: "minh-nguyenhoang/Face-Analysis",
    18: "shi510/ffem",
    19: "the survey arXiv 2212.13038",
    20: "bobo0810/BroadFace",
    21: "kakaoenterprise/BroadFace: buffers that change length",
    22: "msight-tech/research-xbm",
    23: "clcarwin/sphereface_pytorch",
    24: "HuangYG123/CurricularFace",
    25: "mk-minchul/AdaFace",
    26: "JDAI-CV/FaceX-Zoo, MV-Softmax",
    27: "wy1iu/sphereface",
}
"""Where public code goes wrong: all of these concern code that is here."""


class Test(NamedTuple):
    __test__ = False

    where: str
    name: str
    text: str
    """Its source, with that of the functions of its file that it calls."""


@cache
def every_test() -> tuple[Test, ...]:
    return tuple(test for path in sorted(TESTS.rglob("test_*.py")) for test in read(path))


def read(path: Path) -> Iterator[Test]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for name, function in functions.items():
        if name.startswith("test_"):
            called = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & functions.keys()
            parts = [ast.unparse(part) for part in (function, *(functions[other] for other in sorted(called)))]
            yield Test(path.relative_to(TESTS).as_posix(), name, "\n".join(parts))


def numbered(kind: str) -> dict[int, list[Test]]:
    """The tests by the numbers in their names, `u` or `trap`."""
    found: dict[int, list[Test]] = {}
    for test in every_test():
        for number in re.findall(rf"_{kind}_?(\d+)(?=_)", test.name):
            found.setdefault(int(number), []).append(test)
    return found


@pytest.mark.parametrize("number", CLAIMS)
def test_every_claim_has_its_tests(number: int) -> None:
    tests = numbered("u").get(number, [])
    assert tests, CLAIMS[number]
    if number in SLOPES:
        assert any(re.search(r"grad|slope|backward", test.text) for test in tests), "values alone"


@pytest.mark.parametrize("number", TRAPS)
def test_every_trap_has_its_tests(number: int) -> None:
    assert numbered("trap").get(number), TRAPS[number]


def test_no_test_has_a_number_that_nobody_knows() -> None:
    assert set(numbered("u")) == set(CLAIMS)
    assert set(numbered("trap")) == set(TRAPS)

"""Learning from a teacher against float64 code from the definition: both terms, their gradients and their limits."""

import math

import pytest
import torch
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses.distillation import DistillationHead


def slow(
    embeddings: list[list[float]], targets: list[list[float]], rows: list[list[float]] | None
) -> tuple[float, float]:
    """(1 - mean cosine to the teacher, mean squared gap of the similarities over pairs), by loops."""

    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in v))
        return [x / length for x in v]

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    n = len(embeddings)
    mapped = embeddings if rows is None else [[dot(row, e) for row in rows] for e in embeddings]
    vector = 1 - sum(dot(unit(m), t) for m, t in zip(mapped, targets, strict=True)) / n
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    gaps = [dot(unit(embeddings[i]), unit(embeddings[j])) - dot(targets[i], targets[j]) for i, j in pairs]
    return vector, sum(gap * gap for gap in gaps) / len(pairs)


def batch(n: int, dim: int, teacher_dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    embeddings = torch.randn(n, dim, generator=generator)
    return embeddings, torch.nn.functional.normalize(torch.randn(n, teacher_dim, generator=generator))


@pytest.mark.parametrize(("dim", "teacher_dim"), [(6, 6), (6, 9), (9, 4)])
@pytest.mark.parametrize(("vector_weight", "matrix_weight"), [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0), (0.0, 1.0)])
def test_value_and_slope_are_those_of_the_definition(
    dim: int, teacher_dim: int, vector_weight: float, matrix_weight: float
) -> None:
    torch.manual_seed(0)
    head = DistillationHead(dim, teacher_dim, vector_weight=vector_weight, matrix_weight=matrix_weight)
    embeddings, targets = batch(5, dim, teacher_dim)
    rows = None if dim == teacher_dim else head.map.get_parameter("weight").tolist()

    def loss(e: list[list[float]]) -> float:
        vector, matrix = slow(e, targets.tolist(), rows)
        return vector_weight * vector + matrix_weight * matrix

    leaf = embeddings.clone().requires_grad_()
    out = head(leaf, targets)
    out.loss.backward()
    assert leaf.grad is not None
    assert float(out.loss.detach()) == pytest.approx(loss(embeddings.tolist()), abs=1e-6)
    vector, matrix = slow(embeddings.tolist(), targets.tolist(), rows)
    assert out.logs == pytest.approx({"teacher_cosine": 1 - vector, "matrix_gap": matrix}, abs=1e-6)
    for i in range(5):
        for j in range(dim):
            ends = []
            for sign in (1, -1):
                moved = embeddings.double().tolist()
                moved[i][j] += sign * 1e-5
                ends.append(loss(moved))
            assert float(leaf.grad[i, j]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-5)


def test_a_pupil_that_sees_as_its_teacher_does_has_no_loss_and_no_slope() -> None:
    _, targets = batch(7, 6, 6)
    embeddings = (targets * torch.arange(1, 8)[:, None]).requires_grad_()  # lengths do not matter
    out = DistillationHead(6, 6)(embeddings, targets)
    out.loss.backward()
    assert float(out.loss.detach()) == pytest.approx(0, abs=1e-6)
    assert embeddings.grad is not None
    assert embeddings.grad.abs().max() < 1e-6


def test_a_turn_of_all_vectors_leaves_the_matrix_term_at_nought() -> None:
    _, targets = batch(7, 6, 6)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    out = DistillationHead(6, 6, vector_weight=0)(targets @ turn, targets)
    assert float(out.loss) == pytest.approx(0, abs=1e-6)
    assert out.logs["teacher_cosine"] < 0.9


def test_under_autocast_it_is_reckoned_in_full() -> None:
    head = DistillationHead(6, 6)
    embeddings, targets = batch(9, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        low = head(embeddings.bfloat16(), targets)
    full = head(embeddings.bfloat16().float(), targets)
    assert low.loss.dtype == torch.float32
    assert torch.equal(low.loss, full.loss)


def test_one_photo_and_a_zero_vector_give_finite_losses() -> None:
    for embeddings in (torch.randn(1, 6), torch.zeros(1, 6)):
        leaf = embeddings.requires_grad_()
        out = DistillationHead(6, 6)(leaf, batch(1, 6, 6)[1])
        out.loss.backward()
        assert leaf.grad is not None
        assert out.loss.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 2.0), (2.0, -1.0), (math.nan, 1.0)])
def test_weights_that_teach_nothing_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(UsageError):
        DistillationHead(6, 6, vector_weight=weights[0], matrix_weight=weights[1])

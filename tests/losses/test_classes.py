"""The blocked softmax against slow float64 loops: scores, gradients, blocks, slices (U3, U7, U14, U16)."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses_reference import Scores
from losses_reference import class_scores as slow_scores
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses import classes
from facespace.losses.classes import Bend, ClassScores, Shards, class_scores, own_cosines

BENDS: dict[str, Callable[[float, float], tuple[float, float]] | None] = {
    "straight": None,
    "bent": lambda c, own: (c * (0.3 + c), 0.3 + 2 * c) if c > own - 0.2 else (c, 1.0),
}
"""The second leaves easy classes alone and depends on the own cosine."""
CASES = [*product((1, 3), (True, False), BENDS)]
UNPOOLED = [*product((2, 3), (True, False), BENDS)]


def bend(name: str) -> Bend | None:
    """The same as `BENDS`, in tensors."""

    def bent(cos: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        hard = cos > target - 0.2
        return torch.where(hard, cos * (0.3 + cos), cos), torch.where(hard, 0.3 + 2 * cos, 1.0)

    return bent if name == "bent" else None


class Given:
    """Tensors of one case; leaves unless told otherwise."""

    def __init__(
        self, centres: int = 1, unit: bool = True, n: int = 6, count: int = 11, dtype: torch.dtype = torch.float64
    ) -> None:
        g = torch.Generator().manual_seed(5)
        f, W = (torch.randn(*shape, 5, generator=g, dtype=torch.float64) for shape in ((n,), (count, centres)))
        f = F.normalize(f) if unit else f
        W = W if centres > 1 else W[:, 0]
        self.unit, self.labels, self.pooled = unit, torch.randint(count, (n,), generator=g), True
        self.features, self.weight = f.to(dtype).requires_grad_(), W.to(dtype).requires_grad_()
        self.scale = torch.linspace(0.7, 12, n, dtype=dtype).requires_grad_()
        self.bias = torch.linspace(-1, 1, count, dtype=dtype).requires_grad_() if not unit and centres == 1 else None
        self.slopes = torch.randn(2, n, generator=g, dtype=torch.float64).to(dtype)
        """Of some loss in the own cosines and in the rest."""

    @property
    def leaves(self) -> list[Tensor]:
        """All that may have a gradient."""
        given = self.features, self.weight, self.scale, self.bias
        return [x for x in given if x is not None and x.requires_grad]

    def scores(self, bent: str = "straight") -> ClassScores:
        """What the package says."""
        return class_scores(
            self.features,
            self.weight,
            self.labels,
            self.scale,
            bias=self.bias,
            unit=self.unit,
            bend=bend(bent),
            pooled=self.pooled,
        )

    def gradients(self, bent: str = "straight") -> tuple[ClassScores, list[Tensor]]:
        """Scores and the gradients of the leaves, given the slopes."""
        out = self.scores(bent)
        return out, list(torch.autograd.grad([out.target, out.rest], self.leaves, list(self.slopes)))

    def slow(self, bent: str = "straight") -> Scores:
        """The same from loops."""
        f, W, s = (x.detach().double().numpy() for x in (self.features, self.weight, self.scale))
        b = None if self.bias is None else self.bias.detach().double().numpy()
        slopes = self.slopes.double().numpy()
        return slow_scores(f, W, b, s, self.labels.tolist(), self.unit, BENDS[bent], *slopes, pooled=self.pooled)


def agree(given: Given, bent: str, tolerance: float) -> None:
    """Scores and gradients of the package are those of the loops."""
    out, gradients = given.gradients(bent)
    slow = given.slow(bent)
    for got, expected in zip(out, slow[:3], strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, rtol=tolerance, atol=tolerance)
    expected_gradients = [slow.f, slow.W, slow.s] + ([] if given.bias is None else [slow.b])
    for got, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got.numpy(), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("block_cells", "kept_cells"), [(1, 0), (1, 1 << 25), (40, 0), (40, 1 << 25), (1 << 19, 0)])
@pytest.mark.parametrize(("centres", "unit", "bent"), CASES)
def test_scores_and_gradients_agree_with_loops(
    centres: int, unit: bool, bent: str, block_cells: int, kept_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1e-10 in float64, one class at a time or all at once, cosines kept or computed again."""
    monkeypatch.setattr(classes, "BLOCK_CELLS", block_cells)
    monkeypatch.setattr(classes, "KEPT_CELLS", kept_cells)
    agree(Given(centres, unit), bent, 1e-10)


@pytest.mark.parametrize(("block_cells", "kept_cells"), [(1, 0), (40, 1 << 25), (1 << 19, 0)])
@pytest.mark.parametrize(("centres", "unit", "bent"), UNPOOLED)
def test_u14_all_sub_centres_of_other_classes_may_stand_in_the_sum(
    centres: int, unit: bool, bent: str, block_cells: int, kept_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the own class still speak with one voice, and its other sub-centres are nobody's negatives."""
    monkeypatch.setattr(classes, "BLOCK_CELLS", block_cells)
    monkeypatch.setattr(classes, "KEPT_CELLS", kept_cells)
    given, pooled = Given(centres, unit), Given(centres, unit)
    given.pooled = False
    agree(given, bent, 1e-10)
    if bent == "straight":
        assert (given.scores().rest > pooled.scores().rest).all()
    torch.testing.assert_close(given.scores(bent).target, pooled.scores(bent).target)


@pytest.mark.parametrize(("centres", "unit", "bent"), CASES)
def test_float32_is_within_1e_5(centres: int, unit: bool, bent: str) -> None:
    """The same numbers, rounded before and after."""
    agree(Given(centres, unit, dtype=torch.float32), bent, 1e-5)


@pytest.mark.parametrize(("centres", "unit", "bent"), CASES)
def test_gradcheck(centres: int, unit: bool, bent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own finite differences, through two blocks."""
    monkeypatch.setattr(classes, "BLOCK_CELLS", 3 * 4 * centres)
    given = Given(centres, unit, n=3, count=7)

    def scores(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        out = class_scores(
            leaves[0],
            leaves[1],
            given.labels,
            leaves[2],
            bias=leaves[3] if len(leaves) > 3 else None,
            unit=unit,
            bend=bend(bent),
        )
        return out.target, out.rest

    assert torch.autograd.gradcheck(scores, given.leaves)


@pytest.mark.parametrize("left_out", [("features",), ("weight",), ("scale",), ("features", "scale"), ("bias",)])
def test_what_needs_no_gradient_changes_nothing_else(left_out: tuple[str, ...]) -> None:
    """The other gradients are to the bit those of the whole; what is left out has none."""
    whole, given = Given(unit=False), Given(unit=False)
    for name in left_out:
        getattr(given, name).requires_grad_(False)
    out, gradients = given.gradients()
    expected = dict(zip(("features", "weight", "scale", "bias"), whole.gradients()[1], strict=True))
    for name in left_out:
        del expected[name]
    for got, value in zip(gradients, expected.values(), strict=True):
        assert torch.equal(got, value)
    assert not out.nearest.requires_grad


def test_one_output_alone_can_be_descended() -> None:
    """The own cosine without the rest, and the rest without the own cosine."""
    given = Given()
    full = given.gradients()[1]
    out = given.scores()
    parts = [
        torch.autograd.grad(value, given.leaves, slope, retain_graph=True, allow_unused=True)
        for value, slope in ((out.target, given.slopes[0]), (out.rest, given.slopes[1]))
    ]
    for one, other, both in zip(*parts, full, strict=True):
        torch.testing.assert_close(one + other, both, rtol=1e-12, atol=1e-14)


def test_a_graph_may_be_descended_twice() -> None:
    """The backward pass writes into nothing that it keeps."""
    for kept in (True, False):
        given = Given(3)
        out = given.scores("bent")
        first, second = (
            torch.autograd.grad([out.target, out.rest], given.leaves, list(given.slopes), retain_graph=kept or again)
            for again in (True, False)
        )
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("unit", [True, False])
def test_one_class_has_no_rest(centres: int, unit: bool) -> None:
    """log of an empty sum is -inf; the own cosine keeps its gradient, nothing is NaN."""
    given = Given(centres, unit, count=1)
    given.labels = torch.zeros(6, dtype=torch.int64)
    agree(given, "straight", 1e-10)
    assert (given.scores().rest == -torch.inf).all()


def test_a_class_elsewhere_has_no_own_cosine_here() -> None:
    """Label -1: own cosine 0, all classes of the slice are others, no gradient of the own cosine."""
    given, away = Given(), Given()
    away.labels = given.labels.masked_fill(torch.tensor([True, False] * 3), -1)
    out, gradients = away.gradients()
    plain = (F.normalize(given.weight) @ given.features.T).T
    elsewhere = away.labels < 0
    assert not out.target[elsewhere].any()
    rest = torch.logsumexp(given.scale[:, None] * plain, 1)
    torch.testing.assert_close(out.rest[elsewhere], rest[elsewhere], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out.nearest[elsewhere], plain.amax(1)[elsewhere], rtol=1e-12, atol=1e-12)
    here = given.scores()
    for got, expected in zip(out, here, strict=True):
        assert torch.equal(got[~elsewhere], expected[~elsewhere])
    away.slopes[0, elsewhere] = 100  # an own cosine that is not here teaches nobody here
    assert all(torch.equal(a, b) for a, b in zip(away.gradients()[1], gradients, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("own", "others"), [(1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, 1.0)])
def test_u7_extreme_cosines_at_scale_64(own: float, others: float, dtype: torch.dtype) -> None:
    """All others at +-1 with s = 64: R = +-64 + log n, never exp of it; gradients along the rows vanish."""
    axis = torch.zeros(4, dtype=dtype)
    axis[0] = 1
    f = axis.expand(2, 4).clone().requires_grad_()
    W = (others * axis).expand(1000, 4).clone()
    W[0] = own * axis
    W.requires_grad_()
    scale = torch.full((2,), 64.0, dtype=dtype, requires_grad=True)
    out = class_scores(f, W, torch.zeros(2, dtype=torch.int64), scale)
    loss = F.softplus(out.rest - scale * out.target)
    loss.sum().backward()
    expected = np.logaddexp(0, 64 * (others - own) + np.log(999.0))
    np.testing.assert_allclose(loss.detach().double().numpy(), expected, rtol=1e-5, atol=1e-40)
    assert torch.equal(out.nearest, torch.full((2,), others, dtype=dtype))
    assert f.grad is not None
    assert W.grad is not None
    assert f.grad.isfinite().all()
    assert W.grad.abs().max() < 1e-4


def test_a_far_smaller_block_first_does_not_hide_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running log-sum-exp over blocks of very different size: 200 nats apart, in either order."""
    monkeypatch.setattr(classes, "BLOCK_CELLS", 1)
    W = torch.eye(3, dtype=torch.float32)
    for values in ([-100.0, 100.0, 0.0], [100.0, -100.0, 0.0]):
        f = torch.tensor([values], requires_grad=True)
        out = class_scores(f, W, torch.tensor([2]), torch.ones(1), unit=False)
        out.rest.sum().backward()
        assert float(out.rest.detach()) == 100
        assert f.grad is not None
        assert f.grad[0].argmax() == int(np.argmax(values))
        assert float(f.grad.sum()) == 1


def test_u14_only_the_nearest_centre_has_a_gradient() -> None:
    """Of K sub-centres of each class those that are not nearest to any photo stay as they are."""
    given = Given(3, n=1)
    gradient = given.gradients()[1][1]
    cosines = torch.einsum("d,ckd->ck", given.features[0], F.normalize(given.weight, dim=2))
    moved = gradient.abs().sum(2) > 0
    assert torch.equal(moved, F.one_hot(cosines.argmax(1), 3).bool())


def test_u14_of_equal_centres_one_has_the_gradient() -> None:
    """A tie is given to one sub-centre, whole: the gradient is that of K = 1."""
    one = Given()
    tied = Given()
    tied.weight = one.weight.detach()[:, None].repeat(1, 3, 1).requires_grad_()
    got, expected = tied.gradients()[1][1], one.gradients()[1][1]
    assert ((got != 0).any(2).sum(1) <= 2).all()  # one for the photos of the class, one as somebody else's negative
    torch.testing.assert_close(got.sum(1), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("centres", [1, 3])
def test_rows_may_lie_in_memory_as_they_like(centres: int) -> None:
    """Transposed rows and features: the same numbers."""
    given, other = Given(centres), Given(centres)
    W = given.weight.detach()
    other.weight = W.permute(*reversed(range(W.ndim))).contiguous().permute(*reversed(range(W.ndim))).requires_grad_()
    other.features = given.features.detach().T.contiguous().T.requires_grad_()
    assert not other.weight.is_contiguous()
    for got, expected in zip(other.gradients()[1], given.gradients()[1], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_nothing_is_written_into() -> None:
    """Features, rows, labels, scale and bias are as before, forward and backward."""
    given = Given(unit=False)
    before = [x.detach().clone() for x in (*given.leaves, given.labels)]
    given.gradients("bent")
    assert all(torch.equal(a, b) for a, b in zip(before, (*given.leaves, given.labels), strict=True))


def test_a_bias_has_its_place() -> None:
    """Cosines have none, sub-centres have none."""
    for centres, unit in ((1, True), (3, False)):
        given = Given(centres, unit)
        given.bias = torch.zeros(11, dtype=torch.float64)
        with pytest.raises(UsageError) as error:
            given.scores()
        assert error.value.hint


class Slice:
    """One of two slices in one process: what the other one said in the round before takes part."""

    count = 2

    def __init__(self) -> None:
        self.said: dict[str, Tensor] = {}
        self.heard: dict[str, Tensor] = {}

    def _meet(self, name: str, values: Tensor, together: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        assert not values.requires_grad
        self.said[name] = values.clone()
        return together(values, self.heard[name]) if name in self.heard else values

    def sum(self, values: Tensor) -> Tensor:
        """Of both."""
        return self._meet("sum", values, torch.add)

    def max(self, values: Tensor) -> Tensor:
        """Of both."""
        return self._meet("max", values, torch.maximum)

    def logsumexp(self, values: Tensor) -> Tensor:
        """Of both."""
        return self._meet("logsumexp", values, torch.logaddexp)


@pytest.mark.parametrize("cut", [4, 0, 11, 1])
@pytest.mark.parametrize(
    ("centres", "unit", "bent", "pooled"), [*((*case, True) for case in CASES), *((*case, False) for case in UNPOOLED)]
)
def test_u16_two_slices_equal_the_whole(centres: int, unit: bool, bent: str, pooled: bool, cut: int) -> None:
    """Values in each slice are those of the whole; gradients of features and scale have it as their mean, rows join."""
    given = Given(centres, unit)
    given.pooled = pooled
    whole, gradients = given.gradients(bent)
    shards = Slice(), Slice()
    bounds = ((0, cut), (cut, len(given.weight)))
    for _ in range(3):  # own cosines, then what depends on them, then all of it
        parts = [part_of(given, shards[i], bounds[i], bent) for i in range(2)]
        shards[0].heard, shards[1].heard = dict(shards[1].said), dict(shards[0].said)
    for scores, _ in parts:
        for got, expected in zip(scores, whole, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    (f, W, s, *b), (f2, W2, s2, *b2) = (part for _, part in parts)
    joined = [(f + f2) / 2, torch.cat([W, W2]), (s + s2) / 2, *(torch.cat(pair) for pair in zip(b, b2, strict=True))]
    for got, expected in zip(joined, gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)


def part_of(given: Given, shards: Shards, bounds: tuple[int, int], bent: str) -> tuple[ClassScores, list[Tensor]]:
    """Scores and gradients of a slice of the classes."""
    low, high = bounds
    features, scale = (x.detach().requires_grad_() for x in (given.features, given.scale))
    weight = given.weight.detach()[low:high].requires_grad_()
    bias = None if given.bias is None else given.bias.detach()[low:high].requires_grad_()
    labels = torch.where((given.labels >= low) & (given.labels < high), given.labels - low, -1)
    out = class_scores(
        features,
        weight,
        labels,
        scale,
        bias=bias,
        unit=given.unit,
        bend=bend(bent),
        shards=shards,
        pooled=given.pooled,
    )
    leaves = [x for x in (features, weight, scale, bias) if x is not None]
    return out, list(torch.autograd.grad([out.target, out.rest], leaves, list(given.slopes)))


def test_own_cosines_are_those_of_the_scores() -> None:
    """Alone, with sub-centres, and with a class elsewhere."""
    for centres in (1, 3):
        given = Given(centres)
        given.labels[2] = -1
        alone = own_cosines(given.features, given.weight, given.labels)
        assert torch.equal(alone, given.scores().target)


def test_inference_needs_no_graph() -> None:
    """Under no_grad the same values come without one."""
    given = Given(3)
    with torch.no_grad():
        out = given.scores("bent")
    assert not any(x.requires_grad for x in out)
    assert all(torch.equal(a, b) for a, b in zip(out, given.scores("bent"), strict=True))

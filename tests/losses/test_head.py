"""The margin head against the float64 reference: loss, gradients, limits, invariances (U3, U5-U7, traps 1-4, 12)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses_reference import margin_softmax, plain_softmax
from torch import Tensor

from facespace.errors import DataError, UsageError
from facespace.losses import MARGINS, ArcFace, Combined, CosFace, HeadOutput, Margin, MarginHead, NormFace, Softmax

NORMALISED = [cls() for cls in MARGINS.values() if cls.normalised]
EVERY = [cls() for cls in MARGINS.values()]


def head_with(weight: Tensor, margin: Margin, scale: float = 64.0) -> MarginHead:
    """A head whose class rows are given."""
    head = MarginHead(*weight.shape, margin, scale).to(weight.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head


def step(head: MarginHead, f: Tensor, y: Tensor) -> tuple[HeadOutput, Tensor, Tensor]:
    """Output and gradients with respect to embeddings and class rows."""
    f = f.detach().clone().requires_grad_()
    head.zero_grad()
    out = head(f, y)
    with torch.autocast("cpu", enabled=False):  # autocast is for the forward alone
        out.loss.backward()
    assert f.grad is not None
    assert head.weight.grad is not None
    return HeadOutput(out.loss.detach(), out.logs), f.grad, head.weight.grad


def batch(
    n: int = 7, classes: int = 11, dim: int = 6, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, class rows and labels, the same on every call."""
    g = torch.Generator().manual_seed(7)
    f, W = (
        torch.randn(n, dim, generator=g, dtype=torch.float64),
        torch.randn(classes, dim, generator=g, dtype=torch.float64),
    )
    return (3 * f).to(dtype), W.to(dtype), torch.randint(classes, (n,), generator=g)


@pytest.mark.parametrize("scale", [8.0, 64.0])
@pytest.mark.parametrize("margin", NORMALISED, ids=str)
def test_loss_and_gradients_agree_with_the_paper(margin: Margin, scale: float) -> None:
    """Loss, dL/df and dL/dW to 1e-10 in float64."""
    f, W, y = batch()
    out, df, dW = step(head_with(W, margin, scale), f, y)
    loss, df_ref, dW_ref, _ = margin_softmax(f.numpy(), W.numpy(), y.tolist(), margin, scale)
    assert float(out.loss) == pytest.approx(loss, rel=1e-10)
    np.testing.assert_allclose(df.numpy(), df_ref, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(dW.numpy(), dW_ref, rtol=1e-9, atol=1e-10)


def test_plain_softmax_agrees_with_its_definition() -> None:
    """W f + b, nothing normalised, the scale unused; bias gradient too."""
    f, W, y = batch()
    head = head_with(W, Softmax(), scale=3.0)
    assert head.bias is not None
    with torch.no_grad():
        head.bias.copy_(torch.linspace(-1, 1, len(W)))
    out, df, dW = step(head, f, y)
    loss, df_ref, dW_ref, db_ref = plain_softmax(f.numpy(), W.numpy(), head.bias.detach().numpy(), y.tolist())
    assert float(out.loss) == pytest.approx(loss, rel=1e-12)
    assert head.bias.grad is not None
    for got, expected in ((df, df_ref), (dW, dW_ref), (head.bias.grad, db_ref)):
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("margin", EVERY, ids=str)
@pytest.mark.parametrize("case", ["own", "own antiparallel", "other", "other antiparallel"])
def test_u3_parallel_embeddings_stay_finite(margin: Margin, case: str) -> None:
    """200 random 512-d float32 draws with f = +-a W_y or +-a W_j: finite loss and gradients (also traps 2 and 3)."""
    g = torch.Generator().manual_seed(3)
    W = torch.randn(200, 512, generator=g)
    f = W * torch.rand(200, 1, generator=g).mul(3).add(0.1) * (-1 if "anti" in case else 1)
    y = torch.arange(200) if "own" in case else (torch.arange(200) + 1) % 200
    out, df, dW = step(head_with(W, margin), f, y)
    assert out.loss.isfinite()
    assert df.isfinite().all()
    assert dW.isfinite().all()
    assert all(math.isfinite(v) for v in out.logs.values())


@pytest.mark.parametrize(("dtype", "theta", "tolerance"), [(torch.float64, 1e-3, 1e-6), (torch.float32, 0.03, 1e-2)])
def test_u3_the_gradient_at_small_angles_tends_to_sin_theta_plus_m(
    dtype: torch.dtype, theta: float, tolerance: float
) -> None:
    """The slope grows without bound as theta -> 0, the gradient in f does not: its norm is sin(theta + m) / |f|."""
    g = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(512, 2, generator=g, dtype=torch.float64))
    f = (2.5 * (math.cos(theta) * basis[:, 0] + math.sin(theta) * basis[:, 1])).to(dtype).requires_grad_()
    cos = F.normalize(f, dim=0) @ basis[:, 0].to(dtype)
    ArcFace(0.5).target_logit(cos).backward()
    assert f.grad is not None
    assert float(f.grad.norm()) == pytest.approx(math.sin(theta + 0.5) / 2.5, rel=tolerance)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ArcFace(0.0), NormFace()),
        (Combined(1.0, 0.0, 0.35), CosFace(0.35)),
        (Combined(1.0, 0.5, 0.0), ArcFace(0.5)),
    ],
    ids=str,
)
def test_u5_reductions_hold_through_the_head(one: Margin, other: Margin) -> None:
    """Loss and both gradients of the special case equal those of the plain member."""
    f, W, y = batch()
    a, b = step(head_with(W, one), f, y), step(head_with(W, other), f, y)
    torch.testing.assert_close(a[0].loss, b[0].loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(a[1:], b[1:], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("margin", NORMALISED, ids=str)
def test_u6_lengths_do_not_matter(margin: Margin) -> None:
    """f -> a f and W_j -> b W_j leave the loss; gradients are orthogonal to their vectors (trap 1: W is normalised)."""
    f, W, y = batch()
    base, df, dW = step(head_with(W, margin), f, y)
    lengths = torch.linspace(0.1, 9, len(W), dtype=torch.float64)[:, None]
    scaled, _, _ = step(head_with(W * lengths, margin), f * 5.5, y)
    torch.testing.assert_close(scaled.loss, base.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((df * f).sum(1), torch.zeros(len(f), dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close((dW * W).sum(1), torch.zeros(len(W), dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("margin", EVERY, ids=str)
def test_u6_order_does_not_matter(margin: Margin) -> None:
    """Permuting the batch or the classes permutes the gradients and leaves the loss."""
    f, W, y = batch()
    base, df, dW = step(head_with(W, margin), f, y)
    g = torch.Generator().manual_seed(5)
    rows, classes = torch.randperm(len(f), generator=g), torch.randperm(len(W), generator=g)
    out, df_moved, dW_moved = step(head_with(W[classes], margin), f[rows], classes.argsort()[y[rows]])
    torch.testing.assert_close(out.loss, base.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(df_moved, df[rows], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dW_moved, dW[classes], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("margin", EVERY, ids=str)
def test_u7_one_class_teaches_nothing(margin: Margin) -> None:
    """n = 1: loss and gradients are zero."""
    f, W, _ = batch(classes=1)
    out, df, dW = step(head_with(W, margin), f, torch.zeros(len(f), dtype=torch.int64))
    assert float(out.loss) == 0
    assert not df.any()
    assert not dW.any()


@pytest.mark.parametrize("margin", NORMALISED, ids=str)
def test_u7_the_worst_logits_stay_finite(margin: Margin) -> None:
    """s = 64, c_y = -1, all others 1 in float32: log-sum-exp does not overflow (trap 1), loss near s (1 - T(-1))."""
    W = torch.ones(5, 4)
    W[0] = -1
    out, df, _ = step(head_with(W, margin), torch.ones(1, 4), torch.tensor([0]))
    expected = 64 * (1 - float(margin.target_logit(torch.tensor(-1.0)))) + math.log(4)
    assert float(out.loss) == pytest.approx(expected, rel=1e-3)
    assert df.isfinite().all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("margin", EVERY, ids=str)
def test_u7_autocast_leaves_the_head_in_float32(margin: Margin, half: torch.dtype) -> None:
    """float32 embeddings: not a bit changes under autocast. Halves: within 1e-2, and gradients come back as halves."""
    f, W, y = batch(32, 50, 64, torch.float32)
    head = head_with(W, margin)
    plain, df, _ = step(head, f, y)
    with torch.autocast("cpu", half):
        cast, df_cast, _ = step(head, f, y)
        rounded, df_half, _ = step(head, f.to(half), y)
    assert torch.equal(cast.loss, plain.loss)
    assert torch.equal(df_cast, df)
    assert rounded.loss.dtype == torch.float32
    assert float(rounded.loss) == pytest.approx(float(plain.loss), rel=1e-2)
    assert df_half.dtype == half
    assert df_half.isfinite().all()


@pytest.mark.parametrize("margin", EVERY, ids=str)
def test_logs_are_what_they_say(margin: Margin) -> None:
    """Mean cosine and mean angle to the own class, share of samples whose nearest class is their own."""
    f, W, y = batch()
    out, _, _ = step(head_with(W, margin), f, y)
    cos = (f / f.norm(dim=1, keepdim=True) * (W / W.norm(dim=1, keepdim=True))[y]).sum(1)
    logits = f @ W.T if isinstance(margin, Softmax) else F.cosine_similarity(f[:, None], W[None], dim=2)
    assert set(out.logs) == {"target_cosine", "target_angle_deg", "accuracy"}
    assert all(type(v) is float for v in out.logs.values())
    assert out.logs["target_cosine"] == pytest.approx(float(cos.mean()), abs=1e-12)
    assert out.logs["target_angle_deg"] == pytest.approx(float(np.degrees(np.arccos(cos.numpy())).mean()), abs=1e-9)
    assert out.logs["accuracy"] == pytest.approx(float((logits.argmax(1) == y).double().mean()))


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        (torch.ones(2, 6), torch.tensor([0, 11])),
        (torch.ones(2, 6), torch.tensor([-1, 0])),
        (torch.ones(2, 6), torch.tensor([0, 1], dtype=torch.int32)),
        (torch.ones(2, 6), torch.tensor([0.0, 1.0])),
        (torch.ones(2, 5), torch.tensor([0, 1])),
        (torch.ones(2, 6), torch.tensor([0])),
        (torch.ones(6), torch.tensor(0)),
        (torch.ones(0, 6), torch.zeros(0, dtype=torch.int64)),
    ],
)
def test_unfit_batches_are_refused(embeddings: Tensor, labels: Tensor) -> None:
    """Labels out of range (no -1 as noise), of another type or number, embeddings of another length, nothing at all."""
    with pytest.raises(DataError) as error:
        MarginHead(11, 6, ArcFace())(embeddings, labels)
    assert error.value.hint


@pytest.mark.parametrize(("classes", "dim", "scale"), [(0, 6, 64.0), (5, 0, 64.0), (5, 6, 0.0), (5, 6, float("inf"))])
def test_unfit_heads_are_refused(classes: int, dim: int, scale: float) -> None:
    """No class, no dimension, no finite positive scale."""
    with pytest.raises(UsageError):
        MarginHead(classes, dim, ArcFace(), scale)


def test_the_margin_may_grow_between_steps() -> None:
    """Replacing the margin is the same as a head made with it; crossing to plain softmax is refused."""
    f, W, y = batch()
    head = head_with(W, ArcFace(0.5).grown(0.0))
    assert float(head(f, y).loss.detach()) == pytest.approx(
        float(head_with(W, NormFace())(f, y).loss.detach()), rel=1e-12
    )
    head.margin = ArcFace(0.5).grown(0.6)
    assert head.margin == ArcFace(0.3)
    assert torch.equal(head(f, y).loss, head_with(W, ArcFace(0.3))(f, y).loss)
    with pytest.raises(UsageError):
        head.margin = Softmax()


def test_rows_start_small_and_are_the_only_state() -> None:
    """W ~ N(0, 0.01); a bias only for plain softmax."""
    torch.manual_seed(0)
    head = MarginHead(300, 200, ArcFace())
    assert float(head.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert set(head.state_dict()) == {"weight"}
    assert set(MarginHead(3, 2, Softmax()).state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("margin", EVERY, ids=str)
def test_trap_4_inputs_are_not_written_into(margin: Margin) -> None:
    """arcface_torch wrote into the caller's logits: embeddings, labels and rows are as before."""
    f, W, y = batch()
    before = f.clone(), y.clone()
    head = head_with(W, margin)
    head(f, y)
    assert torch.equal(f, before[0])
    assert torch.equal(y, before[1])
    assert torch.equal(head.weight, W)


@pytest.mark.parametrize("margin", NORMALISED, ids=str)
def test_one_step_down_the_gradient_lowers_the_loss(margin: Margin) -> None:
    """The direction is right in float32 too."""
    f, W, y = batch(32, 10, 16, torch.float32)
    head = head_with(W, margin, 16.0)
    out, df, dW = step(head, f, y)
    with torch.no_grad():
        head.weight -= 0.05 * dW
    assert float(head(f - 0.05 * df, y).loss.detach()) < float(out.loss)

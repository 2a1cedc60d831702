"""The margin head against the float64 reference: loss, gradients, limits, invariances (U3, U5-U7, U14, U16).

Tests over `ALL` run for every member of MARGINS and ADAPTIVE: a new one meets them without being asked.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses_reference import margin_softmax, plain_softmax
from torch import Tensor

from facespace.errors import DataError, UsageError
from facespace.losses import MARGINS, ArcFace, Combined, CosFace, HeadOutput, Margin, MarginHead, NormFace, Softmax
from facespace.losses.adaptive import ADAPTIVE, AdaFace, AnnealedSphereFace, CurricularFace, MagFace, MVSoftmax
from facespace.losses.head import AnyMargin

NORMALISED: list[Margin] = [cls() for cls in MARGINS.values() if cls.normalised]
ALL: list[AnyMargin] = [cls() for cls in (*MARGINS.values(), *ADAPTIVE.values())]
ON_COSINES = [margin for margin in ALL if margin.normalised]


def head_with(
    weight: Tensor,
    margin: AnyMargin,
    scale: float = 64.0,
    *,
    sample: float = 1.0,
    learn_scale: bool = False,
    seed: int = 0,
) -> MarginHead:
    """A head whose class rows `(C, D)` or `(C, K, D)` are given; its margin has seen nothing yet."""
    classes, *centres, dim = weight.shape
    head = MarginHead(
        classes,
        dim,
        margin,
        scale,
        centres=centres[0] if centres else 1,
        sample=sample,
        learn_scale=learn_scale,
        seed=seed,
    ).to(weight.dtype)
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
    """Embeddings of lengths about 7, class rows and labels, the same on every call."""
    g = torch.Generator().manual_seed(7)
    f, W = (
        torch.randn(n, dim, generator=g, dtype=torch.float64),
        torch.randn(classes, dim, generator=g, dtype=torch.float64),
    )
    return (3 * f).to(dtype), W.to(dtype), torch.randint(classes, (n,), generator=g)


def batch_of_centres(centres: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """The same embeddings and labels, with sub-centres `(C, K, D)`."""
    f, _, y = batch()
    g = torch.Generator().manual_seed(9)
    return f, torch.randn(11, centres, 6, generator=g, dtype=torch.float64), y


@pytest.mark.parametrize("scale", [8.0, 64.0])
@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("margin", NORMALISED, ids=str)
def test_loss_and_gradients_agree_with_the_paper(margin: Margin, centres: int, scale: float) -> None:
    """Loss, dL/df and dL/dW to 1e-10 in float64 (for margins that read more see test_adaptive)."""
    f, W, y = batch() if centres == 1 else batch_of_centres(centres)
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


@pytest.mark.parametrize("margin", ALL, ids=str)
@pytest.mark.parametrize("case", ["own", "own antiparallel", "other", "other antiparallel"])
def test_u3_parallel_embeddings_stay_finite(margin: AnyMargin, case: str) -> None:
    """200 random 512-d float32 draws with f = +-a W_y or +-a W_j: finite loss and gradients."""
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


@pytest.mark.parametrize("margin", ON_COSINES, ids=str)
def test_u6_lengths_of_rows_do_not_matter(margin: AnyMargin) -> None:
    """W_j -> b W_j leaves the loss; the gradient of a row is orthogonal to it."""
    f, W, y = batch()
    base, _, dW = step(head_with(W, margin), f, y)
    lengths = torch.linspace(0.1, 9, len(W), dtype=torch.float64)[:, None]
    scaled, _, _ = step(head_with(W * lengths, margin), f, y)
    torch.testing.assert_close(scaled.loss, base.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((dW * W).sum(1), torch.zeros(len(W), dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("margin", NORMALISED, ids=str)
def test_u6_lengths_of_embeddings_do_not_matter(margin: Margin) -> None:
    """f -> a f leaves the loss of margins that read the cosine alone; the gradient of f is orthogonal to it."""
    f, W, y = batch()
    base, df, _ = step(head_with(W, margin), f, y)
    scaled, _, _ = step(head_with(W, margin), f * 5.5, y)
    torch.testing.assert_close(scaled.loss, base.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((df * f).sum(1), torch.zeros(len(f), dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("margin", ALL, ids=str)
def test_u6_order_does_not_matter(margin: AnyMargin) -> None:
    """Permuting the batch or the classes permutes the gradients and leaves the loss."""
    f, W, y = batch()
    base, df, dW = step(head_with(W, margin), f, y)
    g = torch.Generator().manual_seed(5)
    rows, classes = torch.randperm(len(f), generator=g), torch.randperm(len(W), generator=g)
    out, df_moved, dW_moved = step(head_with(W[classes], margin), f[rows], classes.argsort()[y[rows]])
    torch.testing.assert_close(out.loss, base.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(df_moved, df[rows], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dW_moved, dW[classes], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("margin", ALL, ids=str)
def test_u7_one_class_teaches_nothing(margin: AnyMargin) -> None:
    """n = 1: loss and gradients are zero, but for what a margin asks of norms whatever the class."""
    f, W, _ = batch(classes=1)
    head = head_with(W, margin)
    out, df, dW = step(head, f, torch.zeros(len(f), dtype=torch.int64))
    leaf = f.clone().requires_grad_()
    penalty = head.penalty(leaf)
    pull = torch.autograd.grad(penalty, leaf)[0] if penalty.requires_grad else torch.zeros_like(f)
    assert float(out.loss) == float(penalty.detach())
    assert torch.equal(df, pull)
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


@pytest.mark.parametrize("margin", list(ADAPTIVE.values()), ids=list(ADAPTIVE))
def test_u7_the_worst_logits_stay_finite_whatever_is_read(margin: type[ArcFace]) -> None:
    """The same for embeddings of length 2 to 2,000, whose norms may be scales: loss and gradients are finite."""
    W = torch.ones(5, 4)
    W[0] = -1
    out, df, dW = step(
        head_with(W, margin()), torch.tensor([[1.0], [30.0], [1000.0]]).expand(3, 4), torch.tensor([0] * 3)
    )
    assert out.loss.isfinite()
    assert float(out.loss) > 10
    assert df.isfinite().all()
    assert dW.isfinite().all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("margin", ALL, ids=str)
def test_u7_autocast_leaves_the_head_in_float32(margin: AnyMargin, half: torch.dtype) -> None:
    """float32 embeddings: not a bit changes under autocast. Halves: within 1e-2, and gradients come back as halves."""
    f, W, y = batch(32, 50, 64, torch.float32)
    plain, df, dW = step(head_with(W, margin), f, y)
    with torch.autocast("cpu", half):
        cast, df_cast, dW_cast = step(head_with(W, margin), f, y)
        rounded, df_half, _ = step(head_with(W, margin), f.to(half), y)
    assert torch.equal(cast.loss, plain.loss)
    assert torch.equal(df_cast, df)
    assert torch.equal(dW_cast, dW)
    assert rounded.loss.dtype == torch.float32
    assert float(rounded.loss) == pytest.approx(float(plain.loss), rel=1e-2)
    assert df_half.dtype == half
    assert df_half.isfinite().all()


@pytest.mark.parametrize("margin", ALL, ids=str)
def test_logs_are_what_they_say(margin: AnyMargin) -> None:
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


@pytest.mark.parametrize(
    "make",
    [
        lambda: MarginHead(0, 6, ArcFace()),
        lambda: MarginHead(5, 0, ArcFace()),
        lambda: MarginHead(5, 6, ArcFace(), 0.0),
        lambda: MarginHead(5, 6, ArcFace(), math.inf),
        lambda: MarginHead(5, 6, ArcFace(), math.nan),
        lambda: MarginHead(5, 6, ArcFace(), centres=0),
        lambda: MarginHead(5, 6, ArcFace(), sample=0.0),
        lambda: MarginHead(5, 6, ArcFace(), sample=1.5),
        lambda: MarginHead(5, 6, ArcFace(), sample=math.nan),
        lambda: MarginHead(5, 6, ArcFace(), sample=0.5, seed=-1),
        lambda: MarginHead(5, 6, Softmax(), centres=3),
        lambda: MarginHead(5, 6, Softmax(), sample=0.5),
        lambda: MarginHead(5, 6, Softmax(), learn_scale=True),
        lambda: MarginHead(5, 6, AnnealedSphereFace(), learn_scale=True),
    ],
)
def test_unfit_heads_are_refused(make: object) -> None:
    """No class, no dimension, no finite positive scale, and what contradicts itself: with a hint."""
    with pytest.raises(UsageError) as error:
        make()  # type: ignore[operator]
    assert error.value.hint


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


@pytest.mark.parametrize("margin", ALL, ids=str)
def test_inputs_are_not_written_into(margin: AnyMargin) -> None:
    """Embeddings, labels and rows are as before."""
    f, W, y = batch()
    before = f.clone(), y.clone()
    head = head_with(W, margin)
    step(head, f, y)
    assert torch.equal(f, before[0])
    assert torch.equal(y, before[1])
    assert torch.equal(head.weight, W)


@pytest.mark.parametrize("margin", ON_COSINES, ids=str)
def test_one_step_down_the_gradient_lowers_the_loss(margin: AnyMargin) -> None:
    """The direction is right in float32 too."""
    f, W, y = batch(32, 10, 16, torch.float32)
    head = head_with(W, margin, 16.0).eval()  # what is remembered stands still
    out, df, dW = step(head, f, y)
    with torch.no_grad():
        head.weight -= 0.05 * dW
    assert float(head(f - 0.05 * df, y).loss.detach()) < float(out.loss)


@pytest.mark.parametrize(
    "margin", [NormFace(), ArcFace(), AdaFace(), MagFace(), CurricularFace(), MVSoftmax()], ids=str
)
def test_a_learned_scale_has_its_gradient(margin: AnyMargin) -> None:
    """Loss and the other gradients are those of a fixed scale; d/d log s = s dL/ds, by the loops."""
    f, W, y = batch()
    learned = head_with(W, margin, 20.0, learn_scale=True)
    fixed = head_with(W, margin, learned.scale)  # 20, as its logarithm is rounded
    expected, got = step(fixed, f, y), step(learned, f, y)
    torch.testing.assert_close(got[0].loss, expected[0].loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(got[1:], expected[1:], rtol=1e-10, atol=1e-13)
    memory = {name: float(value) for name, value in fixed.memory.items()}
    slope = margin_softmax(f.numpy(), W.numpy(), y.tolist(), margin, fixed.scale, memory).s
    assert learned.log_scale is not None
    assert learned.log_scale.grad is not None
    assert float(learned.log_scale.grad) == pytest.approx(fixed.scale * slope, rel=1e-9)


def test_a_learned_scale_starts_where_it_is_told_and_is_in_the_state() -> None:
    """exp(log s) is the scale in force; a fixed one has no parameter."""
    head = MarginHead(5, 6, NormFace(), 20.0, learn_scale=True)
    assert head.scale == pytest.approx(20, rel=1e-6)
    assert set(head.state_dict()) == {"weight", "log_scale"}
    with torch.no_grad():
        head.log_scale.add_(math.log(2))  # type: ignore[union-attr]
    assert head.scale == pytest.approx(40, rel=1e-6)
    assert MarginHead(5, 6, NormFace(), 20.0).log_scale is None


@pytest.mark.parametrize("margin", [ArcFace(), CurricularFace()], ids=str)
def test_u14_only_the_winning_centre_learns(margin: AnyMargin) -> None:
    """A sub-centre that is not the nearest of its class to any photo has no gradient; the nearest ones have."""
    f, W, y = batch_of_centres()
    _, _, dW = step(head_with(W, margin, 8.0), f, y)
    nearest = torch.einsum("nd,ckd->nck", f, F.normalize(W, dim=2)).argmax(2)  # (N, C)
    winners = F.one_hot(nearest, 3).amax(0).bool()
    assert 0 < int(winners.sum()) < winners.numel()
    assert torch.equal(dW.abs().sum(2) > 0, winners)


def test_u14_sub_centres_of_others_may_stand_in_the_softmax_one_by_one() -> None:
    """The loss from its definition; with one sub-centre there is nothing to pool."""
    f, W, y = batch_of_centres()
    head = MarginHead(*W.shape[::2], ArcFace(0.3), 8.0, centres=W.shape[1], pool_others=False).double()
    head.weight.data.copy_(W)
    cosines = torch.einsum("nd,ckd->nck", F.normalize(f), F.normalize(W, dim=2))
    losses = []
    for i, label in enumerate(y.tolist()):
        own = 8 * math.cos(math.acos(float(cosines[i, label].max())) + 0.3)
        others = [8 * float(c) for j in range(len(W)) if j != label for c in cosines[i, j]]
        losses.append(math.log(math.exp(own) + sum(map(math.exp, others))) - own)
    assert float(head(f, y).loss.detach()) == pytest.approx(np.mean(losses), rel=1e-10)
    f, W, y = batch()
    heads = [MarginHead(*W.shape, ArcFace(0.3), 8.0, pool_others=pooled).double() for pooled in (True, False)]
    for one in heads:
        one.weight.data.copy_(W)
    assert torch.equal(heads[0](f, y).loss, heads[1](f, y).loss)


@pytest.mark.parametrize("margin", ON_COSINES, ids=str)
def test_u5_u14_one_centre_is_the_plain_margin(margin: AnyMargin) -> None:
    """K = 1 has plain rows; K equal sub-centres have its loss, and share its gradient."""
    f, W, y = batch()
    assert head_with(W, margin).weight.shape == (11, 6)
    one, df, dW = step(head_with(W, margin), f, y)
    tied, df_tied, dW_tied = step(head_with(W[:, None].repeat(1, 3, 1), margin), f, y)
    assert torch.allclose(tied.loss, one.loss, rtol=1e-12)
    torch.testing.assert_close(df_tied, df, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dW_tied.sum(1), dW, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("centres", [1, 3])
def test_u16_a_sampled_batch_is_judged_against_the_chosen_classes(centres: int) -> None:
    """Positives are in, the quota is met, the loss is that of the chosen rows, the others have no gradient at all."""
    f, W, y = batch() if centres == 1 else batch_of_centres(centres)
    head = head_with(W, ArcFace(), 8.0, sample=0.7)
    for _ in range(5):
        head.judged.zero_()
        out, df, dW = step(head, f, y)
        chosen = head.judged.nonzero()[:, 0]
        assert set(y.tolist()) <= set(chosen.tolist())
        assert len(chosen) == round(0.7 * 11)
        rows = [chosen.tolist().index(label) for label in y.tolist()]
        expected = margin_softmax(f.numpy(), W[chosen].numpy(), rows, ArcFace(), 8.0)
        assert float(out.loss) == pytest.approx(expected.loss, rel=1e-10)
        np.testing.assert_allclose(df.numpy(), expected.f, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(dW[chosen].numpy(), expected.W, rtol=1e-9, atol=1e-12)
        assert not dW[~head.judged].any()


def test_u16_more_positives_than_the_quota_leave_positives_only() -> None:
    """As published: nothing of the batch is left out, nothing else is added."""
    f, W, _ = batch()
    y = torch.tensor([0, 2, 4, 6, 8, 10, 10])
    head = head_with(W, ArcFace(), sample=0.2)
    head(f, y)
    assert head.judged.nonzero()[:, 0].tolist() == [0, 2, 4, 6, 8, 10]
    everyone = head_with(W[:6], ArcFace(), sample=0.5)
    everyone(f, torch.tensor([0, 1, 2, 3, 4, 5, 5]))
    assert everyone.judged.all()


def choices(head: MarginHead, steps: int) -> list[list[int]]:
    """The classes of some steps."""
    f, _, y = batch()
    taken = []
    for _ in range(steps):
        head.judged.zero_()
        head(f, y)
        taken.append(head.judged.nonzero()[:, 0].tolist())
    return taken


def test_u16_choices_come_from_seed_and_step_and_survive_a_checkpoint() -> None:
    """Nothing else has a say, torch's own generator neither; a restart goes on as the first run would have."""
    _, W, _ = batch()
    whole = choices(head_with(W, ArcFace(), sample=0.7), 6)
    torch.manual_seed(99)
    head = head_with(W, ArcFace(), sample=0.7)
    assert choices(head, 3) == whole[:3]
    other = head_with(W, ArcFace(), sample=0.7)
    other.load_state_dict(head.state_dict())
    assert choices(other, 3) == whole[3:]
    assert set(head.state_dict()) == {"weight", "steps"}
    assert choices(head_with(W, ArcFace(), sample=0.7, seed=1), 6) != whole
    assert len({tuple(chosen) for chosen in whole}) > 1


def test_u16_negatives_are_drawn_alike() -> None:
    """Over 600 steps each class that is not in the batch comes as often as chance allows (5 deviations)."""
    f, W, _ = batch(classes=20)
    y = torch.tensor([3] * len(f))
    head, met = head_with(W, ArcFace(), sample=0.25), torch.zeros(20)
    for _ in range(600):
        head.judged.zero_()
        head(f, y)
        met += head.judged
    assert met[3] == 600
    share = 4 / 19
    others = torch.cat([met[:3], met[4:]])
    assert float((others - 600 * share).abs().max()) < 5 * math.sqrt(600 * share * (1 - share))


@pytest.mark.parametrize("margin", ON_COSINES, ids=str)
def test_u5_u16_all_classes_sampled_is_the_whole_head(margin: AnyMargin) -> None:
    """r = 1 is the plain head; r that rounds to all classes has its numbers; judging a photo takes all classes."""
    f, W, y = batch()
    plain, almost = step(head_with(W, margin), f, y), step(head_with(W, margin, sample=0.999), f, y)
    torch.testing.assert_close(almost[0].loss, plain[0].loss, rtol=0, atol=0)
    torch.testing.assert_close(almost[1:], plain[1:], rtol=0, atol=0)
    assert "steps" not in head_with(W, margin).state_dict()
    sampled, whole = (head_with(W, margin, sample=r).eval() for r in (0.3, 1.0))
    assert torch.equal(sampled(f, y).loss, whole(f, y).loss)
    assert int(sampled.steps) == 0

"""BroadFace's memory against slow float64 code from the paper: compensation, queue, routing (U5, U19, U20, traps)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facespace.errors import UsageError
from facespace.losses import MARGINS, ArcFace, CosFace, MarginHead, NormFace, Softmax, classes
from facespace.losses.adaptive import ADAPTIVE, AdaFace, AnnealedSphereFace, CurricularFace, MagFace
from facespace.losses.broadface import BroadFace, Memory
from facespace.losses.head import AnyMargin

Array = NDArray[np.float64]


def broad(memory: Memory, margin: AnyMargin | None = None, count: int = 9, dim: int = 5, centres: int = 1) -> BroadFace:
    """A float64 head with a queue; the same rows on every call."""
    torch.manual_seed(3)
    head = MarginHead(count, dim, margin or ArcFace(), 16.0, centres=centres)
    with torch.no_grad():
        head.weight.normal_()
    return BroadFace(head, memory).double()


def batches(steps: int, n: int = 4, count: int = 9, dim: int = 5) -> list[tuple[Tensor, Tensor]]:
    """Embeddings and labels of some steps, label 0 among them."""
    g = torch.Generator().manual_seed(11)
    return [
        (
            2 * torch.randn(n, dim, generator=g, dtype=torch.float64),
            torch.randint(count, (n,), generator=g) * (i % 3 > 0),
        )
        for i in range(steps)
    ]


def arcface_loss(e: Array, W: Array, y: int, m: float = 0.5, s: float = 16.0) -> float:
    """l(e): cross-entropy with cos(theta + m) on the label, past pi - m as th/mm."""
    c = (W / np.linalg.norm(W, axis=1)[:, None]) @ (e / np.linalg.norm(e))
    theta = math.acos(max(-1.0, min(1.0, c[y])))
    z = s * c
    z[y] = s * (math.cos(theta + m) if theta + m < math.pi else c[y] - m * math.sin(m))
    return float(np.log(np.exp(z - z.max()).sum()) + z.max() - z[y])


def numeric(f: Any, x: Array, h: float = 1e-6) -> Array:
    """Gradient by central differences."""
    slope = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        slope[i] = (f(up) - f(down)) / (2 * h)
    return slope


class Diary:
    """The queue as a plain list, oldest first: (e⁻, y, W⁻)."""

    def __init__(self, size: int) -> None:
        self.size, self.rows = size, list[tuple[Array, int, Array]]()

    def compensated(self, W: Array) -> list[tuple[Array, int]]:
        return [(e + np.linalg.norm(e) / np.linalg.norm(w) * (W[y] - w), y) for e, y, w in self.rows]

    def add(self, e: Array, y: list[int], W: Array) -> None:
        self.rows = (self.rows + [(e[i], y[i], W[y[i]].copy()) for i in range(len(y))])[-self.size :]


@pytest.mark.parametrize(("size", "n"), [(6, 4), (10, 4), (3, 4), (12, 4)])
def test_u19_u20_training_follows_the_paper(size: int, n: int) -> None:
    """Ten steps of SGD against a diary of the past: the losses, and both gradients, at every step.

    Q mod N != 0, N > Q and Q mod N = 0; dL/df is that of the batch alone, dL/dW that of the mean over N + |E| items.
    """
    net, diary = broad(Memory(size)), Diary(size)
    for f, y in batches(10, n):
        W, x, labels = net.head.weight.detach().numpy().copy(), f.numpy(), y.tolist()
        old = diary.compensated(W)
        count = len(labels) + len(old)

        def encoder(x: Array, W: Array = W, labels: list[int] = labels) -> float:
            return float(np.mean([arcface_loss(e, W, label) for e, label in zip(x, labels, strict=True)]))

        def classifier(
            W: Array, x: Array = x, labels: list[int] = labels, old: list[tuple[Array, int]] = old, count: int = count
        ) -> float:
            # The compensated embeddings stand still: they are those of the step's own W.
            return sum(arcface_loss(e, W, label) for e, label in [*zip(x, labels, strict=True), *old]) / count

        f = f.clone().requires_grad_()
        net.zero_grad()
        out = net(f, y)
        out.loss.backward()
        assert f.grad is not None
        assert net.head.weight.grad is not None
        assert out.logs["queue"] == len(old)
        assert float(out.loss.detach()) == pytest.approx(encoder(x) + classifier(W), rel=1e-10)
        assert out.logs["classifier_loss"] == pytest.approx(classifier(W), rel=1e-10)
        np.testing.assert_allclose(f.grad.numpy(), numeric(encoder, x), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(net.head.weight.grad.numpy(), numeric(classifier, W), rtol=1e-5, atol=1e-7)
        diary.add(x, labels, W)  # with the rows of this step, before the optimiser moves them
        with torch.no_grad():
            net.head.weight -= 0.5 * net.head.weight.grad
    kept = {(tuple(e.round(9)), y) for e, y, _ in diary.rows}
    assert {(tuple(e.numpy().round(9)), int(y)) for e, y in zip(net.embeddings, net.labels, strict=True)} == kept


def test_u19_compensation_in_its_plain_cases() -> None:
    """W = W⁻ leaves e⁻; e⁻ along W⁻ becomes as much of W; a longer e⁻ is compensated as much longer."""
    net = broad(Memory(4))
    rows = net.head.weight.detach()
    W = rows + torch.randn(rows.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net.labels.copy_(torch.tensor([0, 3, 5, 5]))
    net.rows.copy_(rows[net.labels])
    net.embeddings.copy_(torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    net.embeddings[1] = 2.5 * rows[3]
    net.embeddings[3] = 7 * net.embeddings[2]
    still, moved = net.compensated(slice(0, 4), rows), net.compensated(slice(0, 4), W)
    torch.testing.assert_close(still, net.embeddings, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved[1], 2.5 * W[3], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved[3], 7 * moved[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "margin", [ArcFace(), CosFace(), NormFace(), Softmax(), AdaFace(), CurricularFace(), MagFace()]
)
def test_u5_without_a_queue_it_is_the_head(margin: AnyMargin) -> None:
    """Q = 0: both gradients equal the margin head's (with its bias); the loss counts both parts."""
    net, (f, y) = broad(Memory(0), margin), batches(1)[0]
    alone = broad(Memory(0), margin).head
    one, other = f.clone().requires_grad_(), f.clone().requires_grad_()
    net(one, y).loss.backward()
    alone(other, y).loss.backward()
    assert one.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)
    for a, b in zip(net.head.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
    for a, b in zip(net.head.buffers(), alone.buffers(), strict=True):
        assert torch.equal(a, b)  # an adaptive margin remembers the batch once


@pytest.mark.parametrize("fill", [0.0, 1.0, 50.0])
def test_u20_the_encoder_gradient_knows_no_queue(fill: float) -> None:
    """Whatever the queue holds, dL/df is the batch's own, bit for bit."""
    (f, y), slopes = batches(1)[0], []
    for content in (0.0, fill):
        net = broad(Memory(6))
        net.embeddings.fill_(content)
        net.rows.fill_(1.0)
        net.position[0] = 6 if content else 0
        x = f.clone().requires_grad_()
        net(x, y).loss.backward()
        assert x.grad is not None
        slopes.append(x.grad)
    assert torch.equal(*slopes)


def test_u20_no_gradient_of_the_batch_loss_reaches_the_class_rows() -> None:
    """The class rows' gradient is that of L_cls alone: a learned scale and a bias are taught there too."""
    torch.manual_seed(0)
    head = MarginHead(9, 5, NormFace(), 16.0, learn_scale=True).double()
    net, (f, y) = BroadFace(head, Memory(6)).double(), batches(1)[0]
    taught = torch.autograd.grad(net.eval()(f, y).loss, list(head.parameters()))
    alone = torch.autograd.grad(head(f, y).loss, list(head.parameters()))
    torch.testing.assert_close(taught, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "centres"), [(name, k) for name in (*MARGINS, *ADAPTIVE) for k in (1, 2) if (name, k) != ("softmax", 2)]
)
def test_u20_class_rows_learn_from_batch_and_queue_alike_by_any_margin(name: str, centres: int) -> None:
    """dL/dW is that of the head's mean over the N + |E| detached items, norms of e* and what is remembered included.

    What an adaptive margin remembers moves with the batch alone, once.
    """
    margin: AnyMargin = (MARGINS | ADAPTIVE)[name]()
    net, alone = (broad(Memory(size), margin, centres=centres) for size in (10, 0))
    for f, y in batches(5):
        old, labels = net.compensated(slice(0, net.length), net.head.weight.detach()), net.labels[: net.length].clone()
        slopes = torch.autograd.grad(net(f, y).loss, list(net.head.parameters()))
        alone.head.load_state_dict(net.head.state_dict())  # what is remembered of this batch too
        everything = alone.head.eval()(torch.cat([f, old]), torch.cat([y, labels])).loss
        expected = torch.autograd.grad(everything, list(alone.head.parameters()))
        torch.testing.assert_close(slopes, expected, rtol=1e-10, atol=1e-12)
        with torch.no_grad():
            net.head.weight -= 0.3 * slopes[0]
    if name == "sphereface_annealed":
        assert float(net.head.memory["iteration"]) == 5


def test_u19_the_batch_is_not_in_the_queue_during_its_own_loss() -> None:
    """The first step meets an empty queue, the second the first batch alone; evaluation enqueues nothing."""
    net, steps = broad(Memory(32)), batches(3)
    assert [net(f, y).logs["queue"] for f, y in steps] == [0, 4, 8]
    assert net.length == 12
    net.eval()
    net(*steps[0])
    assert net.length == 12


@pytest.mark.parametrize("steps", [1, 3])
def test_u19_trap21_a_partly_filled_queue_saves_and_loads(steps: int) -> None:
    """kakaoenterprise/BroadFace could not load buffers of changing length. The next loss is the same, bit for bit."""
    net = broad(Memory(10))
    for f, y in batches(steps):
        net(f, y)
    again = broad(Memory(10))
    again.load_state_dict(net.state_dict())
    assert again.length == net.length == min(10, 4 * steps)
    f, y = batches(5)[4]
    assert torch.equal(again(f, y).loss, net(f, y).loss)


def test_trap20_class_rows_learn_from_the_first_step_and_the_encoder_in_full() -> None:
    """bobo0810/BroadFace: no step until the queue is full, and the encoder's gradient shrunk by N/(N + Q)."""
    net, steps = broad(Memory(100)), batches(2)
    for f, y in steps:
        x = f.clone().requires_grad_()
        net.zero_grad()
        net(x, y).loss.backward()
        assert net.head.weight.grad is not None
        assert net.head.weight.grad.abs().max() > 0
        alone = f.clone().requires_grad_()
        net.head(alone, y).loss.backward()
        assert x.grad is not None
        assert alone.grad is not None
        torch.testing.assert_close(x.grad, alone.grad, rtol=1e-12, atol=1e-14)
    assert torch.equal(net.embeddings[:4], steps[0][0])  # not overwritten by compensated values


def test_trap22_the_oldest_leave_first_and_class_0_counts() -> None:
    """msight-tech/research-xbm: the newest were overwritten when Q mod N != 0, and label 0 emptied the memory."""
    net, steps = broad(Memory(6)), batches(3)
    for f, _ in steps:
        net(f, torch.zeros(4, dtype=torch.int64))
    everything = torch.cat([f for f, _ in steps])
    held = {tuple(row) for row in net.embeddings.tolist()}
    assert held == {tuple(row) for row in everything[-6:].tolist()}
    assert net.length == 6


@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("margin", [ArcFace(), CosFace(), AdaFace(), CurricularFace()])
def test_the_queue_in_blocks_is_the_queue(margin: AnyMargin, centres: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one photo give what one block gives: losses and gradients, sub-centres included."""
    results = []
    for cells in (1 << 25, 1):
        monkeypatch.setattr(classes, "KEPT_CELLS", cells)
        net = broad(Memory(10), margin, centres=centres)
        for f, y in batches(4):
            net.zero_grad()
            out = net(f, y)
            out.loss.backward()
            assert net.head.weight.grad is not None
            with torch.no_grad():
                net.head.weight -= 0.3 * net.head.weight.grad
        results.append((out.loss.detach(), net.head.weight.detach()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def test_sub_centres_follow_the_centre_they_were_nearest_to() -> None:
    """The row stored is that of the nearest sub-centre, and its drift counts from then on."""
    net = broad(Memory(4), centres=3)
    f, y = batches(1)[0]
    net(f, y)
    W = net.head.weight.detach()
    for i in range(4):
        cosines = [float(f[i] @ W[y[i], k] / f[i].norm() / W[y[i], k].norm()) for k in range(3)]
        assert int(net.centres[i]) == int(np.argmax(cosines))
        assert torch.equal(net.rows[i], W[y[i], int(net.centres[i])])
    moved = net.compensated(slice(0, 4), -W)
    expected = f - 2 * f.norm(dim=1, keepdim=True) / net.rows.norm(dim=1, keepdim=True) * net.rows
    torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)


def test_options_do_what_they_say() -> None:
    """When the queue begins to teach, which rows are stored, what is kept and put back, and unit vectors."""

    def queue_after(memory: Memory, steps: int = 4, move: float = 0.5) -> BroadFace:
        net = broad(memory)
        for f, y in batches(steps):
            net.zero_grad()
            net(f, y).loss.backward()
            assert net.head.weight.grad is not None
            with torch.no_grad():
                net.head.weight -= move * net.head.weight.grad
        return net

    plain = queue_after(Memory(8))
    waiting = queue_after(Memory(8, after_steps=4))
    never_full = queue_after(Memory(100, start="full"))
    alone = queue_after(Memory(0))
    torch.testing.assert_close(waiting.head.weight, alone.head.weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(never_full.head.weight, alone.head.weight, rtol=1e-12, atol=0)
    assert not torch.equal(plain.head.weight, alone.head.weight)
    assert waiting.length == 8

    # The rows as the optimiser left them after the last step but one, since the last is refreshed in the step to come.
    after = queue_after(Memory(8, rows="after"))
    after(*batches(5)[4])
    newest = int(after.position[1])
    places = (newest - 8 + torch.arange(4)) % 8
    assert not torch.equal(plain.rows, after.rows)
    rows = after.head.weight.detach()[after.labels[places]]
    torch.testing.assert_close(after.rows[places], rows, rtol=0, atol=0)

    restored = queue_after(Memory(8, restore=True))
    assert not torch.equal(restored.embeddings, plain.embeddings)
    assert set(BroadFace(plain.head, Memory(8, saved=False)).state_dict()) == {"head.weight"}

    unit = queue_after(Memory(8, vectors="unit"))
    W = torch.randn(9, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    moved = unit.compensated(slice(0, 8), W)
    for i in range(8):
        e, now, then = (x / x.norm() for x in (unit.embeddings[i], W[unit.labels[i]], unit.rows[i]))
        torch.testing.assert_close(moved[i] / unit.embeddings[i].norm(), e + now - then, rtol=1e-12, atol=1e-12)
    assert torch.equal(queue_after(Memory(8, compensate=False)).compensated(slice(0, 8), W)[0], batches(4)[2][0][0])


def test_rows_taken_after_the_step_are_those_of_all_its_batches() -> None:
    """Three batches make a step: the rows of all 12 photos are taken again once the optimiser has moved them."""
    net, steps = broad(Memory(20, rows="after")), batches(4)
    for f, y in steps[:3]:
        net(f, y).loss.backward()
    assert net.head.weight.grad is not None
    with torch.no_grad():
        net.head.weight -= 0.1 * net.head.weight.grad
    net(*steps[3])
    assert torch.equal(net.rows[:12], net.head.weight.detach()[net.labels[:12]])
    assert int(net.position[3]) == 4


def test_without_the_batch_only_the_queue_teaches() -> None:
    """L_cls over E alone: its gradient is that of the mean over the queue, once there is one."""
    net, (first, second) = broad(Memory(8, batch=False)), batches(2)
    net(*first)
    out = net(*second)
    (slope,) = torch.autograd.grad(out.loss, net.head.weight)
    head = net.head
    (expected,) = torch.autograd.grad(head(first[0], first[1]).loss, head.weight)
    torch.testing.assert_close(slope, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("margin", [ArcFace(), AnnealedSphereFace()], ids=str)
def test_u7_autocast_leaves_queue_and_losses_in_float32(margin: AnyMargin, half: torch.dtype) -> None:
    """float32 embeddings: not a bit changes under autocast. Halves: within 1e-2, and gradients come back as halves."""

    def last_of_three(dtype: torch.dtype, cast: bool) -> tuple[Tensor, Tensor, Tensor, BroadFace]:
        net = broad(Memory(8), margin).float()
        for f, y in batches(3):
            x = f.to(dtype).requires_grad_()
            net.zero_grad()
            with torch.autocast("cpu", half, enabled=cast):
                out = net(x, y)
            out.loss.backward()
        assert x.grad is not None
        assert net.head.weight.grad is not None
        return out.loss.detach(), x.grad, net.head.weight.grad, net

    plain, cast, rounded = (
        last_of_three(d, c) for d, c in ((torch.float32, False), (torch.float32, True), (half, True))
    )
    assert all(torch.equal(a, b) for a, b in zip(plain[:3], cast[:3], strict=True))
    assert rounded[3].embeddings.dtype == rounded[0].dtype == rounded[2].dtype == torch.float32
    assert rounded[1].dtype == half
    assert float(rounded[0]) == pytest.approx(float(plain[0]), rel=1e-2)
    for a, b in zip(rounded[1:3], plain[1:3], strict=True):
        assert float((a.float() - b).norm() / b.norm()) < 1e-2


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("margin", [ArcFace(), Softmax(), AdaFace()], ids=str)
def test_a_batch_that_is_not_finite_leaves_no_trace(margin: AnyMargin, bad: float) -> None:
    """Its step is left out; in the queue it would spoil all that follow. Its count of batches goes on."""
    net, steps = broad(Memory(10), margin), batches(3)
    net(*steps[0])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    f = steps[1][0].clone()
    f[2] = bad
    net(f, steps[1][1])
    before["position"][2] += 1
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    out = net(*steps[2])
    assert out.loss.isfinite()
    assert out.logs["queue"] == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: Memory(-1),
        lambda: Memory(after_steps=-1),
        lambda: Memory(start="late"),  # type: ignore[arg-type]
        lambda: Memory(vectors="none"),  # type: ignore[arg-type]
        lambda: Memory(rows="during"),  # type: ignore[arg-type]
        lambda: Memory(compensate=False, restore=True),
        lambda: Memory(0, batch=False),
        lambda: BroadFace(MarginHead(9, 5, ArcFace(), sample=0.5)),
    ],
)
def test_contradictions_are_refused(make: Any) -> None:
    """Each with a word on what to do."""
    with pytest.raises(UsageError) as error:
        make()
    assert error.value.hint


def test_a_second_backward_through_the_same_loss_gives_the_same() -> None:
    net, (f, y) = broad(Memory(4)), batches(1)[0]
    loss = net(f, y).loss
    first, second = (torch.autograd.grad(3 * loss, net.head.weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_two_backwards_add_up() -> None:
    """Gradients accumulate over batches as those of any loss do, scaled as the sum asks."""
    net = broad(Memory(0))
    (f, y), (g, z) = batches(2)
    ((net(f, y).loss + net(g, z).loss) / 2).backward()
    together = net.head.weight.grad
    assert together is not None
    expected = sum(torch.autograd.grad(net.head(a, b).loss / 2, net.head.weight)[0] for a, b in ((f, y), (g, z)))
    torch.testing.assert_close(together, expected, rtol=1e-10, atol=1e-12)

"""What public code and a survey get wrong about GroupFace (PAPERS 9, traps 14 to 19): each mistake is written out here,
differs from ours on the same numbers, and ours agrees with the paper."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.core.similarity import GroupAware
from facespace.losses.groupface import GroupLabels, GroupLoss, self_distributed
from facespace.losses.head import MarginHead
from facespace.losses.margins import ArcFace
from facespace.models.nets.groupface import Grouped, GroupFace, Groups
from facespace.models.nets.trunks import TrunkSpec, build


def net(n_groups: int = 3, **changes: object) -> GroupFace:
    torch.manual_seed(2)
    groups = Groups(**{"count": n_groups, "shared": 6, "hidden": 5} | changes)  # type: ignore[arg-type]
    return GroupFace(nn.Linear(7, 6), groups, 4).double()


def faces(n: int) -> Tensor:
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def grouped(logits: Tensor) -> Grouped:
    return Grouped(logits[:, :0], logits[:, :0], logits, logits[:, :0])


def drifting(step: int) -> Tensor:
    """Logits `(8, 3)` whose most probable group wanders from batch to batch."""
    raised = torch.eye(3)[step % 3].double() * 2
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64) + raised


def test_trap14_the_expectation_is_over_many_batches_not_the_present_one() -> None:
    """SeungyounShin/GroupFace: E of the present batch calls every batch balanced, however it leans."""
    loss = GroupLoss(3, GroupLabels(weight=1.0)).double()
    seen: list[Tensor] = []
    differing = 0
    for step in range(6):
        logits = drifting(step)
        p = logits.softmax(1)
        seen.append(p.mean(0))
        ours = F.cross_entropy(logits, self_distributed(p, torch.stack(seen).mean(0)).argmax(1))
        torch.testing.assert_close(loss(grouped(logits)).loss, ours)
        differing += not torch.equal(
            self_distributed(p, p.mean(0)).argmax(1), self_distributed(p, torch.stack(seen).mean(0)).argmax(1)
        )
    assert differing > 3


def test_trap14_the_decision_has_three_layers_and_plain_logits() -> None:
    """There: two, and PReLU on the logits, which at a slope of 0 could not say no."""
    model = net()
    layers = [module for module in model.decision.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 3
    found = model.represent(faces(50))
    torch.testing.assert_close(found.logits, F.linear(found.hidden, layers[2].weight, layers[2].bias))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_trap14_probabilities_are_over_the_groups_whatever_the_batch(n: int) -> None:
    """There: softmax without a dimension, whose choice hangs on the number of axes."""
    model = net().train()
    found = model.represent(faces(n))
    every = model.members(model.trunk(faces(n))).view(n, 3, 4)
    shares = torch.exp(found.logits) / torch.exp(found.logits).sum(1, keepdim=True)
    torch.testing.assert_close(found.embedding - found.instance, (shares[:, :, None] * every).sum(1))


def test_trap14_two_networks_share_nothing() -> None:
    """There: ready networks in a dictionary of the module, so that two models train one trunk."""
    spec = TrunkSpec("iresnet10-tiny", 32, 6, Groups(3, 10, 4))
    one, other = build(spec), build(spec)
    assert not {p.data_ptr() for p in one.parameters()} & {p.data_ptr() for p in other.parameters()}


@pytest.mark.parametrize("train_mode", ["soft", "hard"])
def test_trap15_the_group_label_trains_the_decision(train_mode: str) -> None:
    """leoluopy/GroupFacePytorch: ArcFace alone; a hard choice then never learns."""
    model = net(mode="hard", train_mode=train_mode)
    found = model.represent(faces(8))
    head = MarginHead(4, 4, ArcFace()).double()
    lengths = []
    for loss in (head(found.embedding, torch.arange(8) % 4).loss, GroupLoss(3).double()(found).loss):
        grads = torch.autograd.grad(loss, list(model.decision.parameters()), retain_graph=True, allow_unused=True)
        lengths.append(sum(float(g.norm()) for g in grads if g is not None))
    assert (lengths[0] > 0) == (train_mode == "soft")
    assert lengths[1] > 0


def test_trap15_rows_are_normalised_each_by_its_own_length() -> None:
    """There: by the length of the whole batch, so that a vector depends on its neighbours."""
    model = net().eval()
    x = faces(6)
    vectors = model.described(x)[:, :4]
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6).double())
    torch.testing.assert_close(vectors[:2], model.described(x[:2])[:, :4])
    assert not torch.allclose(model(x) / model(x).norm(), vectors)


def test_trap16_parts_of_a_batch_add_up_to_the_gradient_of_the_whole() -> None:
    """psj0919/groupface_sj: gradients are cleared between the parts of a step, so that the last part alone counts. Here
    with BN in evaluation, whose statistics would differ between the parts."""
    model, labels = net(), GroupLoss(3, GroupLabels(expectation="previous")).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    labels(model.represent(faces(5)))
    labels.eval()
    x, weights = faces(12), list(model.decision.parameters())
    whole = torch.autograd.grad(labels(model.represent(x)).loss, weights)
    model.zero_grad()
    for part in x.split(4):
        (labels(model.represent(part)).loss / 3).backward()
    for parameter, expected in zip(weights, whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("training", [True, False])
def test_trap17_a_batch_of_faces_of_different_groups_is_chosen_row_by_row(training: bool) -> None:
    """minh-nguyenhoang/Face-Analysis: a list of layers indexed with a batch of labels, which fails for two faces."""
    model = net(mode="hard", train_mode="hard")
    for _ in range(60):
        model(faces(30))  # until the running statistics are those of these faces
    model.decision.last.bias.data.zero_()
    model.train(training)
    found = model.represent(faces(30))
    k = found.logits.argmax(1)
    assert len(set(k.tolist())) > 1
    every = model.members(model.trunk(faces(30))).view(30, 3, 4)
    expected = torch.stack([found.instance[i] + every[i, k[i]] for i in range(30)])
    torch.testing.assert_close(found.embedding, expected)


def test_trap18_the_similarity_is_the_cosine_of_vbar_less_a_penalty_of_vhat_for_each_pair() -> None:
    """shi510/ffem: dot product of vhat, distance of vbar, averaged over the batch, added, gamma 0.3, beta within."""
    rng = np.random.default_rng(0)
    how = GroupAware(4)
    a, b = (how.unit(rng.normal(size=(5, 7)).astype(np.float32)) for _ in range(2))
    ours = how.matrix(a, b)
    distance = np.linalg.norm(a[:, None, 4:].astype(float) - b[None, :, 4:], axis=2)
    np.testing.assert_allclose(ours, a[:, :4] @ b[:, :4].T - 0.1 * np.cbrt(distance), atol=1e-6)
    swapped = a[:, 4:] @ b[:, 4:].T + (0.1 * np.linalg.norm(a[:, None, :4] - b[None, :, :4], axis=2).mean()) ** 0.3
    assert not np.allclose(ours, swapped, atol=0.01)
    np.testing.assert_allclose(how.matrix(a[:1], b[:1]), ours[:1, :1], atol=1e-6)
    farther = b.copy()
    farther[:, 4:] += 5
    assert (how.pairs(b, farther) < 1 - 0.1).all()


def test_trap19_the_expectation_is_no_constant_and_the_loss_has_its_weight() -> None:
    """The survey arXiv 2212.13038 (eq. 80): with E = 1/K the labels are the naive ones; and no lambda."""
    logits = drifting(0)
    p = logits.softmax(1)
    printed = self_distributed(p, torch.full((3,), 1 / 3).double()).argmax(1)
    assert torch.equal(printed, p.argmax(1))
    spread = (p - p.mean(0)).argmax(1)
    assert not torch.equal(printed, spread)
    torch.testing.assert_close(GroupLoss(3).double()(grouped(logits)).loss, 0.1 * F.cross_entropy(logits, spread))

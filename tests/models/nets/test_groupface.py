"""GroupFace against slow float64 loops from the paper: values, and gradients by central differences of those loops."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facespace.errors import ModelError, UsageError
from facespace.models.nets.counts import multiply_adds
from facespace.models.nets.groupface import Grouped, GroupFace, Groups, adopt
from facespace.models.nets.iresnet import IResNet
from facespace.models.nets.trunks import TRUNKS, TrunkSpec, build, load_trunk, save_trunk

Array = NDArray[np.float64]
SHARED, DIM, HIDDEN, K = 5, 4, 3, 3


def small(**changes: Any) -> GroupFace:
    """A GroupFace in float64 on a trunk of one matrix, its statistics and gains moved off where they start."""
    torch.manual_seed(5)
    groups = Groups(**{"count": K, "shared": SHARED, "hidden": HIDDEN} | changes)
    net = GroupFace(nn.Linear(6, SHARED), groups, DIM).double()
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) * (0.5 if "running_var" in name else 0.2))
    return net


def faces(n: int = 7) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def slow_layer(w: dict[str, Array], name: str, rows: list[Array], training: bool) -> list[Array]:
    """Linear; BN by the batch's own mean and variance, or by the running ones; PReLU: whatever there are weights of."""
    out = []
    for x in rows:
        bias = w.get(f"{name}.linear.bias")
        out.append(
            np.array(
                [sum(a * b for a, b in zip(row, x, strict=True)) for row in w[f"{name}.linear.weight"]]
                if bias is None
                else [
                    sum(a * b for a, b in zip(row, x, strict=True)) + c
                    for row, c in zip(w[f"{name}.linear.weight"], bias, strict=True)
                ]
            )
        )
    if f"{name}.norm.weight" in w:
        for j in range(len(out[0])):
            column = [x[j] for x in out]
            mean, var = w[f"{name}.norm.running_mean"][j], w[f"{name}.norm.running_var"][j]
            if training:
                mean = sum(column) / len(column)
                var = sum((v - mean) ** 2 for v in column) / len(column)
            for x in out:
                x[j] = (x[j] - mean) / math.sqrt(var + 1e-5) * w[f"{name}.norm.weight"][j] + w[f"{name}.norm.bias"][j]
    if f"{name}.act.weight" in w:
        out = [np.array([v if v > 0 else s * v for v, s in zip(x, w[f"{name}.act.weight"], strict=True)]) for x in out]
    return out


def slow(net: GroupFace, x: Array, *, w: dict[str, Array] | None = None, training: bool = True) -> Grouped:
    """The paper's section 3, face by face and group by group."""
    g = net.groups
    w = weights_of(net) if w is None else w
    shared = [np.array([row @ face for row in w["trunk.weight"]]) + w["trunk.bias"] for face in x]
    if g.shared_relu:
        shared = [np.maximum(s, 0) for s in shared]
    v = slow_layer(w, "instance", shared, training)
    first = slow_layer(w, "decision.first", v, training)
    second = slow_layer(w, "decision.second", first, training)
    logits = [w["decision.last.weight"] @ h + w["decision.last.bias"] for h in second]
    every = slow_layer(w, "members", shared, training)
    part = len(v[0])
    embedding = []
    for i in range(len(x)):
        e = [math.exp(z - max(logits[i])) for z in logits[i]]
        p = [a / sum(e) for a in e]
        groups = [every[i][k * part : (k + 1) * part] for k in range(g.count)]
        best = max(range(g.count), key=lambda k: p[k])
        if (g.train_mode if training else g.mode) == "soft":
            of_group = sum(p[k] * groups[k] for k in range(g.count))
        else:
            of_group = groups[best] * (p[best] if g.coefficient == "p" else 1)
        embedding.append(np.concatenate([v[i], of_group]) if g.combine == "concat" else v[i] + of_group)
    return Grouped(*map(np.stack, (embedding, v, logits, second if g.hidden_layer == "second" else first)))


def weights_of(net: nn.Module) -> dict[str, Array]:
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


VARIANTS: list[dict[str, Any]] = [
    {},
    {"mode": "hard"},
    {"mode": "hard", "train_mode": "hard"},
    {"mode": "hard", "train_mode": "hard", "coefficient": "p"},
    {"mode": "hard", "train_mode": "hard", "straight_through": True},
    {"mode": "hard", "norm": "bn_prelu"},
    {"mode": "hard", "norm": "none", "combine": "concat"},
    {"norm": "none", "shared_relu": True},
    {"norm": "bn_prelu", "hidden_layer": "first"},
    {"combine": "concat"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_u18_every_part_is_that_of_the_slow_loops(changes: dict[str, Any], training: bool) -> None:
    net = small(**changes).train(training)
    x = faces()
    expected = slow(net, x.numpy(), training=training)
    found = net.represent(x)
    for name, ours, theirs in zip(Grouped._fields, found, expected, strict=True):
        torch.testing.assert_close(ours.detach(), torch.from_numpy(theirs), rtol=1e-10, atol=1e-10, msg=name)
    if not training:
        assert torch.equal(net(x), found.embedding)
        unit = found.embedding / found.embedding.norm(dim=1, keepdim=True)
        torch.testing.assert_close(net.described(x), torch.cat([unit, found.hidden], 1))


def loss_of(grouped: Grouped, labels: list[int]) -> Any:
    """A made-up loss of the embedding and a tenth of the cross-entropy of the groups; of tensors or of arrays."""
    n, dim = grouped.embedding.shape
    total = 0.0
    for i in range(n):
        total += sum(math.cos(i + 2 * d) * grouped.embedding[i, d] for d in range(dim))
        z = grouped.logits[i]
        rest = torch.logsumexp(z, 0) if isinstance(z, Tensor) else math.log(sum(math.exp(v) for v in z))
        total += 0.1 * (rest - z[labels[i]]) / n
    return total


@pytest.mark.parametrize("changes", [{}, {"norm": "bn_prelu", "combine": "concat"}, {"norm": "none"}], ids=str)
def test_u18_gradients_are_the_slopes_of_the_slow_loops(changes: dict[str, Any]) -> None:
    net, x, labels = small(**changes), faces(5), [0, 2, 1, 1, 0]
    loss_of(net.represent(x), labels).backward()
    weights = weights_of(net)
    for name, parameter in net.named_parameters():
        slopes = np.zeros(parameter.shape)
        for place in np.ndindex(*parameter.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = weights | {name: weights[name].copy()}
                moved[name][place] += step
                ends.append(loss_of(slow(net, x.numpy(), w=moved), labels))
            slopes[place] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(parameter.grad, slopes, atol=1e-7, err_msg=name)


def test_u18_soft_with_a_one_hot_p_is_hard_and_a_batch_may_choose_many_groups() -> None:
    """With logits far apart, S gives H: each row by its own group, though one batch holds several (trap 17)."""
    soft, hard = small().eval(), small(mode="hard").eval()
    x = faces(40)
    last = soft.decision.last
    last.weight.data = 1e6 * torch.tensor([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]]).double()
    last.bias.data = -last.weight.data @ soft.represent(x).hidden.mean(0).detach()
    hard.load_state_dict(soft.state_dict())
    p = soft.represent(x).logits.softmax(1)
    assert set(p.argmax(1).tolist()) == set(range(K))
    torch.testing.assert_close(p.amax(1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(soft(x), hard(x), rtol=1e-10, atol=1e-10)
    alone = torch.cat([hard(face[None]) for face in x])
    torch.testing.assert_close(alone, hard(x), rtol=1e-12, atol=1e-12)


def test_u18_hard_inference_computes_the_layer_of_one_group_alone() -> None:
    """Weights of groups that nobody chose may hold anything."""
    net = small(mode="hard").eval()
    x = faces(1)
    before, k = net(x), int(net.represent(x).logits.argmax())
    part = net.members.linear.weight.data.view(K, DIM, SHARED)
    for other in {*range(K)} - {k}:
        part[other] = math.nan
    assert torch.equal(net(x), before)


def test_u18_the_embedding_is_instance_plus_group() -> None:
    """vbar = v + v^G, and v alone is the network without groups."""
    net, alone = small().eval(), small(count=0).eval()
    adopt(alone, net.state_dict())
    x = faces()
    found = net.represent(x)
    every = net.members(net.trunk(x)).view(7, K, DIM)
    of_group = (found.logits.softmax(1)[:, :, None] * every).sum(1)
    torch.testing.assert_close(found.embedding, found.instance + of_group)
    torch.testing.assert_close(alone(x), found.instance)
    assert alone.represent(x).logits.shape == (7, 0)


def gradients(net: GroupFace, what: Callable[[Grouped], Tensor]) -> dict[str, float]:
    """Lengths of the gradients by the first part of the names, 0 where there is none."""
    net.zero_grad()
    what(net.represent(faces())).backward()
    found: dict[str, float] = {}
    for name, parameter in net.named_parameters():
        length = 0.0 if parameter.grad is None else float(parameter.grad.norm())
        found[name.split(".")[0]] = found.get(name.split(".")[0], 0.0) + length
    return found


def l1(grouped: Grouped) -> Tensor:
    return (grouped.embedding * torch.arange(1.0, 5.0)).square().sum()


def l2(grouped: Grouped) -> Tensor:
    return nn.functional.cross_entropy(grouped.logits, torch.tensor([0, 1, 2, 0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("changes", "l1_reaches", "l2_reaches"),
    [
        ({}, "trunk instance members decision", "trunk instance decision"),
        ({"through_v": False}, "trunk instance members decision", "decision"),
        ({"through_p": False}, "trunk instance members", "trunk instance decision"),
        ({"mode": "hard", "train_mode": "hard"}, "trunk instance members", "trunk instance decision"),
        ({"mode": "hard", "train_mode": "hard", "straight_through": True}, "trunk instance members decision", None),
        ({"mode": "hard", "train_mode": "hard", "coefficient": "p"}, "trunk instance members decision", None),
    ],
    ids=str,
)
def test_each_loss_reaches_what_the_settings_say(
    changes: dict[str, Any], l1_reaches: str, l2_reaches: str | None
) -> None:
    """PAPERS 7 (25): the routes of both losses."""
    net = small(**changes)
    for what, reached in ((l1, l1_reaches), (l2, l2_reaches)):
        if reached is not None:
            found = gradients(net, what)
            assert {name for name, length in found.items() if length > 1e-9} == set(reached.split())


def test_what_stops_at_v_still_trains_the_decision_alike() -> None:
    """Only what lies below v learns otherwise."""
    results = [gradients(small(through_v=through), l2) for through in (True, False)]
    assert results[0]["decision"] == pytest.approx(results[1]["decision"], rel=1e-12)


def test_hard_training_moves_the_chosen_group_alone() -> None:
    net = small(mode="hard", train_mode="hard", norm="none")
    x = faces()
    chosen = net.represent(x).logits.argmax(1)
    gradients(net, l1)
    grad = net.members.linear.weight.grad
    assert grad is not None
    moved = grad.view(K, -1).norm(dim=1) > 0
    assert moved.tolist() == [k in chosen.tolist() for k in range(K)]


def test_straight_through_goes_forward_hard_and_backward_soft() -> None:
    """dL/dp_k is dL/dvbar . v^G_k in both, at the embeddings of the hard choice."""
    net = small(mode="hard", train_mode="hard", straight_through=True, norm="none")
    found = net.represent(faces())
    found.logits.retain_grad()
    slope = torch.linspace(-1, 1, 7 * DIM, dtype=torch.float64).view(7, DIM)
    (found.embedding * slope).sum().backward()
    every = net.members(net.trunk(faces())).view(7, K, DIM).detach()
    p = found.logits.detach().softmax(1)
    for i in range(7):
        dp = [float(slope[i] @ every[i, k]) for k in range(K)]
        mean = sum(float(p[i, k]) * dp[k] for k in range(K))
        expected = [float(p[i, k]) * (dp[k] - mean) for k in range(K)]
        np.testing.assert_allclose(found.logits.grad[i], expected, rtol=1e-10, atol=1e-12)  # type: ignore[index]


def test_u5_one_group_is_certain_and_takes_no_part_in_comparing() -> None:
    """p = 1 whatever v is: the embedding is v plus one layer more, and the decision network learns nothing."""
    net = small(count=1)
    found = net.represent(faces())
    assert torch.equal(found.logits.softmax(1), torch.ones(7, 1, dtype=torch.float64))
    torch.testing.assert_close(found.embedding, found.instance + net.members(net.trunk(faces())))
    assert gradients(net, l1)["decision"] == 0
    assert not Groups(count=1).compared
    assert TrunkSpec("mobilefacenet", 112, 16, Groups(count=1)).group_aware is None


def test_the_layers_have_the_sizes_of_the_paper() -> None:
    """PAPERS 4 [calc]: 103 M weights to the shared feature, 2.1 M for the instance, 67 M for 32 groups; GDN of three
    fully connected layers, 256 wide."""
    with torch.device("meta"):
        net = build(TrunkSpec("iresnet100", 112, 512, Groups()))
    assert isinstance(net, GroupFace)
    assert isinstance(net.trunk, IResNet)
    sizes = [layer.weight.numel() for layer in (net.trunk.fc, net.instance.linear, net.members.linear)]
    assert sizes == [25088 * 4096, 4096 * 512, 32 * 4096 * 512]
    linear = [m for m in net.decision.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(512, 256), (256, 256), (256, 32)]
    assert [type(m) for m in net.trunk.children()][-3:] == [nn.Dropout, nn.Linear, nn.BatchNorm1d]


def test_groups_cost_what_the_paper_publishes() -> None:
    """G6: at two FLOPs a product, ResNet-100 of 24.2 G becomes 24.5 G (soft) or 24.4 G (hard, one group layer)."""

    def giga_flops(groups: Groups | None) -> float:
        with torch.device("meta"):
            return 2e-9 * multiply_adds(build(TrunkSpec("iresnet100", 112, 512, groups)), 112)

    plain, soft, hard = giga_flops(None), giga_flops(Groups()), giga_flops(Groups(mode="hard"))
    hard += 2e-9 * 4096 * 512  # the gathered rows are multiplied outside of a layer
    assert [round(cost, 1) for cost in (plain, soft, hard)] == [24.2, 24.5, 24.4]


@pytest.fixture(params=["iresnet10-tiny", "mobilefacenet"])
def spec(request: pytest.FixtureRequest) -> TrunkSpec:
    return TrunkSpec(request.param, 32, 6, Groups(count=3, shared=10, hidden=4))


def test_a_step_on_every_family_changes_all_weights_and_a_file_brings_them_back(
    spec: TrunkSpec, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = build(spec)
    assert isinstance(net, GroupFace)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    found = net.represent(torch.rand(8, 3, 32, 32) * 2 - 1)
    loss = found.embedding[:, 0].sum() + nn.functional.cross_entropy(found.logits, torch.arange(8) % 3)
    loss.backward()
    optimiser.step()
    still = [n for n, p in net.named_parameters() if p.requires_grad and torch.equal(p, before[n])]
    assert still == []
    save_trunk(tmp_path / "trunk.safetensors", net, spec)
    again, read = load_trunk(tmp_path / "trunk.safetensors")
    assert read == spec
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(net.eval()(x), again(x))


def test_a_file_without_groups_is_what_it_was(tmp_path: Path) -> None:
    """Old files name three things; new ones without groups name the same three."""
    from safetensors import safe_open

    spec = TrunkSpec("iresnet10-tiny", 32, 6)
    save_trunk(tmp_path / "trunk.safetensors", build(spec), spec)
    with safe_open(tmp_path / "trunk.safetensors", framework="pt") as file:
        assert file.metadata() == {"trunk": '{"name": "iresnet10-tiny", "size": 32, "dim": 6}'}
    assert load_trunk(tmp_path / "trunk.safetensors")[1] == spec


@pytest.mark.parametrize(
    "groups",
    [
        [],
        "soft",
        {"count": "3"},
        {"count": 3.0},
        {"count": True},
        {"mode": ["soft"]},
        {"aware": 1},
        {"more": 1},
        {"count": 9},
    ],
    ids=str,
)
def test_a_file_with_strange_groups_is_refused(groups: object, tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    state = build(TrunkSpec("iresnet10-tiny", 32, 6, Groups(3, 10, 4))).state_dict()
    about = {"name": "iresnet10-tiny", "size": 32, "dim": 6, "groups": groups}
    save_file(state, tmp_path / "trunk.safetensors", metadata={"trunk": json.dumps(about)})
    with pytest.raises(ModelError):
        load_trunk(tmp_path / "trunk.safetensors")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_u7_autocast_ends_at_the_shared_feature(half: torch.dtype) -> None:
    """Above it all is float32: within 1e-2 of the float32 network, values and gradients of both losses."""

    def step(cast: bool) -> list[Tensor]:
        torch.manual_seed(0)
        net = build(TrunkSpec("iresnet10-tiny", 32, 6, Groups(3, 10, 4, norm="none")))
        assert isinstance(net, GroupFace)
        net.trunk = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))  # one rounding, and not those of ten layers
        x = torch.rand(8, 3, 4, 4)
        with torch.autocast("cpu", half, enabled=cast):
            assert net.trunk(x).dtype == (half if cast else torch.float32)
            found = net.represent(x)
        assert {part.dtype for part in found} == {torch.float32}
        loss = nn.functional.cross_entropy(found.embedding, torch.arange(8) % 6) + found.logits.logsumexp(1).mean()
        slopes = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        return [loss.detach(), *found, *(slope for slope in slopes if slope is not None)]

    for cast, plain in zip(step(True), step(False), strict=True):
        torch.testing.assert_close(cast, plain, rtol=1e-2, atol=1e-2 * float(plain.detach().abs().max()))


def test_a_plain_trunk_goes_into_the_trunk_and_what_does_not_fit_stays() -> None:
    """The paper begins with a network that a softmax-type loss trained: convolutions fit, the last layer seldom."""
    groups = Groups(3, 10, 4)
    for dim, fits in ((6, False), (10, True)):
        plain = build(TrunkSpec("iresnet10-tiny", 32, dim))
        plain(torch.rand(4, 3, 32, 32))  # statistics that differ from the first ones
        net = build(TrunkSpec("iresnet10-tiny", 32, 6, groups))
        before = {name: value.clone() for name, value in net.state_dict().items()}
        fresh = adopt(net, plain.state_dict())
        top = {"instance", "members", "decision"} | (set() if fits else {"trunk.fc", "trunk.features"})
        assert fresh == [name for name in before if any(name.startswith(f"{layer}.") for layer in top)]
        for name, value in net.state_dict().items():
            source = before[name] if name in fresh else plain.state_dict()[name.removeprefix("trunk.")]
            assert torch.equal(value, source), name


def test_weights_of_the_same_kind_are_adopted_directly() -> None:
    net = build(TrunkSpec("iresnet10-tiny", 32, 6, Groups(3, 10, 4)))
    baseline = build(TrunkSpec("iresnet10-tiny", 32, 6, Groups(0, 10, 4)))
    assert adopt(net, net.state_dict()) == []
    fresh = adopt(net, baseline.state_dict())
    assert {name.split(".")[0] for name in fresh} == {"members", "decision"}
    plain = build(TrunkSpec("iresnet10-tiny", 32, 6))
    assert adopt(plain, {**plain.state_dict(), "more": torch.zeros(2)}) == []


def test_weights_of_which_nothing_fits_are_refused() -> None:
    net = build(TrunkSpec("iresnet10-tiny", 32, 6, Groups(3, 10, 4)))
    with pytest.raises(ModelError, match="fits"):
        adopt(net, build(TrunkSpec("mobilefacenet", 32, 6)).state_dict())


def contradictions() -> Iterator[dict[str, Any]]:
    yield from ({"count": count} for count in (-1, 1025, 2.0, True))
    yield from ({"shared": 1}, {"hidden": 0}, {"mode": "firm"}, {"norm": "layer"}, {"aware": None})
    yield from ({"train_mode": "hard"}, {"coefficient": "p"}, {"straight_through": True})
    hard = {"mode": "hard", "train_mode": "hard", "straight_through": True}
    yield from (hard | {"train_mode": "soft"}, hard | {"coefficient": "p"}, hard | {"through_p": False})
    yield {"count": 0, "combine": "concat"}


@pytest.mark.parametrize("wrong", list(contradictions()), ids=str)
def test_contradicting_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Groups(**wrong)


def test_parts_side_by_side_need_an_even_length() -> None:
    for make in (
        lambda: TrunkSpec("mobilefacenet", 112, 7, Groups(combine="concat")),
        lambda: GroupFace(nn.Identity(), Groups(combine="concat"), 7),
    ):
        with pytest.raises(UsageError, match="equal length"):
            make()


def test_every_trunk_takes_groups() -> None:
    """Each row of the table maps faces to a shared feature of the asked length."""
    for name in TRUNKS:
        with torch.device("meta"):
            net = build(TrunkSpec(name, 112, 6, Groups(3, 10, 4))).eval()
            assert net(torch.zeros(2, 3, 112, 112)).shape == (2, 6), name

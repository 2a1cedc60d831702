"""GroupFace (Kim et al., CVPR 2020): a face described as itself and by the latent group it belongs to.

A trunk gives the shared feature; from it one layer makes the instance representation v, and K layers side by side the
group-aware representations v^G_k. A decision network reads v and says how probable each group is. The embedding is
v + v^G, with v^G the expectation over the groups (soft) or that of the most probable one (hard).
"""

import contextlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facespace.errors import ModelError, UsageError, check_choices

Mode = Literal["soft", "hard"]
"""`soft`: all groups, weighed by their probabilities; `hard`: the most probable group alone."""

Combine = Literal["sum", "concat"]
"""How v and v^G become the embedding: added (the paper), or side by side, each of half the length."""

Norm = Literal["bn", "none", "bn_prelu"]
"""What follows the layers of v and v^G: normalisation, nothing, or normalisation and PReLU (public code). The hidden
layers of the decision network are Linear-BN-PReLU; with `none`, Linear-PReLU."""

HiddenLayer = Literal["second", "first"]
"""Which layer of the decision network gives vhat."""

Coefficient = Literal["one", "p"]
"""What the hard choice is multiplied by: 1, or the probability of the chosen group."""


@dataclass(frozen=True)
class Groups:
    """Settings of GroupFace's part of a network; contradictions raise UsageError."""

    count: int = 32
    """Number K of groups. 0: shared feature and instance layer alone, the baseline of the same depth."""
    shared: int = 4096
    """Length of the shared feature: the output of the trunk."""
    hidden: int = 256
    """Length of the decision network's hidden layers, and of vhat."""
    mode: Mode = "soft"
    """How the network is used."""
    train_mode: Mode = "soft"
    """How it is trained; hard use of a softly trained network is the paper's cheap variant."""
    combine: Combine = "sum"
    norm: Norm = "bn"
    shared_relu: bool = False
    """ReLU on the shared feature."""
    hidden_layer: HiddenLayer = "second"
    coefficient: Coefficient = "one"
    """Of the hard choice only."""
    straight_through: bool = False
    """Hard training: forward the choice, backward as if soft; else the decision network learns from labels alone."""
    through_v: bool = True
    """Gradients of the decision network go on through v into the trunk."""
    through_p: bool = True
    """The loss of the embedding reaches the decision network through the probabilities."""
    aware: bool = True
    """Models are compared by the group-aware similarity, where there are several groups."""

    def __post_init__(self) -> None:
        self._check_values()
        if self.mode == "soft" and (self.train_mode == "hard" or self.coefficient == "p"):
            raise UsageError("soft use has no hard choice", hint="mode='hard' with train_mode or coefficient")
        if self.straight_through and (self.train_mode == "soft" or self.coefficient == "p" or not self.through_p):
            raise UsageError(
                "straight-through is a way of hard training through the probabilities",
                hint="train_mode='hard', coefficient='one', through_p=True",
            )
        if self.combine == "concat" and self.count == 0:
            raise UsageError("without groups there is nothing to put beside v", hint="combine='sum'")

    def _check_values(self) -> None:
        for name, least, most in (("count", 0, 1024), ("shared", 2, 8192), ("hidden", 1, 8192)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"groups: {name} = {value!r} must be a whole number {least}..{most}")
        check_choices(self, CHOICES, "groups: ")
        for name in ("shared_relu", "straight_through", "through_v", "through_p", "aware"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"groups: {name} = {getattr(self, name)!r} must be true or false")

    def check_dim(self, dim: int) -> None:
        """Raise UsageError where an embedding of this length cannot hold two parts side by side."""
        if self.combine == "concat" and dim % 2:
            raise UsageError(f"{dim} numbers are not two parts of equal length", hint="an even dim")

    @property
    def compared(self) -> bool:
        """Whether vhat takes part in comparing: one group alone is never learned, and says nothing."""
        return self.aware and self.count > 1


CHOICES = {
    "mode": Mode,
    "train_mode": Mode,
    "combine": Combine,
    "norm": Norm,
    "hidden_layer": HiddenLayer,
    "coefficient": Coefficient,
}


class Grouped(NamedTuple):
    """What GroupFace says of N faces; rows are raw, not normalised."""

    embedding: Tensor
    """vbar `(N, dim)`."""
    instance: Tensor
    """v `(N, dim)`, or half of it side by side with v^G."""
    logits: Tensor
    """Of the groups `(N, K)`; their softmax is p."""
    hidden: Tensor
    """vhat `(N, hidden)`."""


class Layer(nn.Module):
    """Fully connected `(N, inside)` to `(N, outside)`; then BN or nothing, then PReLU or nothing."""

    def __init__(self, inside: int, outside: int, normed: bool, prelu: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside, bias=not normed)  # BN would take a bias out again
        self.norm = nn.BatchNorm1d(outside) if normed else nn.Identity()
        self.act = nn.PReLU(outside) if prelu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.linear(x)))
        return out

    def part(self, x: Tensor, k: Tensor, parts: int) -> Tensor:
        """The outputs `(N, outside / parts)` of part k int64 `(N,)` for each row, in evaluation.

        Nothing else is computed: the part's rows of the matrix are gathered.
        """

        def rows(of_all: Tensor) -> Tensor:
            return of_all.reshape(parts, -1, *of_all.shape[1:])[k]  # (N, outside / parts, ...)

        out = torch.bmm(rows(self.linear.weight), x[:, :, None])[:, :, 0]
        if not isinstance(self.norm, nn.BatchNorm1d):
            out = out + rows(self.linear.bias)
        elif self.norm.running_mean is not None and self.norm.running_var is not None:
            gain = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
            out = (out - rows(self.norm.running_mean)) * rows(gain) + rows(self.norm.bias)
        if isinstance(self.act, nn.PReLU):
            out = torch.where(out > 0, out, rows(self.act.weight) * out)
        return out


class Decision(nn.Module):
    """The group decision network: three fully connected layers from v `(N, D)` to logits `(N, K)` and vhat."""

    def __init__(self, groups: Groups, dim: int) -> None:
        super().__init__()
        normed = groups.norm != "none"
        self.first = Layer(dim, groups.hidden, normed, prelu=True)
        self.second = Layer(groups.hidden, groups.hidden, normed, prelu=True)
        self.last = nn.Linear(groups.hidden, groups.count)
        self.hidden_layer = groups.hidden_layer

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(logits `(N, K)`, vhat `(N, hidden)`)."""
        first = self.first(v)
        second = self.second(first)
        return self.last(second), second if self.hidden_layer == "second" else first


class GroupFace(nn.Module):
    """A trunk with groups on it: faces float `(N, 3, S, S)` to embeddings float `(N, dim)`, not normalised.

    `trunk` maps faces to the shared feature `(N, groups.shared)`. The K group layers are one matrix `(K * D, shared)`.
    What lies above the trunk runs in fp32 also under autocast. Hard use computes one group layer per face; training
    computes all of them, for their normalisations learn from every face.
    """

    def __init__(self, trunk: nn.Module, groups: Groups, dim: int) -> None:
        """Raises UsageError as `Groups.check_dim` does."""
        super().__init__()
        groups.check_dim(dim)
        self.trunk = trunk
        self.groups = groups
        part = dim // 2 if groups.combine == "concat" else dim
        normed, prelu = groups.norm != "none", groups.norm == "bn_prelu"
        self.instance = Layer(groups.shared, part, normed, prelu)
        if groups.count:
            self.members = Layer(groups.shared, groups.count * part, normed, prelu)
            self.decision = Decision(groups, part)

    def forward(self, x: Tensor) -> Tensor:
        """vbar `(N, dim)`."""
        return self.represent(x).embedding

    def described(self, x: Tensor) -> Tensor:
        """[unit vbar, raw vhat] `(N, dim + hidden)`: what the group-aware similarity compares."""
        found = self.represent(x)
        return torch.cat([F.normalize(found.embedding), found.hidden], 1)

    def represent(self, x: Tensor) -> Grouped:
        """Embedding, and what it is made of."""
        shared = self.trunk(x)
        with _full_precision(shared):
            shared = shared if shared.dtype == torch.float64 else shared.float()
            shared = F.relu(shared) if self.groups.shared_relu else shared
            v = self.instance(shared)  # (N, D)
            if self.groups.count == 0:
                return Grouped(v, v, v[:, :0], v[:, :0])
            logits, hidden = self.decision(v if self.groups.through_v else v.detach())
            p = logits.softmax(1) if self.groups.through_p else logits.detach().softmax(1)
            hard = not self.training and self.groups.mode == "hard"
            of_group = self._chosen(shared, p) if hard else self._mixed(shared, p)  # (N, D)
            side_by_side = self.groups.combine == "concat"
            return Grouped(torch.cat([v, of_group], 1) if side_by_side else v + of_group, v, logits, hidden)

    def _mixed(self, shared: Tensor, p: Tensor) -> Tensor:
        """v^G `(N, D)` out of all groups, for shared features `(N, shared)` and probabilities `(N, K)`."""
        every = self.members(shared).unflatten(1, (self.groups.count, -1))  # (N, K, D)
        mixture = self._choice(p) if self.training and self.groups.train_mode == "hard" else p
        return torch.einsum("nk,nkd->nd", mixture, every)

    def _chosen(self, shared: Tensor, p: Tensor) -> Tensor:
        """v^G `(N, D)` of each face's most probable group, whose layer alone is computed."""
        top, k = p.max(1)  # (N,), (N,)
        out = self.members.part(shared, k, self.groups.count)
        return out * top[:, None] if self.groups.coefficient == "p" else out

    def _choice(self, p: Tensor) -> Tensor:
        """The most probable group as coefficients `(N, K)`, with the gradient that the settings ask for."""
        choice = F.one_hot(p.argmax(1), self.groups.count).to(p.dtype)
        if self.groups.straight_through:
            return choice + (p - p.detach())
        return choice * p if self.groups.coefficient == "p" else choice


class Described(nn.Module):
    """A GroupFace as a finished model: faces to [unit vbar, raw vhat]."""

    def __init__(self, net: GroupFace) -> None:
        super().__init__()
        self.net = net
        self.train(net.training)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, dim + hidden)`."""
        return self.net.described(x)


def finished(net: nn.Module) -> nn.Module:
    """The net as others use it: where its groups take part in comparing, they are part of the vectors it gives."""
    return Described(net) if isinstance(net, GroupFace) and net.groups.compared else net


def adopt(net: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Load into `net` what fits of the weights of another net, such as a trunk trained by a softmax-type loss alone.

    Names are those of the net, or of a plain trunk, which goes into the trunk of a GroupFace. A layer is taken whole
    or not at all. Returns the names of the tensors that stay as they are; ModelError where not one fits.
    """
    if isinstance(net, GroupFace) and not any(name.startswith("trunk.") for name in state):
        state = {f"trunk.{name}": value for name, value in state.items()}
    own = net.state_dict()
    odd = {_layer_of(name) for name, value in own.items() if name not in state or state[name].shape != value.shape}
    fitting = {name: state[name] for name in own if _layer_of(name) not in odd}
    if not fitting:
        raise ModelError("not one layer of these weights fits the network", hint="begin with weights of the same trunk")
    net.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0]


def _full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Autocast off where it is on; else nothing, which is all that the ONNX exporter can follow."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else contextlib.nullcontext()

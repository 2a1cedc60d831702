"""All that a training carries from step to step, and its way into and out of a checkpoint."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facespace.errors import TrainingError
from facespace.losses.unsampled import freeze_unsampled
from facespace.models.nets.groupface import Grouped, GroupFace
from facespace.models.nets.trunks import build
from facespace.train import checkpoint
from facespace.train.distributed import World
from facespace.train.objective import Objective
from facespace.train.precision import bf16_is_faster
from facespace.train.recipe import SGD, AdaGrad, Adam, AdamW, Recipe

SELECTED_BY = "tar_at_far_1e-2"
"""The figure on held-out people by which the best state is chosen."""


class Notes(Protocol):
    """Who hears of what happens to a state."""

    def note(self, kind: str, **what: Any) -> None:
        """A row of the log."""
        ...


@dataclass
class State:
    """Trunk, heads, optimiser and position of a training."""

    recipe: Recipe
    trunk: nn.Module
    objective: Objective
    optimiser: torch.optim.Optimizer
    per_epoch: int
    """Batches of one epoch."""
    total: int
    """Steps of the whole training."""
    step: int = 0
    bad_in_a_row: int = 0
    skipped: int = 0
    """Steps left out because the loss or a gradient was not finite."""
    bf16: bool | None = None
    """Whether the trunk runs in bf16; None before the probe."""
    best: dict[str, Any] = field(default_factory=dict)
    """The chosen state so far: `score`, `step`, `figures`, `trunk` (weights)."""
    bad: dict[str, str] = field(default_factory=dict)
    """Photos left out so far, and why."""
    mined: Tensor | None = None
    """Batches int64 `(steps, batch)` of the present period of offline mining; empty where no triplet was found."""
    mined_in: int = -1
    """The period they were mined in."""
    fixed: frozenset[str] = frozenset()
    """Parameters of the trunk that never learn, such as the gain of the last normalisation."""
    given: frozenset[str] = frozenset()
    """Tensors of the trunk that began with the weights of another training."""
    world: World = field(default_factory=World)
    """The processes that share the work."""

    @classmethod
    def begin(
        cls,
        recipe: Recipe,
        labels: NDArray[np.int64],
        teacher_dim: int | None,
        device: torch.device,
        world: World | None = None,
    ) -> "State":
        """Fresh weights for training photos of these labels; channels last, which every convolution here prefers."""
        world = world or World()
        torch.manual_seed(recipe.seed)
        trunk = build(recipe.trunk).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = Objective(recipe, int(labels.max()) + 1, teacher_dim, shards=world.shards(recipe)).to(device)
        bf16 = {"off": False, "bf16": True, "auto": None}[recipe.autocast]
        per_epoch = len(recipe.sampler.epoch(labels, recipe.seed, 0))
        total = recipe.steps(per_epoch)
        fixed = frozenset(name for name, parameter in trunk.named_parameters() if not parameter.requires_grad)
        optimiser = _optimiser(recipe, trunk, objective)
        if recipe.labels is not None and recipe.labels.unsampled == "frozen" and objective.margin_head is not None:
            freeze_unsampled(objective.margin_head, optimiser)
        return cls(recipe, trunk, objective, optimiser, per_epoch, total, bf16=bf16, fixed=fixed, world=world)

    def represent(self, faces: Tensor) -> tuple[Tensor, Grouped | None]:
        """Embeddings `(N, D)` of faces `(N, 3, S, S)`, and what a trunk with groups says beside them."""
        with self.autocast(faces):
            if isinstance(self.trunk, GroupFace):
                grouped = self.trunk.represent(faces)
                return grouped.embedding, grouped
            return self.trunk(faces), None

    def freeze(self, progress: float) -> None:
        """Let what is new in the trunk, its embedding layer, learn alone while a harmonic training is young."""
        if self.recipe.harmonic is None:
            return
        young = progress < self.recipe.harmonic.freeze_share
        for name, parameter in self.trunk.named_parameters():
            if name not in self.fixed:
                parameter.requires_grad_(not (young and name in self.given))

    @property
    def device(self) -> torch.device:
        """Where the trunk is."""
        return next(self.trunk.parameters()).device

    @property
    def warmup(self) -> int:
        """Steps in which the rate rises."""
        return round(self.recipe.warmup * self.total)

    def set_rate(self, rate: float) -> None:
        """Learning rate of the next step."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def autocast(self, faces: Tensor) -> contextlib.AbstractContextManager[Any]:
        """The precision of the trunk; `auto` is decided once, by timing the first batch, and kept in the checkpoint."""
        if self.bf16 is None:
            self.bf16 = self.world.told(bf16_is_faster(self.trunk, faces))
        return torch.autocast(faces.device.type, torch.bfloat16, enabled=self.bf16)

    def clip(self, norm: float) -> float:
        """Shorten the trunk's gradient to `norm` (0: leave it); returns its length before."""
        limit = norm if norm > 0 else float("inf")
        return float(nn.utils.clip_grad_norm_(self.trunk.parameters(), limit))

    def statistics(self) -> dict[str, Tensor]:
        """A copy of what the trunk learns without a gradient: the running means of its normalisations."""
        return {name: value.clone() for name, value in self.trunk.named_buffers()}

    def heads_finite(self) -> bool:
        """Whether the gradients of the heads are; the trunk's show in their length."""
        return all(bool(p.grad.isfinite().all()) for p in self.objective.parameters() if p.grad is not None)

    def skip(self, photos: NDArray[np.int64], patience: int, statistics: dict[str, Tensor]) -> None:
        """Leave out a step whose loss or gradient is not finite: the trunk's statistics become those of before.

        Raises TrainingError after `patience` in a row.
        """
        self.trunk.load_state_dict(statistics, strict=False)
        head = self.objective.margin_head
        if head is not None and head.sample < 1:
            head.judged.zero_()  # rows that met this batch alone have not learnt
        self.bad_in_a_row += 1
        self.skipped += 1
        if self.bad_in_a_row >= patience:
            hint = "a lower learning rate, a longer warm-up, or a margin that grows"
            where = f"step {self.step}, photos {photos[:8].tolist()}..."
            raise TrainingError(f"{patience} losses in a row were not finite ({where})", hint=hint)

    def epoch_ends(self) -> bool:
        """Whether an epoch ended with the last step."""
        before, after = ((self.step + k) * self.recipe.accumulate // self.per_epoch for k in (-1, 0))
        return after > before or self.step == self.total

    def consider(self, figures: dict[str, float], notes: Notes, side: int) -> None:
        """Keep the present weights where they are the best on held-out people, at the side the trunk is made for."""
        notes.note("held_out", step=self.step, side=side, **figures)
        if side == self.recipe.trunk.size and (not self.best or figures[SELECTED_BY] >= self.best["score"]):
            weights = {key: value.detach().cpu().clone() for key, value in self.trunk.state_dict().items()}
            self.best = {"score": figures[SELECTED_BY], "step": self.step, "figures": figures, "trunk": weights}

    def save(self, run: Path) -> None:
        """Write the checkpoint of this step, as one process would; all must call it."""
        self.bad.update(self.world.union(self.bad))
        state = {
            "step": self.step,
            "trunk": self.trunk.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "bf16": self.bf16,
            "skipped": self.skipped,
            "bad_in_a_row": self.bad_in_a_row,
            "best": self.best,
            "bad": dict(self.bad),
            "mined": self.mined,
            "mined_in": self.mined_in,
        }
        state = self.world.collect(state, self.objective, self.optimiser)
        if self.world.leads:
            checkpoint.save(run / "checkpoints", self.step, state)

    def resume(self, run: Path) -> list[str]:
        """Take over the newest sound checkpoint, if there is one; a sentence for each damaged one passed over."""
        state, passed = checkpoint.newest(run / "checkpoints") if self.world.leads else (None, [])
        state = self.world.deal(state, self.objective, self.optimiser)
        if state is None:
            return passed
        self.trunk.load_state_dict(state["trunk"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.step, self.bf16, self.best = state["step"], state["bf16"], state["best"]
        self.skipped, self.bad_in_a_row = state["skipped"], state["bad_in_a_row"]
        self.bad, self.mined, self.mined_in = state["bad"], state["mined"], state["mined_in"]
        return passed


def _optimiser(recipe: Recipe, trunk: nn.Module, objective: Objective) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels only: gains, biases and slopes of PReLU have no scale to hold down."""
    parameters = [p for module in (trunk, objective) for p in module.parameters() if p.requires_grad]

    def split(decay: float) -> list[dict[str, Any]]:
        decayed, free = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
        return [{"params": decayed, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]

    match recipe.optimiser:
        case SGD(rate, momentum, decay):
            return torch.optim.SGD(split(decay), lr=rate, momentum=momentum)
        case AdamW(rate, decay):
            return torch.optim.AdamW(split(decay), lr=rate)
        case Adam(rate, decay):
            return torch.optim.Adam(split(decay), lr=rate)
        case AdaGrad(rate, initial):
            return torch.optim.Adagrad(parameters, lr=rate, initial_accumulator_value=initial)

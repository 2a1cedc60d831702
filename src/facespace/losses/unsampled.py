"""Class rows that no batch was judged against, kept as they are through the steps of an optimiser.

With sampled classes (Partial FC) the other rows have no gradient, and yet an optimiser moves them: by momentum and by
weight decay. That is what happens unless `freeze_unsampled` is called. The first public code of Partial FC froze them:
it handed its optimiser the rows and momenta of the sampled classes alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from facespace.errors import UsageError
from facespace.losses.head import MarginHead


def freeze_unsampled(head: MarginHead, optimiser: Optimizer) -> None:
    """From now on `optimiser` leaves rows of classes not met since its last step as they are, momenta included.

    Costs a copy of those rows and momenta in each step. Raises UsageError for a head that judges against all classes,
    and for an optimiser without its rows.
    """
    if head.sample == 1:
        raise UsageError("all classes are judged in each step: none can be frozen", hint="sample < 1")
    if not any(row is head.weight for group in optimiser.param_groups for row in group["params"]):
        raise UsageError("the optimiser has no class rows of this head", hint="give it head.parameters()")
    kept: dict[str, Tensor] = {}

    def tensors() -> dict[str, Tensor]:
        """The rows, and what the optimiser knows of each of them."""
        state = optimiser.state.get(head.weight, {})
        momenta = {k: x for k, x in state.items() if isinstance(x, Tensor) and x.shape == head.weight.shape}
        return {"weight": head.weight.detach(), **momenta}

    def before(*_: Any) -> None:
        kept.update({name: values[~head.judged] for name, values in tensors().items()})

    @torch.no_grad()
    def after(*_: Any) -> None:
        for name, values in tensors().items():
            values[~head.judged] = kept.get(name, 0)  # 0: a momentum that began in this step
        head.judged.zero_()
        kept.clear()

    optimiser.register_step_pre_hook(before)
    optimiser.register_step_post_hook(after)

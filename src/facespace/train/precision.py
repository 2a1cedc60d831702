"""Whether bf16 arithmetic pays on this machine: measured, for processors without it run it many times slower."""

import time

import torch
from torch import Tensor, nn


def bf16_is_faster(trunk: nn.Module, faces: Tensor) -> bool:
    """Time the trunk forward on a few faces in fp32 and in bf16, in turn; its state stays as it is."""
    was_training = trunk.training
    trunk.eval()
    few = faces[:8]
    seconds = {False: float("inf"), True: float("inf")}
    with torch.inference_mode():
        for _ in range(3):
            for bf16 in seconds:
                seconds[bf16] = min(seconds[bf16], _time_s(trunk, few, bf16))
    trunk.train(was_training)
    return seconds[True] < 0.9 * seconds[False]


def _time_s(trunk: nn.Module, faces: Tensor, bf16: bool) -> float:
    started = time.perf_counter()
    with torch.autocast(faces.device.type, torch.bfloat16, enabled=bf16):
        trunk(faces)
    if faces.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started

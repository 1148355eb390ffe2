"""Makes and restores the optimiser and the learning rate's course, and clips gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from benchmark.config.training_settings import Training


def make_optimizer(network: nn.Module, settings: Training, *, captured: bool = False) -> torch.optim.Optimizer:
    """Return the optimiser of the protocol for all parameters of a network.

    Args:
        network: on the device of its training.
        settings: of the training.
        captured: a CUDA graph will hold its steps. They read the learning rate, float32, from the device.
    """
    parameters, decay = list(network.parameters()), settings.weight_decay
    lr = torch.tensor(settings.lr, device=parameters[0].device) if captured else settings.lr
    optimizer: torch.optim.Optimizer
    # One kernel for all parameters: a loop over several hundred small ones takes a tenth of a light network's step.
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    else:
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        optimizer = kind(parameters, lr, weight_decay=decay, fused=True, capturable=captured)
    for group in optimizer.param_groups:
        group["initial_lr"] = settings.lr  # the schedule multiplies it on the host
    return optimizer


def load_optimizer(optimizer: torch.optim.Optimizer, schedule: LambdaLR, saved: Mapping[str, Any]) -> None:
    """Continue with the moments and the learning rate of a checkpoint, which another device may have written."""
    own = optimizer.state_dict()["param_groups"]  # tells where a step reads its numbers
    optimizer.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": own})
    schedule.load_state_dict(saved["schedule"])
    for group, lr in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = torch.full_like(group["lr"], float(lr)) if isinstance(group["lr"], Tensor) else float(lr)


def make_schedule(optimizer: torch.optim.Optimizer, settings: Training, total: int) -> LambdaLR:
    """Return the learning rate's course over ``total`` steps: a linear warm-up, then the schedule."""
    warmup = math.ceil(round(settings.warmup * total, 9))  # 0.07 * 100 is a little above 7
    rest = max(total - warmup, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if settings.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / rest))
        if settings.schedule == "poly":  # Chen et al., DeepLab, arXiv:1606.00915, section 4.1
            return float((1 - (step - warmup) / rest) ** settings.poly_power)
        return 1.0

    return LambdaLR(optimizer, factor)


def clip_gradients(network: nn.Module, settings: Training) -> None:
    """Scale all gradients down to the greatest norm of the protocol, if any, without waiting for the device."""
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)

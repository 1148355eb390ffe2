"""Makes the optimiser and the course of the learning rate, and clips gradients."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from benchmark.config.training_settings import Training


def make_optimizer(network: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Return the optimiser of the protocol for all parameters of a network."""
    # One kernel for all parameters: a loop over several hundred small ones takes a tenth of a light network's step.
    parameters, lr, decay = network.parameters(), settings.lr, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    optimizer = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return optimizer(parameters, lr=lr, weight_decay=decay, fused=True)


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

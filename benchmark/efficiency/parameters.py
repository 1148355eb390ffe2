"""Counts the parameters that a network's forward reaches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from models.reached import reached_parameters


def split_parameters(network: nn.Module, image_shape: Sequence[int]) -> tuple[int, dict[str, int]]:
    """Count the trainable parameters that take part in a forward and list those that never do.

    A parameter takes part if autograd's graph leads from the logits back to it, even if its gradient is zero, as
    that of a query weight behind a scale that starts at 0.

    Args:
        network: on any device; the meta device spares the computation.
        image_shape: ``(N, C, H, W)`` of the input.

    Returns:
        The number of parameters reached, and name -> number of elements of the others.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    with torch.enable_grad(), device:
        reached = reached_parameters(network(torch.zeros(image_shape)))
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    unused = {name: parameter.numel() for name, parameter in trainable.items() if parameter not in reached}
    return sum(parameter.numel() for parameter in trainable.values()) - sum(unused.values()), unused

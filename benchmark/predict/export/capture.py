"""Captures a network as a program for any number and size of images."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from models.attention import plain_attention

#: Side of the example that a program of any size is captured with, pixels, rounded up to what the network takes.
EXAMPLE_SIDE = 96


def capture(network: nn.Module, channels: int, side: int, step: int | None) -> ExportedProgram:
    """Capture a network in eval mode; its weights stay as they are.

    Position attention takes its plain form: it is the one that matrix products and a softmax can write down, and it
    holds the n x n matrix that the harness avoids (64 MiB an image of 512x512, 1 GiB of 1024x1024).

    Args:
        network: on the CPU.
        channels: of its images.
        side: height and width of a program of fixed size.
        step: divisor of any height and width; ``None`` for a program of fixed size.

    Returns:
        The program; callers must check other sizes, since the capture may have fixed them.

    Raises:
        Exception: of torch's many kinds, if the network cannot be captured.
    """
    sizes: dict[int, object] = {0: Dim("batch", min=1)}
    height = width = side
    if step is not None:
        height = -(-EXAMPLE_SIDE // step) * step
        width = height + step  # no square: a property of equal sides must not be taken for a rule
        sizes |= {axis: Dim(name) if step == 1 else step * Dim(name) for axis, name in ((2, "rows"), (3, "columns"))}
    # Two images, since torch.export takes a single one for a rule.
    example = torch.zeros(2, channels, height, width)
    with plain_attention(network), torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes=(sizes,), strict=False)

"""Computes the terms of losses for topology: soft skeletons and worst neighbours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_skeleton(image: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of images, differentiable (Shit et al., CVPR 2021, algorithm 1).

    An erosion is the minimum over a cross of five pixels, a dilation the maximum of 3x3.

    Args:
        image: ``(N, 1, H, W)`` in [0, 1].
        iterations: erosions, at least half of the widest structure.

    Example:
        >>> import torch
        >>> bar = torch.zeros(1, 1, 5, 9)
        >>> bar[..., 1:4, 1:8] = 1  # three pixels high
        >>> soft_skeleton(bar, 2)[0, 0, :, 4].tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    skeleton = F.relu(image - _opened(image))
    for _ in range(iterations):
        image = _eroded(image)
        residue = F.relu(image - _opened(image))
        skeleton = skeleton + F.relu(residue - skeleton * residue)
    return skeleton


def _eroded(image: Tensor) -> Tensor:
    rows, columns = (-F.max_pool2d(-image, kernel, 1, pad) for kernel, pad in (((3, 1), (1, 0)), ((1, 3), (0, 1))))
    return torch.minimum(rows, columns)


def _opened(image: Tensor) -> Tensor:
    return F.max_pool2d(_eroded(image), 3, 1, 1)


def worst_neighbours(logits: Tensor, mask: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return each pixel's worst logit among the pixels of its class in 3x3, itself included.

    The worst is the least on foreground and the greatest on background: Same Class Neighbor Penalization (Valverde et
    al., CVPR 2026, arXiv:2603.18671).

    Args:
        logits: ``(N, 1, H, W)``.
        mask: the same shape, 0 or 1.
        counted: the same shape, 0 on ignored pixels, which are nobody's neighbours and keep their logit.

    Example:
        >>> import torch
        >>> logits, mask = torch.tensor([[[[3.0, 1.0, -2.0, -1.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
        >>> worst_neighbours(logits, mask).tolist()
        [[[[1.0, 1.0, -1.0, -1.0]]]]
    """
    counts = torch.ones_like(mask, dtype=torch.bool) if counted is None else counted > 0
    foreground, background = counts & (mask > 0), counts & (mask == 0)
    least = -F.max_pool2d((-logits).masked_fill(~foreground, -torch.inf), 3, 1, 1)
    greatest = F.max_pool2d(logits.masked_fill(~background, -torch.inf), 3, 1, 1)
    return torch.where(foreground, least, torch.where(background, greatest, logits))

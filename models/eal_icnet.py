"""EAL-ICNet: DABNet's skeleton with two attention branches beside its second block.

Skeleton: DABNet (Li et al., BMVC 2019, https://arxiv.org/abs/1907.11357), 749,153 of the 802,698 parameters. The
branches are the position attention of TransAttUnet (https://arxiv.org/abs/2107.05274) and the token-statistics
attention of ToST (https://arxiv.org/abs/2412.17810). Numbers are those of the authors' published code.

Deviations from that code: the grid of tokens follows the feature map, so every size that divides by 8 works. Position
attention never holds its matrix (see ``models/attention.py``). Weights and logits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.attention import PositionAttention, TokenStatisticsAttention
from models.blocks import (
    BNPReLU,
    ConvBNPReLU,
    DownsampleConcat,
    check_input,
    depthwise_pair,
    image_pyramid,
    resize_to,
)


class DAB(nn.Module):
    """Depthwise asymmetric bottleneck: half the channels, a local and a dilated branch, and the added input.

    Args:
        channels: of the input and the output.
        dilation: of the second branch, along the long axis of its kernels.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.bottleneck = nn.Sequential(BNPReLU(channels), ConvBNPReLU(channels, half, 3))
        self.local = nn.Sequential(*depthwise_pair(half, 1))
        self.dilated = nn.Sequential(*depthwise_pair(half, dilation))
        self.expand = nn.Sequential(BNPReLU(half), nn.Conv2d(half, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        narrow = self.bottleneck(x)
        out: Tensor = x + self.expand(self.local(narrow) + self.dilated(narrow))
        return out


def down(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the stage that halves a map."""
    return nn.Sequential(DownsampleConcat(in_channels, out_channels, bias=False), BNPReLU(out_channels))


class EALICNet(nn.Module):
    """EAL-ICNet, 802,698 parameters at one channel and one class.

    The keyword arguments make the ablations. The authors do not publish the details of theirs. Here:

    - ``dilations_1``, ``dilations_2``: one DAB per number. An empty tuple replaces the block by the identity on its
      input, which for block 2 leaves the attention branches and their sum in place.
    - ``pam=False``, ``tssa=False``: the branch is left out of the sum (with position attention's own ``+ x``); nothing
      replaces it.

    Args:
        in_channels: channels C of the images.
        classes: channels K of the logits.
        dilations_1: of block 1, at 1/4.
        dilations_2: of block 2, at 1/8.
        pam: whether position attention is part of the sum at 1/8.
        tssa: whether token-statistics attention is part of the sum at 1/8.
    """

    size_multiple: ClassVar[int] = 8

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        dilations_1: Sequence[int] = (2, 2, 2),
        dilations_2: Sequence[int] = (4, 4, 8, 8, 16, 16),
        pam: bool = True,
        tssa: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            ConvBNPReLU(in_channels, 32, 3, stride=2), ConvBNPReLU(32, 32, 3), ConvBNPReLU(32, 32, 3)
        )
        self.join_1 = BNPReLU(32 + in_channels)
        self.down_1 = down(32 + in_channels, 64)
        self.block_1 = nn.Sequential(*(DAB(64, dilation) for dilation in dilations_1))
        self.join_2 = BNPReLU(128 + in_channels)
        self.down_2 = down(128 + in_channels, 128)
        self.pam = PositionAttention(128) if pam else None
        self.block_2 = nn.Sequential(*(DAB(128, dilation) for dilation in dilations_2))
        self.tssa = TokenStatisticsAttention(128) if tssa else None
        self.join_3 = BNPReLU(256 + in_channels)
        self.head = nn.Conv2d(256 + in_channels, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, K, H, W)``.

        Raises:
            ValueError: for another number of channels, or H or W that does not divide by 8.
        """
        check_input(x, self.in_channels, self.size_multiple)
        half, quarter, eighth = image_pyramid(x, 3)
        down_1 = self.down_1(self.join_1(torch.cat([self.stem(x), half], dim=1)))
        down_2 = self.down_2(self.join_2(torch.cat([self.block_1(down_1), down_1, quarter], dim=1)))
        # Every branch starts from down 2. Position attention adds it to its own result.
        branches = [branch(down_2) for branch in (self.pam, self.block_2, self.tssa) if branch is not None]
        features = self.join_3(torch.cat([sum(branches), down_2, eighth], dim=1))
        return resize_to(self.head(features), (x.shape[-2], x.shape[-1]), align_corners=False)

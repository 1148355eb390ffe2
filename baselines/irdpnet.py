"""IRDPNet: DABNet's skeleton (arXiv:1907.11357) with pyramids of dilated depthwise kernels.

Paper: IRDPNet, IEEE Transactions on Artificial Intelligence 2023, https://doi.org/10.1109/TAI.2023.3341976
Numbers: channels, dilations and the parameter count of the published code at 1 channel and 1 class.

Differences between this file, the published code and the paper:

- The stages have 2 and 5 modules, as in the published code. That code starts each stage with one more module of
  dilations (1, 2, 1, 2), which a later module of the same name overwrites. This file does not build that module and
  draws no random numbers for it, so one seed gives other weights than in the published code.
- In the paper, modules expand their channels and a light decoder ends the network. The published code and this file
  have expansion 1 and no decoder, so the paper's accuracy does not apply to this network.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import BNPReLU, ConvBNPReLU, check_input, image_pyramid, resize_to


class IRDP(nn.Module):
    """Residual module: one dense and four dilated depthwise 3x3 kernels in a two-level pyramid.

    Args:
        channels: of the input and the output.
        dilations: d1 to d4; the first level uses d1 and d3, the second d2 and d4.
    """

    def __init__(self, channels: int, dilations: tuple[int, int, int, int] = (2, 4, 8, 16)) -> None:
        super().__init__()
        d1, d2, d3, d4 = dilations

        def depthwise(dilation: int) -> ConvBNPReLU:
            return ConvBNPReLU(channels, channels, 3, dilation=dilation, groups=channels)

        self.pre = BNPReLU(channels)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.dense = ConvBNPReLU(channels, channels, 3)
        self.first_d1, self.first_d3 = depthwise(d1), depthwise(d3)
        self.second_d2, self.second_d4 = depthwise(d2), depthwise(d4)
        self.join = depthwise(1)
        self.post = BNPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        mixed = self.mix(self.pre(x))
        dense, near, far = self.dense(mixed), self.first_d1(mixed), self.first_d3(mixed)
        pyramid = self.second_d2(dense + near) + self.second_d4(near + far)
        out: Tensor = self.post(self.join(pyramid) + x)
        return out


class AsymmetricDownsample(nn.Module):
    """Halve a map by a 3x1 convolution of stride 2 along the width, then a 1x3 convolution along the height.

    Both have stride 2. A 2x2 max pooling of the input is concatenated if it leaves channels for the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pooled = in_channels < out_channels
        width = out_channels - in_channels if self.pooled else out_channels
        self.convs = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, (3, 1), stride=(1, 2), padding=(1, 0), bias=False),
            nn.Conv2d(in_channels, width, (1, 3), stride=(2, 1), padding=(0, 1), bias=False),
        )
        self.act = BNPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, H/2, W/2)``."""
        out = self.convs(x)
        activated: Tensor = self.act(torch.cat([out, F.max_pool2d(x, 2)], dim=1) if self.pooled else out)
        return activated


class IRDPNet(nn.Module):
    """IRDPNet as in the published code; a bilinear resize of the logits at 1/8 ends it.

    Args:
        in_channels: channels C of the images.
        classes: channels K of the logits.
    """

    #: The pooling in the second halving needs an even map. The third halving has no pooling and rounds up.
    size_multiple: ClassVar[int] = 4

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            ConvBNPReLU(in_channels, 32, 3, stride=2),
            ConvBNPReLU(32, 32, 3, groups=32),
            ConvBNPReLU(32, 32, 3, groups=32),
        )
        self.join_1 = BNPReLU(32 + in_channels)
        self.down_1 = AsymmetricDownsample(32 + in_channels, 64)
        self.block_1 = nn.Sequential(*(IRDP(64) for _ in range(2)))
        self.join_2 = BNPReLU(128 + in_channels)
        self.down_2 = AsymmetricDownsample(128 + in_channels, 128)
        self.block_2 = nn.Sequential(*(IRDP(128) for _ in range(5)))
        self.join_3 = BNPReLU(256 + in_channels)
        self.head = nn.Conv2d(256 + in_channels, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, K, H, W)``.

        Raises:
            ValueError: for other channels, or a size that :attr:`size_multiple` does not divide.
        """
        check_input(x, self.in_channels, self.size_multiple)
        half, quarter, eighth = image_pyramid(x, 3)
        down_1 = self.down_1(self.join_1(torch.cat([self.stem(x), half], dim=1)))
        down_2 = self.down_2(self.join_2(torch.cat([self.block_1(down_1), down_1, quarter], dim=1)))
        features = self.join_3(torch.cat([self.block_2(down_2), down_2, eighth], dim=1))
        return resize_to(self.head(features), (x.shape[-2], x.shape[-1]), align_corners=False)

"""EDANet: a DenseNet of factorised dilated convolutions at 1/4 and 1/8.

Paper: Lo et al., "Efficient Dense Modules of Asymmetric Convolution for Real-Time Semantic Segmentation", MMAsia 2019,
https://arxiv.org/abs/1809.06323
Numbers: the layer tables that the authors publish in place of code (https://github.com/shaoyuanlo/EDANet); dropout and
initial values are those of the PyTorch code in circulation, which agrees with the tables.

Deviation: the logits at 1/8 are resized to the input's size; that code enlarges them by a factor of 8. The results
agree if 8 divides the size. For other sizes, the factor returns a map larger than the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.blocks import DownsampleConcat, check_input, resize_to, same_padding

#: Channels that each module adds, the paper's k.
GROWTH = 40


def bn_relu(channels: int) -> nn.Sequential:
    """BatchNorm with torch's eps of 1e-5, then ReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def downsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """ENet's halving of a map, normalised and activated."""
    return nn.Sequential(DownsampleConcat(in_channels, out_channels, bias=True), bn_relu(out_channels))


def asymmetric(channels: int, dilation: int) -> nn.Sequential:
    """A 3x1 then a 1x3 convolution with nothing between them, normalised and activated."""
    kernels = (3, 1), (1, 3)
    convs = (nn.Conv2d(channels, channels, k, padding=same_padding(k, dilation), dilation=dilation) for k in kernels)
    return nn.Sequential(*convs, bn_relu(channels))


class EDA(nn.Module):
    """Dense module: ``GROWTH`` new channels, placed before the input's."""

    def __init__(self, in_channels: int, dilation: int) -> None:
        super().__init__()
        self.new = nn.Sequential(
            nn.Conv2d(in_channels, GROWTH, 1),
            bn_relu(GROWTH),
            asymmetric(GROWTH, 1),
            asymmetric(GROWTH, dilation),
            nn.Dropout2d(0.02),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, GROWTH + in_channels, H, W)``."""
        return torch.cat([self.new(x), x], dim=1)


def eda_block(in_channels: int, dilations: Sequence[int]) -> nn.Sequential:
    """Stack one :class:`EDA` per dilation; the output has ``in_channels + GROWTH * len(dilations)`` channels."""
    return nn.Sequential(*(EDA(in_channels + GROWTH * i, dilation) for i, dilation in enumerate(dilations)))


class EDANet(nn.Module):
    """EDANet with a 1x1 head at 1/8.

    Args:
        in_channels: channels C of the images.
        classes: channels K of the logits.
    """

    #: The pooling in the first two halvings needs an even map. The third halving has no pooling and rounds up.
    size_multiple: ClassVar[int] = 4

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.down_1 = downsample(in_channels, 15)
        self.down_2 = downsample(15, 60)
        self.block_1 = eda_block(60, (1, 1, 1, 2, 2))
        self.down_3 = downsample(260, 130)
        self.block_2 = eda_block(130, (2, 2, 4, 4, 8, 8, 16, 16))
        self.head = nn.Conv2d(450, classes, 1)
        self.apply(_init)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, K, H, W)``.

        Raises:
            ValueError: for other channels, or a size that :attr:`size_multiple` does not divide.
        """
        check_input(x, self.in_channels, self.size_multiple)
        quarter = self.block_1(self.down_2(self.down_1(x)))
        eighth = self.block_2(self.down_3(quarter))
        return resize_to(self.head(eighth), (x.shape[-2], x.shape[-1]), align_corners=True)


def _init(module: nn.Module) -> None:
    """Draw weights as the code in circulation does; biases of convolutions keep torch's default."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)

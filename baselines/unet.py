"""UNet: the classical U-Net with BatchNorm, VGG13 encoder and bilinear enlargement.

Paper: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
https://arxiv.org/abs/1505.04597. Numbers: the public PyTorch version of 64-128-256-512-512 channels, whose contracting
path is layer by layer the ``vgg13_bn`` encoder of segmentation-models-pytorch (smp) at depth 4. Deviations from that
version: its transposed convolutions (1,393,600 weights), which it never calls, are not built; the encoder is
initialised like VGG; sizes that would need padding before a skip are refused. This file does not use ``smp.Unet``,
which adds a centre block and drops the skip at full resolution.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.encoders import vgg_encoder
from models.blocks import check_input, resize_to


class DoubleConv(nn.Sequential):
    """Two times: 3x3 convolution with bias, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """U-Net; 13,394,177 parameters for one channel and one class.

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which smp downloads.
    """

    size_multiple: ClassVar[int] = 16  # four poolings

    def __init__(self, in_channels: int = 1, classes: int = 1, *, encoder_weights: str | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = vgg_encoder("vgg13_bn", in_channels, depth=4, weights=encoder_weights)
        self.decoder = nn.ModuleList(
            [DoubleConv(512 + 512, 256), DoubleConv(256 + 256, 128), DoubleConv(128 + 128, 64), DoubleConv(64 + 64, 64)]
        )
        self.head = nn.Conv2d(64, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes, H, W)``."""
        check_input(x, self.in_channels, self.size_multiple)
        *skips, x = self.encoder(x)
        for double_conv in self.decoder:
            skip = skips.pop()
            up = resize_to(x, skip.shape[-2:], align_corners=True)
            x = double_conv(torch.cat([skip, up], dim=1))
        logits: Tensor = self.head(x)
        return logits

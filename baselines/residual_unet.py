"""Residual U-Net: nnU-Net's U-Net with residual blocks in the encoder.

Paper: Isensee et al., "nnU-Net Revisited: A Call for Rigorous Validation in 3D Medical Image Segmentation", MICCAI
2024, https://arxiv.org/abs/2404.09556 (ResEnc M). Numbers: the authors' planner and layers (packages nnunetv2 and
dynamic-network-architectures) in two dimensions: channels double from 32 to 512, and encoder stages have 1, 3, 4, 6, 6
and 6 blocks, which nnU-Net plans for images of 128x128. Deviations: the number of stages does not grow with the image
(512x512 would get two more at 512 channels, and sizes in multiples of 128), and there is no deep supervision.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.blocks import check_input

CHANNELS = (32, 64, 128, 256, 512, 512)
BLOCKS = (1, 3, 4, 6, 6, 6)
SLOPE = 0.01  # of LeakyReLU


def conv_norm(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution, with bias unless it is 1x1, and InstanceNorm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=kernel > 1),
        nn.InstanceNorm2d(out_channels, affine=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip, which an average pooling and a 1x1 convolution fit where needed (ResNet-D)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_norm(in_channels, out_channels, stride=stride),
            nn.LeakyReLU(SLOPE, inplace=True),
            conv_norm(out_channels, out_channels),
        )
        self.skip = nn.Sequential()
        if stride > 1:
            self.skip.append(nn.AvgPool2d(stride))
        if in_channels != out_channels:
            self.skip.append(conv_norm(in_channels, out_channels, kernel=1))
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        out: Tensor = self.activation(self.skip(x) + self.convs(x))
        return out


class ResidualUNet(nn.Module):
    """Residual U-Net; 71,814,625 parameters for one channel and one class.

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
    """

    size_multiple: ClassVar[int] = 32  # five halvings

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(conv_norm(in_channels, CHANNELS[0]), nn.LeakyReLU(SLOPE, inplace=True))
        self.encoder = nn.ModuleList()
        for stage, (channels, blocks) in enumerate(zip(CHANNELS, BLOCKS, strict=True)):
            first = ResidualBlock(CHANNELS[max(stage - 1, 0)], channels, stride=2 if stage else 1)
            self.encoder.append(nn.Sequential(first, *(ResidualBlock(channels, channels) for _ in range(blocks - 1))))
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        for below, channels in zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True):
            self.ups.append(nn.ConvTranspose2d(below, channels, 2, stride=2))
            self.decoder.append(nn.Sequential(conv_norm(2 * channels, channels), nn.LeakyReLU(SLOPE, inplace=True)))
        self.head = nn.Conv2d(CHANNELS[0], classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, ResidualBlock):  # a block begins as its skip
                nn.init.zeros_(module.convs.get_parameter("2.1.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes, H, W)``."""
        check_input(x, self.in_channels, self.size_multiple)
        skips = [self.stem(x)]
        for stage in self.encoder:
            skips.append(stage(skips[-1]))
        x = skips.pop()
        for up, convs in zip(self.ups, self.decoder, strict=True):
            x = convs(torch.cat([up(x), skips.pop()], dim=1))
        logits: Tensor = self.head(x)
        return logits

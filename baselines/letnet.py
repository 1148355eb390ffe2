"""LETNet: a U-shaped network of dilated bottlenecks with a patch transformer.

The transformer works on 3x3 patches at 1/16.

Paper: Xu et al., "Lightweight Real-time Semantic Segmentation Network with Efficient Transformer and CNN", IEEE T-ITS
2023, https://arxiv.org/abs/2302.10484. Widths, dilations and eps are those of the published code,
https://github.com/IVIPLab/LETNet (``Network/model``).

Deviations from the published code:

- The long connection at 1/16 gives 32 channels. The code's 16 cannot be added to the 32 of block 4, so it does not run.
- The code calls only the last of its three pixel attentions. The other two (544 parameters without a gradient) are not
  built. Decoder layers that the code builds twice are built once.
- Maps of fewer than four tokens (48x16 and smaller inputs) make pieces of one token; the code fails there.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import (
    BNPReLU,
    ConvBNPReLU,
    DownsampleConcat,
    Upsampler,
    check_input,
    depthwise_pair,
    resize_to,
)

# Twelve bottlenecks at 1/8 and again at 1/16.
DILATIONS = (1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32)


class EfficientChannelAttention(nn.Module):
    """ECA (Wang et al., CVPR 2020, arXiv:1910.03151): scale each channel by the means of it and two neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        mean = x.mean(dim=(2, 3)).unsqueeze(1)  # (N, 1, C)
        scale: Tensor = self.conv(mean).sigmoid()
        return x * scale.transpose(1, 2).unsqueeze(-1)


class PixelAttention(nn.Module):
    """Scale each value by the sigmoid of a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        scale: Tensor = self.conv(x).sigmoid()
        return x * scale


class LDB(nn.Module):
    """Lightweight dilated bottleneck: half the channels, a local and a dilated branch, and a shuffle."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.bottleneck = nn.Sequential(
            BNPReLU(channels),
            nn.Conv2d(channels, half, 1, bias=False),
            ConvBNPReLU(half, half, (3, 1)),
            ConvBNPReLU(half, half, (1, 3)),
        )
        self.local = nn.Sequential(*depthwise_pair(half, 1), EfficientChannelAttention())
        self.dilated = nn.Sequential(*depthwise_pair(half, dilation), EfficientChannelAttention())
        self.expand = nn.Sequential(BNPReLU(half), nn.Conv2d(half, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        u = self.bottleneck(x)
        out = x + self.expand(self.local(u) + self.dilated(u) + u)
        # A channel shuffle with channels / 2 groups of two: the first of every group, then the second.
        return torch.cat([out[:, 0::2], out[:, 1::2]], dim=1)


class SplitAttention(nn.Module):
    """Multi-head attention at half the width; a token sees only its own quarter of the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # As published, the scale uses the full width of a head, but queries and keys have half of it.
        self.scale = (width // heads) ** -0.5
        self.reduce = nn.Linear(width, width // 2, bias=False)
        self.qkv = nn.Linear(width // 2, 3 * (width // 2), bias=False)
        self.project = nn.Linear(width // 2, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(N, T, width)`` to the same shape.

        The tokens are cut, in their order, in pieces of ``T // 4``. Where T does not divide by 4 what is left follows
        in a fifth, smaller piece (below 16 tokens in several), as published.
        """
        qkv = self.qkv(self.reduce(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        pieces = qkv.split(max(tokens.shape[1] // 4, 1), dim=3)  # each (3, N, heads, T // 4, width / (2 heads))
        attended = [F.scaled_dot_product_attention(q, k, v, scale=self.scale) for q, k, v in pieces]
        out: Tensor = self.project(torch.cat(attended, dim=2).transpose(1, 2).flatten(2))
        return out


class PatchTransformer(nn.Module):
    """Efficient transformer: the 3x3 patch around each pixel is a token, and overlapping patches are summed."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        width = 9 * channels
        self.norm_1 = nn.LayerNorm(width)
        self.attention = SplitAttention(width, heads)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        tokens = F.unfold(x, 3, padding=1).transpose(1, 2)  # (N, H·W, channels·9)
        tokens = tokens + self.attention(self.norm_1(tokens))
        tokens = tokens + self.mlp(self.norm_2(tokens))
        return F.fold(tokens.transpose(1, 2), x.shape[-2:], 3, padding=1)


def down(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the stage that halves a map."""
    return nn.Sequential(DownsampleConcat(in_channels, out_channels, bias=False), BNPReLU(out_channels))


def bottlenecks(channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """Return a block of LDBs."""
    return nn.Sequential(*(LDB(channels, dilation) for dilation in dilations))


def long_connection(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the two factorised convolutions, without activation, that connect encoder and decoder."""
    half = in_channels // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, half, (3, 1), padding=(1, 0)), nn.Conv2d(half, out_channels, (1, 3), padding=(0, 1))
    )


class LETNet(nn.Module):
    """LETNet (arXiv:2302.10484), 949,808 parameters at one channel and one class.

    Args:
        in_channels: channels of the images.
        classes: channels of the logits.
    """

    size_multiple: ClassVar[int] = 16

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            ConvBNPReLU(in_channels, 32, 3), ConvBNPReLU(32, 32, 3), ConvBNPReLU(32, 32, 3, stride=2), BNPReLU(32)
        )
        self.encoder_1 = nn.Sequential(down(32, 64), bottlenecks(64, (2, 2, 2)), BNPReLU(64))
        self.encoder_2 = nn.Sequential(down(64, 128), bottlenecks(128, DILATIONS), BNPReLU(128))
        self.encoder_3 = nn.Sequential(down(128, 32), bottlenecks(32, DILATIONS), BNPReLU(32))
        self.transformer = PatchTransformer(32, heads=8)
        self.block_4 = bottlenecks(32, (2, 2, 2))
        self.long_3 = long_connection(32, 32)
        self.up_1 = nn.Sequential(Upsampler(32, 16, nn.ReLU6()), BNPReLU(16))
        self.block_5 = bottlenecks(16, (2, 2, 2))
        self.long_2 = long_connection(128, 16)
        self.up_2 = nn.Sequential(Upsampler(16, 16, nn.ReLU6()), BNPReLU(16))
        self.block_6 = bottlenecks(16, (2, 2, 2))
        self.long_1 = long_connection(64, 16)
        self.up_3 = nn.Sequential(Upsampler(16, 16, nn.ReLU6()), PixelAttention(16), BNPReLU(16))
        self.head = nn.Conv2d(16, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, H, W)`` to logits ``(N, classes, H, W)``.

        Raises:
            ValueError: for another number of channels, or H or W that does not divide by 16.
        """
        check_input(x, self.in_channels, self.size_multiple)
        e1 = self.encoder_1(self.stem(x))  # 1/4
        e2 = self.encoder_2(e1)  # 1/8
        e3 = self.encoder_3(e2)  # 1/16
        out = self.up_1(self.block_4(self.transformer(e3)) + self.long_3(e3))
        out = self.up_2(self.block_5(out) + self.long_2(e2))
        out = self.up_3(self.block_6(out) + self.long_1(e1))
        # As published, the map is resized at 16 channels, so the 1x1 convolution runs at full resolution.
        logits: Tensor = self.head(resize_to(out, (x.shape[2], x.shape[3]), align_corners=False))
        return logits

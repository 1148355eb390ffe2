"""ContextNet: a shallow branch for detail and a deep branch for context.

The detail branch sees the image at full resolution, the context branch at a quarter of it.

Paper: Poudel et al., "ContextNet: Exploring Context and Detail for Semantic Segmentation in Real-time", BMVC 2018,
https://arxiv.org/abs/1805.04554
Numbers: the PyTorch code in circulation at 1 channel and 1 class.

Deviations from that code:

- The code fixes the context stem to 1 channel; here both stems take the image's channels.
- The code's auxiliary head is not built: it is off by default, and the code discards its output.

Deviations from the paper, as in that code:

- Both stems are unpadded, so the branches' grids are not aligned with the image's grid.
- The fusion's depthwise kernel is not dilated; the paper's kernel has dilation 4.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import check_input, resize_to


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, BatchNorm with torch's eps of 1e-5, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def depthwise(channels: int, stride: int = 1) -> nn.Sequential:
    """One 3x3 kernel per channel, BatchNorm, ReLU."""
    return conv_bn_relu(channels, channels, 3, stride=stride, padding=1, groups=channels)


def separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Depthwise separable convolution, both halves normalised and activated."""
    return nn.Sequential(depthwise(in_channels, stride), conv_bn_relu(in_channels, out_channels, 1))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv:1801.04381); it has the expanding convolution also at expansion 1."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.body = nn.Sequential(
            conv_bn_relu(in_channels, hidden, 1),
            depthwise(hidden, stride),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, H/stride, W/stride)``."""
        out: Tensor = self.body(x)
        return x + out if self.residual else out


def context_branch(in_channels: int) -> nn.Sequential:
    """Return an unpadded stem of stride 2 and twelve inverted residuals, two of stride 2, with 128 output channels."""
    layers: list[nn.Module] = [conv_bn_relu(in_channels, 32, 3, stride=2)]
    width = 32
    for expansion, channels, count, first_stride in (
        (1, 32, 1, 1),
        (6, 32, 1, 1),
        (6, 48, 3, 2),
        (6, 64, 3, 2),
        (6, 96, 2, 1),
        (6, 128, 2, 1),
    ):
        for index in range(count):
            layers.append(InvertedResidual(width, channels, expansion, first_stride if index == 0 else 1))
            width = channels
    return nn.Sequential(*layers)


class Fusion(nn.Module):
    """Sum of the two branches on the detail branch's grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.context = nn.Sequential(depthwise(channels), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.detail = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Map ``(N, c, H, W)`` and ``(N, c, h, w)`` to ``(N, c, H, W)``."""
        context = resize_to(context, (detail.shape[-2], detail.shape[-1]), align_corners=True)
        return F.relu(self.context(context) + self.detail(detail))


class ContextNet(nn.Module):
    """ContextNet with the context branch at a quarter of the resolution (the paper's cn14).

    Args:
        in_channels: channels C of the images.
        classes: channels K of the logits.
    """

    #: Makes the context branch's image exactly a quarter. No layer needs this: with other sizes the quarter rounds
    #: down.
    size_multiple: ClassVar[int] = 4
    #: The context branch's unpadded 3x3 stem needs 3 pixels of the quarter-size image.
    least_side: ClassVar[int] = 12

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.detail = nn.Sequential(
            conv_bn_relu(in_channels, 32, 3, stride=2),
            separable(32, 64, stride=2),
            separable(64, 128, stride=2),
            separable(128, 128, stride=1),
        )
        self.context = context_branch(in_channels)
        self.fusion = Fusion(128)
        self.head = nn.Sequential(
            separable(128, 128, stride=1), separable(128, 128, stride=1), nn.Dropout(0.1), nn.Conv2d(128, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, K, H, W)``.

        Raises:
            ValueError: for other channels, a size that :attr:`size_multiple` does not divide, or a side under
                :attr:`least_side`.
        """
        check_input(x, self.in_channels, self.size_multiple)
        height, width = x.shape[-2:]
        if min(height, width) < self.least_side:
            least = f"{max(height, self.least_side)}x{max(width, self.least_side)}"
            raise ValueError(
                f"height and width must be at least {self.least_side}, found {height}x{width}: pad to {least}"
            )
        shrunk = resize_to(x, (height // 4, width // 4), align_corners=True)
        fused = self.fusion(self.detail(x), self.context(shrunk))
        return resize_to(self.head(fused), (height, width), align_corners=True)

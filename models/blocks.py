"""Layers shared by the networks of the DABNet and ENet line; BP and CBP are the short names used in their files."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = int | tuple[int, int]


def check_input(x: Tensor, in_channels: int, multiple: int) -> None:
    """Refuse an input that the network cannot take, naming the size to pad to.

    Args:
        x: images, expected ``(N, in_channels, H, W)`` with H and W divisible by ``multiple``.
        in_channels: the channels that the network was built for.
        multiple: what height and width must divide by.

    Raises:
        ValueError: for another number of dimensions or channels, or a size that does not divide.
    """
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"expected an input of shape (N, {in_channels}, H, W), found {tuple(x.shape)}")
    height, width = x.shape[-2:]
    if height % multiple or width % multiple or not height or not width:
        pad_to = tuple(max(-(-side // multiple), 1) * multiple for side in (height, width))
        raise ValueError(
            f"height and width must be multiples of {multiple}, found {height}x{width}: pad to {pad_to[0]}x{pad_to[1]}"
        )


class BNPReLU(nn.Sequential):
    """BatchNorm with eps 1e-3, then a PReLU with one slope per channel, initially 0.25 (``BP``).

    Both keep their input for the backward. In training the second is computed again from the first, by the same
    operation and so to the bit: of three maps per convolution, norm and activation two are held.

    Attributes:
        again: whether it is; otherwise both inputs are held.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels, eps=1e-3), nn.PReLU(channels))
        self.again = True

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        norm, activation = self
        normed: Tensor = norm(x)
        # A program that is captured decides for itself what it keeps.
        again = self.again and norm.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        with _normed_again(norm, x, normed) if again else contextlib.nullcontext():
            out: Tensor = activation(normed)
        return out


def _normed_again(norm: nn.Module, x: Tensor, normed: Tensor) -> AbstractContextManager[None]:
    """Let autograd hold ``x`` where it would hold ``norm(x)``, for operations within the block."""
    assert isinstance(norm, nn.BatchNorm2d)
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    given, place, shape = x.detach(), normed.data_ptr(), normed.shape  # the hooks must not hold the map itself

    def pack(kept: Tensor) -> Tensor | None:
        return None if (kept.data_ptr(), kept.shape) == (place, shape) else kept

    def unpack(kept: Tensor | None) -> Tensor:
        return F.batch_norm(given, None, None, weight, bias, training=True, eps=eps) if kept is None else kept

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class ConvBNPReLU(nn.Sequential):
    """Convolution without bias, then :class:`BNPReLU` (``CBP``)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        dilation: Size = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                same_padding(kernel_size, dilation),
                dilation,
                groups,
                bias=False,
            ),
            BNPReLU(out_channels),
        )


def same_padding(kernel_size: Size, dilation: Size = 1) -> tuple[int, int]:
    """Return the padding that keeps a map's size at stride 1, ``dilation * (kernel_size - 1) / 2`` per axis."""
    kernel = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    spread = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    return spread[0] * (kernel[0] - 1) // 2, spread[1] * (kernel[1] - 1) // 2


def depthwise_pair(channels: int, dilation: int) -> tuple[ConvBNPReLU, ConvBNPReLU]:
    """Return a depthwise 3x3 convolution in two halves, 3x1 and 1x3, each dilated along its long axis."""
    return (
        ConvBNPReLU(channels, channels, (3, 1), dilation=(dilation, 1), groups=channels),
        ConvBNPReLU(channels, channels, (1, 3), dilation=(1, dilation), groups=channels),
    )


class DownsampleConcat(nn.Module):
    """Halve a map by a 3x3 convolution of stride 2 beside a 2x2 max pooling, concatenated (ENet's initial block).

    Where the pooled input would not leave a channel for the convolution (``in_channels >= out_channels``), the
    convolution alone makes all output channels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__()
        self.pooled = in_channels < out_channels
        width = out_channels - in_channels if self.pooled else out_channels
        self.conv = nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, H/2, W/2)``, the convolution's channels first."""
        out: Tensor = self.conv(x)
        return torch.cat([out, F.max_pool2d(x, 2)], dim=1) if self.pooled else out


class Upsampler(nn.Sequential):
    """Double a map by a 3x3 transposed convolution of stride 2 with bias, BatchNorm of eps 1e-3 and an activation.

    ERFNet's upsampler block (Romera et al., IEEE T-ITS 2018, doi:10.1109/TITS.2017.2750080).
    """

    def __init__(self, in_channels: int, out_channels: int, activation: nn.Module) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels, eps=1e-3),
            activation,
        )


def image_pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Return the image at 1/2, 1/4, ... by repeated 3x3 average pooling of stride 2, padding counted in the mean."""
    pyramid = []
    for _ in range(levels):
        image = F.avg_pool2d(image, 3, stride=2, padding=1)
        pyramid.append(image)
    return pyramid


def resize_to(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Resize a map bilinearly to ``size`` (H, W)."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)

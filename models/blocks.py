"""Layers shared by the networks of the DABNet and ENet line.

Their files use the short names BP and CBP.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Size = int | tuple[int, int]

#: Values of a map in one part of a backward: 2 MiB in float32; an L3 cache holds four such parts.
PART = 1 << 19


def check_input(x: Tensor, in_channels: int, multiple: int) -> None:
    """Refuse an input that the network cannot take, and name the size to pad to.

    Args:
        x: images, expected ``(N, in_channels, H, W)`` with H and W divisible by ``multiple``.
        in_channels: the channels that the network was built for.
        multiple: must divide height and width.

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

    Attributes:
        sparing: whether training on a CPU uses :class:`_SparingPReLU`. Its results are the same, up to the rounding of
            the slopes' gradient, which is a sum over parts of a map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels, eps=1e-3), nn.PReLU(channels))
        self.sparing = True

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        norm, activation = cast("tuple[Any, nn.PReLU]", tuple(self))
        # A captured program decides by itself which maps it keeps.
        training = norm.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        # With a single value per channel, the norm has no variance and raises its own error.
        if not (self.sparing and training and x.device.type == "cpu" and x.numel() > x.shape[1]):
            out: Tensor = activation(norm(x))
            return out
        # The norm's own forward does not return the batch's statistics, so it is repeated here; its hooks are not
        # called.
        norm.num_batches_tracked.add_(1)
        normed, mean, inverse_std = torch.native_batch_norm(
            x, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
        )
        scale = norm.weight.detach() * inverse_std
        sparing: Tensor = _SparingPReLU.apply(normed, activation.weight, x, mean, scale, norm.bias)
        return sparing


class _SparingPReLU(torch.autograd.Function):
    """A PReLU after a batch norm; its backward computes the norm's output again from the norm's input.

    By default, norm and activation both keep their input for the backward, and the next convolution keeps the
    activation's output. This class keeps two maps instead of three. The backward works on parts of a map that fit into
    the cache, with operations that are vectorised on CPUs (torch's own backward of PReLU is not), and makes only one
    new map, the gradient. In the layout of training, channels last, the recomputed output is equal to the bit.
    """

    @staticmethod
    def forward(
        ctx: Any, normed: Tensor, slope: Tensor, x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        ctx.save_for_backward(slope, x, mean, scale, shift)
        return F.prelu(normed, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slope, x, mean, scale, shift = ctx.saved_tensors
        slopes, one = slope.to(grad.dtype)[:, None, None], torch.ones_like(mean)
        grad_x, grad_slope = torch.empty_like(grad), torch.zeros_like(slope)
        rows = max(PART * x.shape[2] // x.numel(), 1)
        for grad_i, x_i, grad_x_i in zip(*(t.split(rows, dim=2) for t in (grad, x, grad_x)), strict=True):
            # With variance 1 and eps 0, the norm only multiplies by the scale. Autocast may have rounded its output
            # for the activation, and rounds the gradient in the same way.
            normed = F.batch_norm(x_i, mean, one, scale, shift, eps=0.0).to(grad.dtype)
            above = torch.ops.aten.threshold_backward(grad_i, normed, 0)  # the gradient of positive values, else zero
            below = grad_i - above
            torch.addcmul(above, below, slopes, out=grad_x_i)
            grad_slope += normed.mul_(below).sum((0, 2, 3))
        return grad_x, grad_slope, None, None, None, None


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
    """Return a depthwise 3x3 convolution as 3x1 and 1x3, each dilated along its long axis."""
    return (
        ConvBNPReLU(channels, channels, (3, 1), dilation=(dilation, 1), groups=channels),
        ConvBNPReLU(channels, channels, (1, 3), dilation=(1, dilation), groups=channels),
    )


class DownsampleConcat(nn.Module):
    """Halve a map: a 3x3 convolution of stride 2 and a 2x2 max pooling, concatenated (ENet's initial block).

    If the pooled input leaves no channel for the convolution (``in_channels >= out_channels``), the convolution makes
    all output channels.
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
    """Return the image at 1/2, 1/4, ... by repeated 3x3 average pooling of stride 2; the mean includes padding."""
    pyramid = []
    for _ in range(levels):
        image = F.avg_pool2d(image, 3, stride=2, padding=1)
        pyramid.append(image)
    return pyramid


def resize_to(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Resize a map bilinearly to ``size`` (H, W)."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)

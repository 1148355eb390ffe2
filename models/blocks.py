"""Layers shared by the networks of the DABNet and ENet line; BP and CBP are the short names used in their files."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Size = int | tuple[int, int]

#: Values of a map that a backward works on at a time: 2 MiB in float32, four of which an L3 cache holds.
PART = 1 << 19


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

    Attributes:
        sparing: whether training on a CPU goes through :class:`_SparingPReLU`, which gives the same results up to the
            rounding of the slopes' gradient, a sum over parts of a map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels, eps=1e-3), nn.PReLU(channels))
        self.sparing = True

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to the same shape."""
        norm, activation = cast("tuple[Any, nn.PReLU]", tuple(self))
        # A program that is captured decides for itself what it holds.
        training = norm.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        # Of a single value per channel the norm has no variance, and says so.
        if not (self.sparing and training and x.device.type == "cpu" and x.numel() > x.shape[1]):
            out: Tensor = activation(norm(x))
            return out
        # What the norm's own forward does, which keeps the batch's statistics to itself; hooks on it are not called.
        norm.num_batches_tracked.add_(1)
        normed, mean, inverse_std = torch.native_batch_norm(
            x, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
        )
        scale = norm.weight.detach() * inverse_std
        sparing: Tensor = _SparingPReLU.apply(normed, activation.weight, x, mean, scale, norm.bias)
        return sparing


class _SparingPReLU(torch.autograd.Function):
    """A PReLU after a batch norm whose backward makes the norm's output again from its input.

    Norm and activation both keep their input for the backward, and the next convolution keeps the activation's output:
    so two maps are held in place of three. The backward goes over a map in parts that the cache holds, by operations
    that are vectorised on CPUs, as torch's own for PReLU is not; it makes one new map in the end, the gradient. In
    the layout of training, channels last, what it makes again is equal to the bit.
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
            # With a variance of 1 and an eps of 0, the norm multiplies by the scale alone. Autocast may have rounded
            # its output for the activation, and rounds the gradient alike.
            normed = F.batch_norm(x_i, mean, one, scale, shift, eps=0.0).to(grad.dtype)
            above = torch.ops.aten.threshold_backward(grad_i, normed, 0)  # the gradient where positive, else zero
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

"""The shared layers, each against its definition."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import blocks
from models.blocks import (
    BNPReLU,
    ConvBNPReLU,
    DownsampleConcat,
    Upsampler,
    check_input,
    image_pyramid,
    resize_to,
    same_padding,
)


def test_valid_input_is_accepted() -> None:
    check_input(torch.empty(2, 3, 16, 24), 3, 8)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 3, 16, 16, 16), (1, 1, 16, 16)])
def test_wrong_dimensions_or_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, 3, H, W\), found \("):
        check_input(torch.empty(shape), 3, 8)


@pytest.mark.parametrize(
    ("size", "pad_to"),
    [((16, 17), "16x24"), ((9, 8), "16x8"), ((0, 8), "8x8"), ((8, 0), "8x8"), ((500, 510), "504x512")],
)
def test_indivisible_size_is_refused_with_next_valid_size(size: tuple[int, int], pad_to: str) -> None:
    with pytest.raises(ValueError, match=rf"multiples of 8, found {size[0]}x{size[1]}: pad to {pad_to}$"):
        check_input(torch.empty(1, 1, *size), 1, 8)


def test_bn_prelu_has_eps_1e_3_and_a_slope_per_channel() -> None:
    layer = BNPReLU(3)
    assert torch.equal(layer[1].weight, torch.full((3,), 0.25))
    nn.init.uniform_(layer[1].weight)
    x = 0.03 * torch.randn(4, 3, 5, 6)  # a variance near eps
    centred = x - x.mean((0, 2, 3), keepdim=True)
    normed = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-3).sqrt()
    expected = torch.where(normed > 0, normed, layer[1].weight[:, None, None] * normed)
    torch.testing.assert_close(layer(x), expected)


def trained_step(
    layer: nn.Sequential, x: Tensor, weight: Tensor, dtype: torch.dtype, autocast: bool
) -> Iterator[Tensor]:
    """Yield a layer's output, all gradients of its weighted sum, and what its norm has counted."""
    image = x.to(dtype, copy=True).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(image)
    (out.float() * weight).sum().backward()
    assert image.grad is not None
    yield from (out, image.grad, *(p.grad for p in layer.parameters() if p.grad is not None), *layer.buffers())


def bn_prelu_and_its_parts(channels: int) -> tuple[BNPReLU, nn.Sequential]:
    torch.manual_seed(0)
    ours = BNPReLU(channels)
    norm, activation = ours
    for values in (norm.weight, norm.bias, activation.weight):
        nn.init.uniform_(values, -1, 1)
    return ours, nn.Sequential(copy.deepcopy(norm), copy.deepcopy(activation))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)])
def test_bn_prelu_equals_norm_and_activation_to_the_bit(
    dtype: torch.dtype, autocast: bool, memory: torch.memory_format
) -> None:
    layers = bn_prelu_and_its_parts(6)
    x, weight = (torch.randn(2, 6, 9, 11).to(memory_format=memory) for _ in range(2))
    ours, plain = (list(trained_step(layer, x, weight, dtype, autocast)) for layer in layers)
    assert len(ours) == 2 + 3 + 3
    assert all(torch.equal(*pair) for pair in zip(ours, plain, strict=True))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("part", [1, 500, 1188, 5000])
def test_backward_in_parts_gives_equal_gradients(
    part: int, memory: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "PART", part)
    layers = bn_prelu_and_its_parts(6)
    x, weight = (torch.randn(2, 6, 9, 11).to(memory_format=memory) for _ in range(2))
    ours, plain = (list(trained_step(layer, x, weight, torch.float32, False)) for layer in layers)
    # The slopes' gradient is a sum over parts.
    slope, expected = ours.pop(4), plain.pop(4)
    torch.testing.assert_close(slope, expected)
    if memory == torch.channels_last:
        assert all(torch.equal(*pair) for pair in zip(ours, plain, strict=True))
    torch.testing.assert_close(ours, plain)


def test_bn_prelu_refuses_single_value_per_channel() -> None:
    for layer in bn_prelu_and_its_parts(3):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(torch.randn(1, 3, 1, 1))


@pytest.mark.parametrize(("sparing", "frozen"), [(True, False), (False, False), (True, True)])
def test_bn_prelu_keeps_no_map_that_it_can_recompute(sparing: bool, frozen: bool) -> None:
    layer = BNPReLU(4)
    layer.sparing = sparing
    layer[0].train(not frozen)  # frozen statistics are those of no batch
    x, kept = torch.randn(1, 4, 5, 5, requires_grad=True), []

    def packed(tensor: Tensor) -> Tensor:
        if tensor.shape == x.shape:
            kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        layer(x)
    assert len(set(kept)) == (1 if sparing and not frozen else 2)
    assert x.data_ptr() in kept


def test_conv_bn_prelu_is_a_convolution_without_bias_before_the_norm() -> None:
    layer = ConvBNPReLU(4, 6, (3, 1), stride=2, dilation=(2, 1), groups=2)
    x = torch.randn(2, 4, 11, 9)
    assert layer[0].bias is None
    convolved = F.conv2d(x, layer[0].weight, stride=2, padding=(2, 0), dilation=(2, 1), groups=2)
    torch.testing.assert_close(layer(x), layer[1](convolved))


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "padding"),
    [(3, 1, (1, 1)), (5, 1, (2, 2)), ((3, 1), (4, 1), (4, 0)), ((1, 3), (1, 16), (0, 16)), (1, 8, (0, 0))],
)
def test_same_padding(
    kernel_size: int | tuple[int, int], dilation: int | tuple[int, int], padding: tuple[int, int]
) -> None:
    assert same_padding(kernel_size, dilation) == padding
    layer = nn.Conv2d(1, 1, kernel_size, padding=padding, dilation=dilation)
    assert layer(torch.empty(1, 1, 7, 10)).shape == (1, 1, 7, 10)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(3, 8), (7, 8), (8, 8), (9, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_downsample_pools_only_if_channels_remain(in_channels: int, out_channels: int, bias: bool) -> None:
    layer = DownsampleConcat(in_channels, out_channels, bias=bias)
    assert (layer.conv.bias is not None) == bias
    x = torch.randn(2, in_channels, 6, 8)
    parts: list[Tensor] = [F.conv2d(x, layer.conv.weight, layer.conv.bias, stride=2, padding=1)]
    if in_channels < out_channels:
        parts.append(x.view(2, in_channels, 3, 2, 4, 2).amax((3, 5)))
    expected = torch.cat(parts, dim=1)
    assert expected.shape[1] == out_channels
    torch.testing.assert_close(layer(x), expected)


def test_upsampler_doubles_with_bias_and_eps_1e_3() -> None:
    layer = Upsampler(4, 3, nn.ReLU())
    x = 0.03 * torch.randn(2, 4, 5, 6)
    up = F.conv_transpose2d(x, layer[0].weight, layer[0].bias, stride=2, padding=1, output_padding=1)
    assert up.shape == (2, 3, 10, 12)
    torch.testing.assert_close(layer(x), F.batch_norm(up, None, None, training=True, eps=1e-3).relu())


def test_image_pyramid_includes_padding_in_mean() -> None:
    half, quarter = image_pyramid(torch.ones(1, 1, 8, 8), 2)
    expected = torch.ones(4, 4)
    expected[0, :] = expected[:, 0] = 6 / 9
    expected[0, 0] = 4 / 9
    torch.testing.assert_close(half, expected[None, None])
    assert quarter.shape == (1, 1, 2, 2)
    torch.testing.assert_close(quarter[0, 0, 1, 1], half[0, 0, 1:4, 1:4].mean())


@pytest.mark.parametrize(("align_corners", "second"), [(True, 1 / 3), (False, 0.25)])
def test_resize_is_bilinear(align_corners: bool, second: float) -> None:
    ramp = torch.tensor([[[[0.0, 1.0]]]])
    row = resize_to(ramp, (3, 4), align_corners=align_corners)[0, 0]
    torch.testing.assert_close(row, torch.tensor([0, second, 1 - second, 1]).expand(3, 4))

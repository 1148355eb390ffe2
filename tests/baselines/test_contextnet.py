"""ContextNet: the properties of every network, and its numerics against plain torch."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.contextnet import ContextNet
from tests.baselines.weights_in_order import Weights, assert_same_logits, unsettle
from tests.network_tester import NetworkTester


class TestContextNet(NetworkTester):
    name = "contextnet"


def depthwise(w: Weights, x: Tensor, stride: int = 1) -> Tensor:
    return w.bn_relu(w.conv(x, (3, 3), x.shape[1], stride=stride, padding=1, groups=x.shape[1]))


def separable(w: Weights, x: Tensor, out: int, stride: int) -> Tensor:
    return w.bn_relu(w.conv(depthwise(w, x, stride), (1, 1), out))


def inverted_residual(w: Weights, x: Tensor, out: int, expansion: int, stride: int) -> Tensor:
    y = w.bn_relu(w.conv(x, (1, 1), expansion * x.shape[1]))
    y = w.bn(w.conv(depthwise(w, y, stride), (1, 1), out), 1e-5)
    return x + y if stride == 1 and x.shape[1] == out else y


def plain_forward(network: ContextNet, x: Tensor) -> Tensor:
    w = Weights(network)
    detail = w.bn_relu(w.conv(x, (3, 3), 32, stride=2))
    for channels, stride in ((64, 2), (128, 2), (128, 1)):
        detail = separable(w, detail, channels, stride)

    context = F.interpolate(x, scale_factor=0.25, mode="bilinear", align_corners=True)
    context = w.bn_relu(w.conv(context, (3, 3), 32, stride=2))
    context = inverted_residual(w, context, 32, 1, 1)
    for channels, stride in ((32, 1), (48, 2), (48, 1), (48, 1), (64, 2), (64, 1), (64, 1), (96, 1), (96, 1)):
        context = inverted_residual(w, context, channels, 6, stride)
    for _ in range(2):
        context = inverted_residual(w, context, 128, 6, 1)

    low = F.interpolate(context, detail.shape[2:], mode="bilinear", align_corners=True)
    low = w.bn(w.conv(depthwise(w, low), (1, 1), 128, bias=True), 1e-5)
    high = w.bn(w.conv(detail, (1, 1), 128, bias=True), 1e-5)
    out = F.relu(low + high)
    for _ in range(2):
        out = separable(w, out, 128, 1)
    out = w.conv(out, (1, 1), 2, bias=True)
    w.assert_used_up()
    return F.interpolate(out, x.shape[2:], mode="bilinear", align_corners=True)


@pytest.mark.parametrize(("in_channels", "height", "width"), [(1, 128, 160), (3, 100, 124)])
def test_network_equals_plain_torch(in_channels: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    network = unsettle(ContextNet(in_channels, classes=2)).eval().double()
    x = torch.rand(1, in_channels, height, width, dtype=torch.float64)
    with torch.inference_mode():
        assert_same_logits(network(x), plain_forward(network, x))


def test_unpadded_stems_make_the_published_maps() -> None:
    with torch.device("meta"):
        network, x = ContextNet(), torch.rand(1, 1, 512, 512)
    assert network.detail[0](x).shape[-2:] == (255, 255)
    assert network.detail(x).shape[-2:] == (64, 64)
    assert network.context[0](x[..., :128, :128]).shape[-2:] == (63, 63)
    assert network.context(x[..., :128, :128]).shape[-2:] == (16, 16)


def test_both_stems_take_the_image_s_channels() -> None:
    # the published figure, at which its context stem cannot take the image
    assert sum(parameter.numel() for parameter in ContextNet(in_channels=3).parameters()) == 874_241


def test_dropout_is_before_the_last_convolution() -> None:
    dropouts = [module for module in ContextNet().modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    assert [(type(module), module.p) for module in dropouts] == [(nn.Dropout, 0.1)]
    network = ContextNet(classes=2).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 1.0
    logits = network(torch.rand(2, 1, 64, 64))
    torch.testing.assert_close(logits, network.head[-1].bias.reshape(1, 2, 1, 1).expand(2, 2, 64, 64))


def test_smallest_image_runs_and_a_smaller_one_is_refused() -> None:
    network = ContextNet().eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 12, 16)).shape == (1, 1, 12, 16)
    with pytest.raises(ValueError, match=re.escape("at least 12, found 8x16: pad to 12x16")):
        network(torch.rand(1, 1, 8, 16))

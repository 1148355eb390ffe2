"""IRDPNet: the properties of every network, and its numerics against plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.irdpnet import IRDPNet
from tests.baselines.weights_in_order import Weights, assert_same_logits, unsettle
from tests.network_tester import NetworkTester


class TestIRDPNet(NetworkTester):
    name = "irdpnet"
    norms_left = 0.29


def cbp(w: Weights, x: Tensor, out: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> Tensor:
    x = w.conv(x, (3, 3), out, stride=stride, padding=dilation, dilation=dilation, groups=groups)
    return w.bn_prelu(x)


def irdp(w: Weights, x: Tensor) -> Tensor:
    n = x.shape[1]
    t = w.conv(w.bn_prelu(x), (1, 1), n)
    a1 = cbp(w, t, n)
    a2 = cbp(w, t, n, dilation=2, groups=n)
    a3 = cbp(w, t, n, dilation=8, groups=n)
    a4 = cbp(w, a1 + a2, n, dilation=4, groups=n)
    a5 = cbp(w, a2 + a3, n, dilation=16, groups=n)
    return w.bn_prelu(cbp(w, a4 + a5, n, groups=n) + x)


def down(w: Weights, x: Tensor, middle: int, conv_channels: int) -> Tensor:
    assert x.shape[1] == middle
    out = w.conv(x, (3, 1), middle, stride=(1, 2), padding=(1, 0))
    out = w.conv(out, (1, 3), conv_channels, stride=(2, 1), padding=(0, 1))
    return w.bn_prelu(torch.cat([out, F.max_pool2d(x, 2)], 1) if middle < 64 else out)


def plain_forward(network: IRDPNet, x: Tensor) -> Tensor:
    w, c = Weights(network), x.shape[1]
    stem = cbp(w, x, 32, stride=2)
    stem = cbp(w, cbp(w, stem, 32, groups=32), 32, groups=32)
    pyramid = [x]
    for _ in range(3):
        pyramid.append(F.avg_pool2d(F.pad(pyramid[-1], (1, 1, 1, 1)), 3, 2))
    d1 = down(w, w.bn_prelu(torch.cat([stem, pyramid[1]], 1)), 32 + c, 32 - c)
    block_1 = d1
    for _ in range(2):
        block_1 = irdp(w, block_1)
    d2 = down(w, w.bn_prelu(torch.cat([block_1, d1, pyramid[2]], 1)), 128 + c, 128)
    block_2 = d2
    for _ in range(5):
        block_2 = irdp(w, block_2)
    logits = w.conv(w.bn_prelu(torch.cat([block_2, d2, pyramid[3]], 1)), (1, 1), 2)
    w.assert_used_up()
    return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_network_equals_plain_torch(in_channels: int) -> None:
    torch.manual_seed(0)
    network = unsettle(IRDPNet(in_channels, classes=2)).eval().double()
    # At 1/8 these are 17 and 20 pixels: fewer than 17, and dilation 16 would meet padding only.
    x = torch.rand(1, in_channels, 136, 156, dtype=torch.float64)
    with torch.inference_mode():
        assert_same_logits(network(x), plain_forward(network, x))


def test_norms_and_slopes_start_as_published() -> None:
    for module in IRDPNet().modules():
        if isinstance(module, torch.nn.PReLU):
            assert (module.weight == 0.25).all()
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()

"""EDANet: the properties of every network, and its numerics against plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.edanet import EDA, EDANet
from tests.baselines.weights_in_order import Weights, assert_same_logits, unsettle
from tests.network_tester import NetworkTester


class TestEDANet(NetworkTester):
    name = "edanet"
    norms_left = 0.05


def down(w: Weights, x: Tensor, conv_channels: int, *, pool: bool) -> Tensor:
    out = w.conv(x, (3, 3), conv_channels, stride=2, padding=1, bias=True)
    return w.bn_relu(torch.cat([out, F.max_pool2d(x, 2)], 1) if pool else out)


def eda(w: Weights, x: Tensor, dilation: int) -> Tensor:
    new = w.bn_relu(w.conv(x, (1, 1), 40, bias=True))
    for d in (1, dilation):
        new = w.conv(new, (3, 1), 40, padding=(d, 0), dilation=d, bias=True)
        new = w.bn_relu(w.conv(new, (1, 3), 40, padding=(0, d), dilation=d, bias=True))
    return torch.cat([new, x], 1)


def plain_forward(network: EDANet, x: Tensor) -> Tensor:
    w = Weights(network)
    out = down(w, x, 15 - x.shape[1], pool=True)
    out = down(w, out, 45, pool=True)
    for dilation in (1, 1, 1, 2, 2):
        out = eda(w, out, dilation)
    out = down(w, out, 130, pool=False)
    for dilation in (2, 2, 4, 4, 8, 8, 16, 16):
        out = eda(w, out, dilation)
    out = w.conv(out, (1, 1), 2, bias=True)
    w.assert_used_up()
    return F.interpolate(out, x.shape[2:], mode="bilinear", align_corners=True)


def plain_image(in_channels: int, height: int, width: int) -> Tensor:
    return torch.rand(1, in_channels, height, width, dtype=torch.float64)


def unsettled(in_channels: int) -> nn.Module:
    torch.manual_seed(0)
    network = unsettle(EDANet(in_channels, classes=2))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # the published 0.02 lets the image fade beneath the biases
    return network.eval().double()


# At 1/8 all sides are more than 16 pixels: on fewer, dilation 16 would meet padding only.
@pytest.mark.parametrize(("in_channels", "height", "width"), [(1, 136, 152), (3, 140, 132)])
def test_network_equals_plain_torch(in_channels: int, height: int, width: int) -> None:
    network, x = unsettled(in_channels), plain_image(in_channels, height, width)
    with torch.inference_mode():
        assert_same_logits(network(x), plain_forward(network, x))


def test_logits_equal_published_ones_if_8_divides_the_size() -> None:
    network, x = unsettled(1), plain_image(1, 64, 72)
    with torch.inference_mode():
        at_eighth = network.head(network.block_2(network.down_3(network.block_1(network.down_2(network.down_1(x))))))
        by_factor = F.interpolate(at_eighth, scale_factor=8, mode="bilinear", align_corners=True)
        assert_same_logits(network(x), by_factor)


def test_dropout_drops_only_whole_new_maps() -> None:
    dropouts = [module for module in EDANet().modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    assert len(dropouts) == 13
    assert {(type(module), module.p) for module in dropouts} == {(nn.Dropout2d, 0.02)}
    module, x = EDA(60, dilation=2).train(), torch.rand(2, 60, 8, 8)
    for dropout in module.modules():
        if isinstance(dropout, nn.Dropout2d):
            dropout.p = 1.0
    out = module(x)
    assert (out[:, :40] == 0).all()
    assert torch.equal(out[:, 40:], x)


def test_initial_values_are_the_published_ones() -> None:
    torch.manual_seed(0)
    network = EDANet()
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for weights, mean in ((convs, 0.0), (norms, 1.0)):
        drawn = torch.cat([module.weight.detach().flatten() for module in weights])
        # five standard errors of a normal's mean and spread
        assert abs(drawn.mean() - mean) < 5 * 0.02 / len(drawn) ** 0.5
        assert abs(drawn.std() - 0.02) < 5 * 0.02 / (2 * len(drawn)) ** 0.5
    assert all((module.bias == 0).all() for module in norms)
    # torch's default for the biases is uniform in ±1/√fan_in
    head_bound = network.head.in_channels**-0.5
    assert 0 < abs(network.head.bias.item()) < head_bound
    biases = torch.cat([m.bias.detach() * m.weight[0].numel() ** 0.5 for m in convs])
    assert 0.95 < biases.abs().max() <= 1

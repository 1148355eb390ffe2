"""UNet: the properties of all networks, and its two paths against plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.unet import UNet
from tests.baselines.plain import random_batchnorm
from tests.network_tester import NetworkTester


class TestUNet(NetworkTester):
    name = "unet"
    least_side = 32  # a heavy network


def plain_double_conv(x: Tensor, layers: list[nn.Module]) -> Tensor:
    conv_1, bn_1, _, conv_2, bn_2, _ = layers
    for conv, bn in ((conv_1, bn_1), (conv_2, bn_2)):
        x = F.conv2d(x, conv.weight, conv.bias, padding=1)
        x = F.relu(F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-5))
    return x


def plain_unet(network: UNet, x: Tensor) -> Tensor:
    layers = list(network.encoder.features)
    skips = []
    for level in range(5):
        x = plain_double_conv(x if level == 0 else F.max_pool2d(x, 2), layers[7 * level : 7 * level + 6])
        skips.append(x)
    assert [skip.shape[1] for skip in skips] == [64, 128, 256, 512, 512]
    for level, double_conv in zip((3, 2, 1, 0), network.decoder, strict=True):
        up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = plain_double_conv(torch.cat([skips[level], up], dim=1), list(double_conv))
    return F.conv2d(x, network.head.weight, network.head.bias)


def test_both_paths_follow_the_figure() -> None:
    network = random_batchnorm(UNet()).eval()
    image = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), plain_unet(network, image), atol=1e-4, rtol=1e-4)


def test_every_convolution_has_a_bias() -> None:
    assert all(module.bias is not None for module in UNet().modules() if isinstance(module, nn.Conv2d))

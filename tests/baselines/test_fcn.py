"""FCN: the properties of all networks, and its decoder against plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.fcn import FCN
from tests.baselines.plain import random_batchnorm
from tests.network_tester import NetworkTester


class TestFCN(NetworkTester):
    name = "fcn"
    least_multiple, least_side = 1, 32  # a heavy network
    norms_left = 1.0


def plain_fcn(network: FCN, x: Tensor) -> Tensor:
    """VGG16 by its layer list, the map after each pooling tapped; then (transposed convolution, ReLU, BN) + skip."""
    pooled = []
    for layer in network.encoder.features:
        if isinstance(layer, nn.Conv2d):
            x = F.relu(F.conv2d(x, layer.weight, layer.bias, padding=1))
        elif isinstance(layer, nn.MaxPool2d):
            x = F.max_pool2d(x, 2)
            pooled.append(x)
    assert [tap.shape[1] for tap in pooled] == [64, 128, 256, 512, 512]
    skips = [pooled[3], pooled[2], pooled[1], pooled[0], torch.zeros(())]
    for (deconv, _, bn), skip in zip(network.ups, skips, strict=True):
        x = F.conv_transpose2d(x, deconv.weight, deconv.bias, stride=2, padding=1, output_padding=1)
        x = F.batch_norm(F.relu(x), bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-5) + skip
    return F.conv2d(x, network.head.weight, network.head.bias)


def test_decoder_adds_the_pooled_maps_after_relu_and_batchnorm() -> None:
    network = random_batchnorm(FCN()).eval()
    image = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), plain_fcn(network, image))


def test_encoder_is_vgg16_without_batchnorm() -> None:
    layers = list(FCN().encoder.features)
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 13
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)

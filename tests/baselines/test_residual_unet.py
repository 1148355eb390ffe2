"""Residual U-Net: the properties of all networks, its blocks in plain torch, and the published planner's numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines import residual_unet
from baselines.residual_unet import ResidualBlock, ResidualUNet
from tests.network_tester import NetworkTester


def opened(network: nn.Module) -> nn.Module:
    """Move norms away from their first values, under which a block is its skip."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.2, 0.2, generator=generator)
    return network


class TestResidualUNet(NetworkTester):
    name = "residual_unet"

    def draw(self, seed: int, **kwargs: int) -> nn.Module:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(residual_unet, "CHANNELS", (8, 16, 32, 64, 128, 128))  # a sixteenth of its weights
            return super().draw(seed, **kwargs)

    def prepare(self, network: nn.Module) -> nn.Module:
        return opened(network)


def test_block_halves_by_a_strided_convolution_and_its_skip_by_pooling() -> None:
    block = opened(ResidualBlock(4, 8, stride=2))
    x = torch.rand(2, 4, 10, 6)
    first, second, skip = block.convs[0], block.convs[2], block.skip[1]
    assert skip[0].bias is None

    def norm(x: torch.Tensor, layer: nn.InstanceNorm2d) -> torch.Tensor:
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    out = F.leaky_relu(norm(F.conv2d(x, first[0].weight, first[0].bias, stride=2, padding=1), first[1]), 0.01)
    out = norm(F.conv2d(out, second[0].weight, second[0].bias, padding=1), second[1])
    out = F.leaky_relu(out + norm(F.conv2d(F.avg_pool2d(x, 2), skip[0].weight), skip[1]), 0.01)
    torch.testing.assert_close(block(x), out)


def test_block_begins_as_its_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual_unet, "CHANNELS", (32,))
    monkeypatch.setattr(residual_unet, "BLOCKS", (1,))
    x = torch.rand(2, 32, 6, 6)
    torch.testing.assert_close(ResidualUNet().encoder[0](x), x)


def test_stages_are_those_of_the_published_planner() -> None:
    with torch.device("meta"):
        network = ResidualUNet()
    assert [len(stage) for stage in network.encoder] == [1, 3, 4, 6, 6, 6]
    # Every convolution's weights, counted from the paper's channels, and a bias for all but the 1x1 of the skips.
    channels = [32, 64, 128, 256, 512, 512]
    norms = biases = 0
    weights = 9 * 1 * 32
    norms, biases = 2 * 32, 32
    for before, width, blocks in zip([32, *channels], channels, (1, 3, 4, 6, 6, 6), strict=False):
        weights += (
            9 * before * width + 9 * width * width * (2 * blocks - 1) + (before * width if before != width else 0)
        )
        norms += 2 * width * (2 * blocks + (before != width))
        biases += 2 * width * blocks
    for below, width in zip(channels[:0:-1], channels[-2::-1], strict=True):
        weights += 4 * below * width + 9 * 2 * width * width
        norms, biases = norms + 2 * width, biases + 2 * width
    assert sum(parameter.numel() for parameter in network.parameters()) == weights + norms + biases + 32 + 1

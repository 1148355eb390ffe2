"""HRNet: the properties of all networks, its variants' sizes, and its head against plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines.hrnet import HRNet
from benchmark.config import registry
from tests.baselines.plain import random_batchnorm
from tests.network_tester import NetworkTester


class TestHRNet(NetworkTester):
    name = "hrnet.w18_small_v2"  # the code of W48 at a sixteenth of its weights


@pytest.mark.parametrize("name", ["hrnet", "hrnet.w18"])
def test_widths_have_expected_parameters_and_keep_size(name: str) -> None:
    entry = registry.models()[name]
    with torch.device("meta"):
        network = entry.build()
        assert network(torch.rand(2, 1, 64, 96)).shape == (2, 1, 64, 96)
    assert sum(p.numel() for p in network.parameters()) == entry.params


@pytest.mark.parametrize(("width", "channels"), [("w48", [48, 96, 192, 384]), ("w18_small_v2", [18, 36, 72, 144])])
def test_encoder_returns_only_raw_branches(width: str, channels: list[int]) -> None:
    with torch.device("meta"):
        branches = HRNet(width=width).encoder(torch.rand(1, 1, 64, 96))
    assert [tuple(branch.shape[1:]) for branch in branches] == [
        (width, 16 >> index, 24 >> index) for index, width in enumerate(channels)
    ]


def test_head_joins_at_a_quarter_and_enlarges_the_logits() -> None:
    network = random_batchnorm(HRNet(classes=2, width="w18_small_v2")).eval()
    conv_1, bn, _, conv_2 = network.head
    image = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        conv_1.weight.normal_()  # at the initial 0.001 the input of the head would hardly show in the logits
        conv_2.weight.normal_()
        branches = [F.interpolate(branch, (16, 24), mode="bilinear") for branch in network.encoder(image)]
        x = F.conv2d(torch.cat(branches, dim=1), conv_1.weight, conv_1.bias)
        x = F.relu(F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-5))
        expected = F.interpolate(F.conv2d(x, conv_2.weight, conv_2.bias), (64, 96), mode="bilinear")
        torch.testing.assert_close(network(image), expected)


def test_initialisation_and_momentum_are_those_of_the_segmentation_code() -> None:
    network = HRNet(width="w18_small_v2")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1000:
            assert module.weight.std().item() == pytest.approx(0.001, rel=0.15), name
        if isinstance(module, nn.BatchNorm2d):
            assert (module.momentum, module.eps) == (0.01, 1e-5), name


def test_unknown_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width must be one of .*w48.*; found 'w49'"):
        HRNet(width="w49")

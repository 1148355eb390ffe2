"""HRNet: the properties of all networks, its variants' sizes, and its head against plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.hrnet import HRNet
from benchmark.config import registry
from models.shapes import QuickShapes
from tests.baselines.plain import random_batchnorm
from tests.network_tester import NetworkTester


class TestHRNet(NetworkTester):
    name = "hrnet.w18_small_v2"  # the code of W48 at a sixteenth of its weights


def channels(branches: list[Tensor]) -> list[int]:
    """Return the channels of an encoder's maps of 64x96 pixels, each of half the size of the one before."""
    assert [tuple(branch.shape[2:]) for branch in branches] == [(16 >> index, 24 >> index) for index in range(4)]
    return [branch.shape[1] for branch in branches]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("hrnet", [48, 96, 192, 384]), pytest.param("hrnet.w18", [18, 36, 72, 144], marks=pytest.mark.slow)],
)
def test_widths_have_expected_parameters_keep_size_and_return_only_raw_branches(name: str, expected: list[int]) -> None:
    entry, returned = registry.models()[name], list[list[Tensor]]()
    with torch.device("meta"):
        network = entry.build().eval()
        network.encoder.register_forward_hook(lambda *call: returned.append(call[-1]))
        with torch.inference_mode(), QuickShapes():
            assert network(torch.rand(2, 1, 64, 96)).shape == (2, 1, 64, 96)
    assert sum(p.numel() for p in network.parameters()) == entry.params
    assert channels(*returned) == expected


def test_head_joins_at_a_quarter_and_enlarges_the_logits() -> None:
    network = random_batchnorm(HRNet(classes=2, width="w18_small_v2")).eval()
    conv_1, bn, _, conv_2 = network.head
    image = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        conv_1.weight.normal_()  # at the initial 0.001 the input of the head would hardly show in the logits
        conv_2.weight.normal_()
        branches = network.encoder(image)
        assert channels(branches) == [18, 36, 72, 144]
        branches = [F.interpolate(branch, (16, 24), mode="bilinear") for branch in branches]
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

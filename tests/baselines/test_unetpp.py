"""UNet++: the properties of all networks, that it is smp's, and its larger variant."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from baselines.unetpp import UNetPlusPlus
from benchmark.config import registry
from models.shapes import QuickShapes
from tests.baselines.plain import assert_same_as_smp
from tests.network_tester import NetworkTester


class TestUNetPlusPlus(NetworkTester):
    name = "unetpp"


def test_network_equals_smp_without_encoder_head() -> None:
    assert_same_as_smp(UNetPlusPlus(), smp.UnetPlusPlus("efficientnet-b0", encoder_weights=None, in_channels=1))


def test_b7_variant_has_expected_parameters_and_keeps_size() -> None:
    entry = registry.models()["unetpp.b7"]
    with torch.device("meta"):
        network = entry.build(classes=1).eval()
        with torch.inference_mode(), QuickShapes():
            assert network(torch.rand(2, 1, 64, 96)).shape == (2, 1, 64, 96)
    assert sum(p.numel() for p in network.parameters()) == entry.params


def test_encoder_other_than_efficientnet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder must be one of efficientnet-b0, .*; found 'resnet34'"):
        UNetPlusPlus(encoder="resnet34")

"""Encoders taken from smp and timm: nothing is downloaded unless asked for, and what is asked for arrives."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch.encoders as smp_encoders
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from baselines.encoders import vgg_encoder
from baselines.hrnet import HRNet
from benchmark.config import registry

NAMES = ["fcn", "unet", "hrnet.w18_small_v2", "manet", "unetpp"]


@pytest.mark.parametrize("name", NAMES)
def test_building_needs_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with torch.device("meta"):
        network = registry.models()[name].build()
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


@pytest.mark.parametrize("name", NAMES)
def test_unknown_weights_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="encoder_weights must be None or 'imagenet', found 'imagnet'"):
        registry.models()[name].load()(encoder_weights="imagnet")


@pytest.mark.parametrize(
    ("name", "encoder", "first"),
    [("manet", "efficientnet-b0", "_conv_stem.weight"), ("unet", "vgg13_bn", "features.0.weight")],
)
def test_requested_weights_are_loaded(
    name: str, encoder: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        weights = smp_encoders.get_encoder(encoder).state_dict()
    weights = {
        key: torch.rand(value.shape) if value.is_floating_point() else torch.tensor(0) for key, value in weights.items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(smp_encoders, "hf_hub_download", lambda *_, filename, **__: str(tmp_path / filename))
    # VGG draws 124 million weights for a classifier that smp deletes.
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: None)
    monkeypatch.setattr(nn.init, "normal_", lambda weight, *_: weight)
    network = registry.models()[name].load()(encoder_weights="imagenet")
    result = network.encoder.state_dict()
    torch.testing.assert_close(result.pop(first), weights[first].sum(1, keepdim=True))
    assert all(torch.equal(value, weights[key]) for key, value in result.items())


def test_hrnet_loads_and_keeps_weights_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def without_download(*args: Any, pretrained: bool, **kwargs: Any) -> nn.Module:
        asked.append(pretrained)
        network = create(*args, **kwargs)
        nn.init.constant_(network.conv1.weight, 7.0)
        return network

    monkeypatch.setattr(timm, "create_model", without_download)
    network = HRNet(width="w18_small_v2", encoder_weights="imagenet")
    assert asked == [True]
    assert (network.encoder.conv1.weight == 7.0).all()
    assert network.head[0].weight.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_vgg_is_initialised_like_torchvision(in_channels: int) -> None:
    encoder = vgg_encoder("vgg13_bn", in_channels, depth=4, weights=None)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * module.out_channels)), rel=0.1), name
            assert not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            for value, expected in (
                (module.weight, 1),
                (module.bias, 0),
                (module.running_mean, 0),
                (module.running_var, 1),
            ):
                assert (value == expected).all(), name

"""Networks of smp: they are smp's own, take the sizes that they tell, and train every weight that they count."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import get_encoder_names
from torch.nn import functional as F

from baselines import smp_networks
from baselines.smp_networks import ARCHITECTURES, SMPNetwork, find
from tests.baselines.plain import random_batchnorm

#: The smallest encoders, made for tests: a ResNet and a ViT, which no other architecture takes.
SMALLEST = {
    architecture: "tu-test_vit" if architecture == "dpt" else "tu-test_resnet" for architecture in ARCHITECTURES
}


def test_building_needs_no_connection_and_trials_leave_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    find.cache_clear()
    for encoder in ("tu-test_resnet", "resnet18"):
        state = torch.get_rng_state()
        find("pspnet", encoder)
        assert torch.equal(torch.get_rng_state(), state)
        with torch.device("meta"):
            network = SMPNetwork(architecture="pspnet", encoder=encoder)
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_network_is_smp_s_own_and_loads_its_weights() -> None:
    torch.manual_seed(0)
    network = SMPNetwork(architecture="pspnet", encoder="resnet18", classes=2)
    reference = random_batchnorm(smp.PSPNet("resnet18", encoder_weights=None, in_channels=1, classes=2)).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    image = torch.rand(2, 1, 64, 96)
    with torch.inference_mode():
        assert torch.equal(network.eval()(image), reference(image))


def test_only_reached_parameters_are_trained() -> None:
    network = SMPNetwork(architecture="pspnet", encoder="resnet18")  # which needs an encoder of depth 3 only
    network(torch.rand(2, 1, 64, 64)).square().mean().backward()
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert {name.split(".")[1] for name in frozen} == {"layer3", "layer4"}
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == frozen


def test_size_rule_is_found_and_others_are_refused_with_the_padded_size() -> None:
    findings = find("linknet", "tu-test_resnet")
    assert (findings.multiple, findings.options, findings.unreached) == (32, {}, frozenset())
    assert find("pspnet", "tu-test_resnet").multiple == 8
    with torch.device("meta"):
        network = SMPNetwork(architecture="linknet", encoder="tu-test_resnet")
    with pytest.raises(ValueError, match="must be multiples of 32, found 60x64: pad to 64x64"):
        network(torch.empty(1, 1, 60, 64, device="meta"))
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, 1, H, W\)"):
        network(torch.empty(1, 3, 64, 64, device="meta"))


@pytest.mark.slow  # three forwards of twelve blocks
def test_transformers_of_a_fixed_size_take_others() -> None:
    findings = find("dpt", "tu-vit_tiny_patch16_224")
    assert findings.multiple == 32
    assert findings.options == {"dynamic_img_size": True}


def test_dpt_ignores_prefix_tokens_that_there_are_not() -> None:
    assert find("dpt", "tu-test_resnet").options == {"decoder_readout": "ignore"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "unett", "encoder": "resnet18"}, "architecture must be one of unet, .*; found 'unett'"),
        ({"architecture": "unet", "encoder": "resnet19"}, "encoder 'resnet19' is neither one of smp's nor"),
        ({"architecture": "unet", "encoder": "tu-test_vit"}, r"cannot build unet on tu-test_vit \(Unsupported model"),
        ({"architecture": "linknet", "encoder": "mit_b0"}, r"cannot build linknet on mit_b0 \(Encoder `mit_b0` is not"),
        ({"architecture": "pspnet", "encoder": "tu-test_resnet", "encoder_weights": "imagnet"}, "found 'imagnet'"),
        (
            {"architecture": "pspnet", "encoder": "resnet18", "encoder_weights": "imagenet"},
            "cannot build pspnet on resnet18 with weights 'imagenet'",
        ),
    ],
)
def test_unusable_choices_are_refused(arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    with pytest.raises(ValueError, match=message):
        SMPNetwork(**arguments)


def test_papers_are_those_that_smp_and_timm_name() -> None:
    assert smp_networks.papers("segformer", "mit_b0") == ["arXiv:2105.15203"]
    assert smp_networks.papers("upernet", "tu-convnext_tiny") == ["arXiv:1807.10221", "arXiv:2201.03545"]
    assert smp_networks.papers("manet", "resnet18") == ["https://ieeexplore.ieee.org/abstract/document/9201310"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains_two_steps_and_predicts_an_odd_size(architecture: str) -> None:
    torch.manual_seed(0)
    network = SMPNetwork(architecture=architecture, encoder=SMALLEST[architecture])
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.01)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    multiple = network.size_multiple
    side = 2 * max(multiple, 64)
    for _ in range(2):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(
            network(torch.rand(2, 1, side, side)), torch.ones(2, 1, side, side)
        ).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert torch.isfinite(parameter).all(), name
    assert any(not torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    height, width = 131, 77  # padded as told
    down, right = (-height % multiple, -width % multiple)
    with torch.inference_mode():
        logits = network.eval()(F.pad(torch.rand(1, 1, height, width), (0, right, 0, down)))
    assert logits.shape == (1, 1, height + down, width + right)
    assert torch.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("encoder", get_encoder_names())
def test_every_encoder_of_smp_takes_one_channel(encoder: str) -> None:
    with torch.device("meta"):
        network = SMPNetwork(architecture="unet", encoder=encoder).eval()
        assert network(torch.empty(1, 1, 128, 96)).shape == (1, 1, 128, 96)

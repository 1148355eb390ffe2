"""EAL-ICNet against a forward written in plain torch from its description, and its ablations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import registry
from benchmark.config.registry import ModelEntry
from models.attention import PositionAttention, TokenStatisticsAttention, plain_attention
from models.eal_icnet import DAB, EALICNet
from tests.baselines.weights_in_order import Weights, assert_same_logits, unsettle
from tests.network_tester import NetworkTester

VARIANTS = [entry for name, entry in registry.BUILTIN.items() if name.startswith("eal_icnet.")]


def make_attention_count(network: nn.Module) -> nn.Module:
    """Leave the initial values, at which position attention is the identity and every membership is 1/8."""
    for layer in network.modules():
        if isinstance(layer, PositionAttention):
            nn.init.constant_(layer.gamma, 0.7)
        elif isinstance(layer, TokenStatisticsAttention):
            # Apart from head to head, since the softmax over heads ignores what they share.
            nn.init.uniform_(layer.temperature, 350, 450)
    return network


class TestEALICNet(NetworkTester):
    name = "eal_icnet"
    norms_left = 0.32

    def prepare(self, network: nn.Module) -> nn.Module:
        return make_attention_count(network)

    def test_training_equals_plain_form(self) -> None:
        network = self.build().train()
        image = self.image()
        results = {}
        for plain in (False, True):
            network.zero_grad()
            if plain:
                with plain_attention(network):
                    logits = network(image)
            else:
                logits = network(image)
            logits.square().mean().backward()
            results[plain] = [logits.detach(), *(p.grad.clone() for p in network.parameters())]
        torch.testing.assert_close(results[False], results[True], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    def test_bfloat16_and_memory_formats(self, memory_format: torch.memory_format) -> None:
        network = self.build().eval()
        image = self.image()
        with torch.inference_mode():
            expected = network(image)
            network = network.to(memory_format=memory_format)
            image = image.to(memory_format=memory_format)
            torch.testing.assert_close(network(image), expected, atol=1e-5, rtol=1e-4)
            with torch.autocast("cpu", torch.bfloat16):
                assert (network(image) - expected).norm() < 0.1 * expected.norm()


class OrderedWeights(Weights):
    """With the two attention branches, in the described order: γ, q, k, v and τ, projection, output."""

    def position_attention(self, x: Tensor) -> Tensor:
        gamma = self._owners.pop().gamma
        n, c, h, w = x.shape
        q, k = (self.conv(x, (1, 1), c // 8, bias=True).flatten(2) for _ in range(2))
        v = self.conv(x, (1, 1), c, bias=True).flatten(2)
        attention = torch.einsum("bci,bcj->bij", q, k).softmax(dim=2)
        return gamma * torch.einsum("bij,bcj->bci", attention, v).view(n, c, h, w) + x

    def token_statistics(self, x: Tensor) -> Tensor:
        tau, project, out = (self._owners.pop() for _ in range(3))
        n, c, h, w = x.shape
        projected = torch.einsum("oc,bct->bot", project.weight, x.flatten(2)).view(n, 8, c // 8, h * w)
        energy = (projected / projected.norm(dim=3, keepdim=True).clamp_min(1e-12)).square().sum(2)
        membership = (energy * tau.temperature).softmax(dim=1)
        share = membership / (membership.sum(2, keepdim=True) + 1e-8)
        moments = torch.einsum("bht,bhct->bhc", share, projected.square())
        scaled = -projected * membership[:, :, None] / (1 + moments[..., None])
        return (torch.einsum("oc,bct->bot", out.weight, scaled.flatten(1, 2)) + out.bias[:, None]).view(n, c, h, w)

    def dab(self, x: Tensor, dilation: int) -> Tensor:
        n = x.shape[1] // 2
        u = self.bn_prelu(self.conv(self.bn_prelu(x), (3, 3), n, padding=1))
        branches = []
        for d in (1, dilation):
            a = self.bn_prelu(self.conv(u, (3, 1), n, padding=(d, 0), dilation=d, groups=n))
            branches.append(self.bn_prelu(self.conv(a, (1, 3), n, padding=(0, d), dilation=d, groups=n)))
        return self.conv(self.bn_prelu(branches[0] + branches[1]), (1, 1), 2 * n) + x

    def join(self, *parts: Tensor) -> Tensor:
        return self.bn_prelu(torch.cat(parts, dim=1))


def described(network: EALICNet, image: Tensor) -> Tensor:
    weights = OrderedWeights(network)
    c = image.shape[1]
    pyramid = [image]
    for _ in range(3):
        pyramid.append(F.avg_pool2d(pyramid[-1], 3, 2, 1, count_include_pad=True))
    _, i1, i2, i3 = pyramid
    x = weights.bn_prelu(weights.conv(image, (3, 3), 32, stride=2, padding=1))
    for _ in range(2):
        x = weights.bn_prelu(weights.conv(x, (3, 3), 32, padding=1))
    x = weights.join(x, i1)
    d1 = weights.join(weights.conv(x, (3, 3), 32 - c, stride=2, padding=1), F.max_pool2d(x, 2))
    x = d1
    for dilation in (2, 2, 2):
        x = weights.dab(x, dilation)
    d2 = weights.bn_prelu(weights.conv(weights.join(x, d1, i2), (3, 3), 128, stride=2, padding=1))
    attended = weights.position_attention(d2)
    x = d2
    for dilation in (4, 4, 8, 8, 16, 16):
        x = weights.dab(x, dilation)
    x = weights.join(x + attended + weights.token_statistics(d2), d2, i3)
    logits = weights.conv(x, (1, 1), network.head.out_channels)
    weights.assert_used_up()
    return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("in_channels", "classes"), [(1, 1), (3, 2)])
def test_network_matches_its_description(in_channels: int, classes: int) -> None:
    torch.manual_seed(0)
    network = make_attention_count(unsettle(EALICNet(in_channels, classes))).double().eval()
    image = torch.rand(2, in_channels, 72, 136, dtype=torch.float64)
    with torch.no_grad():
        assert_same_logits(network(image), described(network, image))


@pytest.mark.parametrize(("channels", "params"), [(64, 21_632), (128, 84_224)])
def test_dab_size(channels: int, params: int) -> None:
    assert sum(p.numel() for p in DAB(channels, 2).parameters()) == params


@pytest.mark.parametrize("entry", VARIANTS, ids=lambda entry: entry.name)
class TestVariants:
    def test_variant_keeps_size(self, entry: ModelEntry) -> None:
        network = make_attention_count(entry.build(in_channels=2, classes=3)).eval()
        with torch.inference_mode():
            assert network(torch.rand(1, 2, 40, 64)).shape == (1, 3, 40, 64)

    def test_variant_has_expected_parameters_and_differs_as_its_name_says(self, entry: ModelEntry) -> None:
        with torch.device("meta"):
            parameters, whole = dict(entry.build().named_parameters()), EALICNet()
        assert sum(p.numel() for p in parameters.values()) == entry.params
        missing = {name.split(".")[0] for name, _ in whole.named_parameters() if name not in parameters}
        removed = {"no_pam": {"pam"}, "no_tssa": {"tssa"}, "no_dab1": {"block_1"}, "no_dab2": {"block_2"}}
        assert missing == removed.get(entry.name.partition(".")[2], set())


def test_empty_block_is_identity_and_dropped_branch_leaves_sum() -> None:
    """Weights that make a part of the full network do nothing give the logits of the network without that part."""
    torch.manual_seed(0)
    network = unsettle(make_attention_count(EALICNet())).eval()
    image = torch.rand(1, 1, 40, 64)

    def logits(silenced: list[nn.Module]) -> Tensor:
        full = EALICNet()
        full.load_state_dict(network.state_dict())
        kept = dict(full.named_modules())
        names = {id(module): name for name, module in network.named_modules()}
        for module in silenced:
            for parameter in kept[names[id(module)]].parameters():
                nn.init.zeros_(parameter)
        with torch.inference_mode():
            return full.eval()(image)

    def without(**kwargs: object) -> Tensor:
        smaller = EALICNet(**kwargs).eval()
        smaller.load_state_dict(network.state_dict(), strict=False)
        with torch.inference_mode():
            return smaller(image)

    torch.testing.assert_close(without(dilations_1=()), logits([block.expand[1] for block in network.block_1]))
    torch.testing.assert_close(without(dilations_2=()), logits([block.expand[1] for block in network.block_2]))
    torch.testing.assert_close(without(tssa=False), logits([network.tssa.out]))
    # With γ = 0 the branch still adds its input; the network without it does not.
    with torch.no_grad():
        network.pam.gamma.zero_()
    assert (without(pam=False) - logits([])).abs().max() > 1e-3


def test_dilations_reach_the_blocks() -> None:
    network = EALICNet(dilations_1=(5,), dilations_2=(6, 7))
    result = [[block.dilated[0][0].dilation for block in blocks] for blocks in (network.block_1, network.block_2)]
    assert result == [[(5, 1)], [(6, 1), (7, 1)]]

"""The one tester that every network subclasses: ``class TestUNet(NetworkTester): name = "unet"``.

Tests elsewhere that hold for all networks take ``networks()``.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Container
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.config import registry
from benchmark.config.registry import ModelEntry
from benchmark.predict.fused_network import PADDED_BY_KERNELS, ready

#: The method under test, a light network and a heavy one: those of everyday tests of all networks.
EVERYDAY = ("eal_icnet", "esnet", "unet")


def networks(models: str = "all", everyday: Container[str] = EVERYDAY) -> list[Any]:
    """Return the names of networks, as parameters of a test: most of them are slow."""
    names = [entry.name for entry in registry.select(models)]
    return [name if name in everyday else pytest.param(name, marks=pytest.mark.slow) for name in names]


@functools.lru_cache(maxsize=1)
def _first(tester: type[NetworkTester]) -> nn.Module:
    """Return the network of seed 0; a copy of it is much faster than other random weights."""
    return tester().draw(0).eval()


class NetworkTester:
    """Properties that hold for all networks; ``name`` is the registry's."""

    name: str
    #: Smallest side that the tests use, in multiples of the network's size rule and in pixels.
    least_multiple, least_side = 2, 64
    #: Share of the norms that no convolution stands before: those behind a concatenation or a sum.
    norms_left = 0.0

    @property
    def entry(self) -> ModelEntry:
        return registry.models()[self.name]

    def draw(self, seed: int, **kwargs: int) -> nn.Module:
        torch.manual_seed(seed)
        return self.prepare(self.entry.build(**kwargs))

    @property
    def shared(self) -> nn.Module:
        """The network of seed 0, for evaluation: no test may change it."""
        return _first(type(self))

    def build(self) -> nn.Module:
        return copy.deepcopy(self.shared)

    def prepare(self, network: nn.Module) -> nn.Module:
        """Move a network away from special initial values that would hide mistakes."""
        return network

    def sizes(self) -> list[tuple[int, int]]:
        """Two sizes that are not square and do not have the same orientation."""
        side = self.entry.multiple * max(self.least_multiple, -(-self.least_side // self.entry.multiple))
        return [(side, side + self.entry.multiple), (side + 2 * self.entry.multiple, side)]

    def image(self, channels: int = 1, batch: int = 2) -> Tensor:
        height, width = self.sizes()[0]
        return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))

    def test_parameter_count_and_size_rule_equal_the_registry_s(self) -> None:
        with torch.device("meta"):
            network = self.entry.build()
        assert sum(p.numel() for p in network.parameters() if p.requires_grad) == self.entry.params
        assert self.entry.load().size_multiple == self.entry.multiple  # type: ignore[attr-defined]

    def test_inference_form_gives_equal_logits(self) -> None:
        network, image = self.build().train(), self.image(batch=1)
        with torch.no_grad():
            network(image)  # moves the norms' statistics
        fast = ready(network, image.shape)
        with torch.inference_mode():
            expected, result = network.eval()(image), fast(image)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.abs().max().clamp(min=1)))
        norms, left = (sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) for net in (network, fast))
        assert left <= self.norms_left * norms
        depthwise = [layer for layer in fast.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
        assert all(int(layer.padding[1]) <= PADDED_BY_KERNELS for layer in depthwise)

    def test_logits_have_the_input_s_size_and_other_inputs_are_refused(self) -> None:
        network = self.draw(0, in_channels=3, classes=2).eval()
        for height, width in self.sizes():
            with torch.inference_mode():
                logits = network(torch.rand(1, 3, height, width))
            assert logits.shape == (1, 2, height, width)
            assert logits.dtype == torch.float32
            assert torch.isfinite(logits).all()
        with pytest.raises(ValueError, match=re.escape(f"pad to {height}x{width}")):
            network(torch.rand(1, 3, height - 1, width))
        with pytest.raises(ValueError, match=r"expected an input of shape \(N, 3, H, W\), found"):
            network(self.image(channels=1))

    def test_training_step_reaches_every_parameter_and_changes_the_logits(self) -> None:
        network, image = self.build().train(), self.image()
        with torch.no_grad():
            assert torch.isfinite(network(image[:1])).all()  # a batch of one image trains too
        network(image).square().mean().backward()
        dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert dead == []
        # The norms' new statistics alone would change the logits.
        network.load_state_dict(dict(self.shared.named_buffers()), strict=False)
        torch.optim.SGD(network.parameters(), lr=1e-3).step()
        with torch.inference_mode():
            assert not torch.equal(self.shared(image), network.eval()(image))

    def test_eval_mode_is_repeatable_and_independent_of_batch(self) -> None:
        network, image = self.shared, self.image()
        with torch.inference_mode():
            both = network(image)
            assert torch.equal(both, network(image))
            alone = torch.cat([network(image[:1]), network(image[1:])])
        assert both.shape == image.shape
        torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)

    def test_seed_determines_the_weights_and_a_state_dict_carries_them(self) -> None:
        first, again, other = self.shared, self.draw(0), self.draw(1).eval()
        weights, drawn = first.state_dict(), other.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in again.state_dict().items())
        assert not all(torch.equal(weights[key], drawn[key]) for key in weights)
        other.load_state_dict(weights, strict=True)
        image = self.image(batch=1)
        with torch.inference_mode():
            assert torch.equal(first(image), other(image))

    @pytest.mark.slow
    def test_network_can_be_exported(self) -> None:
        network, image = self.build(), self.image()
        exported = torch.export.export(network, (image,)).module()
        with torch.inference_mode():
            torch.testing.assert_close(exported(image), network(image), atol=1e-4, rtol=1e-4)

    @pytest.mark.gpu
    def test_gpu_and_cpu_logits_agree(self) -> None:
        network, image = self.build(), self.image()
        with torch.inference_mode():
            expected = network(image)
            result = network.cuda()(image.cuda()).cpu()
        torch.testing.assert_close(result, expected, atol=1e-2, rtol=1e-2)

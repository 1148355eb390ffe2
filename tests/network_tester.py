"""The one tester that every network subclasses: ``class TestUNet(NetworkTester): name = "unet"``."""

from __future__ import annotations

import copy
import functools
import re

import pytest
import torch
from torch import Tensor, nn

from benchmark.config import registry
from benchmark.config.registry import ModelEntry
from benchmark.predict.fused_network import ready


@functools.lru_cache(maxsize=1)
def _initialised(name: str, seed: int, arguments: tuple[tuple[str, int], ...]) -> nn.Module:
    """Return a network with random weights; a copy of it is much faster than other random weights."""
    torch.manual_seed(seed)
    return registry.models()[name].build(**dict(arguments))


class NetworkTester:
    """Properties that hold for all networks; ``name`` is the registry's."""

    name: str
    #: Smallest side that the tests use, in multiples of the network's size rule.
    least_multiple = 2
    #: Share of the norms that no convolution stands before: those behind a concatenation or a sum.
    norms_left = 0.0

    @property
    def entry(self) -> ModelEntry:
        return registry.models()[self.name]

    def build(self, seed: int = 0, **kwargs: int) -> nn.Module:
        network = copy.deepcopy(_initialised(self.entry.name, seed, tuple(kwargs.items())))
        torch.manual_seed(seed)
        return self.prepare(network)

    def prepare(self, network: nn.Module) -> nn.Module:
        """Move a network away from special initial values that would hide mistakes."""
        return network

    def sizes(self) -> list[tuple[int, int]]:
        """Two sizes that are not square and do not have the same orientation."""
        side = self.entry.multiple * max(self.least_multiple, -(-64 // self.entry.multiple))
        return [(side, side + self.entry.multiple), (side + 2 * self.entry.multiple, side)]

    def image(self, channels: int = 1, batch: int = 2) -> Tensor:
        height, width = self.sizes()[0]
        return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))

    def test_parameter_count(self) -> None:
        with torch.device("meta"):
            network = self.entry.build()
        assert sum(p.numel() for p in network.parameters() if p.requires_grad) == self.entry.params

    def test_size_rule_equals_registry(self) -> None:
        assert self.entry.load().size_multiple == self.entry.multiple  # type: ignore[attr-defined]

    def test_inference_form_gives_equal_logits(self) -> None:
        network, image = self.build(), self.image()
        with torch.no_grad():
            network(image)  # moves the norms' statistics
        fast = ready(network, image[:1].shape)
        with torch.inference_mode():
            expected, result = network.eval()(image), fast(image)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.abs().max().clamp(min=1)))
        norms, left = (sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) for net in (network, fast))
        assert left <= self.norms_left * norms

    @pytest.mark.parametrize(("in_channels", "classes"), [(1, 1), (3, 2)])
    def test_logits_have_the_input_s_size(self, in_channels: int, classes: int) -> None:
        network = self.build(in_channels=in_channels, classes=classes).eval()
        for height, width in self.sizes():
            with torch.inference_mode():
                logits = network(torch.rand(2, in_channels, height, width))
            assert logits.shape == (2, classes, height, width)
            assert logits.dtype == torch.float32
            assert torch.isfinite(logits).all()

    def test_training_step_reaches_every_parameter_and_changes_the_logits(self) -> None:
        network, image = self.build().eval(), self.image()
        with torch.no_grad():
            before = network(image)
        network.train()
        network(image).square().mean().backward()
        dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert dead == []
        torch.optim.SGD(network.parameters(), lr=1e-3).step()
        network.eval()
        with torch.no_grad():
            assert not torch.equal(before, network(image))

    def test_eval_mode_is_repeatable_and_independent_of_batch(self) -> None:
        network = self.build().eval()
        image = self.image()
        with torch.inference_mode():
            both = network(image)
            assert torch.equal(both, network(image))
            alone = torch.cat([network(image[:1]), network(image[1:])])
        torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)

    def test_batch_of_one_image_trains(self) -> None:
        network = self.build().train()
        logits = network(self.image(batch=1))
        logits.mean().backward()
        assert torch.isfinite(logits).all()

    def test_bad_size_is_refused_with_padded_size(self) -> None:
        network = self.build().eval()
        height, width = self.sizes()[0]
        bad = torch.rand(1, 1, height - 1, width)
        with pytest.raises(ValueError, match=re.escape(f"pad to {height}x{width}")):
            network(bad)

    def test_bad_channels_are_refused(self) -> None:
        network = self.build(in_channels=3).eval()
        with pytest.raises(ValueError, match=r"expected an input of shape \(N, 3, H, W\), found"):
            network(self.image(channels=1))

    def test_same_seed_gives_the_same_weights(self) -> None:
        states = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            states.append(self.entry.build().state_dict())
        first, again, other = states
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_state_dict_round_trip(self) -> None:
        trained, fresh = self.build(seed=0).eval(), self.build(seed=1).eval()
        fresh.load_state_dict(trained.state_dict(), strict=True)
        with torch.inference_mode():
            assert torch.equal(trained(self.image()), fresh(self.image()))

    @pytest.mark.slow
    def test_network_can_be_exported(self) -> None:
        network = self.build().eval()
        image = self.image()
        exported = torch.export.export(network, (image,)).module()
        with torch.inference_mode():
            torch.testing.assert_close(exported(image), network(image), atol=1e-4, rtol=1e-4)

    @pytest.mark.gpu
    def test_gpu_and_cpu_logits_agree(self) -> None:
        network = self.build().eval()
        image = self.image()
        with torch.inference_mode():
            expected = network(image)
            result = network.cuda()(image.cuda()).cpu()
        torch.testing.assert_close(result, expected, atol=1e-2, rtol=1e-2)

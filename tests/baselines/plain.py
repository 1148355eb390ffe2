"""What the tests against plain torch share."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def random_batchnorm(network: Network, seed: int = 0) -> Network:
    """Move every BatchNorm away from identity, where its place in the order of layers would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.2, 0.2, generator=generator)
    return network


def assert_same_as_smp(network: nn.Module, reference: nn.Module) -> None:
    """Check that a network is smp's without its encoder's never-called head, by weights under the same names."""
    random_batchnorm(reference)
    loaded = network.load_state_dict(reference.state_dict(), strict=False)
    assert loaded.missing_keys == []
    assert {".".join(key.split(".")[:2]) for key in loaded.unexpected_keys} == {"encoder._conv_head", "encoder._bn1"}
    image = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(image), reference.eval()(image))

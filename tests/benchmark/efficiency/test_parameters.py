from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.efficiency.parameters import split_parameters


class Partly(nn.Module):
    """Layers that a forward uses, uses behind a zero, leaves out, and freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(1, 4, 3)
        self.behind_zero = nn.Conv2d(4, 4, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.never_called = nn.ConvTranspose2d(4, 4, 2)
        self.frozen = nn.Conv2d(4, 1, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.used(x)
        return self.frozen(x + self.gamma * self.behind_zero(x))


def test_parameters_that_take_part_are_counted_and_the_others_named() -> None:
    reached, unused = split_parameters(Partly().to("meta").eval(), (1, 1, 8, 8))
    assert reached == (9 * 4 + 4) + (4 * 4 + 4) + 1
    assert unused == {"never_called.weight": 4 * 4 * 4, "never_called.bias": 4}


def test_shared_layer_counts_once() -> None:
    layer = nn.Linear(8, 8)
    reached, unused = split_parameters(nn.Sequential(layer, nn.ReLU(), layer).to("meta"), (1, 8))
    assert (reached, unused) == (8 * 8 + 8, {})


def test_it_agrees_with_the_gradients_of_a_backward() -> None:
    network = Partly().eval()
    network(torch.rand(1, 1, 8, 8)).sum().backward()
    without = {name for name, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert set(split_parameters(network, (1, 1, 8, 8))[1]) == without


def test_network_without_parameters_has_none() -> None:
    assert split_parameters(nn.ReLU(), (1, 1, 8, 8)) == (0, {})

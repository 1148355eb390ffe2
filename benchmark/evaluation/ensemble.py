"""Averages the probabilities of several networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of networks' probabilities, in float32 and in their order; one forward runs after the other.

    Example:
        >>> import torch
        >>> twice = Ensemble([nn.Identity(), nn.Identity()])
        >>> bool(torch.equal(twice(torch.zeros(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 0.5)))
        True
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to probabilities ``(N, K, H, W)`` float32 in [0, 1]."""
        first, *others = self.members
        total = probabilities_of(first, images)
        for member in others:
            total = total + probabilities_of(member, images)
        return total / len(self.members)


def averaged(networks: Sequence[nn.Module]) -> nn.Module:
    """Return an ensemble of several networks, or the only one itself."""
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def probabilities_of(network: nn.Module, images: Tensor) -> Tensor:
    """Return the probabilities ``(N, K, H, W)`` float32 of a network that gives logits, or of an ensemble."""
    outputs: Tensor = network(images)
    return outputs if isinstance(network, Ensemble) else outputs.float().sigmoid()

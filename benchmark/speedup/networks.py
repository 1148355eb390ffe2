"""Builds measured networks without identity branches, with norms that have seen images."""

from __future__ import annotations

import torch
from torch import nn

from benchmark.config.registry import ModelEntry
from models.attention import PositionAttention, TokenStatisticsAttention

#: EAL-ICNet's attention starts as the identity; a fast path that drops it would pass every comparison.
GAMMA, TEMPERATURE = 0.7, 400.0
#: For the norms' statistics; every registered network takes multiples of 32.
SEEN_BATCHES, SEEN_IMAGES, SEEN_PX = 3, 2, 128


def build(entry: ModelEntry, channels: int = 1, classes: int = 1) -> nn.Module:
    """Return a network on the CPU, in train mode, the same at every call.

    Args:
        entry: the network.
        channels: of its images.
        classes: channels of its logits.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = entry.build(in_channels=channels, classes=classes)
        for layer in network.modules():
            if isinstance(layer, PositionAttention):
                layer.gamma.fill_(GAMMA)
            elif isinstance(layer, TokenStatisticsAttention):
                layer.temperature.fill_(TEMPERATURE)
        side = -(-SEEN_PX // entry.multiple) * entry.multiple
        for _ in range(SEEN_BATCHES):
            network(torch.rand(SEEN_IMAGES, channels, side, side))
    return network

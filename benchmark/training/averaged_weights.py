"""Averages a network's weights over training steps: an exponential moving average."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

STATISTICS = ("running_mean", "running_var")  # buffers of norms


class AveragedWeights:
    """The averages of all weights and of the norms' statistics, which validation and test use.

    Other buffers are constants, such as a mask of infinities, whose average would be NaN. The network's tensors stay
    where they are, so that CUDA graphs and compiled code remain valid.

    Args:
        network: in training, on its device.
        decay: of the average; lower in the first steps, (1 + step) / (10 + step), or the random weights of the start
            would stay in short trainings.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        statistics = [value for name, value in network.named_buffers() if name.rpartition(".")[2] in STATISTICS]
        self._current = [t.detach() for t in (*network.parameters(), *statistics) if t.is_floating_point()]
        self.averages = [tensor.clone() for tensor in self._current]

    def update(self, step: int) -> None:
        """Take in the weights after an optimiser step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self.averages, self._current, step)  # type: ignore[no-untyped-call]

    def load(self, averages: Sequence[Tensor]) -> None:
        """Continue from the averages of an earlier session."""
        for target, source in zip(self.averages, averages, strict=True):
            target.copy_(source)

    @contextlib.contextmanager
    def in_network(self) -> Iterator[None]:
        """Let the network have the averages within the context, then its own weights again."""
        own = [tensor.clone() for tensor in self._current]
        self._fill(self.averages)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: Sequence[Tensor]) -> None:
        for target, source in zip(self._current, values, strict=True):
            target.copy_(source)

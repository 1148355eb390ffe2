"""Networks that leave a sign at every training step, so that a test knows what a kill has hit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from baselines.contextnet import ContextNet
from baselines.edanet import EDANet
from baselines.esnet import ESNet
from models.eal_icnet import EALICNet
from tests.benchmark.tiny import TinyNet


def sign(network: nn.Module, x: Tensor) -> None:
    """Note this process's last training step; validation, tests and measurements, of one image, leave none."""
    if network.training and torch.is_grad_enabled() and len(x) > 1 and "WATCHED" in os.environ:
        (Path(os.environ["WATCHED"]) / str(os.getpid())).write_text(str(time.time()))


class Tiny(TinyNet):
    """Takes its time, so that there is something to hit."""

    def forward(self, x: Tensor) -> Tensor:
        sign(self, x)
        if self.training and len(x) > 1:
            time.sleep(0.01)
        return super().forward(x)


def watched(parent: type[nn.Module]) -> type[nn.Module]:
    """Return a registered network that leaves signs and is otherwise as it is."""

    class Watched(parent):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            sign(self, x)
            logits: Tensor = super().forward(x)
            return logits

    return Watched


WatchedContextNet = watched(ContextNet)
WatchedEDANet = watched(EDANet)
WatchedESNet = watched(ESNet)
WatchedEALICNet = watched(EALICNet)

"""Networks so small that a run takes a fraction of a second; named by path, as a user's own network is."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import torch
from torch import Tensor, nn


class TinyNet(nn.Module):
    """One normalised convolution and a head: enough to learn that circuits are bright."""

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__()
        self.features = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.features(x))))
        return logits


class Comparable(TinyNet):
    """Without the bias before the norm: its gradient is rounding alone, which Adam makes as large as any other."""

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__(in_channels, classes)
        self.features = nn.Conv2d(in_channels, 4, 3, padding=1, bias=False)


class Depthwise(TinyNet):
    """Filters each channel alone between two convolutions."""

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__(in_channels, classes)
        self.norm = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), nn.BatchNorm2d(4))


class Dropping(Comparable):
    """Draws random numbers on its device."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.3, training=self.training))


class NotANumber(TinyNet):
    """Diverges at once."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.nan


class Puts(TinyNet):
    """Holds the one operation of a network's kind for which torch has no deterministic kernel on a CPU either."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits.clone().put_(torch.tensor([0]), logits.flatten()[:1])


class FloatOnly(TinyNet):
    """Has an operation that its device lacks in half precision."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise NotImplementedError("\"sort\" not implemented for 'BFloat16'")
        return super().forward(x)


class Raises(TinyNet):
    """Has a bug."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the sort of bug that users' networks have")


class RaisesOnImages(TinyNet):
    """Has a bug that zeros do not show."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta" and bool(x.any()):
            raise RuntimeError("the sort of bug that shows late")
        return super().forward(x)


class Dies(TinyNet):
    """Takes its whole process along, as the kernel's out-of-memory killer does."""

    def forward(self, x: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return x


class Crashes(TinyNet):
    """Reads where there is no memory, as a bug in a compiled extension does."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 1:
            print("about to crash", flush=True)
            ctypes.string_at(0)
        return super().forward(x)


class Waits(TinyNet):
    """Trains so long that a person would interrupt it; its efficiency, at batch 1, can be measured."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 1:
            signal.pause()
        return super().forward(x)


class Slow(TinyNet):
    """Trains like the plain one, long enough for its node to die meanwhile; its log says how often it was begun."""

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__(in_channels, classes)
        print("begun", flush=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 1:
            time.sleep(float(os.environ.get("STEP_S", "0.25")))
        return super().forward(x)

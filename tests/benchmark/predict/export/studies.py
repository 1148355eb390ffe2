"""Studies with weights that no training made: every layer away from its initial values, statistics of real inputs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.config import code_identity, registry
from benchmark.records.store import WEIGHTS
from benchmark.records.weights import TrainedNetwork, find_trained
from tests.benchmark.report import fake
from tests.benchmark.tiny import TinyNet

HERE = Path(__file__)


def make(folder: Path, *models: str, train: str = "omc-syn", settings: tuple[str, ...] = ()) -> list[TrainedNetwork]:
    """Write a study of these models under the protocol ``quick`` and return their trained networks."""
    fake.write_protocol(folder, *settings)
    entries = registry.select(models)
    for entry in entries:
        counts = fake.counts(0.9, fake.random_of(entry.name))
        run = fake.write_run(folder, entry.name, train.split("+"), 0, counts, identity=code_identity.identity(entry))
        channels = 3 if "input.channels=3" in settings else 1
        save_file(_settled(entry.build(in_channels=channels), channels).state_dict(), run / WEIGHTS)
    return find_trained(folder, entries, train)


def _settled(network: nn.Module, channels: int) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):  # at its initial 0, position attention could compute anything
                parameter.fill_(1.0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # statistics become those of these inputs
        network.train()(torch.rand(2, channels, 96, 96))
    return network.eval()


class OneSize(TinyNet):
    """Adds to every pixel a number of its own, so there are as many numbers as pixels."""

    def __init__(self, in_channels: int = 1, classes: int = 1) -> None:
        super().__init__(in_channels, classes)
        self.places = nn.Parameter(torch.randn(1, 1, 96, 96))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.places


class HalfSizes(TinyNet):
    """Cuts the image in two and loses a column of an odd one."""

    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.cat(super().forward(x).split(x.shape[-1] // 2, dim=-1)[:2], dim=-1)
        return nn.functional.pad(pieces, (0, x.shape[-1] - pieces.shape[-1]))


class Looks(TinyNet):
    """Decides by what it sees, which no captured program can."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x

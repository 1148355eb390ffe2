"""A study whose network is known by heart: a pixel is foreground where it is brighter than half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from benchmark.config import registry
from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.store import WEIGHTS
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL, TINY, Call
from tests.benchmark.tiny import TinyNet

TINYNET = f"{TINY}:TinyNet"
Predict = Callable[..., tuple[int, str, str]]


def brightness(in_channels: int = 1) -> TinyNet:
    """A network that gives sigmoid(20 x - 10) for a pixel x in [0, 1], whatever is around it."""
    network = TinyNet(in_channels).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.features.weight[0, :, 1, 1] = 1 / in_channels
        network.norm.weight.fill_(1)
        network.norm.running_var.fill_(1 - network.norm.eps)
        network.norm.running_mean.zero_()
        network.head.weight[0, 0] = 20
        network.head.bias.fill_(-10)
    return network


def busy(network: nn.Module, images: torch.Tensor) -> nn.Module:
    """Scale a network's random head so that its probabilities spread out and a difference would show."""
    network.eval()
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)][-1]
    with torch.inference_mode():
        result = network(images)
    with torch.no_grad():
        bias = torch.zeros_like(last.bias) if last.bias is None else last.bias
        shift = result.mean() - bias.mean()
        last.weight.mul_(2 / result.std())
        last.bias.fill_(float(-2 * shift / result.std()))
    return network


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder of studies with ``known``, trained on omc-syn and on omv-syn, whose weights are those of above."""
    folder = tmp_path_factory.mktemp("results")
    protocol = load_protocol("quick", [*SMALL, "repeats=1"])
    sources = resolve("omc-syn,omv-syn", cache / "no data", protocol, HashCache(cache / "hashes.json"))
    tasks = [Task((source,), (source,)) for source in sources]
    study = Study(folder / "known", protocol, registry.select(TINYNET), tasks, Hardware("cpu", 1), cache)
    for job in make_plan(study).todo:
        train_and_test(replace(job, keep_weights="all"), lambda *_: None)
    for file in folder.rglob(WEIGHTS):
        save_file(brightness().state_dict(), file)
    study.store.write_protocol(protocol)
    return folder


@pytest.fixture
def predict(call: Call, results: Path) -> Predict:
    def run(
        *arguments: str | Path, models: str = TINYNET, dataset: str = "omc-syn", tile: int | None = 32
    ) -> tuple[int, str, str]:
        tiles = ("--tile", str(tile)) if tile else ()
        study = ("--results", results, "--study", "known", "--models", models, "--datasets", dataset)
        return call("predict", *study, "--device", "cpu", "--out", "out", *tiles, *arguments)

    return run


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let figures be empty files, since to write them takes a second; they are drawn all the same."""
    for module in ("report.plots.plot_style", "predict.overlap_study"):
        monkeypatch.setattr(f"benchmark.{module}.save", lambda figure, kind: b"")


@pytest.fixture
def frame() -> np.ndarray:
    """Bright tracks, one with a hole, on a dark ground with noise; 90x130."""
    image = np.random.default_rng(0).integers(0, 100, (90, 130)).astype(np.uint8)
    image[10:20, 5:120] += 150
    image[40:70, 30:80] += 150
    image[50:60, 45:60] = 20
    image[80:, 100:] += 150
    return image


def pixels_of(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

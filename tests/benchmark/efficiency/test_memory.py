from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.config import registry
from benchmark.config.registry import ModelEntry
from benchmark.efficiency.memory import measure_memory
from benchmark.records.costs import CPU_MEMORY, GPU_MEMORY
from tests.benchmark.fake_gpu import FakeGPU, OnTheCPU, fake_gpu

__all__ = ["fake_gpu"]

MIB = 2**20

NETWORKS = """
import os, signal, torch
from torch import nn

class Base(nn.Module):
    def __init__(self, in_channels=1, classes=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, classes, 1)

class Hungry(Base):
    def forward(self, x):
        held = torch.ones(64 * 2**18)  # 64 MiB of float32
        return self.conv(x) * held.mean()

class Heavy(Base):
    def __init__(self, in_channels=1, classes=1):
        super().__init__(in_channels, classes)
        self.weight = nn.Parameter(torch.ones(16 * 2**18))  # 16 MiB

    def forward(self, x):
        return self.conv(x) * self.weight[:1]

class Dying(Base):
    def forward(self, x):
        os.kill(os.getpid(), signal.SIGKILL)

class Pooled(Base):
    def forward(self, x):
        pooled = self.conv(x).mean((2, 3))
        return self.conv(x) + (nn.functional.batch_norm(pooled, None, None, training=True) if self.training else 0)

class Impossible(Base):
    def forward(self, x):
        return self.conv(x) * torch.ones(2**50).mean()
"""


def user_entry(folder: Path, name: str) -> ModelEntry:
    file = folder / "networks.py"
    file.write_text(NETWORKS, "utf-8")
    (entry,) = registry.select(f"{file}:{name}")
    return entry


def measure(entry: ModelEntry, device: str = "cpu") -> tuple[int | None, int | None, str, list[str]]:
    memory, problems = measure_memory(entry, (1, 1, 16, 16), 1, torch.device(device), "float32", threads=1)
    return memory.forward_peak_bytes, memory.train_step_peak_bytes, memory.method, problems


def test_forward_s_growth_is_what_it_allocates(tmp_path: Path) -> None:
    forward, _, method, problems = measure(user_entry(tmp_path, "Hungry"))
    assert forward is not None
    assert 63 * MIB <= forward < 72 * MIB  # some pages may have been there
    assert problems == []
    assert method == CPU_MEMORY


def test_weights_are_left_out_but_a_training_step_s_gradients_and_adam_are_not(tmp_path: Path) -> None:
    forward, train_step, _, _ = measure(user_entry(tmp_path, "Heavy"))
    assert forward is not None
    assert train_step is not None
    assert forward < 8 * MIB
    # Gradient and the two moments, besides temporaries of the slice's gradient and of Adam.
    assert 3 * 16 * MIB <= train_step < 7 * 16 * MIB


def test_process_that_dies_leaves_a_reason(tmp_path: Path) -> None:
    forward, train_step, _, problems = measure(user_entry(tmp_path, "Dying"))
    assert (forward, train_step) == (None, None)
    assert [problem.partition(":")[0] for problem in problems] == [
        "no peak memory of the forward",
        "no peak memory of the train step",
    ]
    assert "lack of memory" in problems[0]


def test_refused_allocation_leaves_a_reason(tmp_path: Path) -> None:
    forward, _, _, problems = measure(user_entry(tmp_path, "Impossible"))
    assert forward is None
    assert "RuntimeError" in problems[0]
    assert "allocate" in problems[0]


def test_workspaces_that_earlier_networks_have_left_are_in_no_figure(tmp_path: Path, fake_gpu: FakeGPU) -> None:
    assert fake_gpu.held == 32 * MIB
    with OnTheCPU():
        forward, train_step, _, problems = measure(user_entry(tmp_path, "Heavy"), "cuda:0")
    assert problems == []
    assert (forward, train_step) == (0, 0)  # this GPU's tensors take nothing


@pytest.mark.gpu
def test_gpu_s_peak_counts_weights_too(tmp_path: Path) -> None:
    forward, train_step, method, problems = measure(user_entry(tmp_path, "Heavy"), "cuda")
    assert problems == []
    assert method == GPU_MEMORY
    assert forward is not None
    assert train_step is not None
    assert 16 * MIB <= forward < 24 * MIB
    assert train_step >= 4 * 16 * MIB


def test_norm_that_one_image_is_too_few_for_costs_one_figure_and_not_all(tmp_path: Path) -> None:
    forward, train_step, _, (problem,) = measure(user_entry(tmp_path, "Pooled"))
    assert forward is not None
    assert train_step is None
    assert "no peak memory of the train step: ValueError: Expected more than 1 value per channel" in problem

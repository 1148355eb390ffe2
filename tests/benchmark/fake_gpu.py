"""A GPU that computes on the CPU: tensors sent there stay, and ``torch.cuda`` answers once it is initialised."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode


class OnTheCPU(TorchFunctionMode):
    """Does on the CPU what is asked of a GPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.pin_memory:
            return args[0]
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        return func(*map(_here, args), **{name: _here(value) for name, value in (kwargs or {}).items()})


def _here(value: Any) -> Any:
    named = isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda"))
    return torch.device("cpu") if named and torch.device(value).type == "cuda" else value


class FakeGPU:
    """What ``torch.cuda`` says of one, as far as a run asks.

    Attributes:
        initialised: whether something has done so; before, functions that do not do it refuse, as those of torch do.
        emptied: how often cached memory was given back.
        held: bytes of tensors that earlier work has left.
        peak: bytes of the largest moment since the last reset.
        free: bytes that no process has.
    """

    def __init__(self) -> None:
        """Begin without a context."""
        self.initialised = False
        self.emptied = 0
        self.held, self.peak, self.free = 32 << 20, 32 << 20, 8 << 30
        self.properties = SimpleNamespace(
            total_memory=16 << 30, major=8, minor=9, uuid="12", name="NVIDIA GeForce RTX 4060 Ti"
        )

    def init(self, *_: object) -> None:
        """Initialise."""
        self.initialised = True

    def needing(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that refuses before."""

        def ask(*arguments: Any, **named: Any) -> Any:
            if not self.initialised:
                raise RuntimeError("Invalid device argument 0: did you call init?")
            return answer(*arguments, **named)

        return ask

    def initialising(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that initialises by itself."""

        def ask(*arguments: Any, **named: Any) -> Any:
            self.init()
            return answer(*arguments, **named)

        return ask

    def restart(self, *_: object) -> None:
        """Let the peak start anew."""
        self.peak = self.held

    def clear_workspaces(self) -> None:
        """Give back what cuBLAS has kept."""
        self.held = 0

    def empty(self) -> None:
        """Count."""
        self.emptied += 1


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGPU:
    """Let ``cuda:0`` be the CPU, while the test computes under :class:`OnTheCPU`."""
    gpu = FakeGPU()
    needing = {
        "reset_peak_memory_stats": gpu.restart,
        "max_memory_allocated": lambda *_: gpu.peak,
        "max_memory_reserved": lambda *_: 2 * gpu.peak,
        "memory_allocated": lambda *_: gpu.held,
        "memory_reserved": lambda *_: gpu.held,
        "mem_get_info": lambda *_: (gpu.free, gpu.properties.total_memory),
    }
    initialising = {
        "init": lambda: None,
        "synchronize": lambda *_: None,
        "empty_cache": gpu.empty,
        "get_device_properties": lambda *_: gpu.properties,
        "get_device_name": lambda *_: gpu.properties.name,
        "get_rng_state": lambda *_: torch.empty(0),
        "set_rng_state": lambda *_: None,
        "current_device": lambda: 0,
        "device": lambda *_: contextlib.nullcontext(),
    }
    for name, answer in needing.items():
        monkeypatch.setattr(torch.cuda, name, gpu.needing(answer))
    for name, answer in initialising.items():
        monkeypatch.setattr(torch.cuda, name, gpu.initialising(answer))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: gpu.initialised)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", gpu.needing(gpu.clear_workspaces))
    return gpu

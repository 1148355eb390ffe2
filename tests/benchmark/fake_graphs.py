"""CUDA graphs on a CPU: what is captured is taped operation by operation, and replayed into the same memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves

from benchmark.devices import cuda_graphs


class Tape(TorchDispatchMode):
    """What a captured call did. Here it has to be done to be taped, so all that it changed is put back."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int] = set()
        self.replays = 0
        self.underway = False  # as the allocator sees it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor) and id(given) not in self.made | self.before.keys():
                self.before[id(given)] = given, given.clone()
        result = func(*args, **(kwargs or {}))
        created = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.made |= set(map(id, created))
        self.calls.append((func, args, kwargs or {}, created))
        return result

    def end(self) -> None:
        for tensor, before in self.before.values():
            with torch.no_grad():
                tensor.copy_(before)

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, created in self.calls:
            with torch.no_grad():
                again = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for place, value in zip(created, again, strict=True):
                    if not func.is_view and place.data_ptr() != value.data_ptr():
                        place.copy_(value)


class Generator:
    """A GPU's, as far as a capture asks it; ``restored`` counts how often one that broke off was mended."""

    restored = 0

    def clone_state(self) -> str:
        return "the state before"

    def graphsafe_set_state(self, state: str) -> None:
        assert state == "the state before"
        Generator.restored += 1


@contextlib.contextmanager
def _capture(graph: Tape, *, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
    assert capture_error_mode == "thread_local"
    graph.underway = True
    try:
        with graph:
            yield
        graph.underway = False
    finally:
        graph.end()


def capturing() -> bool:
    """Tell whether a call is being taped."""
    return isinstance(_get_current_dispatch_mode(), Tape)


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Let graphs be captured on the CPU; returns them."""
    result: list[Tape] = []

    def tape() -> Tape:
        result.append(Tape())
        return result[-1]

    def end(device: None, pool: tuple[int, int]) -> None:
        if not result[-1].underway:
            raise RuntimeError("not currently recording to mempool_id")
        result[-1].underway = False

    changed = {
        "CUDAGraph": tape,
        "graph": _capture,
        "graph_pool_handle": lambda: (0, 1),
        "default_generators": {None: Generator()},
        "Stream": lambda device: SimpleNamespace(device=device),
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: None,
    }
    for name, value in changed.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(cuda_graphs, "_FAILED", [])
    monkeypatch.setattr(cuda_graphs, "on_stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(Generator, "restored", 0)
    return result

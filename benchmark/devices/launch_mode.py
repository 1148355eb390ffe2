"""Launches a run's work eagerly, as CUDA graphs or compiled, and reports which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.config.execution import Execution
from benchmark.devices.cuda_graphs import Function, NotCapturableError, Replayed
from benchmark.utils import logs

REASON_CHARACTERS = 200  # of a library's message in a record


class Launch:
    """Prepares the functions that a run calls again and again: calls, replays or compiles them.

    If a replay or the compiler fails, the run continues eagerly; the run's log and record give the reason.

    Args:
        network: the functions' network, on the device. It is compiled in place, and its weights keep their names.
        device: of the run.
        execution: of ``--execution``.
    """

    def __init__(self, network: nn.Module, device: torch.device, execution: Execution = "eager") -> None:
        self.network, self.device = network, device
        self.mode: Literal["eager", "graph", "compile"]
        self.mode = ("graph" if device.type == "cuda" else "eager") if execution == "auto" else execution
        self.reason = ""
        self._replays = False
        if self.mode == "compile":
            network.compile()

    def of(self, function: Function) -> Function:
        """Return the function to call in place of ``function``; its next call overwrites the returned tensor.

        Args:
            function: takes tensors (or ``None``) on the device, returns a tensor and does not synchronise. It may
                change the network; only itself may read the gradients that it writes.
        """
        if self.mode == "graph":
            return self._graph(function)
        return self._compiled(function) if self.mode == "compile" else function

    def _graph(self, function: Function) -> Function:
        replayed = Replayed(function)  # its memory is freed with the caller's reference

        def call(*inputs: Tensor | None) -> Tensor:
            if self.mode == "graph":
                try:
                    output = replayed(*inputs)
                except NotCapturableError as error:
                    self._fall_back(f"no CUDA graph: {error}")
                else:
                    self._replays |= replayed.graph is not None
                    return output
            return function(*inputs)

        return call

    def _compiled(self, function: Function) -> Function:
        first = True

        def call(*inputs: Tensor | None) -> Tensor:
            nonlocal first
            if not first or self.mode != "compile":
                return function(*inputs)
            first = False
            restore = _state(self.network, self.device)
            try:
                return function(*inputs)
            except Exception as error:  # compilers fail in many ways; a fault of the network itself occurs again below
                restore()
                self._fall_back(f"not compiled: {type(error).__name__}: {error}")
            return function(*inputs)

        return call

    def _fall_back(self, reason: str) -> None:
        self.mode = "eager"
        self.reason = logs.without_folders(reason.strip().partition("\n")[0])[:REASON_CHARACTERS]
        self.network._compiled_call_impl = None  # torch has no public way back from Module.compile
        print(f"execution: eager from here on; {self.reason}", flush=True)  # into the run's log

    def facts(self) -> dict[str, str]:
        """Return the execution mode in the end, and the reason of a fall-back, for a record's environment."""
        if self.mode == "graph" and not self._replays:
            return {"execution": "eager", "execution_reason": "no CUDA graph: no batch came often enough for one"}
        return {"execution": self.mode, **({"execution_reason": self.reason} if self.reason else {})}


def _state(network: nn.Module, device: torch.device) -> Callable[[], None]:
    """Copy weights, buffers and random states; return a function that restores them after a failed call."""
    copies = [(tensor, tensor.detach().clone()) for tensor in (*network.parameters(), *network.buffers())]
    random_state = torch.get_rng_state()
    random_state_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @torch.no_grad()
    def restore() -> None:
        for tensor, copy in copies:
            tensor.copy_(copy)
        torch.set_rng_state(random_state)
        if random_state_cuda is not None:
            torch.cuda.set_rng_state(random_state_cuda, device)

    return restore

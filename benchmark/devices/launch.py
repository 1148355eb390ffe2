"""Giving a run's work to its device as it was asked for, or eagerly where that cannot be, and saying which it was."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.config.execution import Execution
from benchmark.devices.cuda_graphs import Function, NotCapturableError, Replayed
from benchmark.utils import logs

REASON_CHARACTERS = 200  # of a library's message, in a record


class Launch:
    """What becomes of the functions that a run calls again and again: left as they are, replayed or compiled.

    A network for which it cannot be done is computed eagerly from then on. That is one line in the run's log and a fact
    in its record, never a failed run.
    """

    def __init__(self, network: nn.Module, device: torch.device, asked: Execution = "eager") -> None:
        """Prepare; a network that is to be compiled is so in place, and its weights keep their names.

        Args:
            network: what the functions compute with, on the device.
            device: where.
            asked: what the command line said.
        """
        self.network, self.device = network, device
        self.mode: Literal["eager", "graph", "compile"]
        self.mode = ("graph" if device.type == "cuda" else "eager") if asked == "auto" else asked
        self.reason = ""
        self._replays = False
        if self.mode == "compile":
            network.compile()

    def of(self, function: Function) -> Function:
        """Return what to call in a function's place; the returned tensor is written over by the next call.

        Args:
            function: takes tensors (or ``None``) on the device, returns one, and waits for nothing. It may leave
                gradients in the network's parameters in place of earlier ones.
        """
        if self.mode == "graph":
            return self._graph(function)
        return self._compiled(function) if self.mode == "compile" else function

    def _graph(self, function: Function) -> Function:
        replayed = Replayed(function, self.network.parameters())  # goes, with its memory, when the caller lets it go

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
        tried = False

        def call(*inputs: Tensor | None) -> Tensor:
            nonlocal tried
            if tried or self.mode != "compile":
                return function(*inputs)
            tried = True
            before = _State(self.network, self.device)
            try:
                return function(*inputs)
            except Exception as error:  # compilers fail in many ways; what is wrong with the network itself comes again
                before.restore()
                self._fall_back(f"not compiled: {type(error).__name__}: {error}")
            return function(*inputs)

        return call

    def _fall_back(self, reason: str) -> None:
        self.mode = "eager"
        self.reason = logs.without_folders(reason.strip().partition("\n")[0])[:REASON_CHARACTERS]
        self.network._compiled_call_impl = None  # torch has no public way back from Module.compile
        print(f"execution: eager from here on; {self.reason}", flush=True)  # into the run's log

    def facts(self) -> dict[str, str]:
        """Return how the functions were called in the end, and why not as asked, for a record's environment."""
        if self.mode == "graph" and not self._replays:
            return {"execution": "eager", "execution_reason": "no CUDA graph: no batch came often enough for one"}
        return {"execution": self.mode, **({"execution_reason": self.reason} if self.reason else {})}


class _State:
    """What a call may change before it fails: weights, buffers and random states."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Keep copies."""
        self.device = device
        tensors = (*network.parameters(), *network.buffers())
        self.tensors = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self.random = torch.get_rng_state()
        self.random_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back."""
        for tensor, before in self.tensors:
            tensor.copy_(before)
        torch.set_rng_state(self.random)
        if self.random_cuda is not None:
            torch.cuda.set_rng_state(self.random_cuda, self.device)

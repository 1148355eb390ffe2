"""Records the kernels of a function of tensors and replays them: CUDA graphs."""

from __future__ import annotations

import contextlib
import pickle
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Function = Callable[..., Tensor]
Inputs = tuple[Tensor | None, ...]

#: Plain calls before a capture; libraries initialise in the first (torch's notes on CUDA semantics take three).
WARM_UP = 3
#: Start of the warning of torch's debug mode when the host waits for the GPU; a graph cannot contain a wait.
WAITED = "called a synchronizing CUDA operation"

#: Graphs whose capture failed. Torch's allocators may refer to them until the process ends.
_FAILED: list[torch.cuda.CUDAGraph] = []


class NotCapturableError(NotImplementedError):
    """A CUDA graph cannot record the function, or a replay would not compute the same as a call."""


class Graph:
    """Recorded kernels of a function for inputs of one shape, with fixed memory for inputs, output and gradients."""

    def __init__(self, function: Function, inputs: Inputs, stream: torch.cuda.Stream) -> None:
        """Capture a call; the capture computes nothing.

        Args:
            function: already warmed up on the stream. It must not add to earlier gradients, and others must not read
                the gradients that it writes.
            inputs: tensors that each replay reads.
            stream: of the capture.

        Raises:
            NotCapturableError: the function cannot be captured. The random state is restored.
        """
        self.inputs = inputs
        self._graph = torch.cuda.CUDAGraph()
        pool, generator = torch.cuda.graph_pool_handle(), torch.cuda.default_generators[stream.device.index]
        random_state = generator.clone_state()
        try:
            # Other threads continue meanwhile: threads that score images, and autograd's, which belong to the call.
            capture = torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local")
            with torch.random.fork_rng(devices=[]), on_stream(stream), capture:
                self.output = function(*inputs)
        except Exception as error:  # a user's network may do anything
            with contextlib.suppress(RuntimeError):  # the allocation to the pool has ended already
                # Otherwise torch's allocators would treat the capture as running and query the graph.
                torch._C._cuda_endAllocateToPool(stream.device.index, pool)
                _FAILED.append(self._graph)
            generator.graphsafe_set_state(random_state)
            raise NotCapturableError(_first_cause(error)) from error

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Replay with other inputs of the same shapes; the next replay overwrites the output."""
        for target, source in zip(self.inputs, inputs, strict=True):
            if target is not None and source is not None:
                target.copy_(source, non_blocking=True)
        return self.replay()

    def replay(self) -> Tensor:
        """Compute again from the current content of the inputs."""
        self._graph.replay()
        return self.output


class Replayed:
    """Replays a function for the input shape that recurs, and calls it for other shapes.

    The first calls are plain calls on the later capture's stream with their usual effect: the first training steps are
    the warm-up. The last of them is checked for obstacles, because a failed capture leaves torch in an invalid state.

    Args:
        function: from tensors, the first on the GPU, to a tensor; :class:`Graph` tells its limits.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.graph: Graph | None = None
        self._shape: tuple[torch.Size | None, ...] = ()
        self._seen: Counter[tuple[torch.Size | None, ...]] = Counter()
        self._stream: torch.cuda.Stream | None = None
        self._obstacles: list[str] = []

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Compute; the next replay overwrites the output.

        Raises:
            NotCapturableError: nothing was computed; call the function itself from now on.
        """
        shape = tuple(None if tensor is None else tensor.shape for tensor in inputs)
        if self.graph is not None:
            return self.graph(*inputs) if shape == self._shape else self.function(*inputs)
        if self._obstacles:
            raise NotCapturableError("; ".join(dict.fromkeys(self._obstacles)))
        if self._stream is None:
            device = next(tensor.device for tensor in inputs if tensor is not None)
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._seen[shape] += 1
        if self._seen[shape] <= WARM_UP:
            last = self._seen[shape] == WARM_UP
            with on_stream(self._stream), obstacles(self._obstacles) if last else contextlib.nullcontext():
                return self.function(*inputs)
        copies = tuple(None if tensor is None else tensor.clone() for tensor in inputs)
        self.graph, self._shape = Graph(self.function, copies, self._stream), shape
        return self.graph.replay()


def captured(function: Function, *inputs: Tensor) -> Graph:
    """Return a function's graph, warmed up and replayed once, for measurements.

    Raises:
        NotCapturableError: the function cannot be captured.
    """
    calls = Replayed(function)
    for _ in range(WARM_UP + 1):
        calls(*inputs)
    assert calls.graph is not None
    return calls.graph


@contextlib.contextmanager
def on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Compute on a stream, after earlier and before later work of the current stream."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.device(stream.device), torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


@contextlib.contextmanager
def obstacles(phrases: list[str]) -> Iterator[None]:
    """Note everything in a call that a graph cannot record or replay.

    Args:
        phrases: gets a phrase for every wait for the GPU, and another if the host drew random numbers.
    """
    mode, random_states = torch.cuda.get_sync_debug_mode(), _host_random_states()
    with warnings.catch_warnings(record=True) as caught:  # the calls before showed all other warnings
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")
            yield
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    waits = [warning for warning in caught if str(warning.message).startswith(WAITED)]
    phrases += [f"the host waits for the GPU in {Path(wait.filename).name}, line {wait.lineno}" for wait in waits]
    if _host_random_states() != random_states:
        phrases.append("random numbers are drawn on the host")


def _host_random_states() -> bytes:
    legacy = np.random.get_state()  # noqa: NPY002  # a user's network may draw from it
    return pickle.dumps((random.getstate(), legacy, torch.get_rng_state().numpy()))


def _first_cause(error: BaseException) -> str:
    """Return the first line of the original error; the later error of the capture says little."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

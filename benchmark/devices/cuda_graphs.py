"""CUDA graphs: the kernels of a function of tensors, recorded once and launched together from then on."""

from __future__ import annotations

import contextlib
import pickle
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Function = Callable[..., Tensor]
Inputs = tuple[Tensor | None, ...]

#: Plain calls before a capture: in the first, libraries set themselves up ("Whole-network capture" in torch's notes on
#: CUDA semantics takes three).
WARM_UP = 3
#: How torch's debug mode begins to say that the host waited for the GPU, which a graph cannot.
WAITED = "called a synchronizing CUDA operation"

#: Graphs whose capture was invalidated. Torch's allocators may refer to them as long as the process lives.
_FAILED: list[torch.cuda.CUDAGraph] = []


class NotCapturableError(NotImplementedError):
    """A function that a CUDA graph cannot hold, or that would compute something else each time it is called."""


class Graph:
    """A function's kernels for inputs of one shape. Inputs, output and gradients keep their places in memory.

    The memory of everything between them is the graph's own until it is gone.
    """

    def __init__(
        self, function: Function, inputs: Inputs, parameters: Iterable[nn.Parameter], stream: torch.cuda.Stream
    ) -> None:
        """Capture a call, which computes nothing yet.

        Args:
            function: called with the inputs; warmed up on the stream.
            inputs: are kept, and read by each replay.
            parameters: whose gradients the function leaves in them, if any; it must not add to earlier ones.
            stream: to capture on.

        Raises:
            NotCapturableError: something in the function cannot be captured. The random state is what it was before,
                and everything can be computed without a graph.
        """
        self.inputs = inputs
        self._graph = torch.cuda.CUDAGraph()
        pool, generator = torch.cuda.graph_pool_handle(), torch.cuda.default_generators[stream.device.index]
        drawn = generator.clone_state()
        try:
            # Other threads go on meanwhile: those that score images, and those of autograd, which belong to the call.
            capture = torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local")
            with torch.random.fork_rng(devices=[]), on_stream(stream), capture:
                self.output = function(*inputs)
        except Exception as error:  # a user's network may do anything
            _clean_up(self._graph, stream.device.index, pool)
            generator.graphsafe_set_state(drawn)
            raise NotCapturableError(_first_cause(error)) from error
        self._gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Replay with other inputs of the same shapes; the output is written over by the next replay."""
        for kept, given in zip(self.inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given, non_blocking=True)
        return self.replay()

    def replay(self) -> Tensor:
        """Compute again from the inputs that lie there."""
        self._graph.replay()
        if self._gradients and self._gradients[0][0].grad is not self._gradients[0][1]:
            for parameter, gradient in self._gradients:  # a plain call has put others in their place
                parameter.grad = gradient
        return self.output


class Replayed:
    """A function that is replayed for inputs of the shape that recurs, and called as it is for others.

    The first calls are plain ones on the stream that is captured then, and do what they are meant to do: training is
    warmed up by its own first steps, so there is nothing to undo. The last of them is watched for what a graph cannot
    hold, because a capture that breaks off leaves parts of torch in disorder.
    """

    def __init__(self, function: Function, parameters: Iterable[nn.Parameter] = ()) -> None:
        """Name the function.

        Args:
            function: of tensors, the first of which lies on the GPU, to a tensor.
            parameters: whose gradients it leaves in them, if any.
        """
        self.function, self.parameters = function, tuple(parameters)
        self.graph: Graph | None = None
        self._shape: tuple[torch.Size | None, ...] = ()
        self._seen: Counter[tuple[torch.Size | None, ...]] = Counter()
        self._stream: torch.cuda.Stream | None = None
        self._obstacles: list[str] = []

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Compute; a replay's output is written over by the next.

        Raises:
            NotCapturableError: nothing was computed; from now on call the function itself.
        """
        shape = tuple(None if given is None else given.shape for given in inputs)
        if self.graph is not None:
            return self.graph(*inputs) if shape == self._shape else self.function(*inputs)
        if self._obstacles:
            raise NotCapturableError("; ".join(dict.fromkeys(self._obstacles)))
        if self._stream is None:
            device = next(given.device for given in inputs if given is not None)
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._seen[shape] += 1
        if self._seen[shape] <= WARM_UP:
            last = self._seen[shape] == WARM_UP
            with on_stream(self._stream), obstacles(self._obstacles) if last else contextlib.nullcontext():
                return self.function(*inputs)
        kept = tuple(None if given is None else given.clone() for given in inputs)
        self.graph, self._shape = Graph(self.function, kept, self.parameters, self._stream), shape
        return self.graph.replay()


def captured(function: Function, *inputs: Tensor) -> Graph:
    """Return a function's graph, for measurements: it is warmed up and replayed once.

    Raises:
        NotCapturableError: it cannot be captured.
    """
    calls = Replayed(function)
    for _ in range(WARM_UP + 1):
        calls(*inputs)
    assert calls.graph is not None
    return calls.graph


@contextlib.contextmanager
def on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Compute on a stream, after all that the current one has been given and before all that it is given next."""
    here = torch.cuda.current_stream(stream.device)
    stream.wait_stream(here)
    with torch.cuda.device(stream.device), torch.cuda.stream(stream):
        yield
    here.wait_stream(stream)


@contextlib.contextmanager
def obstacles(found: list[str]) -> Iterator[None]:
    """Note what in a call a graph could not hold, or would repeat where the call itself would not.

    Args:
        found: gets a phrase for every wait for the GPU, and one for random numbers that the host drew.
    """
    mode, drawn = torch.cuda.get_sync_debug_mode(), _host_random_states()
    with warnings.catch_warnings(record=True) as caught:  # other warnings were told in the calls before
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")
            yield
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    waits = [warning for warning in caught if str(warning.message).startswith(WAITED)]
    found += [f"the host waits for the GPU in {Path(wait.filename).name}, line {wait.lineno}" for wait in waits]
    if _host_random_states() != drawn:
        found.append("random numbers are drawn on the host")


def _host_random_states() -> bytes:
    legacy = np.random.get_state()  # noqa: NPY002  # what a user's network may well draw from
    states: Sequence[object] = (random.getstate(), legacy, torch.get_rng_state().numpy())
    return pickle.dumps(states)


def _clean_up(graph: torch.cuda.CUDAGraph, device: int, pool: tuple[int, int]) -> None:
    """End what an invalidated capture leaves begun: torch's allocators would take it to go on, and ask the graph."""
    with contextlib.suppress(RuntimeError):  # it has ended, as after an error that is not CUDA's
        torch._C._cuda_endAllocateToPool(device, pool)
        _FAILED.append(graph)


def _first_cause(error: BaseException) -> str:
    """Return the first line of what went wrong first: that the capture then failed says little."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

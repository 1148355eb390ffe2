"""Measures the peak memory of a forward and a training step at batch 1."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Literal, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor, nn

from benchmark.config.registry import ModelEntry
from benchmark.config.training_settings import Loss
from benchmark.devices.process_memory import (
    fits_into_memory,
    high_water_mark,
    restart_high_water_mark,
    return_freed_memory,
)
from benchmark.efficiency.allocated import AllocatedPeak
from benchmark.records.costs import CPU_MEMORY, GPU_MEMORY
from benchmark.records.efficiency_record import DType, Memory
from benchmark.training.losses import segmentation_loss
from benchmark.utils import logs, processes

StepName = Literal["forward", "train_step"]
P = ParamSpec("P")
T = TypeVar("T")

#: Copies of the weights that a training step adds: gradient, Adam's two moments, and a temporary of the same size.
STATES = 4


def measure_memory(
    entry: ModelEntry,
    image_shape: Sequence[int],
    classes: int,
    device: torch.device,
    dtype: DType,
    threads: int,
    kept: int = 0,
) -> tuple[Memory, list[str]]:
    """Measure the peak memory of one forward and of one training step (the harness's default loss, Adam).

    A training step in half precision keeps its weights in float32 and computes under autocast, as training does.

    Args:
        entry: the network; a CPU measurement builds it in another process.
        image_shape: ``(1, C, H, W)``.
        classes: channels of the logits.
        device: of the measurement.
        dtype: number format of the forward.
        threads: compute threads on a CPU.
        kept: bytes that a training step is expected to hold: the outputs of a forward's operators, which the backward
            needs again, and :data:`STATES` times the weights. For the registered networks at 512 and 1024 pixels, this
            is 0.8 to 2.2 times the measured peak; multiples of the forward's peak differ by a factor of five. A CPU
            skips the step if these bytes exceed half of the free memory, since the system might then end any process.
            A GPU only raises an error, so it tries the step.

    Returns:
        The figures, and the reason for each missing one.
    """
    peaks: dict[StepName, int | None] = {}
    problems = []
    for step in get_args(StepName):
        if step == "train_step" and device.type == "cpu" and not fits_into_memory(kept):
            peaks[step] = None
            problems.append(
                f"no peak memory of the train step: it would take about {kept / 2**30:.1f} GiB, more than half of the "
                "free memory"
            )
            continue
        try:
            if device.type == "cuda":
                peaks[step] = _allocated_peak(entry, image_shape, classes, device, dtype, step)
            else:
                peaks[step] = in_fresh_process(
                    resident_growth, entry, tuple(image_shape), classes, dtype, threads, step
                )
        except (BrokenProcessPool, MemoryError, RuntimeError, ValueError) as error:
            # torch raises a ValueError if a norm over the batch gets a single value.
            peaks[step] = None
            problems.append(f"no peak memory of the {step.replace('_', ' ')}: {reason(error)}")
    method = GPU_MEMORY if device.type == "cuda" else CPU_MEMORY
    return Memory(
        forward_peak_bytes=peaks["forward"], train_step_peak_bytes=peaks["train_step"], method=method
    ), problems


def reason(error: Exception) -> str:
    """Return in one line why a figure is missing."""
    if isinstance(error, BrokenProcessPool):
        return "the measuring process died, most likely ended by the system for lack of memory"
    return f"{type(error).__name__}: {logs.without_folders(str(error).strip().partition(chr(10))[0])}"


def _allocated_peak(
    entry: ModelEntry, image_shape: Sequence[int], classes: int, device: torch.device, dtype: DType, step: StepName
) -> int:
    peak = AllocatedPeak(device)
    network, image = _build(entry, image_shape, classes, device, dtype, step)
    peak.restart()
    _take(step, network, image, dtype)
    return peak.bytes()


def in_fresh_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in a new process that has imported torch and done nothing else.

    Raises:
        BrokenProcessPool: the process died.
        Exception: whatever the function raises.
    """
    if sys.platform == "linux":
        # A process that is forked from a server with torch starts in 50 ms instead of seconds. On other systems than
        # Linux, a fork after these imports is not safe.
        context: BaseContext = processes.FORKSERVER
        context.set_forkserver_preload([__name__, "segmentation_models_pytorch"])
    else:
        context = processes.SPAWN
    with ProcessPoolExecutor(1, mp_context=context, initializer=processes.end_with_parent) as pool:
        return pool.submit(function, *arguments, **named).result()


def resident_growth(
    entry: ModelEntry, image_shape: Sequence[int], classes: int, dtype: DType, threads: int, step: StepName
) -> int:
    """Return the largest growth of this process's resident set during a step, in bytes; for a fresh process only."""
    network, image = _build(entry, image_shape, classes, torch.device("cpu"), dtype, step)
    return peak_growth(lambda: _take(step, network, image, dtype), threads)


def peak_growth(step: Callable[[], object], threads: int) -> int:
    """Return the largest growth of this process's resident set during any call, in bytes; for a fresh process only."""
    torch.set_num_threads(threads)
    _load_kernels()
    return_freed_memory()
    before = restart_high_water_mark()
    step()
    return max(high_water_mark() - before, 0)


def _build(
    entry: ModelEntry, image_shape: Sequence[int], classes: int, device: torch.device, dtype: DType, step: StepName
) -> tuple[nn.Module, Tensor]:
    network = entry.build(in_channels=image_shape[1], classes=classes).to(device)
    image = torch.rand(*image_shape, device=device)
    if step == "train_step":
        return network.train(), image
    return network.eval().to(getattr(torch, dtype)), image.to(getattr(torch, dtype))


def _take(step: StepName, network: nn.Module, image: Tensor, dtype: DType) -> None:
    if step == "forward":
        with torch.inference_mode():
            network(image)
        return
    optimizer = torch.optim.Adam(network.parameters())
    with torch.autocast(image.device.type, dtype=getattr(torch, dtype), enabled=dtype != "float32"):
        logits = network(image)
    loss = segmentation_loss(logits, torch.zeros_like(logits), Loss())
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated
    optimizer.step()


def _load_kernels() -> None:
    """Run every kind of kernel once, since the pages of library code do not count as the network's memory."""
    layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.PReLU(), nn.Flatten(), nn.Linear(8 * 36, 1))
    optimizer = torch.optim.Adam(layers.parameters())
    layers(torch.rand(2, 1, 8, 8)).sum().backward()
    optimizer.step()

"""Measures one network at one input size on one device."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from benchmark.config.code_identity import code_digest
from benchmark.config.registry import ModelEntry
from benchmark.devices.facts import cpu_name
from benchmark.devices.precision import computes_bfloat16, float32_precision, using_threads
from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.efficiency.conditions import describe_changes
from benchmark.efficiency.hindrance import TRIES, hindrances, measure_undisturbed
from benchmark.efficiency.latency import measure_latency, measure_throughput, memory_format
from benchmark.efficiency.limits import measure_limits
from benchmark.efficiency.macs import compare_with_fvcore, count_macs
from benchmark.efficiency.memory import STATES, measure_memory, reason
from benchmark.efficiency.parameters import split_parameters
from benchmark.efficiency.traffic import count_traffic
from benchmark.records.claims import machine
from benchmark.records.efficiency_record import (
    MEASURING,
    DType,
    EfficiencyRecord,
    EfficiencySettings,
    Latency,
    Limits,
    Memory,
    Origin,
    Throughput,
)
from benchmark.records.environment import kernel_variables
from benchmark.records.weights import load_weights, read_weights
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted
from models.shapes import shadow

#: Pixels: fvcore computes a forward of this side, which takes milliseconds and leaves a pixel after five halvings.
CHECKED_SIDE = 64


@dataclass(frozen=True)
class _Times:
    """One try at all figures that other work can disturb."""

    before: Limits | None
    after: Limits | None
    latency: Latency
    energy_j_per_image: float | None
    throughput: Throughput | None
    throughput_s: float  # time that the budget left for throughput
    freed_memory_kept: bool
    hindered: tuple[str, ...]


def measure(
    entry: ModelEntry,
    height: int,
    width: int,
    *,
    in_channels: int = 1,
    classes: int = 1,
    device: str = "cpu",
    dtype: DType = "float32",
    threads: int | None = None,
    settings: EfficiencySettings | None = None,
    weights: Path | None = None,
    known: Iterable[EfficiencyRecord] = (),
    rates: Callable[[torch.device, DType], Limits] = measure_limits,
    judge: Callable[..., tuple[str, ...]] = hindrances,
) -> EfficiencyRecord:
    """Measure a network, with freshly initialised weights or a file's; nothing else should run meanwhile.

    Without a budget, times are measured again if other work used the device. Torch's random state and number of threads
    do not change.

    Args:
        entry: the network, a registered one or a user's ``path/to/file.py:Class``.
        height: of the input, pixels.
        width: of the input, pixels.
        in_channels: channels of the input.
        classes: channels of the logits.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: number format that weights and input are cast to for the timings and the forward's memory.
        threads: compute threads on a CPU; the process's own number by default.
        settings: duration and form; :meth:`EfficiencySettings.for_device` by default.
        weights: a file of the timed network's weights; ``None`` for random ones. Memory is always of random ones.
        known: earlier figures of this machine, with the rates that the device reached.
        rates: measures the device's rates.
        judge: returns the signs of other work, as :func:`~benchmark.efficiency.hindrance.hindrances`.

    Raises:
        UserError: the network does not take the size, the weights are another network's, or the device is missing.
        UnsupportedFormError: the network cannot be compiled or replayed here.
    """
    settings = settings or EfficiencySettings.for_device(device)
    target = torch.device(device)
    _check(entry, height, width, device)
    image_shape = (1, in_channels, height, width)
    on_gpu = target.type == "cuda"
    with _random_state_kept(target), using_threads(threads) as used_threads:
        network = entry.build(in_channels=in_channels, classes=classes).eval()
        content = read_weights(weights) if weights else b""
        if weights:
            load_weights(network, weights, content)
        uncomputed = shadow(network)
        params, unused = split_parameters(uncomputed, image_shape)
        macs, notes = _count_macs(entry, network, uncomputed, image_shape)
        notes += [f"timed with the weights of {weights.name}"] if weights else []
        read, written = count_traffic(uncomputed.to(getattr(torch, dtype)), image_shape)
        memory: Memory | None = None
        # Memory is always that of the eager form. For other forms it only limits the batch sizes of a CPU.
        if settings.memory and (settings.form == "eager" or not on_gpu):
            held = written + STATES * sum(parameter.nbytes for parameter in network.parameters())
            memory, problems = measure_memory(entry, image_shape, classes, target, dtype, used_threads, held)
            notes += problems
        if dtype == "bfloat16" and not computes_bfloat16(target):
            notes.append("the device lists no instructions for bfloat16: it is emulated, and slower for that")
        layout = memory_format(settings)
        network = network.to(target, getattr(torch, dtype)).to(memory_format=layout)
        if settings.compile_mode is not None:
            network.compile(mode=settings.compile_mode)
        image = torch.rand(image_shape).to(target, getattr(torch, dtype)).contiguous(memory_format=layout)
        name = torch.cuda.get_device_name(target) if on_gpu else cpu_name()
        precision = float32_precision() if on_gpu else "ieee"
        setting = (name, dtype, precision, used_threads, torch.__version__)
        reference = [
            limits
            for record in known
            if (record.device_name, record.dtype, record.float32_precision, record.threads, record.torch) == setting
            for limits in (record.limits, record.limits_after)
            if limits
        ]

        def attempt() -> _Times:
            before = _limits(target, dtype, notes, rates)
            # As in training and predict; otherwise the kernel's zeroing of pages would dominate large images.
            with keeping_freed_memory() as kept:
                started = time.perf_counter()
                latency, energy = measure_latency(network, image, settings)
                throughput_s = _left_for_throughput(settings, latency, time.perf_counter() - started)
                throughput = measure_throughput(
                    network,
                    image,
                    settings.model_copy(update={"throughput_seconds": throughput_s}),
                    memory.forward_peak_bytes if memory else None,
                )
            after = _limits(target, dtype, notes, rates)
            hindered = judge(latency.waited, before, after, reference)
            return _Times(before, after, latency, energy, throughput, throughput_s, kept, hindered)

        times, tries = measure_undisturbed(
            attempt,
            lambda times: times.hindered,
            lambda times: times.latency.p50_ms,
            1 if settings.budget_seconds else TRIES,
        )
        notes += _cut_short(settings, times.latency, times.throughput_s)
    latency = times.latency
    total = sum(macs.values())
    return EfficiencyRecord(
        schema=1,
        model=entry.name,
        model_version=entry.version,
        network_code=code_digest(entry),
        weights=hashlib.sha256(content).hexdigest()[:16] if weights else None,
        height=height,
        width=width,
        in_channels=in_channels,
        classes=classes,
        device="cuda" if on_gpu else "cpu",
        device_name=name,
        dtype=dtype,
        float32_precision=precision,
        threads=used_threads,
        torch=torch.__version__,
        settings=settings,
        params=params,
        unused_params=unused,
        macs=total,
        flops=2 * total,
        macs_by_operator=macs,
        bytes_moved=read + written,
        limits=times.before,
        limits_after=times.after,
        tries=tries,
        hindered=times.hindered,
        origin=_origin(),
        freed_memory="kept" if times.freed_memory_kept and not on_gpu else None,
        latency=latency,
        throughput=times.throughput,
        memory=memory if settings.form == "eager" else None,
        energy_j_per_image=times.energy_j_per_image,
        warnings=(
            *dict.fromkeys(notes),
            *describe_changes(latency.before, latency.after, latency.raw_ms, used_threads),
        ),
    )


def _origin() -> Origin:
    return Origin(
        machine=machine(),
        measuring=MEASURING,
        variables=kernel_variables(),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _check(entry: ModelEntry, height: int, width: int, device: str) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device!r}: torch sees no CUDA device; use --device cpu")
    if min(height, width) < 1 or height % entry.multiple or width % entry.multiple:
        raise UserError(
            f"model {entry.name!r} takes heights and widths that are multiples of {entry.multiple}, "
            f"found {height}x{width}; choose another --sizes"
        )


def _count_macs(
    entry: ModelEntry, network: nn.Module, shadow: nn.Module, image_shape: tuple[int, int, int, int]
) -> tuple[dict[str, int], list[str]]:
    """Return the MACs per operator and notes; users' networks are compared with fvcore, registered ones in a test."""
    macs, uncounted = count_macs(shadow, image_shape)
    notes = [f"torch counts no MACs for {', '.join(uncounted)}: they are left out"] if uncounted else []
    if entry.family == "user":
        small = -(-CHECKED_SIDE // entry.multiple) * entry.multiple
        batch, channels, height, width = image_shape
        notes += compare_with_fvcore(network, (batch, channels, min(height, small), min(width, small)))
    return macs, notes


def _limits(
    device: torch.device, dtype: DType, notes: list[str], rates: Callable[[torch.device, DType], Limits]
) -> Limits | None:
    try:
        return rates(device, dtype)
    except (MemoryError, RuntimeError) as error:
        notes.append(f"no limits of the device: {reason(error)}")
        return None


def _left_for_throughput(settings: EfficiencySettings, latency: Latency, spent: float) -> float:
    """Return the seconds for throughput; 0 if the budget is too short for a warm-up and a timing of one image."""
    if settings.budget_seconds is None:
        return settings.throughput_seconds
    left = min(settings.throughput_seconds, settings.budget_seconds - spent)
    return left if left >= 2 * latency.p50_ms / 1e3 else 0.0


def _cut_short(settings: EfficiencySettings, latency: Latency, throughput_s: float) -> list[str]:
    """Return a note on the parts that the budget left out, if any."""
    omissions = []
    if latency.warm_ups is not None and latency.warm_ups < settings.warm_up:
        omissions.append(counted(latency.warm_ups, "warm-up"))
    if len(latency.raw_ms) < settings.min_iterations:
        omissions.append(f"latency from n = {len(latency.raw_ms)} timings")
    if settings.throughput_seconds and not throughput_s:
        omissions.append("no throughput")
    return [f"cut short by the budget of {settings.budget_seconds:g} s: {', '.join(omissions)}"] if omissions else []


@contextlib.contextmanager
def _random_state_kept(target: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(0)
        yield

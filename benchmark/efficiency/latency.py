"""Times forwards: latency at batch 1 and throughput over batch sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmark.devices.cuda_graphs import NotCapturableError, captured
from benchmark.devices.device_errors import ran_out_of_memory
from benchmark.devices.process_memory import fits_into_memory
from benchmark.efficiency.conditions import energy_joules, read_conditions
from benchmark.efficiency.hindrance import Waits
from benchmark.records.efficiency_record import ENERGY_SECONDS, BatchThroughput, EfficiencySettings, Latency, Throughput

Step = Callable[[], object]

#: Taken even beyond the budget: fewer timings give no useful median.
MIN_WARM_UPS, MIN_TIMINGS = 1, 3
#: Largest share of the budget for the warm-up; the timings get the rest.
WARM_UP_SHARE = 0.25


class UnsupportedFormError(NotImplementedError):
    """The network, device or machine does not support a form of the forward."""


@torch.inference_mode()
def measure_latency(network: nn.Module, image: Tensor, settings: EfficiencySettings) -> tuple[Latency, float | None]:
    """Time forwards of one image that already lies on the device, for no longer than the settings' budget.

    Args:
        network: in eval mode, on the image's device.
        image: ``(1, C, H, W)``.
        settings: warm-up and duration.

    Returns:
        The timings, and the energy per image in joules. A GPU that reports its energy is timed for at least
        ``ENERGY_SECONDS``. The energy is ``None`` on other devices and with a budget.

    Raises:
        UnsupportedFormError: the network cannot be compiled, or the device or it has no CUDA graph.
    """
    device = image.device
    step = prepare_forward(network, image, settings)
    started = time.perf_counter()
    warm_ups = _warm_up(step, settings, device)
    before, energy_before = read_conditions(device), energy_joules(device)
    until = None if settings.budget_seconds is None else started + settings.budget_seconds
    if until is not None:
        energy_before = None
    elif energy_before is not None and settings.min_seconds < ENERGY_SECONDS:
        settings = settings.model_copy(update={"min_seconds": ENERGY_SECONDS})
    waits = Waits(torch.get_num_threads())
    raw_ms = time_steps(step, settings, device, until)
    waited = waits.share() if device.type == "cpu" else None
    energy_after, after = energy_joules(device), read_conditions(device)
    used = None if energy_before is None or energy_after is None else (energy_after - energy_before) / len(raw_ms)
    return Latency.from_raw(raw_ms, before, after, warm_ups, waited), used


def _warm_up(step: Step, settings: EfficiencySettings, device: torch.device) -> int:
    """Warm up and return the number of forwards; a budget may leave time for a few only."""
    until = time.perf_counter() + WARM_UP_SHARE * (settings.budget_seconds or math.inf)
    done = 0
    while done < settings.warm_up and (done < MIN_WARM_UPS or time.perf_counter() < until):
        step()
        done += 1
        if settings.budget_seconds is not None:
            _synchronize(device)  # otherwise a GPU's forwards would only be queued
    _synchronize(device)
    return done


def time_steps(
    step: Step, settings: EfficiencySettings, device: torch.device, until: float | None = None
) -> list[float]:
    """Time a step repeatedly, in milliseconds; a GPU is timed by its own clock.

    Args:
        step: the work, warmed up.
        settings: least number and least total duration of the timings.
        device: of the work.
        until: reading of ``time.perf_counter`` after which only the first :data:`MIN_TIMINGS` are still taken.
    """
    if device.type == "cuda":
        return _time_by_events(step, settings, device, until)
    return _time_by_clock(step, settings, until)


def measure_in_turn(
    steps: Mapping[str, Step], settings: EfficiencySettings, prepare: Callable[[str], None] = lambda name: None
) -> dict[str, Latency]:
    """Time several steps on the CPU in turn, so that changes of the machine affect all of them alike.

    Each timed step follows an untimed run of the same step, which clears caches and busily waiting threads of the other
    steps.

    Args:
        steps: by name.
        settings: warm-up, least number of timings of each step, least seconds of all timings together.
        prepare: called with a step's name before its untimed run.
    """
    device = torch.device("cpu")
    for name, step in steps.items():
        prepare(name)
        for _ in range(settings.warm_up):
            step()
    before = read_conditions(device)
    lost_s: list[float | None] = []
    raw_ms: dict[str, list[float]] = {name: [] for name in steps}
    spent = 0.0
    while len(next(iter(raw_ms.values()))) < settings.min_iterations or spent < settings.min_seconds:
        for name, step in steps.items():
            prepare(name)
            step()
            # Not before the untimed run: threads of the other steps would count as other work.
            waits = Waits(torch.get_num_threads())
            start = time.perf_counter()
            step()
            seconds = time.perf_counter() - start
            lost_s.append(waits.lost_s())
            raw_ms[name].append(seconds * 1e3)
            spent += seconds
    after = read_conditions(device)
    waited = None if None in lost_s else min(sum(filter(None, lost_s)) / spent, 1.0)
    return {name: Latency.from_raw(values, before, after, waited=waited) for name, values in raw_ms.items()}


def _time_by_clock(step: Step, settings: EfficiencySettings, until: float | None) -> list[float]:
    raw_ms: list[float] = []
    end = time.perf_counter() + settings.min_seconds
    while _goes_on(len(raw_ms), settings, end, until):
        start = time.perf_counter()
        step()
        raw_ms.append((time.perf_counter() - start) * 1e3)
    return raw_ms


def _goes_on(timings: int, settings: EfficiencySettings, end: float, until: float | None) -> bool:
    if until is not None and timings >= MIN_TIMINGS and time.perf_counter() >= until:
        return False
    return timings < settings.min_iterations or time.perf_counter() < end


def _time_by_events(
    step: Step, settings: EfficiencySettings, device: torch.device, until: float | None = None
) -> list[float]:
    """Time by the GPU's own clock, synchronising once; the launch queue is short, so the host cannot run far ahead."""
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    with torch.cuda.device(device):
        end = time.perf_counter() + settings.min_seconds
        while _goes_on(len(events), settings, end, until):
            start, stop = _timing_event(), _timing_event()
            start.record()
            step()
            stop.record()
            events.append((start, stop))
        torch.cuda.synchronize()
    return [start.elapsed_time(stop) for start, stop in events]


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it unannotated


@torch.inference_mode()
def measure_throughput(
    network: nn.Module, image: Tensor, settings: EfficiencySettings, bytes_per_image: int | None
) -> Throughput | None:
    """Try batch sizes in turn and keep the one with the most images per second.

    All batch sizes get equal time. Each is tried with one warm-up and at least one timed forward. A batch size that
    would exceed the remaining time or the memory ends the tries.

    Args:
        network: in eval mode, on the image's device.
        image: ``(1, C, H, W)``.
        settings: batch sizes and seconds.
        bytes_per_image: peak memory of one forward at batch 1, if known.

    Returns:
        ``None`` if the settings leave throughput out or the first batch size does not fit.
    """
    tried: list[BatchThroughput] = []
    stopped: str | None = None
    started = time.perf_counter()
    for batch in settings.throughput_batches if settings.throughput_seconds else ():
        left = settings.throughput_seconds - (time.perf_counter() - started)
        if tried and 2 * batch / tried[-1].images_per_second > left:
            stopped = f"batch {batch} would outlast the {settings.throughput_seconds:g} s for throughput"
            break
        if image.device.type == "cpu" and bytes_per_image is not None and not fits_into_memory(batch * bytes_per_image):
            stopped = f"batch {batch} would need more than half of the free memory"
            break
        share = settings.throughput_seconds / len(settings.throughput_batches)
        try:
            images = image.repeat(batch, 1, 1, 1).contiguous(memory_format=memory_format(settings))
            step = prepare_forward(network, images, settings)
            tried.append(BatchThroughput(batch=batch, images_per_second=_images_per_second(step, images, share)))
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            memory = "the GPU's memory" if image.device.type == "cuda" else "memory"
            stopped = f"batch {batch} does not fit into {memory}"
            break
    if not tried:
        return None
    best = max(tried, key=lambda row: row.images_per_second)
    return Throughput(
        batch=best.batch,
        images_per_second=best.images_per_second,
        tried=tuple(tried),
        stopped=stopped,
        energy_j_per_image=_energy_per_image(network, image, best, settings),
    )


def _energy_per_image(
    network: nn.Module, image: Tensor, best: BatchThroughput, settings: EfficiencySettings
) -> float | None:
    """Return the joules that a GPU uses per image of a batch, or ``None`` if it does not report its energy.

    Forwards run for at least ``ENERGY_SECONDS``; the host synchronises about once a second to read the clock.
    """
    device = image.device
    if energy_joules(device) is None or settings.budget_seconds is not None:
        return None
    images = image.repeat(best.batch, 1, 1, 1).contiguous(memory_format=memory_format(settings))
    step = prepare_forward(network, images, settings)
    at_once = max(1, int(best.images_per_second / best.batch))
    step()
    _synchronize(device)
    before, forwards = energy_joules(device), 0
    end = time.perf_counter() + ENERGY_SECONDS
    while time.perf_counter() < end:
        for _ in range(at_once):
            step()
        _synchronize(device)
        forwards += at_once
    after = energy_joules(device)
    return None if before is None or after is None else (after - before) / (forwards * best.batch)


def _images_per_second(step: Step, images: Tensor, seconds: float) -> float:
    start = time.perf_counter()
    step()
    _synchronize(images.device)
    warm_up = time.perf_counter() - start
    count = max(1, int((seconds - warm_up) / warm_up))
    start = time.perf_counter()
    for _ in range(count):
        step()
    _synchronize(images.device)
    return len(images) * count / (time.perf_counter() - start)


def prepare_forward(network: nn.Module, images: Tensor, settings: EfficiencySettings) -> Step:
    """Return a forward in the settings' form, already compiled or captured.

    Raises:
        UnsupportedFormError: the network cannot be compiled, or captured as a CUDA graph.
    """
    if settings.form == "eager":
        return lambda: network(images)
    try:
        if settings.form == "graph":
            return captured(network, images).replay
        network(images)
    except Exception as error:  # compilers fail in many ways
        cause = error.__cause__ if isinstance(error, NotCapturableError) else error
        if cause is not None and ran_out_of_memory(cause):
            raise cause from None
        words = " ".join(str(error).split("\n\n")[0].split())
        raise UnsupportedFormError(f"{settings.form}: {type(error).__name__}: {words}") from error
    return lambda: network(images)


def memory_format(settings: EfficiencySettings) -> torch.memory_format:
    """Return torch's constant for the settings' memory format."""
    return torch.channels_last if settings.memory_format == "channels_last" else torch.contiguous_format


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

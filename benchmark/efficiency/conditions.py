"""Reads clocks, load and energy of a device around a measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import median

import torch

from benchmark.devices import facts, nvml
from benchmark.records.efficiency_record import TOLERANCE, Conditions

#: Cores that other work may keep busy before a measurement is marked.
LOAD_TOLERANCE = 1.0
#: Seconds, the time constant of the shortest load average of a system.
LOAD_AVERAGE_S = 60.0


def read_conditions(device: torch.device) -> Conditions:
    """Read clock and load; takes about a millisecond."""
    clock = _gpu_clock_mhz(device) if device.type == "cuda" else facts.cpu_clock_mhz("current")
    return Conditions(clock_mhz=clock, load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None)


def _gpu_clock_mhz(device: torch.device) -> float | None:
    # Not torch.cuda.clock_rate: it raises if the driver refuses the request.
    return nvml.ask(str(device), lambda lib, gpu: float(lib.nvmlDeviceGetClockInfo(gpu, lib.NVML_CLOCK_SM)))


def energy_joules(device: torch.device) -> float | None:
    """Return the energy that a GPU has used since its driver was loaded; ``None`` if the GPU does not report it.

    The difference of two readings is the energy of the whole board, idle power included.
    """
    if device.type != "cuda":
        return None
    return nvml.ask(str(device), lambda library, gpu: float(library.nvmlDeviceGetTotalEnergyConsumption(gpu)) / 1000)


def describe_changes(before: Conditions, after: Conditions, raw_ms: Sequence[float], threads: int) -> list[str]:
    """Describe the changes of clocks, load and latency during a measurement; empty if it was steady.

    Args:
        before: conditions after the warm-up.
        after: conditions after the last timing.
        raw_ms: the timings.
        threads: cores that the measurement itself keeps busy.
    """
    changes = []
    if before.clock_mhz and after.clock_mhz and _differ(before.clock_mhz, after.clock_mhz):
        changes.append(
            f"clocks moved from {before.clock_mhz:.0f} to {after.clock_mhz:.0f} MHz while latency was measured"
        )
    if before.load_average is not None and after.load_average is not None:
        own = threads * min(sum(raw_ms) / 1000 / LOAD_AVERAGE_S, 1.0)
        # The average still contains the harness's own last job, which never exceeds the number of cores.
        if before.load_average > (os.cpu_count() or 1) + LOAD_TOLERANCE:
            changes.append(f"the machine was busy before latency was measured (load average {before.load_average:.1f})")
        if after.load_average - before.load_average > own + LOAD_TOLERANCE:
            changes.append(
                f"load average rose from {before.load_average:.1f} to {after.load_average:.1f} "
                "while latency was measured"
            )
    half = len(raw_ms) // 2
    if half and _differ(first := median(raw_ms[:half]), second := median(raw_ms[half:])):
        changes.append(f"latency drifted from {first:.2f} to {second:.2f} ms between the first and the second half")
    return changes


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > TOLERANCE * max(first, second)

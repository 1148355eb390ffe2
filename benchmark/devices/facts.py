"""Reads the processor's name, clock and features, and the GPU driver's version."""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path
from typing import Literal

import psutil

from benchmark.devices import nvml


@functools.cache
def cpu_name() -> str:
    """Return the processor's model name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 by itself, as the system lists its features (Linux only)."""
    try:
        words = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})  # x86 AVX-512, x86 AMX, Arm


def cpu_clock_mhz(which: Literal["current", "max"]) -> float | None:
    """Return the processor's mean clock or the highest it can reach, where the system tells."""
    try:
        clock = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError):
        return None  # psutil has it on some systems only, and a container may hide it
    value = getattr(clock, which, None)
    return float(value) if value else None


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver that is loaded, as the kernel or the management library tells it."""
    try:
        loaded = Path("/proc/driver/nvidia/version").read_text("utf-8")
    except OSError:  # not Linux, or under WSL, where the driver is Windows's
        return nvml.ask(None, lambda library, _: str(library.nvmlSystemGetDriverVersion()))
    found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", loaded)
    return found[1] if found else None

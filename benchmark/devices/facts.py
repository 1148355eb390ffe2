"""Reads the processor's name, clock and features, and the GPU driver's version."""

from __future__ import annotations

import contextlib
import functools
import platform
import re
from pathlib import Path
from typing import Literal

import psutil

from benchmark.devices import nvml


@functools.cache
def cpu_name() -> str:
    """Return the processor's model name."""
    name = re.search(r"^model name.*?:(.*)", _cpu_info(), re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine()


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Tell whether the processor has bfloat16 instructions (``False`` on other systems than Linux)."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(_cpu_info().split())  # x86 AVX-512, x86 AMX, Arm


def _cpu_info() -> str:
    with contextlib.suppress(OSError):  # not Linux
        return Path("/proc/cpuinfo").read_text("utf-8")
    return ""


def cpu_clock_mhz(kind: Literal["current", "max"]) -> float | None:
    """Return the processor's mean or highest clock, ``None`` where the system does not report it."""
    try:
        clock = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError):
        return None  # psutil supports some systems only, and a container may hide the clock
    value = getattr(clock, kind, None)
    return float(value) if value else None


def driver_version() -> str | None:
    """Return the version of the loaded NVIDIA driver, from the kernel or the management library."""
    try:
        loaded = Path("/proc/driver/nvidia/version").read_text("utf-8")
    except OSError:  # not Linux, or under WSL, where the driver is Windows's
        return nvml.ask(None, lambda library, _: str(library.nvmlSystemGetDriverVersion()))
    version = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", loaded)
    return version[1] if version else None

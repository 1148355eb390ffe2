"""What a number was measured on: versions and hardware, without any host, user or path."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import psutil

import benchmark

PACKAGES = ("torch", "numpy", "scipy", "timm", "segmentation-models-pytorch", "fvcore", "scikit-image", "pillow")


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


def describe(device: str, threads: int) -> dict[str, Any]:
    """Return versions and hardware for a record.

    Args:
        device: ``cpu`` or ``cuda:N``; the GPU's name is read through torch.
        threads: compute threads of the run.
    """
    facts: dict[str, Any] = {
        "benchmark": benchmark.__version__,
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "threads": threads,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts

"""Devices that flags name: what is there, told without importing torch where that can be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.costs import Hardware


class MissingDeviceError(UserError):
    """A device that a flag names and this machine lacks."""


def hardware_of(device: str, threads: int | None, flag: str = "--device") -> Hardware:
    """Resolve a device that a flag names; importing torch is spared where no NVIDIA driver is loaded."""
    from benchmark.costs import Hardware

    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise UserError(f"{flag} {device!r}: expected auto, cpu, cuda or cuda:N")
    cpu = Hardware("cpu", threads or cores())
    if kind == "cpu" or (kind == "auto" and not _may_have_gpu()):
        return cpu
    import torch

    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        if kind == "auto":
            return cpu
        raise MissingDeviceError(
            f"{flag} {device!r}: torch sees {torch.cuda.device_count()} CUDA device(s); use {flag} cpu"
        )
    gpus = [int(index)] if index else range(torch.cuda.device_count())
    return Hardware(f"cuda:{gpus[0]}", threads or cores(), gpus=tuple(f"cuda:{number}" for number in gpus))


def _may_have_gpu() -> bool:
    """Tell whether an NVIDIA driver is there and not hidden; importing torch only to hear no takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return any(Path("/proc/driver/nvidia").glob("version")) or shutil.which("nvidia-smi") is not None


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

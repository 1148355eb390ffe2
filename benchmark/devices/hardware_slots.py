"""Finds the devices that flags name and divides them into slots for runs."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

#: Environment variables that hide all GPUs of NVIDIA and AMD from a process. Every run on the CPU gets them, since its
#: network may look for GPUs and Ray shows all GPUs to a task without GPUs.
NO_GPUS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "")
)
#: Files that exist with a GPU: of NVIDIA's loaded driver, of WSL (two, with the driver of Windows), of AMD's driver.
DRIVER, WSL, WSL_DRIVER, AMD = map(
    Path, ("/proc/driver/nvidia/version", "/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1", "/dev/kfd")
)
#: Oldest driver for each major version of CUDA ("CUDA Toolkit Release Notes", minor version compatibility).
LEAST_DRIVER = {"11": "450", "12": "525", "13": "580"}
INSTALL_TORCH = "pytorch.org, Get started"
SMALL_INPUT = 128  # pixels; several threads speed up kernels on larger maps, parallel runs are better on smaller maps
WORKER_BYTES = 3 << 30  # the largest network's training on small inputs takes half of this
NODE_THREADS = 4  # of a run on a cluster, whose nodes may have other cores than this machine


@dataclass(frozen=True)
class Hardware:
    """The devices that compute runs.

    Attributes:
        device: ``cpu``, or ``cuda:N``, the GPU of measurements.
        threads: CPU threads of all workers together, and of a measurement, which runs alone.
        workers: runs at a time, on each GPU or on the CPU.
        gpus: all GPUs that share the runs.
        remote: whether other machines compute the runs; the other fields then describe one run's share there.
    """

    device: str
    threads: int
    workers: int = 1
    gpus: tuple[str, ...] = ()
    remote: bool = False

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.device.partition(":")[0]

    @property
    def slots(self) -> tuple[str | None, ...]:
        """A device for each run at a time; ``None`` for the device that the run names."""
        return self.workers * (self.gpus or (None,))

    def with_slots(self, *, workers: int | None, per_gpu: int, input_size: int) -> Hardware:
        """Return the same hardware with the number of parallel runs that the flags give.

        Args:
            workers: of ``--workers``; by default one run, or a run for each core of a CPU where inputs are small.
            per_gpu: of ``--per-gpu``, runs that share a GPU.
            input_size: side of the largest input, pixels.
        """
        if self.remote:
            return self  # the cluster assigns its machines itself
        if self.kind == "cuda":
            return replace(self, workers=per_gpu)
        if workers is None and input_size <= SMALL_INPUT:
            import psutil

            workers = min(self.threads, psutil.virtual_memory().available // WORKER_BYTES)
        return replace(self, workers=max(workers or 1, 1))

    @property
    def threads_each(self) -> int:
        """CPU threads of one run."""
        return max(self.threads // len(self.slots), 1)


class MissingDeviceError(UserError):
    """A device that a flag names and this machine lacks."""


def hardware_of(device: str, threads: int | None, flag: str = "--device") -> Hardware:
    """Resolve a device that a flag names; imports torch only where a sign of a GPU is found.

    If ``auto`` takes the CPU in spite of a sign, the reason goes to stderr.

    Raises:
        UserError: not the name of a device.
        MissingDeviceError: this machine lacks the device.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise UserError(f"{flag} {device!r}: expected auto, cpu, cuda or cuda:N")
    cpu = Hardware("cpu", threads or cores())
    if kind == "cpu" or (kind == "auto" and not _signs_of_a_gpu()):
        return cpu
    import torch

    with warnings.catch_warnings(record=True) as caught:  # the message below quotes them
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        reason = "" if count else _why_unseen([str(warning.message) for warning in caught])
        if kind == "auto":
            print(f"benchmark: computing on the CPU, since {reason}", file=sys.stderr)
            return cpu
        raise MissingDeviceError(
            f"{flag} {device!r}: torch sees {counted(count, 'CUDA device')}{reason and f'; {reason}'}; use {flag} cpu"
        )
    gpus = [int(index)] if index else range(count)
    return Hardware(f"cuda:{gpus[0]}", threads or cores(), gpus=tuple(f"cuda:{number}" for number in gpus))


def hardware_of_node(device: str, threads: int | None, executor: str) -> Hardware:
    """Return one run's share of a cluster's node, from the flags of the same names.

    Raises:
        UserError: ``device`` is neither ``cpu`` nor ``cuda``.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"--device {device}: with --executor {executor} say --device cuda or --device cpu; "
            "what this machine has tells nothing about the nodes"
        )
    name, gpus = ("cuda:0", ("cuda:0",)) if device == "cuda" else ("cpu", ())
    return Hardware(name, threads or NODE_THREADS, gpus=gpus, remote=True)


def _signs_of_a_gpu() -> list[str]:
    """Return signs of a GPU that is not hidden, without the seconds that an import of torch takes."""
    signs = {
        "NVIDIA's driver is loaded": DRIVER.is_file() or shutil.which("nvidia-smi") is not None,
        "WSL passes a GPU of NVIDIA through": WSL.exists() and WSL_DRIVER.exists(),
        "AMD's driver is loaded": AMD.exists(),
    }
    return [] if _hiding_variable() else [sign for sign, present in signs.items() if present]


def _hiding_variable() -> str:
    """Return the environment variable that hides all GPUs, blank for none."""
    return next((name for name in NO_GPUS if os.environ.get(name, "0").strip() in ("", "-1")), "")


def _why_unseen(warned: Sequence[str]) -> str:
    """Explain why torch, which gave these warnings, sees no GPU, and what to install."""
    import torch

    from benchmark.devices import facts

    if variable := _hiding_variable():
        return f"{variable}={os.environ[variable]} hides all"
    signs, driver, cuda, rocm = _signs_of_a_gpu(), facts.driver_version(), torch.version.cuda, torch.version.hip
    words = ", ".join(signs) or "no driver of a GPU is found"
    words += f" (version {driver})" if driver is not None else ""
    platform = f"ROCm {rocm}" if rocm else f"CUDA {cuda}" if cuda else "CPUs only"
    words += f", torch {torch.__version__} is built for {platform}"
    words += f" and says: {warned[0].strip().partition(chr(10))[0]}" if warned else ""
    if not signs:
        return f"{words}: install the GPU's driver"
    if signs == ["AMD's driver is loaded"]:
        if rocm is None:
            return f"{words}: where ROCm supports the GPU, install torch built for ROCm ({INSTALL_TORCH})"
        return f"{words}: the user may not open {AMD} (groups render and video), or ROCm does not support the GPU"
    if cuda is None:
        return f"{words}: install torch built for CUDA ({INSTALL_TORCH})"
    needed = LEAST_DRIVER.get(cuda.partition(".")[0], "a newer one")
    if driver is not None and needed.isdigit() and int(driver.partition(".")[0]) >= int(needed):
        return f"{words}: the driver is new enough, so look at CUDA_VISIBLE_DEVICES and at what `nvidia-smi` says"
    return (
        f"{words}, which needs driver {needed} or newer: update it, or install torch built for an older CUDA "
        f"({INSTALL_TORCH})"
    )


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

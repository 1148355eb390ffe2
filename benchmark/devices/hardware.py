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

#: Environment variables that hide all GPUs of NVIDIA and AMD from a process. A run on the CPU gets them, whatever its
#: network does, and whatever an engine shows it (Ray shows a task without GPUs all of them).
NO_GPUS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "")
)
#: Files that tell of a GPU: NVIDIA's loaded driver has one, WSL two where Windows has that driver, AMD's driver one.
DRIVER, WSL, WSL_DRIVER, AMD = map(
    Path, ("/proc/driver/nvidia/version", "/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1", "/dev/kfd")
)
#: Oldest driver for each major version of CUDA ("CUDA Toolkit Release Notes", minor version compatibility).
LEAST_DRIVER = {"11": "450", "12": "525", "13": "580"}
INSTALL_TORCH = "pytorch.org, Get started"
SMALL_INPUT = 128  # pixels; kernels on larger maps gain from several threads, on smaller ones runs side by side do
WORKER_BYTES = 3 << 30  # the largest network's training on small inputs takes half of this
NODE_THREADS = 4  # of a run on a cluster; all cores of this machine say nothing there


@dataclass(frozen=True)
class Hardware:
    """Where runs are computed.

    Attributes:
        device: ``cpu``, or the GPU that measurements are made on, as ``cuda:N``.
        threads: CPU threads of all workers together, and of a measurement, which has nothing beside it.
        workers: runs at a time, on each GPU where there are any.
        gpus: all GPUs that runs are spread over.
        remote: whether runs are computed on other machines; the other fields are then what one run gets there.
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
        """A device for each run at a time; ``None`` for the one that a run names."""
        return self.workers * (self.gpus or (None,))

    def with_slots(self, *, workers: int | None, per_gpu: int, input_size: int) -> Hardware:
        """Return the same hardware with as many runs at a time as the flags say.

        Args:
            workers: what ``--workers`` says; by default one run, or one for each core of a CPU where inputs are small.
            per_gpu: what ``--per-gpu`` says: runs that share a GPU.
            input_size: side of the largest input, pixels.
        """
        if self.remote:
            return self  # the cluster divides its machines itself
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
    """Resolve a device that a flag names; importing torch is spared where nothing tells of a GPU.

    Where something does and ``auto`` takes the CPU all the same, why is printed among the errors.

    Raises:
        UserError: no name of a device.
        MissingDeviceError: a device that is not there.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise UserError(f"{flag} {device!r}: expected auto, cpu, cuda or cuda:N")
    cpu = Hardware("cpu", threads or cores())
    if kind == "cpu" or (kind == "auto" and not _signs_of_a_gpu()):
        return cpu
    import torch

    with warnings.catch_warnings(record=True) as caught:  # what torch warns of is said below
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        reason = "" if count else _why_unseen([str(warning.message) for warning in caught])
        if kind == "auto":
            print(f"benchmark: computing on the CPU, since {reason}", file=sys.stderr)
            return cpu
        raise MissingDeviceError(
            f"{flag} {device!r}: torch sees {count} CUDA device(s){reason and f'; {reason}'}; use {flag} cpu"
        )
    gpus = [int(index)] if index else range(count)
    return Hardware(f"cuda:{gpus[0]}", threads or cores(), gpus=tuple(f"cuda:{number}" for number in gpus))


def hardware_of_node(device: str, threads: int | None, executor: str) -> Hardware:
    """Return what one run gets on a cluster's node.

    Args:
        device: what ``--device`` says.
        threads: what ``--threads`` says.
        executor: what ``--executor`` says.

    Raises:
        UserError: a device that only a look at the node could find.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"--device {device}: with --executor {executor} say --device cuda or --device cpu; "
            "what this machine has tells nothing about the nodes"
        )
    name, gpus = ("cuda:0", ("cuda:0",)) if device == "cuda" else ("cpu", ())
    return Hardware(name, threads or NODE_THREADS, gpus=gpus, remote=True)


def _signs_of_a_gpu() -> list[str]:
    """Name what tells of a GPU that is not hidden; importing torch only to hear no takes seconds."""
    if _hiding():
        return []
    signs = {
        "NVIDIA's driver is loaded": DRIVER.is_file() or shutil.which("nvidia-smi") is not None,
        "WSL passes a GPU of NVIDIA through": WSL.exists() and WSL_DRIVER.exists(),
        "AMD's driver is loaded": AMD.exists(),
    }
    return [sign for sign, there in signs.items() if there]


def _hiding() -> str:
    """Name the environment variable that hides all GPUs, if one does."""
    return next((name for name in NO_GPUS if os.environ.get(name, "0").strip() in ("", "-1")), "")


def _why_unseen(warned: Sequence[str]) -> str:
    """Say why torch sees no GPU, as far as can be told, and what to install.

    Args:
        warned: torch's warnings when it was asked.
    """
    import torch

    from benchmark.devices import facts

    if hiding := _hiding():
        return f"{hiding}={os.environ[hiding]} hides all"
    signs, driver, cuda = _signs_of_a_gpu(), facts.driver_version(), torch.version.cuda
    on_amd = signs == ["AMD's driver is loaded"]
    there = ", ".join(signs) or "no driver of a GPU is found"
    if driver is not None:
        there += f" (version {driver})"
    built = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {cuda}" if cuda else "CPUs only"
    words = f"{there}, torch {torch.__version__} is built for {built}"
    if warned:
        words += f" and says: {warned[0].strip().partition(chr(10))[0]}"
    if not signs:
        return f"{words}: install the GPU's driver"
    if on_amd and torch.version.hip is None:
        return f"{words}: where ROCm supports the GPU, install torch built for ROCm ({INSTALL_TORCH})"
    if on_amd:
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

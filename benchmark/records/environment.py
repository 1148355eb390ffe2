"""What a number was measured on: code, versions and hardware, without any host, user or path."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmark.devices import nvml
from benchmark.records import provenance

PACKAGES = ("torch", "numpy", "scipy", "timm", "segmentation-models-pytorch", "fvcore", "scikit-image", "pillow")
#: Environment variables that choose kernels, their precision or their threads. None of them holds a path.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_DYNAMIC", "OMP_PROC_BIND", "KMP_AFFINITY"),
    *("MKL_CBWR", "MKL_DYNAMIC", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUDA_LAUNCH_BLOCKING"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
)


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


def kernel_variables() -> dict[str, str]:
    """Return the environment variables that choose kernels, their precision or their threads, where they are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def describe(device: str, threads: int) -> dict[str, Any]:
    """Return code, versions and hardware for a record.

    Args:
        device: ``cpu`` or ``cuda:N``; the GPU's facts are read through torch.
        threads: compute threads of the run.
    """
    return {
        "code": provenance.code(),
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_clock_max_mhz": cpu_clock_mhz("max"),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "threads": threads,
        "variables": kernel_variables(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        **(_gpu(device) if device.startswith("cuda") else {}),
    }


def _gpu(device: str) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": torch.cuda.get_device_name(device),
        "gpu_memory_bytes": properties.total_memory,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "gpu_clock_max_mhz": nvml.ask(device, lambda lib, gpu: lib.nvmlDeviceGetMaxClockInfo(gpu, lib.NVML_CLOCK_SM)),
        "gpu_power_limit_w": nvml.ask(device, lambda lib, gpu: lib.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    }


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver that is loaded, as the kernel or the management library tells it."""
    try:
        loaded = Path("/proc/driver/nvidia/version").read_text("utf-8")
    except OSError:  # not Linux, or under WSL, where the driver is Windows's
        return nvml.ask(None, lambda library, _: str(library.nvmlSystemGetDriverVersion()))
    found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", loaded)
    return found[1] if found else None


def computing(device: str) -> dict[str, Any]:
    """Return what this process computes with; torch is imported, and asked in the worker that does the run."""
    import torch

    return {
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **({"float32_precision": float32_precision()} if device.startswith("cuda") else {}),
    }


def float32_precision() -> str:
    """Return what a GPU's float32 kernels may round to: TF32 is torch's default for convolutions."""
    from benchmark.devices.precision import rounds_to_tf32

    convolution = "tf32" if rounds_to_tf32("convolutions") else "ieee"
    return f"convolution {convolution}, matmul {'high' if rounds_to_tf32('products') else 'highest'}"

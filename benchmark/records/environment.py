"""Describes code, versions and hardware of a measurement, without host, user or path."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from typing import Any

import psutil

from benchmark.devices import nvml
from benchmark.devices.facts import cpu_clock_mhz, cpu_name, driver_version
from benchmark.records import provenance

PACKAGES = ("torch", "numpy", "scipy", "timm", "segmentation-models-pytorch", "fvcore", "scikit-image", "pillow")
#: Environment variables that choose kernels, their precision or their threads; none holds a path.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_DYNAMIC", "OMP_PROC_BIND", "KMP_AFFINITY"),
    *("MKL_CBWR", "MKL_DYNAMIC", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUDA_LAUNCH_BLOCKING"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
)


def kernel_variables() -> dict[str, str]:
    """Return those of :data:`VARIABLES` that are set."""
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
        "packages": dict(_versions()),
        **(_gpu(device) if device.startswith("cuda") else {}),
    }


@functools.cache  # a look at all of them takes 20 ms, and each run asks
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, importlib.metadata.version(name)) for name in PACKAGES)


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


def computing(device: str) -> dict[str, Any]:
    """Return threads and kernels of torch in this process; call it in the worker that does the run."""
    import torch

    from benchmark.devices.precision import float32_precision

    return {
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **({"float32_precision": float32_precision()} if device.startswith("cuda") else {}),
    }

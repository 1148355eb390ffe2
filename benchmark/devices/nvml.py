"""Asking NVIDIA's management library about the GPU that torch means, where nvidia-ml-py and the driver allow it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def ask(device: str | None, question: Callable[[Any, Any], Answer]) -> Answer | None:
    """Return the answer to a question about a GPU, or ``None`` where it cannot be had.

    Args:
        device: ``cuda`` or ``cuda:N``, as torch counts; ``None`` for a question about the driver.
        question: takes the module ``pynvml`` and the GPU's handle, ``None`` without a device.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        if device is None:
            return question(nvml, None)
        import torch

        # By UUID, since CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's.
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return question(nvml, handle)
    except (nvml.NVMLError, AttributeError):
        return None  # no such library or function, an older GPU, a part of one (MIG), or a driver that forbids it

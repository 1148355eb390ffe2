"""Asks NVIDIA's management library (NVML) about a GPU of torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def ask(device: str | None, question: Callable[[Any, Any], Answer]) -> Answer | None:
    """Return the answer to a question about a GPU; ``None`` without nvidia-ml-py or a driver that answers.

    Args:
        device: ``cuda`` or ``cuda:N`` as torch counts; ``None`` for a question about the driver.
        question: takes the module ``pynvml`` and the GPU's handle (``None`` without a device).
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
        return None  # the library or function is missing, the GPU is old or partitioned (MIG), or the driver forbids it

"""Recognises errors of devices and their libraries by the words of their messages."""

from __future__ import annotations

import torch

#: Memory is exhausted: torch's host allocator, CUDA runtime and driver, cuBLAS, cuDNN before and from 9, ROCm, Triton.
_EXHAUSTED = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "HIP error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "Triton Error [HIP]: out of memory",
)
#: A library failed to start, often because no memory was left for its handle or its workspace.
_STRANDED = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "unable to find an engine to execute this computation",
)
#: The device's context may be broken; the process must not compute any more.
_BROKEN = (
    *("CUDA error", "CUDA driver error", "cuDNN error", "cuDNN Frontend error", "CUDNN_STATUS_", "CUBLAS_STATUS_"),
    *("Triton Error [", "HIP error", "MIOpen Error", "miopenStatus"),
    *_STRANDED,
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error reports exhausted memory of the host or the device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in _EXHAUSTED)


def may_lack_memory(error: BaseException) -> bool:
    """Tell whether exhausted memory is a likely cause of an error that does not mention memory."""
    return any(sign in str(error) for sign in _STRANDED)


def broke_the_device(error: BaseException) -> bool:
    """Tell whether a GPU's driver or library failed, so that the device's context may be broken."""
    return any(sign in str(error) for sign in _BROKEN)

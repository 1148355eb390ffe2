"""Errors that devices and their libraries raise without an exception of their own, known by their words."""

from __future__ import annotations

import torch

#: Memory ran out: torch's allocator of the host, the CUDA runtime and driver, cuBLAS, cuDNN before 9 and since, ROCm,
#: Triton.
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
#: A library got nowhere: often, but not always, because no memory was left for its handle or its workspace.
_STRANDED = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "unable to find an engine to execute this computation",
)
#: The device's context may be broken: nothing more should be computed in the process.
_BROKEN = (
    *("CUDA error", "CUDA driver error", "cuDNN error", "cuDNN Frontend error", "CUDNN_STATUS_", "CUBLAS_STATUS_"),
    *("Triton Error [", "HIP error", "MIOpen Error", "miopenStatus"),
    *_STRANDED,
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the host's or the device's memory was exhausted."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in _EXHAUSTED)


def may_lack_memory(error: BaseException) -> bool:
    """Tell whether exhausted memory is a likely cause of an error that does not name it."""
    return any(sign in str(error) for sign in _STRANDED)


def broke_the_device(error: BaseException) -> bool:
    """Tell whether a GPU's driver or one of its libraries failed, so that its context may be broken."""
    return any(sign in str(error) for sign in _BROKEN)

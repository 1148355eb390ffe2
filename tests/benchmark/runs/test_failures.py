"""Tests the kinds of failures, and the advice in their messages."""

from __future__ import annotations

import errno

import pytest
import torch

from benchmark.runs.failures import describe_failure
from benchmark.utils.errors import UserError


def caused(cause: OSError) -> UserError:
    """As writing a file fails."""
    error = UserError("cannot be written")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError(), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), "out_of_memory"),
        (RuntimeError("CUDA driver error: out of memory"), "out_of_memory"),
        (RuntimeError("HIP error: out of memory"), "out_of_memory"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "cuda_error"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"), "cuda_error"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "cuda_error"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), "cuda_error"),
        (RuntimeError("CUDA driver error: invalid argument"), "cuda_error"),
        (RuntimeError("HIP error: an illegal memory access was encountered"), "cuda_error"),
        (RuntimeError("miopenStatusInternalError"), "cuda_error"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (UserError("x"), "bad_input"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "cuda_error"),
        (caused(OSError(errno.ENOSPC, "No space left on device")), "disk_full"),
        (caused(OSError(errno.EACCES, "Permission denied")), "bad_input"),
        (RuntimeError("\"prelu_cpu\" not implemented for 'Half'"), "unsupported"),
        (RuntimeError("x"), "error"),
    ],
)
def test_failures_are_typed(error: Exception, kind: str) -> None:
    assert describe_failure(error).kind == kind


@pytest.mark.parametrize(
    "said", ["CUDNN_STATUS_NOT_INITIALIZED", "unable to find an engine to execute this computation"]
)
def test_library_that_may_lack_memory_brings_the_memory_advice(said: str) -> None:
    assert describe_failure(RuntimeError(said), "take fewer").message.endswith("often memory has run out: take fewer")
    assert "take fewer" not in describe_failure(RuntimeError("CUDA error: unknown error"), "take fewer").message

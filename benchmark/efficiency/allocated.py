"""Measures the peak memory of a piece of work on a GPU."""

from __future__ import annotations

import gc

import torch


class AllocatedPeak:
    """Peak memory of the work that follows, without what the process held before.

    cuBLAS keeps a workspace for good once a process has multiplied matrices (32 MiB on a Hopper GPU, 8 MiB before), so
    without clearing it the first network measured in a process would seem smaller than the same one later.
    """

    def __init__(self, device: torch.device) -> None:
        """Free all unused memory; the rest does not count."""
        self.device = device
        # Functions below do not do it, and fail in a process that has not used the GPU yet.
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        gc.collect()
        torch.cuda.synchronize(device)
        torch._C._cuda_clearCublasWorkspaces()  # torch has no public name for it
        torch.cuda.empty_cache()
        self._before = torch.cuda.memory_allocated(device)
        self.restart()

    def restart(self) -> None:
        """Forget earlier peaks; memory that was taken since the beginning and is still held counts."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)

    def bytes(self) -> int:
        """Wait until the device is idle; return the peak of tensors and libraries."""
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - self._before

    def reserved_bytes(self) -> int:
        """Return the peak of the memory that torch kept from other processes."""
        return torch.cuda.max_memory_reserved(self.device)

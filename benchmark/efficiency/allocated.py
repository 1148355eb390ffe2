"""Measures the peak memory of a piece of work on a GPU."""

from __future__ import annotations

import gc

import torch


class AllocatedPeak:
    """Peak memory of the work after its creation, without the memory that the process held before.

    After its first product of matrices, a process keeps a workspace of cuBLAS (32 MiB on a Hopper GPU, 8 MiB on older
    ones). If it were not cleared, a process's first network would seem to need more memory than later ones.
    """

    def __init__(self, device: torch.device) -> None:
        """Free all unused memory; memory that is still held afterwards does not count."""
        self.device = device
        # The functions below fail in a process that has not used the GPU yet.
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        gc.collect()
        torch.cuda.synchronize(device)
        torch._C._cuda_clearCublasWorkspaces()  # torch has no public name for it
        torch.cuda.empty_cache()
        self._before = torch.cuda.memory_allocated(device)
        self.restart()

    def restart(self) -> None:
        """Forget earlier peaks; memory that was allocated since the creation and is still held counts."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)

    def bytes(self) -> int:
        """Wait until the device is idle; return the peak of tensors and libraries."""
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - self._before

    def reserved_bytes(self) -> int:
        """Return the peak of the memory that torch kept from other processes."""
        return torch.cuda.max_memory_reserved(self.device)

"""Measures and controls the memory (resident set) of this process."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

#: Parameters of glibc's mallopt(3): their values in a process that has freed large blocks, and ours.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_USUAL = ((_M_MMAP_MAX, 1 << 16), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 64 << 20))
_KEEPING = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, (1 << 31) - 1))

#: Largest share of the free memory that is tried: the system would end a process that takes more on a CPU.
MEMORY_SHARE = 0.5


def fits_into_memory(needed_bytes: int, device: torch.device | None = None) -> bool:
    """Tell whether a number of bytes is at most half of the free memory of a device, by default the CPU's."""
    if device is None or device.type == "cpu":
        return needed_bytes <= MEMORY_SHARE * psutil.virtual_memory().available
    import torch

    # Torch gives a process's next tensors the memory that it keeps from other processes and does not use.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return needed_bytes <= MEMORY_SHARE * (torch.cuda.mem_get_info(device)[0] + unused)


def return_freed_memory() -> None:
    """Return the C library's freed blocks to the system, so that their reuse counts as growth."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[bool]:
    """Keep freed large blocks in this process for reuse within the context.

    glibc returns blocks of 32 MiB and more to the system at once, so that every large map of a network gets new pages,
    which the kernel fills with zeros: a third of a UNet's forward at 512x512. The peak of memory stays the same. Other
    C libraries do not change.

    Yields:
        Whether freed blocks are kept.
    """
    try:
        yield keep_freed_memory()
    finally:
        free_as_usual()


def keep_freed_memory() -> bool:
    """Keep freed large blocks until :func:`free_as_usual`; tell whether the C library does."""
    return _set_malloc(_KEEPING)


def free_as_usual() -> None:
    """End :func:`keep_freed_memory` and return the kept blocks to the system."""
    _set_malloc(_USUAL)
    return_freed_memory()


def _set_malloc(options: Sequence[tuple[int, int]]) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        return 0 not in [library.mallopt(option, value) for option, value in options]
    return False


def restart_high_water_mark() -> int:
    """Reset the high-water mark where the system supports that; return the current resident bytes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it: the mark then includes earlier work
            Path("/proc/self/clear_refs").write_text("5")  # 5 resets the peak resident set, see proc(5)
    return int(psutil.Process().memory_info().rss)


def high_water_mark() -> int:
    """Return this process's largest resident set in bytes."""
    if sys.platform == "linux":
        # getrusage would return the parent's mark, inherited at exec.
        status = Path("/proc/self/status").read_text("utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS

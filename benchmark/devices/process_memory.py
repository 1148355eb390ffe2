"""Measures and steers the memory that this process holds."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

#: Parameters of glibc's mallopt(3) with what they are in a process that has freed large blocks, and what they become.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_USUAL = ((_M_MMAP_MAX, 1 << 16), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 64 << 20))
_KEEPING = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, (1 << 31) - 1))

#: Share of the free memory that something may be expected to need before it is not tried on a CPU, where the system
#: would end the whole process; a GPU merely refuses the allocation.
MEMORY_SHARE = 0.5


def fits_into_memory(needed: int) -> bool:
    """Tell whether so many bytes are at most half of what the system has free."""
    return needed <= MEMORY_SHARE * psutil.virtual_memory().available


def return_freed_memory() -> None:
    """Hand what the C library keeps of freed blocks back to the system, so that reusing it shows as growth."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[bool]:
    """Let this process keep large blocks that it frees for their next use, for a while.

    glibc takes blocks of 32 MiB and more from the system and gives them back when they are freed, so that every large
    map of a network is made of new pages, which the kernel fills with zeros first: a third of a UNet's forward at
    512x512. The peak stays what it is; between peaks the process does not shrink. Other C libraries are left alone.

    Yields:
        Whether memory is kept.
    """
    try:
        yield keep_freed_memory()
    finally:
        free_as_usual()


def keep_freed_memory() -> bool:
    """Start what :func:`keeping_freed_memory` does for a while; tell whether the C library has taken it."""
    return _set_malloc(_KEEPING)


def free_as_usual() -> None:
    """End it, and hand back what was kept."""
    _set_malloc(_USUAL)
    return_freed_memory()


def _set_malloc(options: Sequence[tuple[int, int]]) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        return 0 not in [library.mallopt(option, value) for option, value in options]
    return False


def restart_high_water_mark() -> int:
    """Let the high-water mark start anew where the system can; return the resident bytes that growth counts from."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it: the mark then also covers the building
            Path("/proc/self/clear_refs").write_text("5")  # 5 resets the peak resident set, see proc(5)
    return int(psutil.Process().memory_info().rss)


def high_water_mark() -> int:
    """Return this process's largest resident set in bytes."""
    if sys.platform == "linux":
        # Not getrusage: its mark is inherited from the parent at exec.
        status = Path("/proc/self/status").read_text("utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS

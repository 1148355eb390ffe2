"""How much memory this process holds at most: its resident set and that set's high-water mark."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import psutil


def return_freed_memory() -> None:
    """Hand what the C library keeps of freed blocks back to the system, so that reusing it shows as growth."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


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

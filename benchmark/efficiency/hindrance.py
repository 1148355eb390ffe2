"""Detects other work on the device during a measurement, and measures again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import psutil

from benchmark.devices.hardware_slots import cores
from benchmark.records.efficiency_record import HINDERED_SHARE, TOLERANCE, Limits

T = TypeVar("T")

#: Something that comes and goes is gone by the third; what stays is said.
TRIES = 3


def waited_s() -> dict[str, float]:
    """Return the seconds that each thread of this process was ready without a processor; empty where unknown."""
    seconds = {}
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended
            seconds[file.parent.name] = int(file.read_text("ascii").split()[1]) / 1e9
    return seconds


def stolen_s() -> float:
    """Return the processor time that a virtual machine's host has given to others, where the system tells."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


class Waits:
    """Watches, from its creation on, for how much of the time this process lacks a processor."""

    def __init__(
        self,
        threads: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], dict[str, float]] = waited_s,
        stolen: Callable[[], float] = stolen_s,
    ) -> None:
        """Begin.

        Args:
            threads: that compute; more than there are cores wait for each other, so that nothing is told.
            clock: seconds.
            waited: seconds by thread.
            stolen: seconds of all processors.
        """
        self._threads, self._clock, self._waited, self._stolen = threads, clock, waited, stolen
        self._began, self._before, self._given = clock(), waited(), stolen()

    def share(self) -> float | None:
        """Return the share of the time in which the thread that waited longest had no processor; as :meth:`lost_s`."""
        seconds, lost = self._clock() - self._began, self.lost_s()
        return None if lost is None or seconds <= 0 else min(lost / seconds, 1.0)

    def lost_s(self) -> float | None:
        """Return for how long the thread that waited longest had no processor; ``None`` where nothing tells."""
        after = self._waited()
        if not after or self._threads > cores():
            return None
        longest = max(total - self._before.get(thread, 0.0) for thread, total in after.items())
        return longest + (self._stolen() - self._given) / self._threads


def hindrances(
    waited: float | None, before: Limits | None = None, after: Limits | None = None, reference: Iterable[Limits] = ()
) -> tuple[str, ...]:
    """Return the signs that other work had the device during a measurement; empty where there are none.

    The first measurement of a machine has the processor's own account and two rates to compare, later ones also what
    the device has reached before. Nothing raises these rates, so the best of them is the device's.

    Args:
        waited: as :meth:`Waits.share` returns it; ``None`` where nobody tells, and for a GPU.
        before: what the device reached just before.
        after: what it reached just after.
        reference: what it reached at other times.
    """
    reasons = []
    if waited is not None and waited > TOLERANCE:
        reasons.append(f"the processor was taken away for {waited:.0%} of the time")
    moments = {"just before": before, "just after": after}
    for work, rate in (("a matrix product", _product), ("a copy", _copy)):
        best = max((rate(limits) for limits in (before, after, *reference) if limits), default=0.0)
        reasons += [
            f"{work} {when} ran at {rate(limits) / best:.0%} of the best rate known"
            for when, limits in moments.items()
            if limits and rate(limits) < HINDERED_SHARE * best
        ]
    return tuple(reasons)


def _product(limits: Limits) -> float:
    return limits.macs_per_second


def _copy(limits: Limits) -> float:
    return limits.bytes_per_second


def undisturbed(
    attempt: Callable[[], T], hindered: Callable[[T], object], seconds: Callable[[T], float], tries: int = TRIES
) -> tuple[T, int]:
    """Measure until nothing hinders it, and return the measurement and the number of tries.

    Args:
        attempt: measures.
        hindered: tells whether something hindered a measurement.
        seconds: of a measurement; where all tries were hindered, the shortest is the least hindered.
        tries: at most.
    """
    done = [attempt()]
    while hindered(done[-1]) and len(done) < tries:
        done.append(attempt())
    return (min(done, key=seconds) if hindered(done[-1]) else done[-1]), len(done)

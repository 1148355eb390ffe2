"""Detects other work on the device during a measurement, and measures again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import psutil

from benchmark.devices.hardware_slots import cores
from benchmark.records.efficiency_record import HINDERED_SHARE, TOLERANCE, Limits

T = TypeVar("T")

#: Passing load is mostly gone at the third try; lasting load is reported.
TRIES = 3


def waited_s() -> dict[str, float]:
    """Return the seconds that each thread of this process was ready without a processor; empty if unknown."""
    seconds = {}
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended
            seconds[file.parent.name] = int(file.read_text("ascii").split()[1]) / 1e9
    return seconds


def stolen_s() -> float:
    """Return the processor time that a virtual machine's host gave to others; 0 if the system does not report it."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


class Waits:
    """Measures, from its creation on, how long this process waits for a processor."""

    def __init__(
        self,
        threads: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], dict[str, float]] = waited_s,
        stolen: Callable[[], float] = stolen_s,
    ) -> None:
        """Take the first readings.

        Args:
            threads: number of computing threads; more threads than cores wait for each other, so nothing is reported.
            clock: returns seconds.
            waited: returns seconds by thread.
            stolen: returns seconds of all processors.
        """
        self._threads, self._clock, self._waited, self._stolen = threads, clock, waited, stolen
        self._began, self._before, self._given = clock(), waited(), stolen()

    def share(self) -> float | None:
        """Return :meth:`lost_s` as a share of the time since the creation."""
        seconds, lost = self._clock() - self._began, self.lost_s()
        return None if lost is None or seconds <= 0 else min(lost / seconds, 1.0)

    def lost_s(self) -> float | None:
        """Return the seconds without a processor of the thread that waited longest; ``None`` if unknown."""
        after = self._waited()
        if not after or self._threads > cores():
            return None
        longest = max(total - self._before.get(thread, 0.0) for thread, total in after.items())
        return longest + (self._stolen() - self._given) / self._threads


def hindrances(
    waited: float | None, before: Limits | None = None, after: Limits | None = None, reference: Iterable[Limits] = ()
) -> tuple[str, ...]:
    """Return the signs of other work on the device during a measurement; empty without signs.

    The rates just before and just after are compared with the best rate known. Other work only lowers these rates, so
    the best of them is that of the free device.

    Args:
        waited: as :meth:`Waits.share` returns it; ``None`` if unknown, and for a GPU.
        before: the device's rates just before.
        after: its rates just after.
        reference: its rates at other times.
    """
    signs = []
    if waited is not None and waited > TOLERANCE:
        signs.append(f"the processor was taken away for {waited:.0%} of the time")
    moments = {"just before": before, "just after": after}
    rates = {"a matrix product": attrgetter("macs_per_second"), "a copy": attrgetter("bytes_per_second")}
    for work, rate in rates.items():
        best = max((rate(limits) for limits in (before, after, *reference) if limits), default=0.0)
        signs += [
            f"{work} {when} ran at {rate(limits) / best:.0%} of the best rate known"
            for when, limits in moments.items()
            if limits and rate(limits) < HINDERED_SHARE * best
        ]
    return tuple(signs)


def measure_undisturbed(
    measure: Callable[[], T], hindered: Callable[[T], object], duration: Callable[[T], float], tries: int = TRIES
) -> tuple[T, int]:
    """Measure until nothing hinders it; return the measurement and the number of tries.

    Args:
        measure: takes one measurement.
        hindered: returns whether something hindered a measurement.
        duration: of a measurement; if all tries were hindered, the shortest is returned as the least hindered.
        tries: at most.
    """
    measurements = [measure()]
    while hindered(measurements[-1]) and len(measurements) < tries:
        measurements.append(measure())
    last = measurements[-1]
    return (min(measurements, key=duration) if hindered(last) else last), len(measurements)

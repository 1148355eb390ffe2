"""Measures the time, memory, energy and clocks of a whole run."""

from __future__ import annotations

import time

import torch

from benchmark.devices.process_memory import high_water_mark, restart_high_water_mark, return_freed_memory
from benchmark.efficiency.allocated import AllocatedPeak
from benchmark.efficiency.conditions import energy_joules, read_conditions
from benchmark.records.run_record import RunCost


class Meter:
    """Reads clocks and counters when it is created, and again in :meth:`cost`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        return_freed_memory()  # earlier runs of this process do not count
        restart_high_water_mark()
        self._allocated = AllocatedPeak(device) if device.type == "cuda" else None
        self._before, self._energy = read_conditions(device), energy_joules(device)
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def forget_peak(self) -> None:
        """Forget the peak of the GPU's memory so far; memory that is still held counts."""
        if self._allocated is not None:
            self._allocated.restart()

    def cost(self, *, test_seconds: float, earlier_seconds: float) -> RunCost:
        """Return the cost since the start; waits until the device is idle.

        Args:
            test_seconds: part of the time that the test took.
            earlier_seconds: training in sessions before this one.
        """
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
        wall, processor = time.perf_counter() - self._wall, time.process_time() - self._processor
        energy = energy_joules(self.device)
        return RunCost(
            wall_seconds=wall,
            test_seconds=test_seconds,
            earlier_seconds=earlier_seconds,
            device_seconds=wall if on_gpu else processor,
            peak_host_bytes=high_water_mark(),
            peak_gpu_bytes=self._allocated and self._allocated.bytes(),
            reserved_gpu_bytes=self._allocated and self._allocated.reserved_bytes(),
            energy_joules=None if energy is None or self._energy is None else energy - self._energy,
            before=self._before,
            after=read_conditions(self.device),
        )

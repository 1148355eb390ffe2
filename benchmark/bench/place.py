"""Where comparisons are measured, how long, and what is written down about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmark.bench.records import SCHEMA, Comparison
from benchmark.efficiency.records import EfficiencySettings
from benchmark.environment import cpu_name


@dataclass(frozen=True)
class Place:
    """A device with the number of compute threads and the length of every measurement.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        threads: compute threads on a CPU.
        timing: of a pair of ways: warm-ups and timings of each, seconds of both together.
        rounds: how often both ways of longer work are done in turn.
    """

    kind: str
    threads: int
    timing: EfficiencySettings
    rounds: int

    @property
    def device(self) -> torch.device:
        """The device as torch calls it."""
        return torch.device(self.kind)

    def wait(self) -> None:
        """Return when the device has done what it was told."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def comparison(self, **facts: object) -> Comparison:
        """Return a comparison that was made here."""
        return Comparison.model_validate(
            {
                "schema": SCHEMA,
                "model": None,
                "size": None,
                "device": self.kind,
                "device_name": torch.cuda.get_device_name() if self.kind == "cuda" else cpu_name(),
                "dtype": "float32",
                "threads": self.threads,
                "torch": torch.__version__,
                "plain": (),
                **facts,
            }
        )

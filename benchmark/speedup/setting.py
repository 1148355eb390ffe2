"""Where comparisons are measured, how long, and what is written down about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmark.devices.precision import using_threads
from benchmark.records import environment
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.speedup_record import SCHEMA, SpeedupComparison


@dataclass(frozen=True)
class Place:
    """A device with the number of compute threads and the length of every measurement.

    Attributes:
        name: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: compute threads on a CPU.
        timing: of a pair of ways: warm-ups and timings of each, seconds of both together.
        rounds: how often both ways of longer work are done in turn.
        facts: what every comparison's environment says beside what this process knows.
    """

    name: str
    threads: int
    timing: EfficiencySettings
    rounds: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.device.type

    @property
    def device(self) -> torch.device:
        """The device as torch calls it."""
        return torch.device(self.name)

    def wait(self) -> None:
        """Return when the device has done what it was told."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.device)

    def comparison(self, **facts: object) -> SpeedupComparison:
        """Return a comparison that was made here."""
        with using_threads(self.threads):
            made_with = environment.describe(self.name, self.threads) | environment.computing(self.name)
        return SpeedupComparison.model_validate(
            {
                "schema": SCHEMA,
                "model": None,
                "size": None,
                "device": self.kind,
                "device_name": made_with.get("gpu", made_with["cpu"]),
                "dtype": "float32",
                "threads": self.threads,
                "torch": torch.__version__,
                "plain": (),
                "environment": {**made_with, **self.facts},
                **facts,
            }
        )

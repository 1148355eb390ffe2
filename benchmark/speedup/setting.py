"""Names the device, threads and duration of a comparison, and makes its record."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from benchmark.devices.precision import using_threads
from benchmark.records import environment
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.speedup_record import SCHEMA, SpeedupComparison

Way = Literal["plain", "ours"]


@dataclass(frozen=True)
class SpeedupSetting:
    """A device, its compute threads and the duration of every measurement.

    Attributes:
        name: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: compute threads on a CPU.
        timing: warm-ups and timings of each way, seconds of both ways together.
        rounds: repetitions of longer work, both ways in turn.
        facts: entries that every comparison's environment has beside those that this process knows.
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
        """Wait until the device is idle."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.device)

    def images_per_second(self, images: int, work: Callable[[], object]) -> list[float]:
        """Return the speed of work on a number of images."""
        started = time.perf_counter()
        work()
        self.wait()
        return [images / (time.perf_counter() - started)]

    def in_turn(self, measure: Callable[[Way], Iterable[float]]) -> dict[Way, list[float]]:
        """Measure both ways in turn, round after round; return the values of each."""
        values: dict[Way, list[float]] = {"plain": [], "ours": []}
        with using_threads(self.threads):
            for _, way in itertools.product(range(self.rounds), values):
                values[way] += measure(way)
        return values

    def comparison(self, **facts: object) -> SpeedupComparison:
        """Return the record of a comparison on this device."""
        with using_threads(self.threads):
            described = environment.describe(self.name, self.threads) | environment.computing(self.name)
        return SpeedupComparison.model_validate(
            {
                "schema": SCHEMA,
                "model": None,
                "size": None,
                "device": self.kind,
                "device_name": described.get("gpu", described["cpu"]),
                "dtype": "float32",
                "threads": self.threads,
                "torch": torch.__version__,
                "plain": (),
                "environment": {**described, **self.facts},
                **facts,
            }
        )

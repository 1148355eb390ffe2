"""The units of work that executors take: plain data that names no torch object, so that a plan needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from benchmark import seeds
from benchmark.data.tasks import Task
from benchmark.protocol import Protocol
from benchmark.records import KeyParts, Record
from benchmark.registry import ModelEntry
from benchmark.store import run_key

KeepWeights = Literal["best-repeat", "all", "none"]
OnStep = Callable[[int, int], None]

#: cuBLAS repeats itself only where it finds one of two values at its first product in a process (its documentation,
#: "Results reproducibility"); without them torch refuses deterministic products.
CUBLAS: Mapping[str, str] = MappingProxyType({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"})


@dataclass(frozen=True)
class TrainJob:
    """One run: one network trained on a dataset, or several, for one repeat, then tested.

    Attributes:
        study: the study's folder.
        entry: the network.
        task: the datasets to train and to test on.
        repeat: which of the random repeats.
        protocol: all settings.
        key_parts: what the record's key is made of.
        efficiency: names of the study's efficiency files that belong to this run.
        cache: where packs live.
        device: ``cpu`` or ``cuda:N``.
        threads: compute threads on the CPU.
        keep_weights: ``best-repeat`` keeps those of the repeat with the lowest validation loss.
    """

    study: Path
    entry: ModelEntry
    task: Task
    repeat: int
    protocol: Protocol
    key_parts: KeyParts
    efficiency: tuple[str, ...]
    cache: Path
    device: str
    threads: int
    keep_weights: KeepWeights

    exclusive: ClassVar[bool] = False

    @property
    def variables(self) -> Mapping[str, str]:
        """What a worker's environment must hold from its start on."""
        return CUBLAS if self.protocol.determinism == "deterministic" else {}

    @property
    def label(self) -> str:
        """How terminal lines call the run."""
        return f"{self.task.name} {self.entry.name} repeat {self.repeat}"

    def record(self, **fields: object) -> Record:
        """Return a record of this run with the given outcome."""
        return Record.model_validate(
            {
                "schema": 1,
                "key": run_key(self.key_parts),
                "key_parts": self.key_parts,
                "model": self.entry.name,
                "train": self.task.train_names,
                "test": self.task.test_names,
                "repeat": self.repeat,
                "seed": seeds.derive(self.protocol.seed, "run", self.task.name, self.repeat),
                "efficiency": self.efficiency,
                **fields,
            }
        )

    def perform(self, on_step: OnStep) -> Record:
        """Do the run in this process."""
        from benchmark import run

        return run.execute(self, on_step)


@dataclass(frozen=True)
class EfficiencyJob:
    """The efficiency figures of one network at one input size on one device, measured with nothing else running."""

    study: Path
    entry: ModelEntry
    size: int
    channels: int
    device: str
    threads: int
    throughput_s: float

    exclusive: ClassVar[bool] = True
    variables: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @property
    def label(self) -> str:
        """How terminal lines call the measurement."""
        return f"{self.entry.name} {self.size}x{self.size} efficiency"

    def perform(self, on_step: OnStep) -> None:
        """Measure in this process and write the study's efficiency file."""
        from benchmark import efficiency
        from benchmark.files import write_atomically
        from benchmark.store import Store

        settings = efficiency.EfficiencySettings.for_device(self.device)
        record = efficiency.measure(
            self.entry,
            self.size,
            self.size,
            in_channels=self.channels,
            device=self.device,
            threads=self.threads,
            settings=settings.model_copy(update={"throughput_seconds": self.throughput_s}),
        )
        file = Store(self.study).efficiency_file(self.entry.name, self.size, self.device, channels=self.channels)
        write_atomically(file, record.to_json())


Job = TrainJob | EfficiencyJob

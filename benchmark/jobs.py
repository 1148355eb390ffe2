"""The units of work that executors take: plain data that names no torch object, so that a plan needs no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from benchmark import claims, environment, provenance, seeds
from benchmark.data.tasks import Task
from benchmark.efficiency import DType
from benchmark.errors import UserError
from benchmark.initial import Weights
from benchmark.protocol import Protocol
from benchmark.records import SCHEMA, Failure, KeyParts, Record
from benchmark.registry import ModelEntry
from benchmark.store import Store, run_key

KeepWeights = Literal["best-repeat", "all", "none"]
OnStep = Callable[[int, int], None]

#: cuBLAS repeats itself only where it finds one of two values at its first product in a process (its documentation,
#: "Results reproducibility"); without them torch refuses deterministic products.
CUBLAS: Mapping[str, str] = MappingProxyType({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"})


@dataclass(frozen=True)
class Elsewhere:
    """What becomes of a run that another process has claimed or done.

    Attributes:
        record: what that process left; ``None`` while it is at work.
    """

    record: Record | None


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
        retry: whether a failure that is on record is no reason to leave the run alone.
        init: weights to start from; ``None`` for random ones.
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
    retry: bool = False
    init: Weights | None = None

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
                "schema": SCHEMA,
                "key": self.key,
                "key_parts": self.key_parts,
                "model": self.entry.name,
                "train": self.task.train_names,
                "test": self.task.test_names,
                "repeat": self.repeat,
                "seed": seeds.derive(self.protocol.seed, "run", self.task.name, self.repeat),
                "efficiency": self.efficiency,
                "init": self.init and self.init.facts,
                **fields,
            }
        )

    def environment(self, **facts: object) -> dict[str, object]:
        """Return what the run is computed with and on, for its record; the study's folder gets the list of packages."""
        return {
            **environment.describe(self.device, self.threads),
            "package_list": Store(self.study).write_packages(provenance.packages()),
            "determinism": self.protocol.determinism,
            **facts,
        }

    @property
    def key(self) -> str:
        """The hash of what the run's numbers depend on."""
        return run_key(self.key_parts)

    @property
    def folder(self) -> Path:
        """Where the run's files lie."""
        return Store(self.study).run_folder(self.task.train_names, self.entry.name, self.repeat)

    @property
    def log(self) -> Path:
        """What the run printed, and the stack of a crash."""
        return self.folder / "log.txt"

    @property
    def memory_advice(self) -> str:
        """What a user can do where memory runs out; nothing of it is done unasked, since the batch changes numbers."""
        training = self.protocol.training
        dataset = min(self.task.train_names, key=training.micro_batch_for)
        images, base = training.micro_batch_for(dataset), dataset.removesuffix("-syn")
        fewer = "--per-gpu" if self.device.startswith("cuda") else "--workers"
        if images == 1:
            return f"do fewer runs at a time ({fewer}), or take a smaller --set input.size"
        field = f"micro_batch_by_dataset.{base}" if base in training.micro_batch_by_dataset else "micro_batch"
        return (
            f"do fewer runs at a time ({fewer}), or fewer images per forward: --set training.{field}={images // 2} in "
            f"place of {images}, for all networks that are compared (--study NAME or --replace-stale)"
        )

    def on(self, device: str) -> TrainJob:
        """Return the same run on another device."""
        return replace(self, device=device)

    def recorded(self) -> Record | None:
        """Return the record on disk, unless it was made under something else."""
        found = Store(self.study).read_record(self.task.train_names, self.entry.name, self.repeat)
        return found if found is not None and found.key == self.key else None

    def settled(self) -> Record | None:
        """Return the record on disk if it leaves nothing to do: a finished run, or one that failed by itself."""
        found = self.recorded()
        if found is None:
            return None
        return found if found.status == "ok" or (found.status == "failed" and not self.retry) else None

    def perform(self, on_step: OnStep) -> Record | Failure | Elsewhere:
        """Do the run in this process, unless another one does it or has done it since it was planned."""
        claim = claims.acquire(self.folder)
        if claim is None:
            return Elsewhere(None)
        with claim:
            if (found := self.settled()) is not None:
                return Elsewhere(found)
            from benchmark import run

            return run.attempt(self, on_step)

    def leave(self, *, here: bool, **outcome: object) -> None:
        """Write how the run ended that could not say so itself, unless it did or another process has taken it over.

        Args:
            here: whether it was computed on this machine; the record describes no other one.
            outcome: what the record says.
        """
        with contextlib.suppress(UserError):  # a full disk takes neither claim nor record; the summary still says it
            claim = claims.acquire(self.folder)
            if claim is None:
                return
            with claim:
                if self.settled() is not None:
                    return
                facts = {"device": self.device, "threads": self.threads, "determinism": self.protocol.determinism}
                facts = self.environment() if here else facts
                Store(self.study).write_run(self.record(environment=facts, **outcome), {}, [], None)


@dataclass(frozen=True)
class EfficiencyJob:
    """The efficiency figures of one network in one setting, measured with nothing else running."""

    study: Path
    entry: ModelEntry
    size: int
    channels: int
    device: str
    threads: int
    throughput_s: float
    dtype: DType = "float32"

    exclusive: ClassVar[bool] = True
    log: ClassVar[None] = None
    variables: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @property
    def label(self) -> str:
        """How terminal lines call the measurement."""
        return f"{self.entry.name} {self.size}x{self.size} {self.dtype} efficiency"

    def perform(self, on_step: OnStep) -> None:
        """Measure in this process and write the study's efficiency file."""
        from benchmark import efficiency
        from benchmark.files import write_atomically

        settings = efficiency.EfficiencySettings.for_device(self.device)
        record = efficiency.measure(
            self.entry,
            self.size,
            self.size,
            in_channels=self.channels,
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            settings=settings.model_copy(update={"throughput_seconds": self.throughput_s}),
        )
        store = Store(self.study)
        file = store.efficiency_file(self.entry.name, self.size, self.device, self.dtype, channels=self.channels)
        write_atomically(file, record.to_json())


Job = TrainJob | EfficiencyJob

"""Jobs are plain data: one training, one efficiency measurement, or the stress tests of one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.synthetic import CONVENTION, STANDINS, Stress
from benchmark.data.tasks import Task
from benchmark.devices.hardware import NO_GPUS
from benchmark.records import environment, provenance
from benchmark.records import measurements as figures
from benchmark.records.efficiency_record import DType, EfficiencyRecord, EfficiencySettings, Form
from benchmark.records.run_record import SCHEMA, Failure, KeyParts, Record
from benchmark.records.store import RECORD, Store, run_key
from benchmark.records.stress_record import StressRecord
from benchmark.training.finetune import Weights
from benchmark.training.trackers import TrackerName
from benchmark.utils import seeds
from benchmark.utils.files import modified_ns

KeepWeights = Literal["best-repeat", "all", "none"]
OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

#: cuBLAS repeats itself only where it finds one of two values at its first product in a process (its documentation,
#: "Results reproducibility"); without them torch refuses deterministic products.
CUBLAS: Mapping[str, str] = MappingProxyType({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"})


@dataclass(frozen=True)
class Elsewhere:
    """What becomes of a run or measurement that another process has claimed or done.

    Attributes:
        record: what that process left; ``None`` while it is at work.
    """

    record: Record | EfficiencyRecord | StressRecord | None


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
        retry: when the failure was written that is no reason to leave the run alone, as
            :func:`~benchmark.utils.files.modified_ns` has it; a later one was left by a process that tried again
            meanwhile.
        init: weights to start from; ``None`` for random ones.
        execution: how the work is given to the device.
        tracker: what else is told of the training; it changes no number.
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
    retry: int = 0
    init: Weights | None = None
    execution: Execution = "eager"
    tracker: TrackerName | None = None

    exclusive: ClassVar[bool] = False
    after_timeout: ClassVar[str] = "it goes on from its last checkpoint"

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that a worker needs from its start on; empty ones replace what it has."""
        return {
            **(NO_GPUS if self.device == "cpu" else {}),
            **(CUBLAS if self.protocol.determinism == "deterministic" else {}),
        }

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
        if images == 1:
            return f"{fewer(self.device)}, or take a smaller --set input.size"
        field = f"micro_batch_by_dataset.{base}" if base in training.micro_batch_by_dataset else "micro_batch"
        return (
            f"{fewer(self.device)}, or fewer images per forward: --set training.{field}={images // 2} in "
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
        failed = found.status == "failed" and modified_ns(self.folder / RECORD) > self.retry
        return found if found.status == "ok" or failed else None


@dataclass(frozen=True)
class EfficiencyJob:
    """The efficiency figures of one network in one setting, measured with nothing else running.

    A study's measurements are taken one at a time, whichever processes take them: each waits for the claim of the
    folder that figures lie in. Trainings of another call are not waited for, since they may take days: that there were
    some on this machine becomes a warning in the figures, as does the load of all else that it does.

    Attributes:
        study: the study's folder.
        entry: the network.
        size: side of the input, pixels.
        channels: of the input.
        device: ``cpu`` or ``cuda:N``.
        threads: compute threads on the CPU.
        throughput_s: seconds for all batch sizes together.
        dtype: number format of weights and input.
        form: how forwards are given to the device.
        budget_s: seconds for warm-up, timings and throughput together, at most; ``None`` for the full protocol.
        seen: when the figures were written that this job replaces, as :func:`~benchmark.utils.files.modified_ns` has
            it; later ones were left by a process that measured meanwhile.
        anew: whether figures of another study are not taken over.
    """

    study: Path
    entry: ModelEntry
    size: int
    channels: int
    device: str
    threads: int
    throughput_s: float
    dtype: DType = "float32"
    form: Form = "eager"
    budget_s: float | None = None
    seen: int = 0
    anew: bool = False

    exclusive: ClassVar[bool] = True
    log: ClassVar[None] = None

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that a worker needs from its start on; empty ones replace what it has."""
        return NO_GPUS if self.device == "cpu" else {}

    @property
    def label(self) -> str:
        """How terminal lines call the measurement."""
        form = "" if self.form == "eager" else f" {self.form}"
        return f"{self.entry.name} {self.size}x{self.size} {self.dtype}{form} efficiency"

    @property
    def folder(self) -> Path:
        """Where the figures lie, and what is claimed while they are taken."""
        return self.file.parent

    @property
    def file(self) -> Path:
        """Where the figures go."""
        return Store(self.study).efficiency_file(
            self.entry.name, self.size, self.device, self.dtype, channels=self.channels, form=self.form
        )

    def on(self, device: str) -> EfficiencyJob:
        """Return the same measurement on another device."""
        return replace(self, device=device)

    def planned(self) -> EfficiencyJob:
        """Return the same job, to be left alone if other figures than those on disk now are found at its turn."""
        return replace(self, seen=modified_ns(self.file))

    def found(self) -> EfficiencyRecord | None:
        """Return the figures on disk, unless they are broken, of other code, another GPU or, on a CPU, thread count."""
        found = figures.read(self.file)
        if found is None or not figures.is_of(found, self.entry):
            return None
        if found.device == "cuda":
            return found if figures.device_name(self.device) in ("", found.device_name) else None
        return found if found.threads == self.threads else None

    def taken_over(self) -> EfficiencyRecord | None:
        """Return figures of another study that measuring now would give again, with that study's name; or ``None``."""
        there = () if self.anew else figures.Figures(self.study, self.device).elsewhere(self.file.name)
        for study, record in there:
            if record.in_channels == self.channels and figures.would_be_measured_again(
                record, self.entry, self.device, self.threads, self.settings
            ):
                assert record.origin is not None
                origin = record.origin.model_copy(update={"taken_from": record.origin.taken_from or study})
                return record.model_copy(update={"origin": origin})
        return None

    @property
    def settings(self) -> EfficiencySettings:
        """Duration and form of the measurement."""
        settings = EfficiencySettings.for_device(self.device, self.form)
        return settings.model_copy(update={"throughput_seconds": self.throughput_s, "budget_seconds": self.budget_s})

    def outcome(self) -> str:
        """Say in words where the figures on disk come from, and what hindered them."""
        record = self.found()
        if record is not None and record.origin is not None and record.origin.taken_from is not None:
            return f"taken over from study {record.origin.taken_from}, measured {record.origin.measured}"
        if record is not None and record.hindered:
            tries = "once" if record.tries == 1 else f"{record.tries} times"
            return f"measured {tries}, hindered ({'; '.join(record.hindered)}): marked, and compared with none"
        return "measured"

    def settled(self) -> EfficiencyRecord | None:
        """Return the figures that another process has taken since this job was planned."""
        return self.found() if modified_ns(self.file) > self.seen else None


@dataclass(frozen=True)
class StressJob:
    """Tests of one trained network on stand-ins with one effect forced.

    Attributes:
        training: the run whose weights are tested.
        weights: hash of their file.
        tests: what to test on: a stand-in, and what it is stressed by; as drawn where that is ``None``.
    """

    training: TrainJob
    weights: str
    tests: tuple[tuple[Source, Stress | None], ...]

    exclusive: ClassVar[bool] = False
    after_timeout: ClassVar[str] = "the tests that were done are kept"

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.training.study

    @property
    def entry(self) -> ModelEntry:
        """The network."""
        return self.training.entry

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``."""
        return self.training.device

    @property
    def threads(self) -> int:
        """Compute threads on the CPU."""
        return self.training.threads

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that a worker needs from its start on; empty ones replace what it has."""
        return self.training.variables

    @property
    def label(self) -> str:
        """How terminal lines call the tests."""
        return f"{self.training.label} stress"

    @property
    def folder(self) -> Path:
        """Where the counts lie, and what is claimed while they are made."""
        training = self.training
        return Store(self.study).stress_folder(training.task.train_names, training.entry.name, training.repeat)

    @property
    def log(self) -> Path:
        """What the tests printed, and the stack of a crash."""
        return self.folder / "log.txt"

    @property
    def memory_advice(self) -> str:
        """What a user can do where memory runs out."""
        return fewer(self.device)

    def on(self, device: str) -> StressJob:
        """Return the same tests on another device."""
        return replace(self, training=self.training.on(device))

    def record(self, source: Source, stress: Stress | None) -> StressRecord:
        """Return what is kept beside the counts of a test."""
        training = self.training
        return StressRecord(
            key=training.key,
            behaviour=training.key_parts.behaviour,
            weights=self.weights,
            model=training.entry.name,
            train=training.task.train_names,
            repeat=training.repeat,
            test=source.name,
            images=source.fingerprint,
            convention=CONVENTION,
            standin_version=STANDINS[source.base].version,
            effect=stress.name if stress else None,
            strength=stress.strength if stress else None,
        )

    def left(self) -> list[tuple[Source, Stress | None]]:
        """Return the tests that have no counts yet, or those of other weights, images or code."""
        read = Store(self.study).read_stress
        return [test for test in self.tests if read(wanted := self.record(*test)) != wanted]

    def settled(self) -> StressRecord | None:
        """Return one of the records on disk if nothing is left to do."""
        return self.record(*self.tests[0]) if not self.left() else None


def fewer(device: str) -> str:
    """Say what frees memory without changing a number."""
    return f"do fewer runs at a time ({'--per-gpu' if device.startswith('cuda') else '--workers'})"


#: Everything that an executor takes, and everything that may become of it.
Job = TrainJob | EfficiencyJob | StressJob
Outcome = Record | Failure | Elsewhere | None

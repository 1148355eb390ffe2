"""Defines jobs: a training, an efficiency measurement, or later tests of trained networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, Self

from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.synthetic import CONVENTION, STANDINS, Stress
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import NO_GPUS
from benchmark.records import environment, measurements, provenance
from benchmark.records.efficiency_record import DType, EfficiencyRecord, EfficiencySettings, Form
from benchmark.records.ensemble_record import EnsembleMember, EnsembleRecord
from benchmark.records.run_record import LAYERS_SCHEMA, SCHEMA, Failure, KeyParts, Record
from benchmark.records.store import RECORD, Store, run_key
from benchmark.records.stress_record import StressRecord
from benchmark.training.finetune import Weights
from benchmark.training.trackers import TrackerName
from benchmark.utils import seeds
from benchmark.utils.files import modified_ns

KeepWeights = Literal["best-repeat", "all", "none"]
OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

#: cuBLAS repeats its results only if it finds one of two values at its first product in a process (its documentation,
#: "Results reproducibility"); without them torch refuses deterministic products.
CUBLAS: Mapping[str, str] = MappingProxyType({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"})


@dataclass(frozen=True)
class Elsewhere:
    """Outcome of a job that another process has claimed or done; ``record`` is ``None`` while it is at work."""

    record: Record | EfficiencyRecord | StressRecord | EnsembleRecord | None


@dataclass(frozen=True)
class TrainJob:
    """One run: one network trained on one dataset or several, for one repeat, then tested."""

    study: Path  # the study's folder
    entry: ModelEntry
    task: Task
    repeat: int
    protocol: Protocol
    key_parts: KeyParts
    efficiency: tuple[str, ...]  # names of the study's efficiency files that belong to this run
    cache: Path  # folder of the packs
    device: str  # cpu or cuda:N
    threads: int  # on the CPU
    keep_weights: KeepWeights  # best-repeat: those of the repeat with the lowest validation loss
    #: Time of the failure to try again, as :func:`~benchmark.utils.files.modified_ns` returns it; another process
    #: that tried again meanwhile left a later failure.
    retry: int = 0
    init: Weights | None = None  # weights to start from; None for random ones
    execution: Execution = "eager"
    tracker: TrackerName | None = None  # receives the course of the training; it changes no number

    exclusive: ClassVar[bool] = False
    after_timeout: ClassVar[str] = "it goes on from its last checkpoint"

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables for a worker from its start on; empty ones replace the worker's own."""
        return {
            **(NO_GPUS if self.device == "cpu" else {}),
            **(CUBLAS if self.protocol.determinism == "deterministic" else {}),
        }

    @property
    def label(self) -> str:
        """Name of the run in terminal lines."""
        return f"{self.task.name} {self.entry.name} repeat {self.repeat}"

    def record(self, **fields: object) -> Record:
        """Return a record of this run with the given outcome."""
        return Record.model_validate(
            {
                "schema": LAYERS_SCHEMA if len(self.task.layers) > 1 else SCHEMA,
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
        """Return code, packages and hardware for the run's record; writes the list of packages into the study."""
        return {
            **environment.describe(self.device, self.threads),
            "package_list": Store(self.study).write_packages(provenance.packages()),
            "determinism": self.protocol.determinism,
            **facts,
        }

    @property
    def key(self) -> str:
        """Hash of everything that the run's numbers depend on."""
        return run_key(self.key_parts)

    @property
    def folder(self) -> Path:
        """Folder of the run's files."""
        return Store(self.study).run_folder(self.task.train_names, self.entry.name, self.repeat)

    @property
    def log(self) -> Path:
        """Output of the run, and the stack of a crash."""
        return self.folder / "log.txt"

    @property
    def memory_advice(self) -> str:
        """Remedies for too little memory; the user applies them, since another batch changes numbers."""
        training = self.protocol.training
        dataset = min(self.task.train_names, key=training.micro_batch_for)
        images, base = training.micro_batch_for(dataset), dataset.removesuffix("-syn")
        if images == 1:
            return f"{advise_fewer_runs(self.device)}, or take a smaller --set input.size"
        field = f"micro_batch_by_dataset.{base}" if base in training.micro_batch_by_dataset else "micro_batch"
        return (
            f"{advise_fewer_runs(self.device)}, or fewer images per forward: --set training.{field}={images // 2} in "
            f"place of {images}, for all networks that are compared (--study NAME or --replace-stale)"
        )

    def on(self, device: str) -> TrainJob:
        """Return the same run on another device."""
        return replace(self, device=device)

    def recorded(self) -> Record | None:
        """Return the record on disk if its key is this run's."""
        record = Store(self.study).read_record(self.task.train_names, self.entry.name, self.repeat)
        return record if record is not None and record.key == self.key else None

    def settled(self) -> Record | None:
        """Return the record on disk if nothing is left to do: the run is finished, or failed without a retry."""
        record = self.recorded()
        if record is None or record.status == "ok":
            return record
        return record if record.status == "failed" and modified_ns(self.folder / RECORD) > self.retry else None


@dataclass(frozen=True)
class EfficiencyJob:
    """The efficiency figures of one network in one setting, measured while nothing else runs.

    A study's measurements are taken one at a time by all processes: each waits for the claim of the folder of figures.
    It does not wait for trainings of another call, which may take days: they become a warning in the figures if they
    run on this machine, as does all other load.
    """

    study: Path  # the study's folder
    entry: ModelEntry
    size: int  # side of the input, pixels
    channels: int  # of the input
    device: str  # cpu or cuda:N
    threads: int  # on the CPU
    throughput_s: float  # for all batch sizes together
    dtype: DType = "float32"  # of weights and input
    form: Form = "eager"
    budget_s: float | None = None  # limit of warm-up, timings and throughput together; None for the full protocol
    #: Time of the figures that this job replaces, as :func:`~benchmark.utils.files.modified_ns` returns it; another
    #: process that measured meanwhile left later ones.
    seen: int = 0
    anew: bool = False  # take over no figures of another study
    weights: Weights | None = None  # None for random ones
    classes: int = 1  # logits, one a layer

    exclusive: ClassVar[bool] = True
    log: ClassVar[None] = None

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables for a worker from its start on; empty ones replace the worker's own."""
        return NO_GPUS if self.device == "cpu" else {}

    @property
    def label(self) -> str:
        """Name of the measurement in terminal lines."""
        form = "" if self.form == "eager" else f" {self.form}"
        layers = f" {self.classes} layers" if self.classes > 1 else ""
        return f"{self.entry.name} {self.size}x{self.size} {self.dtype}{form}{layers} efficiency"

    @property
    def folder(self) -> Path:
        """Folder of the figures, which is claimed while they are measured."""
        return self.file.parent

    @property
    def file(self) -> Path:
        """File of the figures."""
        names = (self.entry.name, self.size, self.device, self.dtype)
        return Store(self.study).efficiency_file(*names, channels=self.channels, classes=self.classes, form=self.form)

    def on(self, device: str) -> EfficiencyJob:
        """Return the same measurement on another device."""
        return replace(self, device=device)

    def planned(self) -> EfficiencyJob:
        """Return the same job, which measures nothing if the figures on disk have changed at its turn."""
        return replace(self, seen=modified_ns(self.file))

    def stored(self) -> EfficiencyRecord | None:
        """Return the figures on disk if they match this network's code, the GPU or, on a CPU, the thread count."""
        record = measurements.read(self.file)  # its name tells the number of logits
        weights = self.weights and self.weights.facts.sha256[:16]
        if record is None or not measurements.is_of(record, self.entry) or record.weights != weights:
            return None
        if record.device == "cuda":
            return record if measurements.device_name(self.device) in ("", record.device_name) else None
        return record if record.threads == self.threads else None

    def taken_over(self) -> EfficiencyRecord | None:
        """Return figures of another study that a measurement now would repeat, marked with that study, or ``None``."""
        others = () if self.anew else measurements.Figures(self.study, self.device).elsewhere(self.file.name)
        for study, record in others:
            asked = (self.entry, self.device, self.threads, self.settings)
            same = (record.in_channels, record.classes) == (self.channels, self.classes)
            if same and measurements.would_be_measured_again(record, *asked):
                assert record.origin is not None
                origin = record.origin.model_copy(update={"taken_from": record.origin.taken_from or study})
                return record.model_copy(update={"origin": origin})
        return None

    @property
    def settings(self) -> EfficiencySettings:
        """Duration and form of the measurement."""
        settings = EfficiencySettings.for_device(self.device, self.form)
        changed = {"throughput_seconds": self.throughput_s, "budget_seconds": self.budget_s}
        if self.budget_s is not None:  # the timings of single images leave half of it for throughput
            changed["min_seconds"] = min(settings.min_seconds, self.budget_s / 2)
        return settings.model_copy(update=changed)

    def outcome(self) -> str:
        """Return in words the origin of the figures on disk, and what hindered them."""
        record = self.stored()
        if record is not None and record.origin is not None and record.origin.taken_from is not None:
            return f"taken over from study {record.origin.taken_from}, measured {record.origin.measured}"
        if record is not None and record.hindered:
            tries = "once" if record.tries == 1 else f"{record.tries} times"
            return f"measured {tries}, hindered ({'; '.join(record.hindered)}): marked, and compared with none"
        return "measured"

    def settled(self) -> EfficiencyRecord | None:
        """Return the figures that another process has measured since this job was planned."""
        return self.stored() if modified_ns(self.file) > self.seen else None


@dataclass(frozen=True)
class LaterTests(ABC):
    """Tests of trained networks after their runs, as these tested them; each has a record of its own."""

    training: TrainJob  # the run whose network is tested, the first of several
    tests: tuple[tuple[Source, Stress | None], ...]  # without a stress, images are as drawn

    exclusive: ClassVar[bool] = False
    after_timeout: ClassVar[str] = "the tests that were done are kept"

    # The tests run as the training did.
    study = property(attrgetter("training.study"))
    entry = property(attrgetter("training.entry"))
    device = property(attrgetter("training.device"))
    threads = property(attrgetter("training.threads"))
    variables = property(attrgetter("training.variables"))

    @property
    def repeats(self) -> tuple[int, ...]:
        """The repeats whose networks are tested, averaged if there are several."""
        return (self.training.repeat,)

    @abstractmethod
    def record(self, test: str, source: Source, stress: Stress | None) -> StressRecord | EnsembleRecord:
        """Return the record that is stored beside the counts of a test, of a layer where the source has several."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the tests in terminal lines."""

    @property
    def folder(self) -> Path:
        """Folder of the counts, which is claimed while they are computed."""
        return Store(self.study).test_file(self._first).parent

    @property
    def log(self) -> Path:
        """Output of the tests, and the stack of a crash."""
        return self.folder / "log.txt"

    @property
    def memory_advice(self) -> str:
        """Remedy for too little memory."""
        return advise_fewer_runs(self.device)

    def on(self, device: str) -> Self:
        """Return the same tests on another device."""
        return replace(self, training=self.training.on(device))

    def left(self) -> list[tuple[Source, Stress | None]]:
        """Return the tests without counts, or with counts of other weights, images or code."""
        store = Store(self.study)
        return [
            (source, stress)
            for source, stress in self.tests
            if not all(store.has_test(self.record(test, source, stress)) for test in source.tests)
        ]

    def settled(self) -> StressRecord | EnsembleRecord | None:
        """Return one of the records on disk if nothing is left to do."""
        return self._first if not self.left() else None

    @property
    def _first(self) -> StressRecord | EnsembleRecord:
        source, stress = self.tests[0]
        return self.record(next(iter(source.tests)), source, stress)


@dataclass(frozen=True)
class StressJob(LaterTests):
    """Tests of one trained network on stand-ins with one effect forced."""

    weights: str  # hash of their file

    @property
    def label(self) -> str:
        """Name of the tests in terminal lines."""
        return f"{self.training.label} stress"

    def record(self, test: str, source: Source, stress: Stress | None) -> StressRecord:
        """Return the record that is stored beside the counts of a test, of a layer where the source has several."""
        training = self.training
        return StressRecord(
            key=training.key,
            behaviour=training.key_parts.behaviour,
            weights=self.weights,
            model=training.entry.name,
            train=training.task.train_names,
            repeat=training.repeat,
            test=test,
            images=source.fingerprint,
            convention=CONVENTION,
            standin_version=STANDINS[source.base].version,
            effect=stress.name if stress else None,
            strength=stress.strength if stress else None,
        )


@dataclass(frozen=True)
class EnsembleJob(LaterTests):
    """Tests of the mean of a network's repeats on the test images of their runs."""

    members: tuple[EnsembleMember, ...]

    @property
    def repeats(self) -> tuple[int, ...]:
        """The repeats whose probabilities are averaged."""
        return tuple(member.repeat for member in self.members)

    @property
    def label(self) -> str:
        """Name of the tests in terminal lines."""
        return f"{self.training.task.name} {self.entry.name} ensemble of {len(self.members)}"

    def record(self, test: str, source: Source, stress: Stress | None = None) -> EnsembleRecord:
        """Return the record that is stored beside the counts of a test, of a layer where the source has several."""
        training = self.training
        return EnsembleRecord(
            behaviour=training.key_parts.behaviour,
            model=training.entry.name,
            train=training.task.train_names,
            members=self.members,
            test=test,
        )


def advise_fewer_runs(device: str) -> str:
    """Return the remedy for too little memory that changes no number."""
    return f"do fewer runs at a time ({'--per-gpu' if device.startswith('cuda') else '--workers'})"


#: Input and outcome of an executor.
Job = TrainJob | EfficiencyJob | StressJob | EnsembleJob
Outcome = Record | Failure | Elsewhere | None

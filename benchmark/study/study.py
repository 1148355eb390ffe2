"""Defines a study: the runs and measurements of one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark import BEHAVIOUR
from benchmark.config import code_identity, execution
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.fingerprint import HashCache
from benchmark.data.stressed import Stresses
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.asked_runs import AskedRuns
from benchmark.records.measurements import Figures
from benchmark.records.run_record import KeyParts
from benchmark.records.store import Store
from benchmark.runs.jobs import EfficiencyJob, KeepWeights, TrainJob
from benchmark.study.time_estimate import THROUGHPUT_S, Costs
from benchmark.training.finetune import FileStart, Start
from benchmark.training.trackers import TrackerName
from benchmark.utils.errors import UserError


@dataclass
class Study:
    """A named set of runs under one protocol, in ``results/<study>/``; they start from random weights or ``start``."""

    folder: Path
    protocol: Protocol
    models: Sequence[ModelEntry]
    tasks: Sequence[Task]
    hardware: Hardware
    cache: Path
    keep_weights: KeepWeights = "best-repeat"
    fail_fast: bool = False
    start: Start | FileStart | None = None
    execution: Execution = "eager"
    tracker: TrackerName | None = None
    stress: Stresses | None = None
    ensembles: bool = False
    reference: str | None = None  # the method under test, if one is chosen
    command: str = ""  # content of the file that repeats the study with ``run --config``
    store: Store = field(init=False)
    figures: Figures = field(init=False)
    costs: Costs = field(init=False)
    hashes: HashCache = field(init=False)

    def __post_init__(self) -> None:
        """Check settings, datasets and input sizes."""
        execution.refuse(self.execution, self.hardware.kind, self.protocol.determinism)
        self.store = Store(self.folder)
        self.figures = Figures(self.folder, self.hardware.device)
        self.costs = Costs(self.protocol, self.hardware, self.cache, self.figures)
        self.hashes = HashCache(self.cache / "hashes.json")
        for task in self.tasks:
            task.check(self.protocol)
        for entry in self.models:
            for source in self.sources:
                size, tile = self.protocol.input.size_for(source.name), self.protocol.input.tile_for(source.name)
                problem = f"{entry.name}: takes sizes that are multiples of {entry.multiple}, but {source.name}"
                if self.protocol.evaluation.window == "tile" and tile % entry.multiple:
                    remedy = "change input.tile or use --set evaluation.window=input"
                    raise UserError(f"{problem} is tested on tiles of {tile}x{tile}; {remedy}")
                if size % entry.multiple:
                    fitting = max(round(size / entry.multiple), 1) * entry.multiple
                    remedy = f"use --set input.size={fitting} or leave the network out"
                    raise UserError(f"{problem} has an input of {size}x{size}; {remedy}")

    @property
    def sources(self) -> tuple[Source, ...]:
        """All datasets of the study, each once."""
        return tuple({source.name: source for task in self.tasks for source in task.sources}.values())

    @property
    def tested(self) -> tuple[Source, ...]:
        """The datasets that networks are tested on, each once."""
        return tuple({source.name: source for task in self.tasks for source in task.test}.values())

    def jobs(self) -> list[TrainJob]:
        """Return a job for every run.

        All networks' first repeats on the first dataset come first, so that there is soon something to compare, then
        first repeats on the other datasets, then second repeats.
        """
        digest = self.protocol.digest()
        first = [self._job(entry, task, digest) for task in self.tasks for entry in self.models]
        return [self._repeat(job, repeat) for repeat in range(self.protocol.repeats) for job in first]

    @property
    def asked(self) -> AskedRuns:
        """The runs of this call, for files and reports that do not know its flags."""
        datasets = tuple((task.train_names, task.test_names) for task in self.tasks)
        models = tuple(entry.name for entry in self.models)
        return AskedRuns(datasets=datasets, models=models, repeats=self.protocol.repeats, ensembles=self.ensembles)

    def _repeat(self, job: TrainJob, repeat: int) -> TrainJob:
        init = self.start.weights(job.entry.name, repeat, self.hashes) if self.start else None
        changed = {"repeat": repeat, "init": init.facts.sha256[:16] if init else None}
        return replace(job, repeat=repeat, init=init, key_parts=job.key_parts.model_copy(update=changed))

    def _job(self, entry: ModelEntry, task: Task, digest: str) -> TrainJob:
        model, device = code_identity.identity(entry), self.hardware.device
        channels, classes = task.channels(self.protocol), len(task.layers)
        sizes = dict.fromkeys(self.protocol.input.size_for(source.name) for source in task.test)
        return TrainJob(
            study=self.folder,
            entry=entry,
            task=task,
            repeat=0,
            protocol=self.protocol,
            key_parts=KeyParts(protocol=digest, data=task.fingerprint, model=model, behaviour=BEHAVIOUR, repeat=0),
            efficiency=tuple(
                self.store.efficiency_file(entry.name, size, device, channels=channels, classes=classes).name
                for size in sizes
            ),
            cache=self.cache,
            device=device,
            threads=self.hardware.threads_each,
            keep_weights=self.keep_weights,
            execution=self.execution,
            tracker=self.tracker,
        )

    def measurements(self) -> list[EfficiencyJob]:
        """Return one job per network and input size without figures for this kind of device and thread count."""
        settings, hardware = self.protocol.input, self.hardware
        inputs = sorted(
            {
                (settings.size_for(source.name), settings.channels_for(source.name), len(source.layers))
                for source in self.tested
            }
        )
        jobs = (
            EfficiencyJob(
                *(self.folder, entry, size, channels, hardware.device, hardware.threads, THROUGHPUT_S),
                budget_s=self.protocol.efficiency.budget_seconds,
                classes=classes,
            ).planned()
            for size, channels, classes in inputs
            for entry in self.models
        )
        return [job for job in jobs if job.stored() is None]

"""A study: which runs it has, which are done, and doing what is left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark import BEHAVIOUR
from benchmark.config import execution, registry
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.fingerprint import HashCache
from benchmark.data.stressed import Stresses
from benchmark.data.tasks import Task
from benchmark.executors.events import Event, Executor, Finished, Note, Started
from benchmark.records import claims
from benchmark.records.efficiency_record import EfficiencyRecord
from benchmark.records.measurements import Figures
from benchmark.records.run_record import Failure, KeyParts, Record
from benchmark.records.store import CHECKPOINT, RECORD, Broken, BrokenRecordError, Store
from benchmark.records.stress_record import StressRecord
from benchmark.runs.jobs import EfficiencyJob, Elsewhere, Job, KeepWeights, StressJob, TrainJob
from benchmark.runs.perform import POLL_S, leave
from benchmark.study import stress_plan
from benchmark.study.staleness import RunName, Staleness
from benchmark.study.stress_plan import Planned
from benchmark.study.time_estimate import THROUGHPUT_S, Basis, Costs, Hardware
from benchmark.training import finetune as initial
from benchmark.training.finetune import Start
from benchmark.training.trackers import TrackerName
from benchmark.utils.errors import UserError
from benchmark.utils.files import modified_ns


@dataclass(frozen=True)
class Plan:
    """What a call will do.

    Attributes:
        done: records that already are what is asked for.
        todo: runs to do, in order.
        failed: runs that failed earlier and are left alone without ``--retry-failed``.
        stale: runs to set aside first.
        broken: runs whose records cannot be read; those that are asked for are in ``todo`` and set aside first.
        measurements: efficiency figures to take.
        seconds: estimate for all that is left; training at most, since early stopping cannot be foreseen.
        basis: what the estimate rests on.
        refusal: why none of it may be done; blank where it may.
        stress: tests of trained networks that are left.
        seen: the protocol that the study's folder had when the plan was made.
        replaces: whether what was made under another one may be set aside.
        taken_over: for each measurement that is taken over from another study, the study.
    """

    done: list[Record]
    todo: list[TrainJob]
    failed: list[Record]
    stale: list[Record]
    measurements: list[EfficiencyJob]
    seconds: float
    basis: Basis
    refusal: str = ""
    broken: list[Broken] = field(default_factory=list)
    stress: list[Planned] = field(default_factory=list)
    seen: Protocol | None = None
    replaces: bool = False
    taken_over: list[str] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """All runs of the plan, done or not."""
        return len(self.done) + len(self.todo) + len(self.failed)


@dataclass
class Study:
    """A named set of runs under one protocol, in ``results/<study>/``; ``start`` names what they start from."""

    folder: Path
    protocol: Protocol
    models: Sequence[ModelEntry]
    tasks: Sequence[Task]
    hardware: Hardware
    cache: Path
    keep_weights: KeepWeights = "best-repeat"
    fail_fast: bool = False
    start: Start | None = None
    execution: Execution = "eager"
    tracker: TrackerName | None = None
    stress: Stresses | None = None
    store: Store = field(init=False)
    figures: Figures = field(init=False)
    costs: Costs = field(init=False)
    hashes: HashCache = field(init=False)

    def __post_init__(self) -> None:
        """Check what can be checked before any work."""
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
                if self.protocol.evaluation.window == "tile" and tile % entry.multiple:
                    raise UserError(
                        f"{entry.name}: takes sizes that are multiples of {entry.multiple}, but {source.name} is "
                        f"tested on tiles of {tile}x{tile}; change input.tile or use --set evaluation.window=input"
                    )
                if size % entry.multiple:
                    fitting = max(round(size / entry.multiple), 1) * entry.multiple
                    raise UserError(
                        f"{entry.name}: takes sizes that are multiples of {entry.multiple}, "
                        f"but {source.name} has an input of {size}x{size}; "
                        f"use --set input.size={fitting} or leave the network out"
                    )

    @property
    def sources(self) -> tuple[Source, ...]:
        """All datasets of the study, each once."""
        return _distinct(source for task in self.tasks for source in task.sources)

    @property
    def tested(self) -> tuple[Source, ...]:
        """The datasets that networks are tested on, each once."""
        return _distinct(source for task in self.tasks for source in task.test)

    def plan(self, *, retry_failed: bool = False, replace_stale: bool = False, refuse: bool = True) -> Plan:
        """Compare what is asked for with what the folder holds, without changing anything.

        Args:
            retry_failed: run failed runs again.
            replace_stale: plan to set aside runs made under other settings, data or code, and run them again.
            refuse: raise where stale runs forbid the plan, and do not only say so in it.

        Raises:
            UserError: the folder holds runs made under other settings (names the fields), or of a newer release.
        """
        if self.start and self.protocol.training.encoder_weights:
            raise UserError(f"{self.start.flag} and training.encoder_weights: give one; the first replaces all weights")
        if self.stress:
            self.stress.refuse(self.tested, self.keep_weights)
        jobs, seen = self._jobs(), self.store.read_protocol()
        # Before the records are read: one that is replaced in between counts as tried again.
        written = {_run_of(job): modified_ns(job.folder / RECORD) for job in jobs} if retry_failed else {}
        found, broken = self.store.survey()
        records = {_run_of(record): record for _, record in found}
        asked = {_run_of(job): job for job in jobs}
        staleness = self.staleness(asked)
        stale = {
            run: record
            for run, record in records.items()
            if (run in asked and record.key != asked[run].key) or staleness.has_other_settings(record)
        }
        refusal = "" if replace_stale else staleness.explain(list(stale.values()))
        if refusal and refuse:
            raise UserError(refusal)
        done: list[Record] = []
        todo: list[TrainJob] = []
        failed: list[Record] = []
        for job in jobs:
            run = _run_of(job)
            record = records.get(run)
            if record is None or run in stale or record.status == "interrupted":
                todo.append(job)
            elif record.status == "ok":
                done.append(record)
            elif retry_failed:
                todo.append(replace(job, retry=written[run]))
            else:
                failed.append(record)
        measurements = self._measurements()
        # On a cluster another machine's figures may count; it looks itself.
        known = {} if self.hardware.remote else {job: job.taken_over() for job in measurements}
        origins = [record.origin for record in known.values() if record is not None]
        taken_over = [origin.taken_from for origin in origins if origin is not None and origin.taken_from]
        seconds, basis = self.costs.estimate(todo, [job for job in measurements if known.get(job) is None])
        stress = stress_plan.plan_stress(self, jobs, todo) if self.stress else []
        seconds += stress_plan.stress_seconds(self, stress)
        return Plan(
            *(done, todo, failed, list(stale.values()), measurements, seconds, basis, refusal, broken, stress),
            seen=seen,
            replaces=replace_stale,
            taken_over=taken_over,
        )

    def execute(self, plan: Plan, executor: Executor, emit: Callable[[Event], None]) -> None:
        """Do what a plan says.

        Packs are built and methods without training scored in this process; measurements and runs are the executor's.
        A failed run becomes a record; a run under way when this is left (Ctrl-C) becomes an interrupted one.

        Args:
            plan: made by :meth:`plan`.
            executor: does the jobs.
            emit: called with everything that happens, in order.
        """
        from benchmark.study import prepare_data as preparation  # imports what decodes images, which no plan needs

        initial.try_weights(plan.todo)
        # A finished study is only looked at: it may lie where nothing can be written.
        idle = not (plan.todo or plan.stale or plan.measurements) and plan.seen == self.protocol
        with contextlib.nullcontext() if idle else self._alone(emit):
            self.staleness().agree(plan.seen, plan.stale, replace=plan.replaces)
            self._set_broken_aside(plan)
            preparation.prepare(self, emit, {source.name for job in plan.todo for source in job.task.sources})
        for job in initial.firsts(plan.todo):
            assert job.init is not None
            if note := initial.refuse_seen(job.task, job.init, self.store):
                emit(Note(job.task.name, note))
        if self._do([*plan.measurements, *plan.todo], executor, emit) and self.stress:
            tests = stress_plan.stress_jobs(self, self._jobs())
            self._do(stress_plan.prepare_stress(self, tests, emit), executor, emit)

    @contextlib.contextmanager
    def _alone(self, emit: Callable[[Event], None]) -> Iterator[None]:
        """Claim the study, waiting for another call that agrees on its settings or prepares its data."""
        if (claim := claims.acquire(self.folder)) is None:
            emit(Note("", "waiting for another call of this study that prepares its data"))
        while claim is None:
            time.sleep(POLL_S)
            claim = claims.acquire(self.folder)
        with claim:
            yield

    def _do(self, jobs: Sequence[Job], executor: Executor, emit: Callable[[Event], None]) -> bool:
        """Do jobs, waiting for those that other processes have; tell whether no failure was to end the study."""
        waiting: list[TrainJob | StressJob] = []
        while jobs:
            postponed = self._work(jobs, executor, emit)
            if postponed is None:
                return False
            waiting += postponed
            jobs = self._freed(waiting, emit)
        return True

    def _set_broken_aside(self, plan: Plan) -> None:
        """Make room for runs whose records are broken, unless another process has done so since the plan was made."""
        folders = {broken.folder for broken in plan.broken}
        for job in plan.todo:
            if job.folder in folders:
                try:
                    self.store.read_record(*_run_of(job))
                except BrokenRecordError:
                    self.store.set_aside(*_run_of(job))

    def _work(
        self, jobs: Sequence[Job], executor: Executor, emit: Callable[[Event], None]
    ) -> list[TrainJob | StressJob] | None:
        """Do jobs and return those that another process has claimed; ``None`` where a failure was to end the study."""
        running: dict[str, TrainJob] = {}
        resumed: set[str] = set()  # their time is a part of what such a run takes
        postponed: list[TrainJob | StressJob] = []
        try:
            # Closed before anything is written about what was running: no worker may write at the same time.
            with contextlib.closing(executor.run(jobs)) as events:
                for event in events:
                    if isinstance(event, Started) and isinstance(event.job, TrainJob):
                        running[event.job.label] = event.job
                        if (event.job.folder / CHECKPOINT).exists():
                            resumed.add(event.job.label)
                    if isinstance(event, Finished) and isinstance(event.outcome, Elsewhere):
                        running.pop(event.job.label, None)
                        if event.outcome.record is not None:
                            emit(_finished_elsewhere(event.job, event.outcome.record))
                        elif not isinstance(event.job, EfficiencyJob):
                            postponed.append(event.job)
                        continue
                    if isinstance(event, Finished) and isinstance(event.job, TrainJob):
                        del running[event.job.label]
                        if isinstance(event.outcome, Failure):
                            leave(event.job, here=not self.hardware.remote, status="failed", failure=event.outcome)
                        elif event.job.label not in resumed:
                            self.costs.remember(event.job, event.seconds)
                    emit(event)
                    if self.fail_fast and isinstance(event, Finished) and isinstance(event.outcome, Failure):
                        return None
        finally:
            for job in running.values():
                leave(job, here=not self.hardware.remote, status="interrupted")
        return postponed

    def _freed(self, waiting: list[TrainJob | StressJob], emit: Callable[[Event], None]) -> list[Job]:
        """Wait until other processes are through with runs; take those out of the list, and return what is free again.

        Nothing is returned once nothing is waited for.
        """
        if waiting:
            emit(Note("", f"waiting for {len(waiting)} run(s) that another process is doing"))
        while waiting:
            free: list[Job] = []
            for job in list(waiting):
                if (record := job.settled()) is not None:
                    emit(_finished_elsewhere(job, record))
                elif claims.holder(job.folder) is None:
                    free.append(job)
                else:
                    continue
                waiting.remove(job)
            if free:
                return free
            if waiting:
                time.sleep(POLL_S)
        return []

    def staleness(self, asked: Mapping[RunName, TrainJob] | None = None) -> Staleness:
        """Return what compares records with the runs that are asked for."""
        asked = {_run_of(job): job for job in self._jobs()} if asked is None else asked
        return Staleness(self.store, self.protocol, asked, self.tasks, fine_tuned=self.start is not None)

    def _jobs(self) -> list[TrainJob]:
        """Return a job for every run: all networks have a first repeat before one has a second."""
        digest = self.protocol.digest()
        jobs: list[TrainJob] = []
        for task in self.tasks:
            first = [self._job(entry, task, digest) for entry in self.models]
            jobs += (self._repeat(job, repeat) for repeat in range(self.protocol.repeats) for job in first)
        return jobs

    def _repeat(self, job: TrainJob, repeat: int) -> TrainJob:
        init = self.start.weights(job.entry.name, repeat, self.hashes) if self.start else None
        changed = {"repeat": repeat, "init": init.facts.sha256[:16] if init else None}
        return replace(job, repeat=repeat, init=init, key_parts=job.key_parts.model_copy(update=changed))

    def _job(self, entry: ModelEntry, task: Task, digest: str) -> TrainJob:
        parts = KeyParts(
            protocol=digest,
            data=task.fingerprint,
            model=registry.identity(entry),
            behaviour=BEHAVIOUR,
            repeat=0,
        )
        channels = task.channels(self.protocol)
        sizes = dict.fromkeys(self.protocol.input.size_for(name) for name in task.test_names)
        return TrainJob(
            study=self.folder,
            entry=entry,
            task=task,
            repeat=0,
            protocol=self.protocol,
            key_parts=parts,
            efficiency=tuple(
                self.store.efficiency_file(entry.name, size, self.hardware.device, channels=channels).name
                for size in sizes
            ),
            cache=self.cache,
            device=self.hardware.device,
            threads=self.hardware.threads_each,
            keep_weights=self.keep_weights,
            execution=self.execution,
            tracker=self.tracker,
        )

    def _measurements(self) -> list[EfficiencyJob]:
        """Return one job per network and input size without figures on this kind of device, with as many threads."""
        settings, hardware = self.protocol.input, self.hardware
        inputs = sorted(
            {(settings.size_for(source.name), settings.channels_for(source.name)) for source in self.tested}
        )
        jobs = (
            EfficiencyJob(self.folder, entry, size, channels, hardware.device, hardware.threads, THROUGHPUT_S).planned()
            for size, channels in inputs
            for entry in self.models
        )
        return [job for job in jobs if job.found() is None]


def _run_of(run: TrainJob | Record) -> RunName:
    """Return (training datasets, model, repeat): what a run is called on disk."""
    if isinstance(run, Record):
        return run.train, run.model, run.repeat
    return run.task.train_names, run.entry.name, run.repeat


def _finished_elsewhere(job: Job, record: Record | EfficiencyRecord | StressRecord) -> Finished:
    outcome = record.failure or record if isinstance(record, Record) else None
    return Finished(job, outcome, 0.0, elsewhere=True)


def _distinct(sources: Iterable[Source]) -> tuple[Source, ...]:
    return tuple({source.name: source for source in sources}.values())

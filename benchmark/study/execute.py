"""Executes a plan: prepares data, runs what is left and waits for other processes."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmark.executors.events import Event, Executor, Finished, Note, Started
from benchmark.records import claims
from benchmark.records.efficiency_record import EfficiencyRecord
from benchmark.records.ensemble_record import EnsembleRecord
from benchmark.records.method import keep_method, kept_method
from benchmark.records.own_networks import keep_networks
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import CHECKPOINT, BrokenRecordError
from benchmark.records.stress_record import StressRecord
from benchmark.runs.jobs import EfficiencyJob, Elsewhere, EnsembleJob, Job, StressJob, TrainJob
from benchmark.runs.perform import POLL_S, record_end
from benchmark.runs.staleness import run_name
from benchmark.study import ensemble_plan, stress_plan
from benchmark.study.plan import Plan, staleness_of
from benchmark.study.study import Study
from benchmark.training.finetune import refuse_seen
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically
from benchmark.utils.words import counted

COMMAND = "study.toml"  # for ``run --config``
#: Jobs that this process waits for while another one does them.
Waiting = TrainJob | StressJob | EnsembleJob


def execute(study: Study, plan: Plan, executor: Executor, emit: Callable[[Event], None]) -> None:
    """Execute a plan.

    This process builds packs and scores methods without training; the executor measures and runs. A failed run leaves a
    record; so does a run that Ctrl-C interrupts. ``emit`` receives all events in order.
    """
    from benchmark.study.prepare_data import prepare  # decodes images, which no plan needs

    # One job of each network and training set that starts from given weights.
    jobs = {(job.entry.name, job.task.name): job for job in plan.todo}.values()
    _try_weights(jobs if study.protocol.training.encoder_file else [job for job in jobs if job.init])
    # A finished study is only read: it may lie on a disk that takes no files.
    idle = plan.nothing_left and not plan.stale and plan.seen == study.protocol
    with contextlib.nullcontext() if idle else _claimed(study, emit):
        _agree_on_settings(study, plan)
        if not idle:
            if plan.whole:
                study.asked.write(study.folder)
                if study.command:
                    write_atomically(study.folder / COMMAND, study.command.encode())
            keep_networks(study.folder, study.models)
        if study.reference not in (None, kept_method(study.folder)):
            keep_method(study.folder, str(study.reference))
        _set_broken_aside(study, plan)
        needed = {source.name for job in plan.todo for source in job.task.sources}
        prepare(study, emit, needed | {source.name for job in plan.ensembles for source, _ in job.tests})
    notes = {
        (job.task.name, note): None
        for job in plan.todo
        if job.init and (note := refuse_seen(job.task, job.init, study.store, job.repeat))
    }
    for name, note in notes:
        emit(Note(name, note))
    whole = _run_all(study, in_order(study, plan), executor, emit)
    if whole and study.ensembles:
        whole = _run_all(study, ensemble_plan.ensemble_jobs(study, study.jobs()), executor, emit)
    if whole and study.stress:
        tests = stress_plan.stress_jobs(study, study.jobs())
        _run_all(study, stress_plan.prepare_stress(study, tests, emit), executor, emit)


def in_order(study: Study, plan: Plan) -> list[Job]:
    """Return a plan's jobs in the order of their start on this machine.

    Measurements need the machine for themselves. They come after the first two groups of runs (a repeat of a training
    set), so that results come early and a report of the first group is built meanwhile. They come first if the other
    slots would wait for the end of a longer run. For the same reason, long runs of a group start first. Only in the
    first group do runs keep their order, since light networks stand before heavy ones and show results in seconds.
    """
    seconds = study.costs.seconds
    groups = [list(group) for _, group in itertools.groupby(plan.todo, key=lambda job: (job.repeat, job.task.name))]
    groups[1:] = [sorted(group, key=seconds, reverse=True) for group in groups[1:]]
    longest = max(map(seconds, plan.todo), default=0.0)
    waits = len(study.hardware.slots) > 1 and longest > sum(map(seconds, plan.measurements))
    early = 0 if waits else 2
    first, later = (list(itertools.chain(*part)) for part in (groups[:early], groups[early:]))
    return [*first, *plan.measurements, *later]


@contextlib.contextmanager
def _claimed(study: Study, emit: Callable[[Event], None]) -> Iterator[None]:
    """Claim the study, waiting for another call that agrees on its settings or prepares its data."""
    if (claim := claims.acquire(study.folder)) is None:
        emit(Note("", "waiting for another call of this study that prepares its data"))
    while claim is None:
        time.sleep(POLL_S)
        claim = claims.acquire(study.folder)
    with claim:
        yield


def _agree_on_settings(study: Study, plan: Plan) -> None:
    """Write the protocol into the study's folder and set aside runs of another; needs the study's claim.

    A run reads the protocol after it has claimed its own folder. So of a run and a call that replaces the protocol
    at the same moment, at least one sees the other.

    Raises:
        UserError: another call has begun the study under other settings, or works under them.
    """
    staleness, store = staleness_of(study), study.store
    protocol = store.read_protocol()
    differs = staleness.differs(protocol)
    if differs and protocol != plan.seen:
        raise UserError(
            f"{store.folder}: another call has begun this study meanwhile under other settings: "
            f"{'; '.join(staleness.differences)}. Choose another study (--study NAME)"
        )
    if differs and not plan.replaces and (refusal := staleness.explain(())):
        raise UserError(refusal)
    folders = [store.run_folder(*run_name(record)) for record in plan.stale]
    _refuse_claimed(store.claimed() if differs else folders)
    store.write_protocol(study.protocol)
    if protocol is not None and differs:
        try:
            _refuse_claimed(store.claimed())
        except UserError:
            store.write_protocol(protocol)
            raise
    for record in plan.stale:
        store.set_aside(*run_name(record))
    if differs:
        store.clear()


def _refuse_claimed(folders: Iterable[Path]) -> None:
    for folder in folders:
        if claims.holder(folder) is not None:
            train, model, repeat = folder.parts[-3:]
            raise UserError(
                f"--replace-stale: another process is doing {train} {model} repeat {repeat} under the earlier "
                "settings; wait for it or stop it"
            )


def _try_weights(jobs: Iterable[TrainJob]) -> None:
    """Refuse weights that do not fit their networks; a network that raises becomes the failure of its run."""
    for job in jobs:
        from benchmark.runs.train import build_network  # imports torch

        try:
            build_network(job)
        except UserError:
            raise
        except Exception:
            continue


def _set_broken_aside(study: Study, plan: Plan) -> None:
    """Set aside runs with broken records, unless another process has done so since the plan was made."""
    folders = {broken.folder for broken in plan.broken}
    for job in plan.todo:
        if job.folder in folders:
            try:
                study.store.read_record(*run_name(job))
            except BrokenRecordError:
                study.store.set_aside(*run_name(job))


def _run_all(study: Study, jobs: Sequence[Job], executor: Executor, emit: Callable[[Event], None]) -> bool:
    """Do jobs and wait for those of other processes; return False if a failure ended the study."""
    waiting: list[Waiting] = []
    while jobs:
        postponed = _run(study, jobs, executor, emit)
        if postponed is None:
            return False
        waiting += postponed
        jobs = _wait(waiting, emit)
    return True


def _run(study: Study, jobs: Sequence[Job], executor: Executor, emit: Callable[[Event], None]) -> list[Waiting] | None:
    """Do jobs and return those that another process has claimed; ``None`` if a failure ended the study."""
    running: dict[str, TrainJob] = {}
    resumed: set[str] = set()  # their seconds are only a part of the run
    postponed: list[Waiting] = []
    here = not study.hardware.remote
    try:
        # Closed before the records of running jobs are written: no worker may write at the same time.
        with contextlib.closing(executor.run(jobs)) as events:
            for event in events:
                if isinstance(event, Started) and isinstance(event.job, TrainJob):
                    running[event.job.label] = event.job
                    if (event.job.folder / CHECKPOINT).exists():
                        resumed.add(event.job.label)
                if not isinstance(event, Finished):
                    emit(event)
                    continue
                job, outcome = event.job, event.outcome
                running.pop(job.label, None)
                if isinstance(outcome, Elsewhere):
                    if outcome.record is not None:
                        emit(_finished_elsewhere(job, outcome.record))
                    elif not isinstance(job, EfficiencyJob):
                        postponed.append(job)
                    continue
                if isinstance(job, TrainJob) and isinstance(outcome, Failure):
                    record_end(job, here=here, status="failed", failure=outcome)
                elif isinstance(job, TrainJob) and job.label not in resumed:
                    study.costs.remember(job, event.seconds)
                emit(event)
                if study.fail_fast and isinstance(outcome, Failure):
                    return None
    finally:
        for job in running.values():
            record_end(job, here=here, status="interrupted")
    return postponed


def _wait(waiting: list[Waiting], emit: Callable[[Event], None]) -> list[Job]:
    """Wait for runs of other processes, remove those that ended from the list, and return those that are free again.

    An empty result means that no run is left to wait for.
    """
    if waiting:
        emit(Note("", f"waiting for {counted(len(waiting), 'run')} that another process is doing"))
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


def _finished_elsewhere(job: Job, record: Record | EfficiencyRecord | StressRecord | EnsembleRecord) -> Finished:
    outcome = record.failure or record if isinstance(record, Record) else None
    return Finished(job, outcome, 0.0, elsewhere=True)

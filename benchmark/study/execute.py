"""Executes a plan: prepares data, runs what is left and waits for other processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmark.executors.events import Event, Executor, Finished, Note, Started
from benchmark.records import claims
from benchmark.records.efficiency_record import EfficiencyRecord
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import CHECKPOINT, BrokenRecordError
from benchmark.records.stress_record import StressRecord
from benchmark.runs.jobs import EfficiencyJob, Elsewhere, Job, StressJob, TrainJob
from benchmark.runs.perform import POLL_S, leave
from benchmark.runs.staleness import run_name
from benchmark.study import stress_plan
from benchmark.study.plan import Plan, staleness_of
from benchmark.study.study import Study
from benchmark.training.finetune import refuse_seen
from benchmark.utils.errors import UserError


def execute(study: Study, plan: Plan, executor: Executor, emit: Callable[[Event], None]) -> None:
    """Do what a plan says.

    Packs are built and methods without training scored in this process; measurements and runs are the executor's.
    A failed run becomes a record; a run under way when this is left (Ctrl-C) becomes an interrupted one.

    Args:
        study: what is asked for.
        plan: made by :func:`~benchmark.study.plan.make_plan`.
        executor: does the jobs.
        emit: called with everything that happens, in order.
    """
    from benchmark.study.prepare_data import prepare  # decodes images, which no plan needs

    _try_weights(plan.todo)
    # A finished study is only looked at: it may lie where nothing can be written.
    idle = not (plan.todo or plan.stale or plan.measurements) and plan.seen == study.protocol
    with contextlib.nullcontext() if idle else _alone(study, emit):
        _agree_on_settings(study, plan)
        _set_broken_aside(study, plan)
        prepare(study, emit, {source.name for job in plan.todo for source in job.task.sources})
    for job in first_repeats(plan.todo):
        assert job.init is not None
        if note := refuse_seen(job.task, job.init, study.store):
            emit(Note(job.task.name, note))
    if run_jobs(study, [*plan.measurements, *plan.todo], executor, emit) and study.stress:
        tests = stress_plan.stress_jobs(study, study.jobs())
        run_jobs(study, stress_plan.prepare_stress(study, tests, emit), executor, emit)


@contextlib.contextmanager
def _alone(study: Study, emit: Callable[[Event], None]) -> Iterator[None]:
    """Claim the study, waiting for another call that agrees on its settings or prepares its data."""
    if (claim := claims.acquire(study.folder)) is None:
        emit(Note("", "waiting for another call of this study that prepares its data"))
    while claim is None:
        time.sleep(POLL_S)
        claim = claims.acquire(study.folder)
    with claim:
        yield


def _agree_on_settings(study: Study, plan: Plan) -> None:
    """Write the protocol as the study's own, and set aside what was made under another; needs the study's claim.

    A run reads the protocol after it has claimed its own folder. So of a run and a call that replaces the protocol
    at the same moment, at least one sees the other.

    Raises:
        UserError: another call has begun the study under other settings, or is at work under them.
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
    """Refuse to replace runs that another process is doing."""
    for folder in folders:
        if claims.holder(folder) is not None:
            train, model, repeat = folder.parts[-3:]
            raise UserError(
                f"--replace-stale: another process is doing {train} {model} repeat {repeat} under the earlier "
                "settings; wait for it or stop it"
            )


def _try_weights(jobs: Iterable[TrainJob]) -> None:
    """Refuse weights that do not fit their networks, before any work; a network that raises is its run's affair.

    Raises:
        UserError: such weights.
    """
    for job in first_repeats(jobs):
        from benchmark.runs.train import build  # with torch

        try:
            build(job)
        except UserError:
            raise
        except Exception:
            continue


def first_repeats(jobs: Iterable[TrainJob]) -> list[TrainJob]:
    """Return one of the fine-tuning jobs of each network and training set."""
    return list({(job.entry.name, job.task.name): job for job in jobs if job.init}.values())


def _set_broken_aside(study: Study, plan: Plan) -> None:
    """Make room for runs whose records are broken, unless another process has done so since the plan was made."""
    folders = {broken.folder for broken in plan.broken}
    for job in plan.todo:
        if job.folder in folders:
            try:
                study.store.read_record(*run_name(job))
            except BrokenRecordError:
                study.store.set_aside(*run_name(job))


def run_jobs(study: Study, jobs: Sequence[Job], executor: Executor, emit: Callable[[Event], None]) -> bool:
    """Do jobs, waiting for those that other processes have; tell whether no failure was to end the study."""
    waiting: list[TrainJob | StressJob] = []
    while jobs:
        postponed = run_trainings(study, jobs, executor, emit)
        if postponed is None:
            return False
        waiting += postponed
        jobs = jobs_now_possible(waiting, emit)
    return True


def run_trainings(
    study: Study, jobs: Sequence[Job], executor: Executor, emit: Callable[[Event], None]
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
                        leave(event.job, here=not study.hardware.remote, status="failed", failure=event.outcome)
                    elif event.job.label not in resumed:
                        study.costs.remember(event.job, event.seconds)
                emit(event)
                if study.fail_fast and isinstance(event, Finished) and isinstance(event.outcome, Failure):
                    return None
    finally:
        for job in running.values():
            leave(job, here=not study.hardware.remote, status="interrupted")
    return postponed


def jobs_now_possible(waiting: list[TrainJob | StressJob], emit: Callable[[Event], None]) -> list[Job]:
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


def _finished_elsewhere(job: Job, record: Record | EfficiencyRecord | StressRecord) -> Finished:
    outcome = record.failure or record if isinstance(record, Record) else None
    return Finished(job, outcome, 0.0, elsewhere=True)

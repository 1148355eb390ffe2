"""Performs one job: takes its claim, opens its log and does its work."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable

from benchmark.records import claims, environment, measurements
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import Store
from benchmark.runs.jobs import EfficiencyJob, Elsewhere, EnsembleJob, Job, OnStep, Outcome, StressJob, TrainJob
from benchmark.runs.staleness import refusal
from benchmark.utils import logs
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically
from benchmark.utils.words import counted

Perform = Callable[[Job, OnStep], Outcome]
"""Does a job in this process and returns its outcome."""

POLL_S = 2.0  # between two looks at the claim of another process


def perform_job(job: Job, on_step: OnStep) -> Outcome:
    """Do a job in this process, unless another process does it or has done it since the plan was made.

    Returns:
        The record of a training, ``None`` for other jobs that are done, a failure, or :class:`Elsewhere` for the job of
        another process. If another call has begun the study under other settings, a failure; the study stays as it is.
    """
    claim = claims.acquire(job.folder)
    while claim is None and isinstance(job, EfficiencyJob):
        time.sleep(POLL_S)  # a training beside another process's measurement would spoil it, so this one waits
        claim = claims.acquire(job.folder)
    if claim is None:
        return (refusal(job) if isinstance(job, TrainJob) else None) or Elsewhere(None)
    with claim:
        if (record := job.settled()) is not None:
            return Elsewhere(record)
        if isinstance(job, EfficiencyJob):
            _measure(job)
            return None
        if isinstance(job, TrainJob):
            if (failure := refusal(job)) is not None:
                return failure
            # Before any other file is written: the files of a killed process have their key too.
            Store(job.study).write_run(job.record(status="interrupted", environment=job.environment()), {}, [], None)
        with logs.to_file(job.log):  # only with the claim, whose owner writes there
            return perform_claimed(job, on_step)


def perform_claimed(job: TrainJob | StressJob | EnsembleJob, on_step: OnStep) -> Record | Failure | None:
    """Do a job that this process has claimed; print, record and return a failure."""
    from benchmark.runs.failures import describe_failure
    from benchmark.runs.later_tests import run_later_tests
    from benchmark.runs.train import train_and_test  # imports torch, which no plan needs

    print(f"{job.label}: on {job.device} with {counted(job.threads, 'thread')}", flush=True)
    try:
        if isinstance(job, TrainJob):
            return train_and_test(job, on_step)
        run_later_tests(job, on_step)
        return None
    except (BrokenPipeError, ConnectionResetError):
        raise  # the parent process is gone
    except Exception as error:  # a user's network may raise anything
        traceback.print_exc()
        failure = describe_failure(error, job.memory_advice, job.entry, job.log.relative_to(job.study))
        if isinstance(job, TrainJob):
            with contextlib.suppress(UserError):  # a full disk takes no record; the summary still reports the failure
                facts = job.environment(**environment.computing(job.device))
                record = job.record(status="failed", failure=failure, environment=facts)
                Store(job.study).write_run(record, {}, [], None)
        return failure


def record_end(job: TrainJob, *, here: bool, **outcome: object) -> None:
    """Record how a run ended (fields ``outcome``), unless its process did or another process has taken it over.

    The record describes this machine only if the run was computed ``here``.
    """
    with contextlib.suppress(UserError):  # a full disk takes neither claim nor record; the summary still reports it
        if (claim := claims.acquire(job.folder)) is None:
            return
        with claim:
            if job.settled() is not None or refusal(job) is not None:
                return
            facts = {"device": job.device, "threads": job.threads, "determinism": job.protocol.determinism}
            facts = job.environment() if here else facts
            Store(job.study).write_run(job.record(environment=facts, **outcome), {}, [], None)


def _measure(job: EfficiencyJob) -> None:
    """Write the study's efficiency file: valid figures of another study, else a new measurement."""
    record = job.taken_over()
    if record is None:
        from benchmark.efficiency.measure import measure  # imports torch

        trainings = _trainings_here(job)
        record = measure(
            job.entry,
            job.size,
            job.size,
            in_channels=job.channels,
            classes=job.classes,
            device=job.device,
            dtype=job.dtype,
            threads=job.threads,
            settings=job.settings,
            weights=job.weights.file if job.weights else None,
            known=measurements.Figures(job.study, job.device).of_machine(),
        )
        if trainings := max(trainings, _trainings_here(job)):
            warning = f"another process was doing {counted(trainings, 'run')} of this study on the machine meanwhile"
            record = record.model_copy(update={"warnings": (*record.warnings, warning)})
    write_atomically(job.file, record.to_json())


def _trainings_here(job: EfficiencyJob) -> int:
    """Count the study's runs on this machine; all are another call's, since this call measures."""
    claimed = {file.parent for file in (job.study / "runs").glob("[!.]*/*/*/claim.*")}
    owners = (claims.holder(folder) for folder in claimed)
    return sum(owner is not None and owner.machine == claims.machine() for owner in owners)

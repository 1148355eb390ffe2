"""Packs jobs into parcels that another machine checks and performs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import benchmark
from benchmark.config.own_packages import leave_current_folder, refuse_hidden
from benchmark.data.packs import bring_near
from benchmark.executors.events import Event, Finished, Step
from benchmark.executors.local import LocalExecutor
from benchmark.records import claims
from benchmark.records.run_record import Failure
from benchmark.records.store import Store
from benchmark.runs.jobs import Job, OnStep, Outcome, TrainJob
from benchmark.runs.perform import record_end
from benchmark.utils.errors import UserError

#: Version of the harness; one study must not mix numbers of two versions.
VERSION = f"{benchmark.__version__}, behaviour {benchmark.BEHAVIOUR}"

Answers = list[tuple[Outcome, float]] | UserError
"""Outcome and seconds of each job; or the reason why the machine cannot do jobs of this study."""


@dataclass(frozen=True)
class Parcel:
    """Jobs for one machine: a run, or all measurements, which must come from one machine."""

    jobs: tuple[Job, ...]
    folder: Path  # working folder of the command, for relative paths
    timeout_s: float | None = None  # limit of a run, after which its process is killed; measurements have no limit
    near: str | None = None  # folder on the machine's own disk for copies of packs; the machine replaces $NAME
    version: str = VERSION  # of the sender's harness

    @property
    def exclusive(self) -> bool:
        """Whether the jobs need the machine for themselves."""
        return self.jobs[0].exclusive

    def perform(self, on_step: OnStep, executor: LocalExecutor | None = None) -> Answers:
        """Do the jobs here in a separate process: a crash ends neither the engine's worker nor other runs.

        Args:
            on_step: called with (steps done, steps in all).
            executor: its processes do the jobs; ``None`` for one that ends with the jobs.
        """
        try:
            self._enter()
            jobs = [with_near_packs(job, self.near) for job in self.jobs]
        except UserError as error:
            return error
        answers: list[tuple[Outcome, float]] = []
        executor = executor or LocalExecutor(timeout_s=self.timeout_s)
        try:
            with contextlib.closing(executor.run(jobs)) as events:
                for event in events:
                    if isinstance(event, Step):
                        on_step(event.done, event.total)
                    if isinstance(event, Finished):
                        if isinstance(event.job, TrainJob) and isinstance(event.outcome, Failure):
                            record_end(event.job, here=True, status="failed", failure=event.outcome)
                        answers.append((event.outcome, event.seconds))
        finally:
            for job in jobs:  # other machines would wait for the claim of a process that was killed here
                with claims.acquire(job.folder) or contextlib.nullcontext():
                    pass
        return answers

    def _enter(self) -> None:
        """Check that this machine shares the harness, the sender's folder and the study, and go to the folder."""
        leave_current_folder()  # submitit and Ray put it first on the path, which started processes inherit
        refuse_hidden()
        if self.version != VERSION:
            raise UserError(f"a node has version {VERSION} of the benchmark, expected {self.version}; install the same")
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UserError(
                f"{self.folder}: not there on a node ({error.strerror}); start the command in a folder that all share"
            ) from error
        study = self.jobs[0].study
        if not Store(study).protocol_file.is_file():
            raise UserError(f"{study}: empty on a node; --results must lie on a disk that all nodes share")


def parcels(jobs: Sequence[Job], timeout_s: float | None = None, near: str | None = None) -> list[Parcel]:
    """Divide jobs into a first parcel with all measurements and one parcel for each run."""
    groups = [tuple(job for job in jobs if job.exclusive), *((job,) for job in jobs if not job.exclusive)]
    return [Parcel(group, Path.cwd(), timeout_s, near) for group in groups if group]


def ended(jobs: Sequence[Job], answers: Answers | Failure, seconds: float = 0.0) -> Iterator[Event]:
    """Yield the ends of a parcel's jobs; a failure of the parcel is that of all jobs, after ``seconds``.

    Raises:
        UserError: the machine cannot do jobs of this study.
    """
    if isinstance(answers, UserError):
        raise answers
    if isinstance(answers, Failure):  # measurements before it are on disk and are not repeated
        answers = [(answers, seconds)] * len(jobs)
    for job, (outcome, duration) in zip(jobs, answers, strict=True):
        yield Finished(job, outcome, duration)


def refuse_missing_package(error: BaseException) -> None:
    """Raise a UserError if a worker lacks a package of the sender, according to an engine's error."""
    if "No module named" in str(error):
        name = str(error).rpartition("No module named")[2].split("\n")[0].strip(" '\"")
        raise UserError(
            f"{name}: cannot be imported on a node; install the benchmark there as here (pip install -e .), "
            "or use an environment on a disk that all nodes share"
        ) from error


def with_near_packs(job: Job, near: str | None) -> Job:
    """Return a run that reads its packs from this machine's own disk, if a folder there is named.

    A disk that cannot be written changes nothing.

    Raises:
        UserError: ``near`` holds a variable that this machine does not have.
    """
    folder = os.path.expandvars(near or ("$SLURM_TMPDIR" if "SLURM_TMPDIR" in os.environ else ""))
    if not folder or not isinstance(job, TrainJob):
        return job
    if "$" in folder:
        raise UserError(f"cache={near}: a node's environment does not have that variable; name a folder")
    try:
        for source in job.task.sources:
            bring_near(source, job.protocol, job.cache, Path(folder))
    except UserError as error:
        print(error)  # into the output of the engine's job: a node's full disk must not end the run
        return job
    return replace(job, cache=Path(folder))

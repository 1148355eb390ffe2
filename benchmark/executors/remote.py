"""What an engine carries to another machine: jobs, and what that machine must share with the one that sent them."""

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
from benchmark.runs.perform import leave
from benchmark.utils.errors import UserError

#: Of the harness; numbers of two versions must not stand in one study.
VERSION = f"{benchmark.__version__}, behaviour {benchmark.BEHAVIOUR}"

Answers = list[tuple[Outcome, float]] | UserError
"""For each job what came of it and the seconds that it took; or why the machine cannot do jobs of this study."""


@dataclass(frozen=True)
class Parcel:
    """Jobs that one machine does together: a run, or all measurements, whose figures are to be of one machine.

    Attributes:
        jobs: what to do.
        folder: where the command was started; relative paths start there.
        timeout_s: how long a run may take before its process is killed; measurements have no limit.
        near: folder on the machine's own disk that packs are copied to; ``$NAME`` is read there.
        version: of the sender's harness.
    """

    jobs: tuple[Job, ...]
    folder: Path
    timeout_s: float | None = None
    near: str | None = None
    version: str = VERSION

    @property
    def exclusive(self) -> bool:
        """Whether nothing else may run on the machine."""
        return self.jobs[0].exclusive

    def perform(self, on_step: OnStep, executor: LocalExecutor | None = None) -> Answers:
        """Do the jobs here, in a process of their own; a machine that cannot do any of the study's says why.

        A network that crashes takes neither the engine's worker nor other runs along.

        Args:
            on_step: told of (steps done, steps in all).
            executor: of the process; ``None`` for one that ends with the jobs.
        """
        try:
            self._enter()
            jobs = [_near(job, self.near) for job in self.jobs]
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
                            leave(event.job, here=True, status="failed", failure=event.outcome)
                        answers.append((event.outcome, event.seconds))
        finally:
            for job in jobs:
                _release(job)
        return answers

    def _enter(self) -> None:
        """Go to the sender's folder after a look at whether this machine shares it, the study and the harness."""
        leave_current_folder()  # which submitit and Ray put first; processes started from here inherit what is left
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
    """Divide jobs: all measurements into one parcel, which comes first, each run into its own."""
    measurements = tuple(job for job in jobs if job.exclusive)
    groups = [*([measurements] if measurements else []), *((job,) for job in jobs if not job.exclusive)]
    return [Parcel(group, Path.cwd(), timeout_s, near) for group in groups]


def ended(jobs: Sequence[Job], answers: Answers) -> Iterator[Event]:
    """Tell what came of a parcel's jobs.

    Raises:
        UserError: the machine cannot do jobs of this study.
    """
    if isinstance(answers, UserError):
        raise answers
    for job, (outcome, seconds) in zip(jobs, answers, strict=True):
        yield Finished(job, outcome, seconds)


def lost(jobs: Sequence[Job], failure: Failure, seconds: float) -> Iterator[Event]:
    """Tell that a parcel did not come back; what it measured before is on disk and need not be measured again."""
    for job in jobs:
        yield Finished(job, failure, seconds)


def refuse_missing_package(error: BaseException) -> None:
    """Raise a UserError if an engine's error says that a worker lacks a package that the sender has."""
    if "No module named" in str(error):
        name = str(error).rpartition("No module named")[2].split("\n")[0].strip(" '\"")
        raise UserError(
            f"{name}: cannot be imported on a node; install the benchmark there as here (pip install -e .), "
            "or use an environment on a disk that all nodes share"
        ) from error


def _release(job: Job) -> None:
    """Give back the claim of a job whose process was ended on this machine: other machines would wait for it."""
    if (claim := claims.acquire(job.folder)) is not None:
        with claim:
            pass


def _near(job: Job, near: str | None) -> Job:
    """Return a run that reads its packs from this machine's own disk, where there is a place for them."""
    place = os.path.expandvars(near or ("$SLURM_TMPDIR" if "SLURM_TMPDIR" in os.environ else ""))
    if not place or not isinstance(job, TrainJob):
        return job
    if "$" in place:
        raise UserError(f"cache={near}: a node's environment does not have that variable; name a folder")
    try:
        for source in job.task.sources:
            bring_near(source, job.protocol, job.cache, Path(place))
    except UserError as error:
        print(error)  # into the output of the engine's job: a node's full disk is no reason to fail
        return job
    return replace(job, cache=Path(place))

"""Submits runs to Slurm as a job array, which Slurm may requeue."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from benchmark.executors.events import Event, Note, Started
from benchmark.executors.remote import Answers, Parcel, ended, parcels, refuse_missing_package
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import Job
from benchmark.utils import logs
from benchmark.utils.errors import UserError, did_you_mean, require
from benchmark.utils.words import counted

POLL_S = 2.0  # between two checks for answers in the folder
ASK_S = 60  # maximum between two requests to Slurm about jobs without an answer
REQUEUES = 10  # a run is requeued so often after a time limit, then ended; preemptions do not count
WARNING_S = 90  # before a time limit
PASSED_ON = ("gres", "partition", "account", "qos", "constraint")  # options that Slurm takes unchanged
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")  # as Slurm writes times: [days-]hours:minutes:seconds


def _minutes(text: object) -> object:
    match = _CLOCK.fullmatch(str(text))
    if match is None:
        return text
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return math.ceil((days * 24 + hours) * 60 + minutes + seconds / 60)


class SlurmOptions(BaseModel):
    """The options of ``--slurm``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = Field(None, description="in place of one GPU of any kind")
    time: Annotated[int, BeforeValidator(_minutes)] = Field(
        1440, ge=5, description="limit of one job, in minutes or [days-]HH:MM:SS; a longer run is queued again"
    )
    mem: float | None = Field(None, gt=0, description="gigabytes of one job")
    array: int = Field(64, ge=1, description="runs at a time")
    cache: str | None = Field(None, description="folder on a node's own disk that packs are copied to")

    @classmethod
    def parse(cls, text: str) -> SlurmOptions:
        """Read ``key=value,key=value``; a comma without a key after it belongs to the value, as in two partitions.

        Raises:
            UserError: an unknown key, or a wrong value.
        """
        pairs = [piece.partition("=")[::2] for piece in re.split(r",(?=\w+=)", text) if piece]
        for key, value in pairs:
            if key not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                raise UserError(f"--slurm: no option {key!r}{did_you_mean(key, cls.model_fields)} (known: {known})")
            if not value:
                raise UserError(f"--slurm {key}: expected {key}=VALUE")
        try:
            return cls.model_validate(dict(pairs))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise UserError(f"--slurm {problem['loc'][0]}={problem['input']}: {problem['msg']}") from error


@dataclass(frozen=True)
class Submission:
    """The call of a Slurm job; after Slurm's warning of a time limit or a preemption it is queued again unchanged."""

    parcel: Parcel

    def __call__(self) -> Answers:
        """Perform the parcel; a run continues from its last checkpoint."""
        return self.parcel.perform(lambda done, total: None)

    def checkpoint(self) -> Any:
        """Return the next submission; submitit calls this method when a job is interrupted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmExecutor:
    """Runs jobs as tasks of a Slurm array, and measurements in one job that has a node to itself."""

    def __init__(
        self,
        folder: Path,
        options: SlurmOptions,
        *,
        threads: int,
        gpu: bool,
        timeout_s: float | None = None,
        cluster: str = "slurm",
        ask_s: int = ASK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the requirements of the jobs.

        Args:
            folder: for submissions, answers and output; on a disk that all nodes share.
            options: partition and other values of ``--slurm``.
            threads: CPUs of a job.
            gpu: whether a job needs a GPU.
            timeout_s: limit of a run, after which its process is killed; measurements have no limit.
            cluster: submitit's name of the scheduler; ``local`` starts all jobs at once as processes.
            ask_s: maximum seconds between two requests to Slurm about jobs without an answer.
            clock: returns seconds, for the time of a job's absence from the queue.

        Raises:
            UserError: submitit is not installed.
        """
        require("submitit", flag="--executor slurm", extra="slurm")
        self.folder, self.options, self.timeout_s, self.cluster = folder, options, timeout_s, cluster
        self.threads, self.gpu = threads, gpu
        self.ask_s, self.clock = ask_s, clock

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events until every job has finished; closing the iterator cancels the jobs in Slurm."""
        if not jobs:
            return
        waiting: dict[Any, Parcel] = {}
        all_parcels = parcels(jobs, self.timeout_s, self.options.cache)
        try:
            for exclusive in (True, False):
                group = [parcel for parcel in all_parcels if parcel.exclusive == exclusive]
                if group:
                    submitted = self._submit(group, exclusive=exclusive)
                    waiting |= submitted
                    count = counted(len(group[0].jobs), "measurement") if exclusive else counted(len(group), "run")
                    number = next(iter(submitted)).job_id.partition("_")[0]
                    yield Note("slurm", f"job {number}, {count}; its output goes to {self.folder}")
            yield from self._watch(waiting)
        finally:
            for job in waiting:
                with contextlib.suppress(OSError):
                    job.cancel(check=False)

    def _submit(self, group: Sequence[Parcel], *, exclusive: bool) -> dict[Any, Parcel]:
        """Submit parcels as one array.

        Raises:
            UserError: this machine has no Slurm, or Slurm refuses.
        """
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            executor = submitit.AutoExecutor(self.folder, cluster=self.cluster, slurm_max_num_timeout=REQUEUES)
            executor.update_parameters(**self.parameters(exclusive=exclusive))
            with _outside_of_any_job(), executor.batch():
                submitted = [executor.submit(Submission(parcel)) for parcel in group]
        except (FailedJobError, FailedSubmissionError) as error:
            lines = str(error).splitlines()
            reason = next((line for line in lines if "error" in line), lines[0])
            raise UserError(f"--slurm: sbatch refuses ({reason.strip()})") from error
        except RuntimeError as error:
            raise UserError(f"--executor slurm: no srun on this machine; start on a login node ({error})") from error
        if self.cluster == "slurm":
            from benchmark.executors.slurm_states import QueueWatcher

            watcher = QueueWatcher(self.ask_s, self.clock)
            for job in submitted:
                job.watcher = watcher
                watcher.register_job(job.job_id)
        return dict(zip(submitted, group, strict=True))

    def parameters(self, *, exclusive: bool) -> dict[str, Any]:
        """Return what submitit passes on to ``sbatch``, for a whole node if ``exclusive``."""
        options = self.options
        return {
            "name": "benchmark",
            "timeout_min": options.time,
            "mem_gb": options.mem,
            "cpus_per_task": self.threads,
            "gpus_per_node": 1 if self.gpu and not options.gres else None,
            **{f"slurm_{name}": getattr(options, name) for name in PASSED_ON},
            "slurm_exclusive": True if exclusive else None,
            "slurm_array_parallelism": options.array,
            "slurm_signal_delay_s": WARNING_S,
            "slurm_additional_parameters": {"requeue": True},  # also after a node has died
        }

    def _watch(self, waiting: dict[Any, Parcel]) -> Iterator[Event]:
        started: dict[Any, float] = {}
        while waiting:
            for job, parcel in list(waiting.items()):
                done = job.done()
                if job not in started and (done or job.paths.stdout.exists()):
                    started[job] = time.perf_counter()
                    yield from map(Started, parcel.jobs)
                seconds = time.perf_counter() - started.get(job, time.perf_counter())
                if done:
                    del waiting[job]
                    yield from _outcome(job, parcel, seconds)
            if waiting:
                time.sleep(POLL_S)


@contextlib.contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hide the variables of a surrounding Slurm job, such as an interactive one, from the submitted jobs.

    They would inherit its binding to cores, its memory and its GPUs, and their srun would fail.
    """
    inside = "SLURM_JOB_ID" in os.environ
    names = [name for name in os.environ if inside and name.startswith("SLURM_") and name != "SLURM_CONF"]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _outcome(job: Any, parcel: Parcel, seconds: float) -> Iterator[Event]:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    answers: Answers | Failure
    # Preempted, or without its node, and not queued again.
    gone = job.job_id in getattr(job.watcher, "gone", ()) and not job.paths.result_pickle.exists()
    try:
        answers = _death(job, parcel.jobs[0], gone=True) if gone else job.result()
    except FailedJobError as error:
        refuse_missing_package(error)
        answers = Failure(kind="error", message=f"Slurm job {job.job_id} failed", log=logs.quoted(str(error)))
    except UncompletedJobError:
        answers = _death(job, parcel.jobs[0])
    yield from ended(parcel.jobs, answers, seconds)


def _death(job: Any, first: Job, *, gone: bool = False) -> Failure:
    """Describe a Slurm job that ended without an answer, or that is ``gone`` from the queue."""
    state, kind = str(job.state).upper(), "worker_died"
    message = f"Slurm job {job.job_id} ended without an answer, state {state}; see {job.paths.stderr.name}"
    if gone:
        message = (
            f"Slurm job {job.job_id}, last state {state}, is out of the queue for five minutes and did not answer; "
            "--retry-failed submits it again"
        )
    elif state.startswith("OUT_OF_ME"):
        kind = "out_of_memory"
    elif state.startswith("TIMEOUT"):
        kind = "timeout"
    log = logs.tail(first.log) or logs.tail(job.paths.stderr)
    return Failure.model_validate({"kind": kind, "message": message, "log": log})

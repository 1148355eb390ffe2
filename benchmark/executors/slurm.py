"""Submits runs to Slurm as one job array, which Slurm preempts and requeues as it likes."""

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
from benchmark.executors.remote import Answers, Parcel, ended, lost, parcels, refuse_missing_package
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import Job
from benchmark.utils import logs
from benchmark.utils.errors import UserError, did_you_mean, require

POLL_S = 2.0  # between two looks at the folder of answers
ASK_S = 60  # at most, between two questions to Slurm about jobs that have not answered
REQUEUES = 10  # after a time limit; a run that needs longer than that many limits is ended. Preemptions do not count.
WARNING_S = 90  # before a time limit, for the run to leave
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")  # as Slurm writes times: [days-]hours:minutes:seconds


def _minutes(text: object) -> object:
    match = _CLOCK.fullmatch(str(text))
    if match is None:
        return text
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return math.ceil((days * 24 + hours) * 60 + minutes + seconds / 60)


class SlurmOptions(BaseModel):
    """What ``--slurm`` may say."""

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
        """Read ``key=value,key=value``; a comma that no key follows belongs to the value, as in two partitions.

        Raises:
            UserError: an unknown key or a value of a wrong kind.
        """
        pairs = [piece.partition("=")[::2] for piece in re.split(r",(?=\w+=)", text) if piece]
        for key, value in pairs:
            if key not in cls.model_fields:
                raise UserError(f"--slurm: no option {key!r}{did_you_mean(key, cls.model_fields)} (known: {_known()})")
            if not value:
                raise UserError(f"--slurm {key}: expected {key}=VALUE")
        try:
            return cls.model_validate(dict(pairs))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise UserError(f"--slurm {problem['loc'][0]}={problem['input']}: {problem['msg']}") from error


def _known() -> str:
    return ", ".join(SlurmOptions.model_fields)


@dataclass(frozen=True)
class Submission:
    """What a Slurm job calls; Slurm's warning, before a time limit or a preemption, queues it again as it is."""

    parcel: Parcel

    def __call__(self) -> Answers:
        """Do the parcel; a run goes on from its last checkpoint."""
        return self.parcel.perform(lambda done, total: None)

    def checkpoint(self) -> Any:
        """Return what to do after the interruption; submitit's name for the hook."""
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
        """Say what to ask Slurm for.

        Args:
            folder: where submissions, answers and output go; on a disk that all nodes share.
            options: partition and the like.
            threads: CPUs of a job.
            gpu: whether a job needs one.
            timeout_s: how long a run may take before its process is killed; measurements have no limit.
            cluster: submitit's name of what runs jobs; ``local`` starts all of them at once as processes.
            ask_s: at most between two questions to Slurm about jobs that have not answered.
            clock: seconds, by which a job's absence from the queue is measured.

        Raises:
            UserError: submitit is not installed.
        """
        require("submitit", flag="--executor slurm", extra="slurm")
        self.folder, self.options, self.timeout_s, self.cluster = folder, options, timeout_s, cluster
        self.threads, self.gpu = threads, gpu
        self.ask_s, self.clock = ask_s, clock

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events until every job has finished; closing the iterator cancels what Slurm still has."""
        if not jobs:
            return
        waiting: dict[Any, Parcel] = {}
        try:
            for exclusive in (True, False):
                group = [
                    parcel
                    for parcel in parcels(jobs, self.timeout_s, self.options.cache)
                    if parcel.exclusive == exclusive
                ]
                if group:
                    submitted = self._submit(group, exclusive=exclusive)
                    waiting |= submitted
                    what = f"{len(group[0].jobs)} measurement(s)" if exclusive else f"{len(group)} run(s)"
                    number = next(iter(submitted)).job_id.partition("_")[0]
                    yield Note("slurm", f"job {number}, {what}; its output goes to {self.folder}")
            yield from self._watch(waiting)
        finally:
            for job in waiting:
                with contextlib.suppress(OSError):
                    job.cancel(check=False)

    def _submit(self, group: Sequence[Parcel], *, exclusive: bool) -> dict[Any, Parcel]:
        """Hand parcels to Slurm as one array.

        Raises:
            UserError: this machine knows no Slurm, or Slurm refuses.
        """
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            executor = submitit.AutoExecutor(self.folder, cluster=self.cluster, slurm_max_num_timeout=REQUEUES)
            executor.update_parameters(**self._parameters(exclusive=exclusive))
            with _outside_of_any_job(), executor.batch():
                submitted = [executor.submit(Submission(parcel)) for parcel in group]
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if "error" in line] or str(error).splitlines()
            raise UserError(f"--slurm: sbatch refuses ({said[0].strip()})") from error
        except RuntimeError as error:
            raise UserError(f"--executor slurm: no srun on this machine; start on a login node ({error})") from error
        if self.cluster == "slurm":
            from benchmark.executors.slurm_states import QueueWatcher

            watcher = QueueWatcher(self.ask_s, self.clock)
            for job in submitted:
                job.watcher = watcher
                watcher.register_job(job.job_id)
        return dict(zip(submitted, group, strict=True))

    def _parameters(self, *, exclusive: bool) -> dict[str, Any]:
        options = self.options
        return {
            "name": "benchmark",
            "timeout_min": options.time,
            "mem_gb": options.mem,
            "cpus_per_task": self.threads,
            "gpus_per_node": 1 if self.gpu and not options.gres else None,
            "slurm_gres": options.gres,
            "slurm_partition": options.partition,
            "slurm_account": options.account,
            "slurm_qos": options.qos,
            "slurm_constraint": options.constraint,
            "slurm_exclusive": True if exclusive else None,
            "slurm_array_parallelism": options.array,
            "slurm_signal_delay_s": WARNING_S,
            "slurm_additional_parameters": {"requeue": True},  # also after the death of a node
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
    """Hide the variables of a Slurm job, such as an interactive one, from the jobs that are submitted inside it.

    They would inherit its binding to cores, its memory and its GPUs, with which their srun fails.
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

    if job.job_id in getattr(job.watcher, "gone", ()) and not job.paths.result_pickle.exists():
        yield from lost(parcel.jobs, _disappearance(job, parcel.jobs[0]), seconds)
        return
    try:
        yield from ended(parcel.jobs, job.result())
    except FailedJobError as error:
        refuse_missing_package(error)
        failure = Failure(kind="error", message=f"Slurm job {job.job_id} failed", log=logs.quoted(str(error)))
        yield from lost(parcel.jobs, failure, seconds)
    except UncompletedJobError:
        yield from lost(parcel.jobs, _death(job, parcel.jobs[0]), seconds)


def _disappearance(job: Any, first: Job) -> Failure:
    """Describe a Slurm job that was preempted, or lost its node, and was not queued again."""
    state = str(job.state).upper()
    return Failure(
        kind="worker_died",
        message=f"Slurm job {job.job_id}, last state {state}, is out of the queue for five minutes and did not answer; "
        "--retry-failed submits it again",
        log=logs.tail(first.log) or logs.tail(job.paths.stderr),
    )


def _death(job: Any, first: Job) -> Failure:
    """Describe a Slurm job that ended without an answer."""
    state = str(job.state).upper()
    kinds = {"OUT_OF_ME": "out_of_memory", "TIMEOUT": "timeout"}
    return Failure.model_validate(
        {
            "kind": next((kind for start, kind in kinds.items() if state.startswith(start)), "worker_died"),
            "message": f"Slurm job {job.job_id} ended without an answer, state {state}; see {job.paths.stderr.name}",
            "log": logs.tail(first.log) or logs.tail(job.paths.stderr),
        }
    )

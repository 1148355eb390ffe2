"""Returns the status of every planned run: done, missing, failed or stale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmark.records import claims
from benchmark.records.run_record import Record
from benchmark.records.store import CHECKPOINT
from benchmark.runs.jobs import TrainJob
from benchmark.runs.staleness import run_name
from benchmark.study.plan import Plan, staleness_of
from benchmark.study.study import Study

State = Literal["done", "missing", "interrupted", "failed", "stale", "claimed"]


@dataclass(frozen=True)
class RunState:
    """Status of one run."""

    train: str  # the training datasets, joined by +
    model: str
    repeat: int
    state: State  # claimed while another process is doing it
    why: str = ""  # the reason for the state, if any

    @classmethod
    def of(cls, run: TrainJob | Record, state: State, why: str = "") -> RunState:
        """Return the status of a run that a job or a record names."""
        train, model, repeat = run_name(run)
        return cls("+".join(train), model, repeat, state, why)


def states(study: Study, plan: Plan) -> list[RunState]:
    """Return the status of every run that is asked for, and of other stale runs.

    They are sorted by training set, model and repeat, in the order of the call.
    """
    staleness = staleness_of(study)
    runs: dict[tuple[str, str, int], RunState] = {}
    for state in (
        *(RunState.of(record, "stale", "; ".join(staleness.reasons(record))) for record in plan.stale),
        *(RunState.of(record, "done") for record in plan.done),
        *(RunState.of(record, "failed", _failure(record)) for record in plan.failed),
        *map(_unfinished, plan.todo),
    ):
        runs.setdefault((state.train, state.model, state.repeat), state)
    tasks = {task.name: number for number, task in enumerate(study.tasks)}
    models = {entry.name: number for number, entry in enumerate(study.models)}

    def order(run: RunState) -> tuple[int, str, int, str, int]:
        return tasks.get(run.train, len(tasks)), run.train, models.get(run.model, len(models)), run.model, run.repeat

    return sorted(runs.values(), key=order)


def _failure(record: Record) -> str:
    return f"{record.failure.kind}: {record.failure.message}" if record.failure else ""


def _unfinished(job: TrainJob) -> RunState:
    if not job.folder.is_dir():
        return RunState.of(job, "missing")
    if claims.holder(job.folder) is not None:
        return RunState.of(job, "claimed", "another process is doing it")
    steps = None
    if (job.folder / CHECKPOINT).is_file():
        from benchmark.training.checkpoint import Checkpoint  # imports torch

        steps = Checkpoint(job.folder / CHECKPOINT, job.key).steps()
    record = job.recorded()
    resumption = f"goes on from {CHECKPOINT} at step {steps}" if steps is not None else "begins anew"
    if record is not None and record.status == "failed":
        return RunState.of(job, "failed", f"{resumption}; failed with {_failure(record)}")
    if record is None and steps is None:
        return RunState.of(job, "missing")
    return RunState.of(job, "interrupted", resumption)

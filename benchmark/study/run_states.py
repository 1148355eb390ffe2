"""Status of every planned run: done, missing, failed or stale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmark.records import claims
from benchmark.records.run_record import Record
from benchmark.records.store import CHECKPOINT
from benchmark.runs.jobs import TrainJob
from benchmark.runs.staleness import Staleness
from benchmark.study.plan import Plan, staleness_of
from benchmark.study.study import Study

State = Literal["done", "missing", "interrupted", "failed", "stale", "claimed"]
Run = tuple[str, str, int]


@dataclass(frozen=True)
class RunState:
    """Where one run stands.

    Attributes:
        train: the training datasets, joined by ``+``.
        model: the network.
        repeat: which of the random repeats.
        state: in a word; ``claimed`` by another process that is doing it.
        why: what the word does not say.
    """

    train: str
    model: str
    repeat: int
    state: State
    why: str = ""


def states(study: Study, plan: Plan) -> list[RunState]:
    """Return the state of every run that is asked for, and of stale ones that are not.

    They come by training set, model and repeat, in the order in which they were asked for.
    """
    staleness = staleness_of(study)
    found: dict[Run, RunState] = {}
    for state in (*_recorded(plan, staleness), *map(_unfinished, plan.todo)):
        found.setdefault((state.train, state.model, state.repeat), state)
    tasks = {task.name: place for place, task in enumerate(study.tasks)}
    models = {entry.name: place for place, entry in enumerate(study.models)}

    def place(run: Run) -> tuple[int, str, int, str, int]:
        train, model, repeat = run
        return tasks.get(train, len(tasks)), train, models.get(model, len(models)), model, repeat

    return [found[run] for run in sorted(found, key=place)]


def _recorded(plan: Plan, staleness: Staleness) -> Iterator[RunState]:
    for record in plan.stale:
        yield _of(record, "stale", "; ".join(staleness.reasons(record)))
    for record in plan.done:
        yield _of(record, "done")
    for record in plan.failed:
        yield _of(record, "failed", _failure(record))


def _of(record: Record, state: State, why: str = "") -> RunState:
    return RunState("+".join(record.train), record.model, record.repeat, state, why)


def _failure(record: Record | None) -> str:
    return f"{record.failure.kind}: {record.failure.message}" if record and record.failure else ""


def _unfinished(job: TrainJob) -> RunState:
    def found(state: State, why: str = "") -> RunState:
        return RunState(job.task.name, job.entry.name, job.repeat, state, why)

    if not job.folder.is_dir():
        return found("missing")
    if claims.holder(job.folder) is not None:
        return found("claimed", "another process is doing it")
    record, steps = job.recorded(), _saved_steps(job)
    goes_on = f"goes on from {CHECKPOINT} at step {steps}" if steps is not None else "begins anew"
    if record is not None and record.status == "failed":
        return found("failed", f"{goes_on}; failed with {_failure(record)}")
    if record is None and steps is None:
        return found("missing")
    return found("interrupted", goes_on)


def _saved_steps(job: TrainJob) -> int | None:
    if not (job.folder / CHECKPOINT).is_file():
        return None
    from benchmark.training.checkpoint import Checkpoint

    return Checkpoint(job.folder / CHECKPOINT, job.key).steps()

"""Does what a study plans without training."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.executors.events import Event, Finished, Started
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import Store
from benchmark.runs.jobs import Job, TrainJob
from benchmark.study.execute import execute
from benchmark.study.plan import Plan, make_plan
from benchmark.study.study import Study

MakeStudy = Callable[..., Study]


class Pretend:
    """An executor that writes records without training; some runs fail, one may be cut off."""

    def __init__(self, fail: Sequence[str] = (), stop_at: str = "") -> None:
        self.fail, self.stop_at = fail, stop_at
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        for job in jobs:
            yield Started(job)
            if job.label == self.stop_at:
                raise KeyboardInterrupt
            self.jobs.append(job)
            outcome: Record | Failure | None = None
            if isinstance(job, TrainJob):
                if job.label in self.fail:
                    outcome = Failure(kind="error", message="pretended")
                else:
                    outcome = job.record(status="ok")
                    Store(job.study).write_run(outcome, {}, [], None)
            yield Finished(job, outcome, 1.0)


def trainings(plan: Plan) -> Plan:
    """Leave the measurements out of a plan."""
    return replace(plan, measurements=[])


def alone(source: Source) -> Task:
    return Task((source,), (source,))


def do(study: Study, executor: Pretend | None = None, **flags: bool) -> tuple[Plan, list[Event]]:
    events: list[Event] = []
    plan = make_plan(study, **flags)
    execute(study, plan, executor or Pretend(), events.append)
    return plan, events


def begin_and_stop(study: Study) -> None:
    """Leave a study as Ctrl-C leaves it before a run has been begun."""

    class Stops:
        def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
            raise KeyboardInterrupt
            yield

    with pytest.raises(KeyboardInterrupt):
        execute(study, make_plan(study), Stops(), lambda event: None)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

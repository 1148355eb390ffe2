"""Tests the execution of a plan: failures, runs of other processes, and the end after the first failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmark.config.protocol import load_protocol
from benchmark.executors.events import Event, Note
from benchmark.records import claims
from benchmark.records.claims import Claim
from benchmark.records.run_record import Record
from benchmark.study.execute import execute
from benchmark.study.plan import Plan, make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor, outcomes
from tests.benchmark.pretend import MakeStudy, trainings


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study(load_protocol("quick", [*SMALL, "repeats=1"]))


def test_first_failure_ends_the_study_with_fail_fast(make_study: MakeStudy) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Raises", "TinyNet")
    study.fail_fast = True
    events: list[Event] = []
    execute(study, trainings(make_plan(study)), InProcessExecutor(), events.append)
    assert len(outcomes(events)) == 1
    assert [job.entry.name for job in make_plan(study).todo] == ["tinynet"]


def run_beside(study: Study, plan: Plan, other_process: Callable[[Claim], None]) -> Record:
    """Execute a plan of one run, which another process holds until the study waits for it."""
    claim = claims.acquire(plan.todo[0].folder)
    assert claim is not None
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Note) and "waiting for 1 run" in event.text:
            other_process(claim)

    execute(study, plan, InProcessExecutor(), emit)
    (outcome,) = outcomes(events).values()
    assert isinstance(outcome, Record)
    return outcome


def test_run_of_another_process_is_awaited_and_not_done_again(study: Study) -> None:
    plan = trainings(make_plan(study))
    (job,) = plan.todo

    def finish(claim: Claim) -> None:
        with claim:
            study.store.write_run(job.record(status="ok", training=None), {}, [], None)

    assert run_beside(study, plan, finish).training is None  # the other process's record, not of a training here
    assert not list(job.folder.glob("claim.*"))


def test_run_is_taken_over_from_a_process_that_dies(study: Study) -> None:
    assert run_beside(study, trainings(make_plan(study)), lambda claim: claim.__exit__()).training is not None

"""Tests the time left of a call: from estimates first, then from what the jobs took."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.executors.events import Finished, Packing, Started, Step
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import StressJob
from benchmark.study.time_left import ExpectedJob, ExpectedStress, ExpectedWork, TimeLeft


def job(label: str) -> Any:
    return SimpleNamespace(label=label)


class Clocked(TimeLeft):
    """With a clock that the test moves."""

    def __init__(self, work: ExpectedWork) -> None:
        self.now = 100.0
        super().__init__(work, lambda: self.now)

    def end(self, label: str, seconds: float, **fields: Any) -> None:
        self.now += seconds
        self.see(Finished(job(label), fields.pop("outcome", None), seconds, **fields))


def runs(*labels: str, seconds: float = 10.0, timed: bool = False) -> dict[str, ExpectedJob]:
    return {label: ExpectedJob(seconds, label[0], timed=timed) for label in labels}


def test_estimates_are_a_guess_until_jobs_were_timed() -> None:
    assert TimeLeft(ExpectedWork(runs("a0", "b0"), report=5.0)).left() == (25.0, True)
    assert TimeLeft(ExpectedWork(runs("a0", "b0", timed=True), report=5.0)).left() == (25.0, False)
    assert TimeLeft(ExpectedWork(report=5.0)).left() == (5.0, True)
    assert TimeLeft(ExpectedWork(report=5.0, report_timed=True)).left() == (5.0, False)


def test_trainings_that_may_stop_early_stay_a_guess() -> None:
    work = {label: ExpectedJob(10.0, "a", timed=True, may_stop_early=True) for label in ("a0", "a1")}
    time_left = Clocked(ExpectedWork(work))
    assert time_left.left() == (20.0, True)
    time_left.end("a0", 6.0)
    time_left.see(Step(job("a1"), 0, 100))
    time_left.now += 3.0
    time_left.see(Step(job("a1"), 50, 100))
    assert time_left.left() == (pytest.approx(3.0 / 0.45 * 0.55), True)


def test_done_runs_correct_those_of_their_group_and_less_surely_others() -> None:
    time_left = Clocked(ExpectedWork(runs("a0", "b0", "a1", "b1")))
    time_left.end("a0", 30.0)
    assert time_left.left() == (pytest.approx(90.0), True)
    time_left.end("b0", 2.0)
    assert time_left.left() == (pytest.approx(32.0), False)
    assert time_left.elapsed() == 32.0


def test_measurements_do_not_correct_runs_and_run_alone() -> None:
    work = {label: ExpectedJob(8.0, "m", exclusive=True) for label in ("m0", "m1")}
    time_left = Clocked(ExpectedWork(work | runs("a0", "a1", timed=True), slots=2))
    assert time_left.left()[0] == 8.0 + 8.0 + 10.0
    time_left.end("m0", 16.0)
    assert time_left.left()[0] == 16.0 + 10.0


def test_steps_of_a_run_give_its_pace_also_after_it_was_resumed() -> None:
    time_left = Clocked(ExpectedWork(runs("a0", "a1")))
    time_left.see(Started(job("a0")))
    time_left.see(Step(job("a0"), 50, 100))
    time_left.now += 20.0
    time_left.see(Step(job("a0"), 75, 100))
    # A quarter of the training, 0.225 of the run, took 20 s.
    assert time_left.left()[0] == pytest.approx(20.0 / 0.225 * (1 - 0.675) + 10.0)
    time_left.end("a0", 21.0)
    assert time_left.left()[0] == 10.0  # a part of a run says nothing of whole ones


def stress(network: str, tests: int) -> Any:
    """A job of stress tests, as far as the time left looks at it."""
    training: Any = SimpleNamespace(label=network, entry=SimpleNamespace(name=network))
    return StressJob(training, ((SimpleNamespace(), None),) * tests, "")  # type: ignore[arg-type]


def test_time_left_shrinks_while_stress_images_are_drawn_and_tested() -> None:
    expected = ExpectedStress(20.0, {"a": (5, 4.0), "b": (3, 1.0)})
    time_left = Clocked(ExpectedWork(runs("a0", "b0"), stress=expected, report=5.0))
    time_left.see(Packing("omc-syn", 1, 4))  # of the training
    assert time_left.left()[0] == 20.0 + 20.0 + 23.0 + 5.0
    time_left.end("a0", 20.0)  # twice as long as expected, and so are its tests
    time_left.end("b0", 10.0)
    assert time_left.left() == (20.0 + 43.0 + 5.0, True)
    time_left.see(Packing("omc-syn clouds 1", 1, 4))
    time_left.now += 15.0
    assert time_left.left()[0] == 5.0 + 43.0 + 5.0
    time_left.now += 15.0
    assert time_left.left()[0] == 1.0 + 43.0 + 5.0
    first, second = stress("a", 5), stress("b", 3)
    time_left.see(Started(first))
    time_left.now += 30.0  # with the start of the process
    time_left.see(Step(first, 1, 5))
    assert time_left.left() == (13.0 + 5.0, True)
    time_left.now += 4.0
    time_left.see(Step(first, 2, 5))
    assert time_left.left() == (pytest.approx(4.0 / 8 * (43 - 16) + 5.0), False)  # 8 of 43 expected seconds took 4
    time_left.now += 12.0
    time_left.see(Finished(first, None, 46.0))
    time_left.see(Started(second))
    assert time_left.left() == (pytest.approx(16.0 / 32 * 3 + 5.0), True)
    time_left.see(Finished(second, Failure(kind="error", message="pretended"), 0.0))
    assert time_left.left() == (5.0, True)


def test_building_of_a_dataset_counts_at_its_pace() -> None:
    time_left = Clocked(ExpectedWork(runs("a0")))
    time_left.see(Packing("omc", 1, 101))
    assert time_left.left()[0] == 10.0
    time_left.now += 20.0
    time_left.see(Packing("omc", 51, 101))
    assert time_left.left()[0] == pytest.approx(20.0 + 10.0)


@pytest.mark.parametrize("fields", [{"elsewhere": True}, {"outcome": Failure(kind="error", message="pretended")}])
def test_failures_and_runs_of_other_processes_say_nothing_of_others(fields: dict[str, Any]) -> None:
    time_left = Clocked(ExpectedWork(runs("a0", "a1")))
    time_left.end("a0", 0.5, **fields)
    assert time_left.left() == (10.0, True)


def test_longer_run_than_expected_never_has_nothing_left() -> None:
    time_left = Clocked(ExpectedWork(runs("a0")))
    time_left.see(Started(job("a0")))
    time_left.now += 60.0
    assert time_left.left()[0] == pytest.approx(0.5)

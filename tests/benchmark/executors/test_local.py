"""Tests local slots: every job ends in a record or a typed failure, even if its process dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.devices.hardware_slots import NO_GPUS, Hardware
from benchmark.executors.events import Event, Finished, Started, Step
from benchmark.executors.events import Note as NoteEvent
from benchmark.executors.local import LocalExecutor
from benchmark.records import claims
from benchmark.records.run_record import Failure, Record
from benchmark.runs.jobs import TrainJob
from benchmark.study.execute import execute
from benchmark.study.plan import Plan, make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL


@dataclass(frozen=True)
class Note:
    """A job that writes down when it ran, and where."""

    label: str
    folder: Path
    exclusive: bool = False
    seconds: float = 0.0
    end_process: bool = False
    log: None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def written(self) -> tuple[int, float, float]:
        pid, started, ended = (self.folder / self.label).read_text().split()
        return int(pid), float(started), float(ended)


def note(job: Any, on_step: Callable[[int, int], None]) -> None:
    started = time.time()
    on_step(1, 2)
    time.sleep(job.seconds)
    if job.end_process:
        os._exit(3)
    (job.folder / job.label).write_text(f"{os.getpid()} {started} {time.time()}")
    (job.folder / f"{job.label}.json").write_text(json.dumps(dict(os.environ)))


def finished(events: list[Event]) -> dict[str, Any]:
    return {event.job.label: event.outcome for event in events if isinstance(event, Finished)}


def test_one_process_serves_many_jobs_in_order(tmp_path: Path) -> None:
    jobs: list[Any] = [Note(f"{index}", tmp_path) for index in range(3)]
    events = list(LocalExecutor(perform=note).run(jobs))
    assert [type(event) for event in events if not isinstance(event, Step)] == [Started, Finished] * 3
    assert len({job.written()[0] for job in jobs}) == 1
    assert jobs[0].written()[0] != os.getpid()
    assert any(isinstance(event, Step) and (event.done, event.total) == (1, 2) for event in events)


def test_a_lasting_process_waits_for_more_of_the_same_and_is_replaced_when_it_died_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = LocalExecutor(lasting=True, perform=note)

    def process(label: str, **variables: str) -> int:
        job: Any = Note(label, tmp_path, variables=variables)
        (outcome,) = finished(list(executor.run([job]))).values()
        assert outcome is None
        return int(job.written()[0])

    first = process("first")
    assert process("second") == first
    os.kill(first, signal.SIGKILL)
    while first in [child.pid for child in multiprocessing.active_children()]:
        time.sleep(0.01)
    third = process("third")
    assert third != first
    fourth = process("fourth", NEEDED="1")
    assert fourth != third
    assert not psutil.pid_exists(third)
    monkeypatch.chdir(tmp_path)
    fifth = process("fifth", NEEDED="1")
    assert fifth != fourth
    executor.close()
    assert not psutil.pid_exists(fifth)


def test_job_variables_are_set_from_the_first_job_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_BY_THE_USER", "7")
    needed = {"NEEDED": "1", "SET_BY_THE_USER": "8"}
    jobs: list[Any] = [Note("first", tmp_path, exclusive=True), Note("second", tmp_path, variables=needed)]
    list(LocalExecutor(perform=note).run(jobs))
    found = json.loads((tmp_path / "first.json").read_text())
    assert (found["NEEDED"], found["SET_BY_THE_USER"]) == ("1", "7")
    assert "NEEDED" not in os.environ


def test_a_job_on_the_cpu_sees_no_gpu_and_one_on_a_gpu_beside_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0")
    jobs: list[Any] = [Note("gpu", tmp_path), Note("cpu", tmp_path, variables=dict(NO_GPUS)), Note("again", tmp_path)]
    list(LocalExecutor(perform=note).run(jobs))
    seen = {job.label: json.loads((tmp_path / f"{job.label}.json").read_text()) for job in jobs}
    assert [seen[name]["CUDA_VISIBLE_DEVICES"] for name in ("gpu", "cpu", "again")] == ["0,1", "", "0,1"]
    assert [seen[name]["ROCR_VISIBLE_DEVICES"] for name in ("gpu", "cpu", "again")] == ["0", "", "0"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_runs_and_measurements_on_the_cpu_hide_the_gpus_on_every_engine(make_study: Callable[..., Study]) -> None:
    plan = make_plan(make_study(load_protocol("quick", SMALL)))
    for job in (*plan.todo, *plan.measurements):
        assert NO_GPUS.items() <= job.variables.items()
        assert not NO_GPUS.keys() & job.on("cuda:0").variables.keys()


def test_exclusive_jobs_come_first_and_alone_and_others_run_beside_each_other(tmp_path: Path) -> None:
    # Long enough to overlap even though the second process needs seconds to start.
    jobs: list[Any] = [Note("a", tmp_path, seconds=8), Note("b", tmp_path), Note("c", tmp_path, exclusive=True)]
    list(LocalExecutor([None, None], perform=note).run(jobs))
    a, b, c = (job.written() for job in jobs)
    assert c[2] <= min(a[1], b[1])
    assert a[1] < b[2]
    assert b[1] < a[2]
    assert a[0] != b[0]


def test_a_dead_process_is_a_typed_failure_and_is_replaced(tmp_path: Path) -> None:
    jobs: list[Any] = [Note("dies", tmp_path, end_process=True), Note("next", tmp_path)]
    outcomes = finished(list(LocalExecutor(perform=note).run(jobs)))
    assert isinstance(outcomes["dies"], Failure)
    assert outcomes["dies"].kind == "worker_died"
    assert outcomes["dies"].message == "the worker process exited with code 3"
    assert outcomes["next"] is None
    assert jobs[1].written()


def test_networks_that_raise_diverge_or_kill_their_process_are_rows(make_study: Callable[..., Study]) -> None:
    protocol = load_protocol("quick", [*SMALL, "repeats=1"])
    study = make_study(protocol, "Raises", "NotANumber", "Dies", "TinyNet")
    plan = make_plan(study)
    events: list[Event] = []
    execute(study, plan.__class__(**{**vars(plan), "measurements": []}), LocalExecutor(), events.append)
    outcomes = finished(events)
    kinds = {label.split()[1]: getattr(outcome, "kind", "ok") for label, outcome in outcomes.items()}
    assert kinds == {"raises": "error", "notanumber": "nan_loss", "dies": "worker_died", "tinynet": "ok"}
    assert isinstance(outcomes["omc-syn tinynet repeat 0"], Record)

    stored = {record.model: record for _, record in study.store.records()}
    assert stored["raises"].failure is not None
    assert "the sort of bug" in stored["raises"].failure.message
    assert "tiny.py" in stored["raises"].failure.log
    assert str(Path(__file__).parent) not in stored["raises"].failure.log
    assert stored["dies"].failure is not None
    assert "SIGKILL" in stored["dies"].failure.message
    assert "--workers" in stored["dies"].failure.message
    assert "--set training.micro_batch=2 in place of 4" in stored["dies"].failure.message
    again = make_plan(study)
    assert [record.model for record in again.failed] == ["raises", "notanumber", "dies"]
    assert [record.model for record in again.done] == ["tinynet"]
    assert [job.entry.name for job in make_plan(study, retry_failed=True).todo] == ["raises", "notanumber", "dies"]


def alone(plan: Plan) -> Plan:
    """Leave the measurements out."""
    return replace(plan, measurements=[])


def test_a_run_that_hangs_is_ended_and_its_worker_replaced(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Waits", "TinyNet")
    events: list[Event] = []
    # Long enough for a busy machine to start a process and do the other run.
    execute(study, alone(make_plan(study)), LocalExecutor(timeout_s=25), events.append)
    outcomes = finished(events)
    assert outcomes["omc-syn waits repeat 0"].kind == "timeout"
    assert "--timeout, 25 s" in outcomes["omc-syn waits repeat 0"].message
    assert isinstance(outcomes["omc-syn tinynet repeat 0"], Record)
    assert [record.failure.kind for record in make_plan(study).failed if record.failure] == ["timeout"]


def test_a_crash_leaves_its_stack_and_what_the_run_printed(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Crashes", "TinyNet")
    events: list[Event] = []
    execute(study, alone(make_plan(study)), LocalExecutor(), events.append)
    outcomes = finished(events)
    failure = outcomes["omc-syn crashes repeat 0"]
    assert (failure.kind, "SIGSEGV" in failure.message) == ("worker_died", True)
    assert re.search(r'File "tiny.py", line \d+ in forward', failure.log)
    assert str(Path(__file__).parents[2]) not in failure.log
    job = next(job for job in make_plan(study, retry_failed=True).todo if job.entry.name == "crashes")
    assert "about to crash" in job.log.read_text()
    assert isinstance(outcomes["omc-syn tinynet repeat 0"], Record)


def test_first_failure_ends_the_study_with_fail_fast(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Raises", "TinyNet")
    study.fail_fast = True
    events: list[Event] = []
    execute(study, alone(make_plan(study)), LocalExecutor(), events.append)
    assert len(finished(events)) == 1
    assert [job.entry.name for job in make_plan(study).todo] == ["tinynet"]


def test_slots_give_runs_their_device(make_job: Callable[..., TrainJob], small: Protocol) -> None:
    assert Hardware("cpu", 8, workers=4).slots == (None,) * 4
    both = Hardware("cuda:0", 8, workers=2, gpus=("cuda:0", "cuda:1"))
    assert (both.slots, both.threads_each) == (("cuda:0", "cuda:1") * 2, 2)
    assert make_job(small).on("cuda:1").device == "cuda:1"


def test_a_run_that_another_process_does_is_waited_for_and_not_done_again(
    make_study: Callable[..., Study], small: Protocol
) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]))
    plan = alone(make_plan(study))
    (job,) = plan.todo
    claim = claims.acquire(job.folder)
    assert claim is not None

    def other_process(event: Event) -> None:
        events.append(event)
        if isinstance(event, NoteEvent) and "waiting for 1 run" in event.text:
            with claim:
                study.store.write_run(job.record(status="ok", training=None), {}, [], None)

    events: list[Event] = []
    execute(study, plan, LocalExecutor(), other_process)
    (outcome,) = finished(events).values()
    assert isinstance(outcome, Record)
    assert outcome.training is None  # the other process's record, not one of a training here
    assert not list(job.folder.glob("claim.*"))


def test_a_run_whose_other_process_dies_is_taken_over(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]))
    plan = alone(make_plan(study))
    claim = claims.acquire(plan.todo[0].folder)
    assert claim is not None

    def other_process(event: Event) -> None:
        events.append(event)
        if isinstance(event, NoteEvent) and "waiting" in event.text:
            claim.__exit__()

    events: list[Event] = []
    execute(study, plan, LocalExecutor(), other_process)
    outcome = finished(events)["omc-syn tinynet repeat 0"]
    assert isinstance(outcome, Record)
    assert outcome.training is not None


def test_closing_the_iterator_ends_busy_workers(tmp_path: Path) -> None:
    job: Any = Note("sleeps", tmp_path, seconds=600)
    events = LocalExecutor(perform=note).run([job])
    assert isinstance(next(events), Started)
    assert isinstance(next(events), Step)
    started = time.monotonic()
    events.close()
    assert time.monotonic() - started < 60
    assert not (tmp_path / "sleeps").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_jobs_start_no_process(workers: int) -> None:
    assert list(LocalExecutor([None] * workers).run([])) == []

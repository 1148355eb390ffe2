"""Tests local slots: every job ends in a record or a typed failure, even if its process dies."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.devices.hardware_slots import NO_GPUS, Hardware
from benchmark.executors import local
from benchmark.executors.events import Event, Finished, Started, Step
from benchmark.executors.local import LocalExecutor
from benchmark.records.run_record import Failure, Record
from benchmark.runs.jobs import TrainJob
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor, outcomes
from tests.benchmark.executors.light_jobs import LightJob, do_light
from tests.benchmark.pretend import trainings


def executor(*, processes: bool = True) -> LocalExecutor | InProcessExecutor:
    return LocalExecutor(perform=do_light) if processes else InProcessExecutor(do_light, measures=True)


@pytest.mark.parametrize("processes", [True, False])
def test_one_process_serves_many_jobs_in_order(processes: bool) -> None:
    jobs: list[Any] = [LightJob("0", exclusive=True), LightJob("1"), LightJob("2")]
    events = list(executor(processes=processes).run(jobs))
    assert [(type(event), event.job.label) for event in events if not isinstance(event, Step)] == [
        (kind, label) for label in ("0", "1", "2") for kind in (Started, Finished)
    ]
    assert any(isinstance(event, Step) and (event.done, event.total) == (1, 2) for event in events)
    (pid,) = {facts["pid"] for facts in outcomes(events).values()}
    assert (pid != os.getpid()) == processes


def test_lasting_process_waits_for_more_of_the_same_and_is_replaced_when_it_died_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = LocalExecutor(lasting=True, perform=do_light)

    def process(**variables: str) -> int:
        job: Any = LightJob(variables=variables)
        return int(outcomes(executor.run([job]))["light"]["pid"])

    first = process()
    assert process() == first
    os.kill(first, signal.SIGKILL)
    while first in [child.pid for child in multiprocessing.active_children()]:
        time.sleep(0.01)
    third = process()
    assert third != first
    fourth = process(NEEDED="1")
    assert fourth != third
    assert not psutil.pid_exists(third)
    monkeypatch.chdir(tmp_path)
    fifth = process(NEEDED="1")
    assert fifth != fourth
    executor.close()
    assert not psutil.pid_exists(fifth)


def variables(*jobs: Any) -> dict[str, dict[str, str]]:
    """Return the environment variables that each job saw."""
    return {label: facts["variables"] for label, facts in outcomes(executor().run(jobs)).items()}


def test_job_variables_are_set_from_the_first_job_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_BY_THE_USER", "7")
    needed = {"NEEDED": "1", "SET_BY_THE_USER": "8"}
    first = variables(LightJob("first", exclusive=True), LightJob("second", variables=needed))["first"]
    assert (first["NEEDED"], first["SET_BY_THE_USER"]) == ("1", "7")
    assert "NEEDED" not in os.environ


def test_job_on_the_cpu_sees_no_gpu_and_job_on_a_gpu_beside_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0")
    seen = variables(LightJob("gpu"), LightJob("cpu", variables=dict(NO_GPUS)), LightJob("again"))
    assert [seen[name]["CUDA_VISIBLE_DEVICES"] for name in ("gpu", "cpu", "again")] == ["0,1", "", "0,1"]
    assert [seen[name]["ROCR_VISIBLE_DEVICES"] for name in ("gpu", "cpu", "again")] == ["0", "", "0"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_runs_and_measurements_on_the_cpu_hide_the_gpus_on_every_engine(make_study: Callable[..., Study]) -> None:
    plan = make_plan(make_study(load_protocol("quick", SMALL)))
    for job in (*plan.todo, *plan.measurements):
        assert NO_GPUS.items() <= job.variables.items()
        assert not NO_GPUS.keys() & job.on("cuda:0").variables.keys()


def test_exclusive_jobs_run_alone_and_others_beside_each_other(tmp_path: Path) -> None:
    jobs: list[Any] = [
        LightJob("a", tmp_path, meets="b"),
        LightJob("b", tmp_path, meets="a"),
        LightJob("c", tmp_path, exclusive=True),
        LightJob("d", tmp_path),
    ]
    facts = outcomes(LocalExecutor([None, None], perform=do_light).run(jobs))
    assert max(facts["a"]["ended"], facts["b"]["ended"]) <= facts["c"]["started"]
    assert facts["c"]["ended"] <= facts["d"]["started"]
    assert facts["c"]["pid"] not in {facts["a"]["pid"], facts["b"]["pid"]}  # a measurement sees no earlier memory
    assert facts["a"]["pid"] != facts["b"]["pid"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("exit", "the worker process exited with code 3"),
        ("kill", "ended by SIGKILL; the kernel does this when memory runs out: try fewer images"),
    ],
)
def test_dead_process_is_a_typed_failure_and_is_replaced(act: str, message: str) -> None:
    jobs: list[Any] = [LightJob("dies", act=act), LightJob("next")]
    ends = outcomes(executor().run(jobs))
    assert isinstance(ends["dies"], Failure)
    assert ends["dies"].kind == "worker_died"
    assert ends["dies"].message.endswith(message)
    assert ends["next"]["pid"]


def test_job_that_hangs_is_ended_and_its_worker_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PATROL_S", 0.05)
    executor = LocalExecutor(timeout_s=0.3, perform=do_light)
    hangs: Any = LightJob("hangs", act="hang")
    (failure,) = outcomes(executor.run([hangs])).values()
    assert (failure.kind, failure.message) == ("timeout", "took longer than --timeout, 0 s; it begins anew")
    executor.timeout_s = None
    following: Any = LightJob("next")
    assert outcomes(executor.run([following]))["next"]["pid"]


@pytest.mark.slow  # four processes that import torch; light jobs show each kind of end
def test_networks_that_raise_diverge_or_crash_are_rows(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Raises", "NotANumber", "TinyNet", "Crashes")
    events: list[Event] = []
    execute(study, trainings(make_plan(study)), LocalExecutor(), events.append)
    ends = outcomes(events)
    kinds = {label.split()[1]: getattr(outcome, "kind", "ok") for label, outcome in ends.items()}
    assert kinds == {"raises": "error", "notanumber": "nan_loss", "crashes": "worker_died", "tinynet": "ok"}
    assert isinstance(ends["omc-syn tinynet repeat 0"], Record)

    stored = {record.model: record for _, record in study.store.records()}
    assert stored["raises"].failure is not None
    assert "the sort of bug" in stored["raises"].failure.message
    assert "tiny.py" in stored["raises"].failure.log
    assert stored["crashes"].failure is not None
    assert "SIGSEGV" in stored["crashes"].failure.message
    assert re.search(r'File "tiny.py", line \d+ in forward', stored["crashes"].failure.log)
    for model in ("raises", "crashes"):
        assert str(Path(__file__).parents[2]) not in stored[model].failure.log  # type: ignore[union-attr]
    again = make_plan(study)
    assert [record.model for record in again.failed] == ["raises", "notanumber", "crashes"]
    assert [record.model for record in again.done] == ["tinynet"]
    retried = make_plan(study, retry_failed=True).todo
    assert [job.entry.name for job in retried] == ["raises", "notanumber", "crashes"]
    assert "about to crash" in retried[2].log.read_text()


def test_slots_give_runs_their_device(make_job: Callable[..., TrainJob], small: Protocol) -> None:
    assert Hardware("cpu", 8, workers=4).slots == (None,) * 4
    both = Hardware("cuda:0", 8, workers=2, gpus=("cuda:0", "cuda:1"))
    assert (both.slots, both.threads_each) == (("cuda:0", "cuda:1") * 2, 2)
    assert make_job(small).on("cuda:1").device == "cuda:1"


def test_closing_the_iterator_ends_busy_workers() -> None:
    job: Any = LightJob(act="hang")
    before = multiprocessing.active_children()
    events = executor().run([job])
    assert isinstance(next(events), Started)
    assert isinstance(next(events), Step)
    events.close()
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_no_jobs_start_no_process(workers: int) -> None:
    assert list(LocalExecutor([None] * workers).run([])) == []

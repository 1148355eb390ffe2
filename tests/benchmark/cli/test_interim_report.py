"""Tests the page that is made in the background while runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.cli.interim_report import InterimReport, make_page
from benchmark.executors.events import Finished, Started
from benchmark.runs.jobs import EfficiencyJob, TrainJob
from benchmark.study.plan import make_plan
from tests.benchmark.cli.builders import fail, write_and_wait
from tests.benchmark.pretend import MakeStudy
from tests.benchmark.report import fake


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def jobs(make_study: MakeStudy, small: Any) -> tuple[list[TrainJob], EfficiencyJob]:
    plan = make_plan(make_study(small, "TinyNet", "Raises"))
    return plan.todo, plan.measurements[0]


def end(job: TrainJob | EfficiencyJob) -> Finished:
    return Finished(job, None, 1.0)


def test_page_is_made_after_each_group_but_one_at_a_time_and_not_after_the_last(
    jobs: tuple[list[TrainJob], EfficiencyJob], tmp_path: Path
) -> None:
    runs, _ = jobs
    with InterimReport(tmp_path, runs, write_and_wait) as interim:
        interim.show(end(runs[0]))
        assert not interim.is_building()
        interim.show(end(runs[1]))
        until((tmp_path / "built.0").exists)
        for run in runs[2:4]:
            interim.show(end(run))
        assert interim.is_building()
        (tmp_path / "go").touch()
        until(lambda: not interim.is_building())
        for run in runs[4:]:
            interim.show(end(run))
        assert not interim.is_building()
    assert len(list(tmp_path.glob("built.*"))) == 1


def test_build_pauses_while_an_efficiency_is_measured_and_ends_with_the_study(
    jobs: tuple[list[TrainJob], EfficiencyJob], tmp_path: Path
) -> None:
    runs, measurement = jobs
    with InterimReport(tmp_path, runs, write_and_wait) as interim:
        for run in runs[:2]:
            interim.show(end(run))
        until(lambda: (tmp_path / "built.0").exists() and (tmp_path / "built.0").read_text())
        process = psutil.Process(int((tmp_path / "built.0").read_text()))
        assert process.nice() > psutil.Process().nice()
        interim.show(Started(measurement))
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        interim.show(end(measurement))
        until(lambda: process.status() != psutil.STATUS_STOPPED)
        interim.show(Started(measurement))
    assert not process.is_running()


def test_failed_build_leaves_no_trace(
    jobs: tuple[list[TrainJob], EfficiencyJob], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with InterimReport(tmp_path, jobs[0], fail) as interim:
        for run in jobs[0][:2]:
            interim.show(end(run))
        until(lambda: not interim.is_building())
    assert capfd.readouterr() == ("", "")


def test_interim_page_has_no_files_of_plots(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["eal_icnet", "unet"], ["omc-syn"], repeats=2)
    make_page(tmp_path)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"index.html", "tables", "tables.tex"}

"""Tests a worker that is started before its first job; the tests of executors cover the work of workers."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from benchmark.cli import main
from benchmark.executors.local import LocalExecutor
from benchmark.executors.worker import Worker
from benchmark.utils.errors import UserError
from tests.benchmark.executors.in_process import outcomes
from tests.benchmark.executors.light_jobs import LightJob, do_light


def facts(worker: Worker, **variables: str) -> dict[str, Any]:
    """Do a job; return the facts about its process."""
    job: Any = LightJob()
    worker.give(job, variables)
    while isinstance(message := worker.pipe.recv(), tuple):  # a step
        pass
    outcome: dict[str, Any] = message
    return outcome


@contextlib.contextmanager
def started(*, ahead: bool) -> Iterator[Worker]:
    worker = Worker(ahead=ahead, perform=do_light)
    try:
        yield worker
    finally:
        worker.end()


@pytest.mark.parametrize("ahead", [pytest.param(True, marks=pytest.mark.slow), False])  # imports torch
def test_worker_started_ahead_has_torch_and_takes_the_variables_of_its_first_job(ahead: bool) -> None:
    with started(ahead=ahead) as worker:
        assert worker.suits({"NEEDED": "1"})
        process = facts(worker, NEEDED="1")
        assert (process["pid"], process["torch"]) == (worker.process.pid, ahead)
        assert process["variables"]["NEEDED"] == "1"
        assert worker.suits({"NEEDED": "1"})
        assert not worker.suits({"NEEDED": "2"})
    assert not worker.process.is_alive()


def test_failed_import_ahead_is_left_to_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcuda is broken')")
    monkeypatch.syspath_prepend(tmp_path)  # a spawned process has its parent's path
    with started(ahead=True) as worker:
        process = facts(worker)
        assert (process["pid"], process["torch"]) == (worker.process.pid, False)


def test_importing_worker_is_killed_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    with started(ahead=True) as worker:
        kill, join = worker.process.kill, worker.process.join
        monkeypatch.setattr(worker.process, "kill", lambda: (calls.append("kill"), kill()))
        monkeypatch.setattr(worker.process, "join", lambda timeout: (calls.append("join"), join(timeout)))
    assert calls == ["kill", "join"]
    assert not worker.process.is_alive()
    worker.end()  # once more does nothing


def test_executor_uses_the_worker_first_and_ends_it() -> None:
    worker = Worker(perform=do_light)
    jobs: list[Any] = [LightJob("first"), LightJob("second")]
    ends = outcomes(LocalExecutor(ahead=worker).run(jobs))
    assert [ends[label]["pid"] for label in ("first", "second")] == [worker.process.pid] * 2
    assert not worker.process.is_alive()


def test_executor_without_jobs_ends_the_worker() -> None:
    worker = Worker(ahead=True)
    assert list(LocalExecutor([None, None], ahead=worker).run([])) == []
    assert not worker.process.is_alive()


def children() -> set[int]:
    multiprocessing.active_children()  # waits for those that have ended
    return {child.pid for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())}


@pytest.mark.parametrize(
    ("words", "error", "starts"),
    [
        (["--models", "no_such"], "no_such", 1),
        (["--models", "edanet", "--datasets", "omc-syn", "--protocol", "quick", "--dry-run"], None, 0),
        (["--models", "edanet", "--device", "cpu", "--executor", "slurm", "--workers", "2"], "--workers", 0),
    ],
)
def test_command_without_a_run_leaves_no_worker(
    words: list[str], error: str | None, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Worker] = []

    class Counted(Worker):
        def __init__(self, *, ahead: bool = False) -> None:
            super().__init__(ahead=ahead)
            begun.append(self)

    monkeypatch.setattr("benchmark.executors.worker.Worker", Counted)
    monkeypatch.chdir(tmp_path)
    before = children()
    result = CliRunner().invoke(main.app, ["run", *words, "--data-root", str(tmp_path), "--results", str(tmp_path)])
    if error:
        assert isinstance(result.exception, UserError)
        assert error in str(result.exception)
    else:
        assert result.exit_code == 0, result.output
    assert len(begun) == starts
    assert children() == before

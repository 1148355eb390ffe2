"""Tests that studies which are killed again and again, or called several times at once, end with the same results."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from benchmark.config.protocol import load_protocol
from benchmark.executors.events import Event, Step
from benchmark.executors.local import LocalExecutor
from benchmark.records.run_record import Record
from benchmark.records.store import CHECKPOINT, WEIGHTS, Store
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from tests.benchmark.conftest import SMALL, settings
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.pretend import MakeStudy, trainings

ROOT = Path(__file__).parents[3]
WATCHED = Path(__file__).parents[1] / "watched.py"
# A kill belongs to the training if the last step began so recently: a step of the largest network here, on a busy core.
STEP_S = 1.0


def command(study: str, *words: str) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmark", "run", "--study", study, "--protocol", "quick", "--device", "cpu"),
        *("--threads", "2", "--workers", "2", "--data-root", "data", *words),
    ]


def start(folder: Path, arguments: Sequence[str], output: Path | None = None) -> subprocess.Popen[bytes]:
    (folder / "watched").mkdir(exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    environment = os.environ | {"WATCHED": str(folder / "watched"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with (output or folder / "output.txt").open("ab") as file:
        return subprocess.Popen(
            arguments, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def finish(folder: Path, arguments: Sequence[str], timeout_s: float) -> None:
    process = start(folder, arguments)
    assert process.wait(timeout=timeout_s) == 0, (folder / "output.txt").read_text()[-3000:]


def last_step(folder: Path) -> float:
    """Return when any process last began a training step."""
    times = [file.read_text() for file in (folder / "watched").iterdir()]
    return max((float(text) for text in times if text), default=0.0)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and its workers, all at once, as a power cut does."""
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs([psutil.Process(pid) for pid in family[1:] if psutil.pid_exists(pid)], timeout=20)


def records(folder: Path, study: str) -> dict[tuple[tuple[str, ...], str, int], Record]:
    result = [record for _, record in Store(folder / "results" / study).records()]
    return {(record.train, record.model, record.repeat): record for record in result}


def assert_same_studies(folder: Path, killed: str, untouched: str) -> None:
    """The same runs, all ok, with the same metrics, counts and weights to the bit; nothing left over."""
    first, second = records(folder, killed), records(folder, untouched)
    assert first.keys() == second.keys()
    for key, record in first.items():
        assert (record.status, record.metrics) == ("ok", second[key].metrics), key
        one, two = (Store(folder / "results" / study).run_folder(*key) for study in (killed, untouched))
        for file in [*(path.name for path in two.glob("images.*.csv")), WEIGHTS]:
            assert (one / file).read_bytes() == (two / file).read_bytes(), (key, file)
    left = [path for path in (folder / "results").rglob("*") if re.search(r"tmp$|claim|last[.]pt", path.name)]
    assert left == []


def kill_again_and_again(folder: Path, arguments: Sequence[str], kills: int, least_hits: int) -> int:
    """Start a command, kill it at a random moment once it trains, and so on; return how many kills hit a training."""
    rng = random.Random(0)
    hits = 0
    for _ in range(kills):
        started = time.time()
        process = start(folder, arguments)
        while process.poll() is None and last_step(folder) < started and time.time() < started + 120:
            time.sleep(0.02)
        if process.poll() is None:
            time.sleep(rng.uniform(0.0, 2.5))
        if process.poll() is not None:
            assert process.returncode == 0, (folder / "output.txt").read_text()[-3000:]
            break  # all done before the last kill
        hits += time.time() - last_step(folder) < STEP_S
        kill(process)
    assert hits >= least_hits
    return hits


@pytest.mark.slow  # starts processes
def test_run_of_a_killed_worker_goes_on_to_the_same_bits(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_S", "1")  # so that the kill comes before the end on a busy machine too
    protocol = load_protocol("quick", [*SMALL, "repeats=1", "training.steps=12"])
    killed, untouched = make_study(protocol, "Slow", name="killed"), make_study(protocol, name="untouched")

    def kill_worker(event: Event) -> None:
        if isinstance(event, Step) and event.done >= 3:  # a checkpoint lies there
            for process in multiprocessing.active_children():
                process.kill()

    execute(killed, trainings(make_plan(killed)), LocalExecutor(), kill_worker)
    monkeypatch.setenv("STEP_S", "0")
    (record,) = make_plan(killed).failed
    assert record.failure is not None
    assert "SIGKILL" in record.failure.message
    (job,) = make_plan(killed, retry_failed=True).todo
    assert (job.folder / CHECKPOINT).is_file()
    events: list[Event] = []
    for study in (killed, untouched):
        execute(study, trainings(make_plan(study, retry_failed=True)), InProcessExecutor(), events.append)
    assert next(event.done for event in events if isinstance(event, Step)) > 2
    assert not (job.folder / CHECKPOINT).exists()
    assert not list(killed.folder.rglob("claim.*"))
    expected = untouched.store.run_folder(("omc-syn",), "tinynet", 0)
    assert (job.folder / "images.omc-syn.csv").read_bytes() == (expected / "images.omc-syn.csv").read_bytes()
    weights, others = (load_file(folder / WEIGHTS) for folder in (job.folder, expected))
    assert all(torch.equal(weights[name], others[name]) for name in weights.keys() | others.keys())


@pytest.mark.slow
def test_study_that_is_killed_while_it_trains_ends_with_the_same_bits(tmp_path: Path) -> None:
    words = ["--models", f"{WATCHED}:Tiny", "--datasets", "omc-syn", "--repeats", "1", "--keep-weights", "all"]
    words += settings("training.steps=500", "training.validate_every=20")
    kill_again_and_again(tmp_path, command("killed", *words), kills=2, least_hits=1)
    finish(tmp_path, command("killed", *words), 300)
    finish(tmp_path, command("untouched", *words), 300)
    assert_same_studies(tmp_path, "killed", "untouched")


@pytest.mark.slow
def test_fifty_kills_of_four_networks_on_two_datasets_change_nothing(tmp_path: Path) -> None:
    names = ("WatchedContextNet", "WatchedEDANet", "WatchedESNet", "WatchedEALICNet")
    words = ["--models", ",".join(f"{WATCHED}:{name}" for name in names), "--datasets", "omc-syn,miic-syn"]
    words += ["--keep-weights", "all"]
    hits = kill_again_and_again(tmp_path, command("killed", *words), kills=50, least_hits=25)
    print(f"{hits} of 50 kills hit a training")
    finish(tmp_path, command("killed", *words), 1800)
    finish(tmp_path, command("untouched", *words), 1800)
    assert len(records(tmp_path, "killed")) == 24
    assert_same_studies(tmp_path, "killed", "untouched")


@pytest.mark.slow
def test_four_calls_at_once_do_each_run_once(tmp_path: Path) -> None:
    words = ["--models", f"{WATCHED}:Tiny", "--datasets", "omc-syn", "--repeats", "6", "--keep-weights", "all"]
    words += settings("training.steps=60", "training.validate_every=20")
    outputs = [tmp_path / f"output.{number}.txt" for number in range(4)]
    processes = [start(tmp_path, command("shared", *words), output) for output in outputs]
    for process, output in zip(processes, outputs, strict=True):
        assert process.wait(timeout=400) == 0, output.read_text()[-3000:]
    done = records(tmp_path, "shared")
    assert len(done) == 6
    assert {record.status for record in done.values()} == {"ok"}
    for key in done:
        log = (Store(tmp_path / "results" / "shared").run_folder(*key) / "log.txt").read_text()
        assert log.count(": on cpu with 1 thread") == 1, key
    lines = [line for output in outputs for line in output.read_text().splitlines() if ": ok" in line]
    assert len([line for line in lines if "by another process" not in line]) == 6
    lines = [line for output in outputs for line in output.read_text().splitlines() if "efficiency: measured" in line]
    assert len([line for line in lines if "by another process" not in line]) == 1
    assert (tmp_path / "results" / "shared" / "report" / "tables" / "accuracy.csv").is_file()

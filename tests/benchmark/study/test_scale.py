"""Tests that planning, reading and reporting thousands of runs takes proportional time."""

from __future__ import annotations

import functools
import gc
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.config.protocol import load_protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.packing import pack_study
from benchmark.records.run_record import Record
from benchmark.report import build
from benchmark.report.page.html import PAGE_BYTES
from benchmark.report.read import read_study
from benchmark.study.plan import make_plan
from benchmark.study.run_states import states
from benchmark.study.space_estimate import estimate_needs
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL
from tests.benchmark.report import fake

MODELS = 20
#: Doubling a study may cost a bit more than twice as much, since caches overflow; quadratic work costs four times.
GROWTH = 2.6
FACTS = {
    **{
        "rounds": 2,
        "steps": 4,
        "best_round": 2,
        "best_validation_loss": 0.3,
        "seconds": 1.0,
        "images_per_second": 16.0,
    },
    **{"train_images": 6, "validation_images": 2, "test_images": 8, "split": "s"},
}
#: The verb `report` in a process of its own, as a shell calls it, which then prints its processor time and memory.
REPORT = """
import sys, time
from benchmark.cli.main import main
from benchmark.devices.process_memory import high_water_mark
sys.argv = ["benchmark", "report", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code
print(time.process_time(), high_water_mark())
"""
Make = Callable[[int], Study]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Make:
    """A study of twenty networks that nobody builds, with so many repeats."""
    results = tmp_path_factory.mktemp("results")

    def study(repeats: int) -> Study:
        names = ["eal_icnet", *(f"net{number}" for number in range(1, MODELS))]
        models = [ModelEntry(name, "nowhere:Net", "user", name, "", 60, 0.001, 1) for name in names]
        protocol = load_protocol("quick", [*SMALL, f"repeats={repeats}"])
        task = Task((source,), (source,))
        return Study(results / str(repeats), protocol, models, [task], Hardware("cpu", 2), results / "cache")

    return study


def finish(study: Study) -> Study:
    """Write what the runs would have left behind."""
    study.store.write_protocol(study.protocol)
    for job in make_plan(study).todo:
        rng = fake.random_of(job.entry.name, job.repeat)
        fake.write_counts(job.folder / "images.omc-syn.csv", fake.counts(0.9 + rng.normal(0, 0.004), rng))
        losses = "".join(f"{n},{n * 2},{1 / n},{1.1 / n},0.1,1,1\n" for n in range(1, 31))
        header = "round,steps,train_loss,validation_loss,lr,seconds,images_per_second\n"
        (job.folder / "history.csv").write_text(header + losses)
        metrics = {"omc-syn": {"image": {"miou": 0.9}, "pooled": {}}}
        (job.folder / "record.json").write_bytes(job.record(status="ok", training=FACTS, metrics=metrics).to_json())
    return study


def turn_stale(study: Study) -> Study:
    """Raise the version of every network."""
    for file in study.folder.glob("runs/*/*/*/record.json"):
        record = Record.model_validate_json(file.read_bytes())
        file.write_bytes(record.model_copy(update={"key": "f" * 16}).to_json())
    return study


def growth(small: Callable[[], object], large: Callable[[], object], rounds: int = 5) -> float:
    """Return how many times more processor time the large work takes, as the ratio of the least of its times.

    Other processes and the garbage of earlier work only ever add time, so the least of several times is the work's own.
    The two take turns, so that a slow minute of the machine meets both.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    gc.freeze()  # collections within the works do not search the objects of other tests
    try:
        for _ in range(rounds):
            for work, times in zip((small, large), seconds, strict=True):
                gc.collect()
                started = time.process_time()
                work()
                times.append(time.process_time() - started)
    finally:
        gc.unfreeze()
    return min(seconds[1]) / min(seconds[0])


def look(study: Study, **flags: bool) -> None:
    plan = make_plan(study, **flags)
    assert plan.runs == MODELS * study.protocol.repeats
    estimate_needs(study, plan)
    assert len(states(study, plan)) == plan.runs


@pytest.mark.slow
def test_quadratic_work_exceeds_the_limit() -> None:
    def compare_all(count: int) -> int:
        return sum(first == second for first in range(count) for second in range(count))

    assert growth(lambda: compare_all(200), lambda: compare_all(400)) > GROWTH


@pytest.mark.slow
def test_planning_grows_in_proportion(make: Make) -> None:
    small, large = make(20), make(40)
    assert growth(lambda: look(small), lambda: look(large)) < GROWTH
    for study in (small, large):
        finish(study)
    assert len(make_plan(large).done) == 800
    assert growth(lambda: look(small), lambda: look(large)) < GROWTH
    assert growth(lambda: read_study(small.folder), lambda: read_study(large.folder)) < GROWTH
    for study in (small, large):
        turn_stale(study)
    assert growth(lambda: look(small, refuse=False), lambda: look(large, refuse=False)) < GROWTH


@pytest.mark.parametrize("packed", [False, True], ids=["folders", "packed"])
def test_report_reads_each_file_of_a_run_once(make: Make, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    opened: Counter[str] = Counter()
    open_path = Path.open

    def watched(path: Path, *arguments: Any, **named: Any) -> Any:
        file = open_path(path, *arguments, **named)
        if path.is_relative_to(study.folder) and not path.name.endswith(".tmp"):
            opened[path.relative_to(study.folder).as_posix()] += 1
        return file

    study = finish(make(3))
    if packed:
        pack_study(study.folder)
        read_study(study.folder)  # parses the packed files, which stay in memory
    monkeypatch.setattr(Path, "open", watched)
    build.build(study.folder, plots=[], page_only=True)
    of_runs = {name: count for name, count in opened.items() if name.startswith("runs/")}
    assert of_runs == ({} if packed else dict.fromkeys(of_runs, 1))
    assert len(of_runs) == (0 if packed else 3 * MODELS * 2)
    assert opened.total() - len(of_runs) < MODELS
    shutil.rmtree(study.folder)


def test_figures_of_other_studies_are_read_per_network_and_not_per_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for repeats in (2, 4):
        study, asked = make(repeats), list[str]()
        monkeypatch.setattr(study.figures, "of", lambda entry, size, asked=asked, **_: asked.append(entry.name))
        look(study)
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0


@pytest.mark.slow
def test_ten_thousand_runs_are_planned_read_and_reported_in_proportion(make: Make) -> None:
    """Prints the seconds of processor time and the memory that ``benchmark/cli/run.md`` quotes."""
    taken: dict[str, list[float]] = {}

    def measure(what: str, work: Callable[[], object]) -> None:
        started = time.process_time()
        work()
        taken.setdefault(what, []).append(round(time.process_time() - started, 2))

    for repeats in (50, 500):
        study = make(repeats)
        measure("plan", functools.partial(look, study))
        finish(study)
        assert len(make_plan(study).done) == MODELS * repeats
        for form in ("", ", packed"):
            measure(f"plan again{form}", functools.partial(look, study, refuse=False))
            measure(f"read{form}", functools.partial(read_study, study.folder))
            words = [sys.executable, "-c", REPORT, study.folder.name, "--results", str(study.folder.parent)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            seconds, peak_bytes = map(float, done.stdout.split()[-2:])
            taken.setdefault(f"report{form}", []).append(seconds)
            assert peak_bytes < 1e9
            assert (study.folder / "report/index.html").stat().st_size < PAGE_BYTES
            pack_study(study.folder)
        shutil.rmtree(study.folder)
    print(taken)
    for what, (small, large) in taken.items():
        assert large < 10 * GROWTH / 2 * small, what

"""Tests what is known of runs that have no result yet."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmark.records import claims
from benchmark.records.asked_runs import AskedRuns, UnfinishedRun, unfinished_runs
from benchmark.records.store import Store
from benchmark.report.build import build
from benchmark.report.read import read_study
from tests.benchmark.report import fake


def unfinished(study: Path) -> list[UnfinishedRun]:
    records, broken = Store(study).survey()
    return unfinished_runs(study, records, [run.folder for run in broken])


def test_runs_are_unfinished_if_asked_for_and_not_begun_or_under_way(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet", "fcn"], ["omc-syn"], repeats=2)
    assert unfinished(tmp_path) == []
    datasets = ((("omc-syn",), ("omc-syn",)),)
    AskedRuns(datasets=datasets, models=("fcn", "letnet"), repeats=3).write(tmp_path)
    waiting = [(run.model, run.repeat, run.state) for run in unfinished(tmp_path)]
    assert waiting == [(name, n, "not begun") for name, n in (("letnet", 0), ("letnet", 1), ("fcn", 2), ("letnet", 2))]
    run = fake.write_run(tmp_path, "letnet", ["omc-syn"], 0, None, status="interrupted")
    claim = claims.acquire(run)
    assert claim is not None
    with claim:
        assert unfinished(tmp_path)[0] == UnfinishedRun(("omc-syn",), ("omc-syn",), "letnet", 0, "running")
        build(tmp_path, page_only=True)
    rows = csv.DictReader((tmp_path / "report/tables/accuracy.csv").read_text("utf-8").splitlines())
    remarks = {row["model"]: row["remark"] for row in rows}
    assert remarks["letnet"] == "0 of 3 repeats done; repeat 0 running; repeats 1, 2 not begun"
    assert remarks["fcn"] == "2 of 3 repeats done; repeat 2 not begun"
    assert remarks["unet"] == ""
    page = (tmp_path / "report/index.html").read_text("utf-8")
    assert "Unfinished: 4 of 8 runs done, 1 running, 3 not begun." in page


def test_forged_file_that_asks_for_endless_runs_is_not_read(tmp_path: Path) -> None:
    AskedRuns(datasets=((("omc-syn",), ("omc-syn",)),), models=("unet",), repeats=10**12).write(tmp_path)
    assert AskedRuns.read(tmp_path) is None


def test_study_of_an_early_release_has_no_unfinished_runs(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=1)
    (tmp_path / "asked.json").write_text("[")
    assert read_study(tmp_path).unfinished == ()

"""Tests the status of a study from its folder alone."""

from __future__ import annotations

from pathlib import Path

from benchmark.records import claims
from benchmark.records.asked_runs import AskedRuns
from benchmark.records.history import Round, history_csv
from benchmark.records.run_record import Failure
from tests.benchmark.cli.test_run import modules_after
from tests.benchmark.conftest import Call
from tests.benchmark.report import fake


def test_runs_are_done_running_failed_and_missing(call: Call, tmp_path: Path) -> None:
    study = tmp_path / "results/quick"
    fake.write_study(study, ["unet"], ["omc-syn"], repeats=2)
    fake.write_run(study, "fcn", ["omc-syn"], 0, None, Failure(kind="nan_loss", message="loss is nan"))
    run = fake.write_run(study, "fcn", ["omc-syn"], 1, None, status="interrupted")
    (run / "history.csv").write_bytes(history_csv([Round(1, 30, 0.5, 0.25, 0.1, 1.0, 1.0)]))
    AskedRuns(datasets=((("omc-syn",), ("omc-syn",)),), models=("unet", "fcn"), repeats=3).write(study)
    claim = claims.acquire(run)
    assert claim is not None
    with claim:
        code, out, _ = call("status", "quick")
    assert code == 0
    assert out.splitlines() == [
        "quick: 2 done, 1 running, 1 failed, 2 missing",
        "  omc-syn fcn   1 running, 1 failed, 1 missing",
        "  omc-syn unet  2 done, 1 missing",
        "  omc-syn fcn repeat 0: failed (nan_loss: loss is nan)",
        "  omc-syn fcn repeat 1: running, round 1, step 30, validation loss 0.2500",
        "  Claims of living processes: 1",
        "  Report: none yet; `report quick` makes it",
    ]
    assert "1 interrupted" in call("status")[1]


def test_folder_without_a_study_is_refused(call: Call) -> None:
    code, _, err = call("status")
    assert (code, "no study there" in err) == (2, True)
    assert call("status", "quick")[0] == 2


def test_broken_study_does_not_hide_the_others(call: Call, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        fake.write_study(tmp_path / "results" / name, ["unet"], ["omc-syn"], repeats=1)
    record = tmp_path / "results/a/runs/omc-syn/unet/0/record.json"
    record.unlink()
    record.mkdir()
    (tmp_path / "results/d/protocol.toml").mkdir(parents=True)
    code, out, err = call("status")
    assert code == 2
    assert [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")] == ["b", "c"]
    assert "results/a/runs/omc-syn/unet/0/record.json: cannot be read (Is a directory); restore it, or move" in err
    assert len(err.splitlines()) == 1


def test_status_imports_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    fake.write_study(tmp_path / "results/quick", ["unet"], ["omc-syn"], repeats=1)
    assert not {"torch", "matplotlib", "pandas"} & modules_after("status", cwd=tmp_path)

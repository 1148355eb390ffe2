"""Networks in int8: their time and errors beside float32, of any study with kept weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli import bench
from benchmark.config.protocol import Protocol
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import TINY, Call

INT8 = ("bench", "--only", "int8", "--device", "cpu", "--threads", "1")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra: pip install -e '.[runtimes]'")
    monkeypatch.setattr(bench, "TIMINGS", 2)
    monkeypatch.setattr(bench, "SECONDS", 0.0)


def test_trained_study_gets_a_table_of_time_and_errors(
    call: Call, make_study: Callable[..., Study], small: Protocol, cache: Path
) -> None:
    study = make_study(small)
    record = train_and_test(replace(make_plan(study).todo[0], keep_weights="all"), lambda *_: None)
    study.store.write_protocol(small)
    flags = ("--weights", study.folder, "--models", f"{TINY}:TinyNet", "--cache", cache)
    code, out, err = call(*INT8, *flags)
    assert (code, err) == (0, ""), out
    (file,) = Path("results/bench/bench").iterdir()
    assert file.name == "int8.small.omc-syn.tinynet.0.32x32.cpu.int8.json"
    result = SpeedupComparison.from_json(file.read_bytes())
    exact, whole = (result.scores["omc-syn"][way] for way in ("plain", "ours"))
    for reduction, values in record.metrics["omc-syn"].items():
        assert exact[reduction] == pytest.approx(values, abs=2e-3)  # of the run itself, computed by another runtime
        assert whole[reduction].keys() == values.keys()
    assert whole != exact
    assert abs(whole["image"]["miou"] - exact["image"]["miou"]) < 0.1
    assert len(result.plain) == len(result.ours) >= 2
    assert "2 validation images" in result.our_form
    text = Path("results/bench/report/tables/int8.md").read_text("utf-8")
    for heading in ("float32: Time", "int8: Time", "float32: mIoU", "int8: mIoU", "int8: Opens", "int8: Shorts"):
        assert heading in text
    assert "int8 beside float32, study small, tested on omc-syn" in out


def test_study_without_such_networks_is_refused(call: Call) -> None:
    code, _, err = call(*INT8, "--weights", "nothing")
    assert code == 2
    assert "--weights nothing: " in err
    assert "has no runs of all" in err

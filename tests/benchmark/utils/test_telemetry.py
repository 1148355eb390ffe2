"""Packages that report to their makers are told not to, before they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmark.utils import telemetry
from tests.benchmark.conftest import Call

#: Writes a network as ONNX, opens the file and runs it, with every attempt to reach another machine an error.
EXPORT = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise SystemExit(f"{{event}} {{arguments}}")

sys.addaudithook(refuse)
import numpy as np
import torch
from benchmark.predict.export.capture import capture
from benchmark.predict.export.export_formats import {reader} as read, write_onnx

program = capture(torch.nn.Conv2d(1, 1, 3, padding=1).eval(), 1, 8, None)
print(read(write_onnx(program, {{}}), 1)(np.zeros((1, 1, 8, 8), np.float32)).shape)
"""


#: Writes a run for MLflow, without the variables, and waits; any look at another machine ends the process.
MLFLOW = """
import os
import sys
import time
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(1)  # MLflow would swallow an error in its thread

for name in ("CI", "PYTEST_CURRENT_TEST"):
    os.environ.pop(name, None)  # MLflow reports nothing from tests
sys.addaudithook(refuse)
from benchmark.training.mlflow_writer import MlflowWriter

(folder := Path("store")).mkdir()
writer = MlflowWriter(folder, "study", "run")
writer.scalars(1, {"loss": 0.5})
writer.settings({"lr": 0.1}, ["loss"])
time.sleep(0.5)
print("written")
"""


def run(code: str, home: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python code with an empty home and without the variables that these tests set for themselves."""
    inherited = {name: value for name, value in os.environ.items() if name not in telemetry.OFF}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=home.parent,
        env={**inherited, **places, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "package"), [("read_onnx", "onnxruntime"), ("read_openvino", "openvino")])
def test_export_to_onnx_leaves_nothing_in_the_home_folder(tmp_path: Path, reader: str, package: str) -> None:
    for needed in ("onnx", "onnxscript", package):
        pytest.importorskip(needed, reason="needs the extra: pip install -e '.[runtimes]'")
    (home := tmp_path / "home").mkdir()
    done = run(EXPORT.format(reader=reader), home, {})
    assert done.stdout == "(1, 1, 8, 8)\n", done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_mlflow_looks_for_no_other_machine(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: pip install -e '.[trackers]'")
    (home := tmp_path / "home").mkdir()
    done = run(MLFLOW, home, {})
    assert done.stdout == "written\n", done.stderr


def test_variables_are_set_before_a_verb_runs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.OFF:
        monkeypatch.delenv(name)
    assert call("list", "models")[0] == 0
    assert {name: os.environ.get(name) for name in telemetry.OFF} == telemetry.OFF


def test_user_s_own_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    telemetry.switch_off()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"

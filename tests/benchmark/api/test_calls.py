"""The functions of `import benchmark` that work on studies: the same studies as the command's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmark
from benchmark.api.study_request import settings_of
from benchmark.config import code_identity, registry
from benchmark.devices import facts
from benchmark.records.run_record import Record
from tests.benchmark.conftest import SMALL, TINY, Call, Measured
from tests.benchmark.interrupted import interrupt_second_run
from tests.benchmark.report import fake
from tests.benchmark.tiny import TinyNet

ROOT = Path(__file__).parents[3]
ASKED = {"models": f"{TINY}:TinyNet", "datasets": "omc-syn", "protocol": "quick", "device": "cpu", "threads": 1}
SETTINGS = dict(setting.split("=") for setting in SMALL)


def test_import_is_light_and_names_its_functions() -> None:
    script = "import benchmark, sys; print('torch' in sys.modules, 'pandas' in sys.modules, *dir(benchmark))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    torch, pandas, *names = done.stdout.split()
    assert (torch, pandas) == ("False", "False")
    assert {"run", "load", "score", "profile", "UserError"} <= set(names)


def test_study_of_the_command_is_finished_for_the_function(finished: Path, call: Call) -> None:
    page = finished / "report/index.html"
    made = page.stat().st_mtime_ns
    study = benchmark.run(**ASKED, repeats=2, settings=SETTINGS)  # type: ignore[arg-type]
    assert repr(study) == "<quick: 2 runs of tinynet on omc-syn>"
    assert study.page.stat().st_mtime_ns == made, "nothing changed, so that the report is not made again"


@pytest.mark.usefixtures("in_process")
def test_function_gives_the_records_of_the_command_to_the_bit(
    finished: Path, call: Call, measured: Measured, capfd: pytest.CaptureFixture[str]
) -> None:
    measured("face")
    benchmark.run(**ASKED, repeats=1, settings=SETTINGS, study="face", report=False)  # type: ignore[arg-type]
    assert "1.0/1 run," in capfd.readouterr().err
    ours, theirs = (path / "runs/omc-syn/tinynet/0" for path in (finished.parent / "face", finished))
    records = [Record.from_json((run / "record.json").read_bytes()) for run in (ours, theirs)]
    assert records[0].key_parts == records[1].key_parts
    assert records[0].metrics == records[1].metrics
    assert (ours / "images.omc-syn.csv").read_bytes() == (theirs / "images.omc-syn.csv").read_bytes()


@pytest.mark.slow  # starts processes
def test_script_without_a_main_guard_runs_once_and_failed_runs_are_lines_and_rows(
    tmp_path: Path,
) -> None:
    script = tmp_path / "study.py"
    asked = {**ASKED, "models": f"{TINY}:TinyNet,{TINY}:RaisesOnImages", "repeats": 1, "settings": SETTINGS}
    for model in ("tinynet", "raisesonimages"):  # known, so that nothing is measured
        digest = code_identity.code_digest(registry.select(f"{TINY}:TinyNet")[0])
        fake.write_efficiency(
            tmp_path / "results/quick", model, 32, name=facts.cpu_name(), threads=1, network_code=digest
        )
    script.write_text(
        f"""print('started')
import benchmark
study = benchmark.run(**{asked!r}, report=False)
print(study.table("runs")[["model", "status"]].values.tolist())
"""
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    started, failed, table = done.stdout.splitlines()
    assert started == "started", done.stderr
    assert "raisesonimages repeat 0: failed (error): RuntimeError: the sort of bug that shows late" in failed
    assert table == "[['raisesonimages', 'failed'], ['tinynet', 'ok']]"
    assert "2.0/2 runs" in done.stderr


@pytest.mark.slow  # starts processes; the command's interruption is tested every day
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_interrupted_call_leaves_a_report_and_raises(measured: Measured, tmp_path: Path) -> None:
    measured("quick", "tinynet", "waits")
    asked = {**ASKED, "models": f"{TINY}:TinyNet,{TINY}:Waits", "repeats": 1}
    script = tmp_path / "study.py"
    script.write_text(f"""import benchmark
try:
    benchmark.run(**{asked!r}, settings={ ({**SETTINGS, "report.panels": 0})!r})
except KeyboardInterrupt:
    print("interrupted as asked")
""")
    code, out = interrupt_second_run([script], tmp_path)
    assert code == 0, out
    assert out.splitlines()[-1] == "interrupted as asked"
    assert "Interrupted. Making a report of what is there; the same call goes on from here." in out
    assert "Traceback" not in out


def test_names_and_values_may_be_sequences_and_python_values(tmp_path: Path, call: Call) -> None:
    with pytest.raises(benchmark.UserError, match="unknown model 'nett'"):
        benchmark.run(models=["unet", "nett"], datasets=["omc", "miic"], protocol="quick")
    with pytest.raises(benchmark.UserError, match=r"evaluation\.cldice"):
        benchmark.run("unet", "omc", "quick", settings={"evaluation.cldice": 3})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"executor": "Slurm"}, "executor: found 'Slurm'; expected 'local', 'ray' or 'slurm'"),
        ({"execution": "compiled"}, "execution: found 'compiled'; expected"),
        ({"keep_weights": "bset"}, "keep_weights: found 'bset'; expected"),
        ({"tracker": "board"}, "tracker: found 'board'; expected"),
        ({"timeout": -1}, "timeout: found -1"),
        ({"workers": 0}, "workers: found 0"),
        ({"threads": 0}, "threads: found 0"),
        ({"per_gpu": 0}, "per_gpu: found 0"),
        ({"models": None}, "models: found None"),
        ({"strength": 2}, "strength: found 2"),
    ],
)
def test_values_that_flags_refuse_are_refused(call: Call, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(benchmark.UserError, match=message):
        benchmark.run(**{**ASKED, **wrong})


def test_settings_are_written_as_the_command_takes_them() -> None:
    settings = {"split": {"counts": (8, 4, 4)}, "training.patience": None, "input.own_sizes": [True, "a"]}
    assert list(settings_of(settings)) == [
        *("split.counts=[8, 4, 4]", "training.patience=none", "input.own_sizes=[true, a]"),
    ]


def test_study_that_a_cpu_would_not_finish_today_is_refused(call: Call) -> None:
    with pytest.raises(benchmark.UserError, match=r"hours on this CPU.*protocol=\"small\".*yes=True"):
        benchmark.run(device="cpu")


@pytest.mark.usefixtures("short_measurements")
def test_profile_measures_a_network_with_weights_from_elsewhere(tmp_path: Path) -> None:
    torch.save(TinyNet(in_channels=3).state_dict(), tmp_path / "lab.pth")
    asked = {"models": f"{TINY}:TinyNet", "size": 32, "device": "cpu", "threads": 1, "budget": 0.1}
    costs = benchmark.profile(**asked, weights=str(tmp_path / "lab.pth"))
    assert costs.loc["tinynet", "latency_p50_ms"] > 0
    assert costs["params"].tolist() == [sum(each.numel() for each in TinyNet(in_channels=3).parameters())]
    with pytest.raises(benchmark.UserError, match=r"--channels 1: --weights .*lab\.pth are for 3"):
        benchmark.profile(**asked, channels=1, weights=tmp_path / "lab.pth")
    with pytest.raises(benchmark.UserError, match="expected the one of"):
        benchmark.profile("unet,letnet", weights=tmp_path / "lab.pth")

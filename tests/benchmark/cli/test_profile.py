"""``benchmark profile``: every setting measured without training, and what it refuses."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import torch

from benchmark.records.efficiency_record import EfficiencyRecord
from tests.benchmark.conftest import TINY, Call, Measured
from tests.benchmark.devices.test_launch_mode import broken, needs_a_compiler
from tests.benchmark.tiny import TinyNet


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, short_measurements: None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_profile_measures_every_setting_without_training_and_leaves_out_what_cannot_be(call: Call) -> None:
    code, out, err = call(
        *("profile", "--models", f"{TINY}:TinyNet,{TINY}:FloatOnly", "--sizes", "32", "--threads", "1"),
        *("--device", "cpu,cuda", "--dtype", "float32,bfloat16", "--budget", "1"),
    )
    assert code == 0, err
    assert "left out: --device 'cuda': torch sees 0 CUDA devices" in out
    assert re.search(r"\[\d/4\] tinynet 32x32 bfloat16 efficiency on cpu: measured.*, \d+ s", out)
    assert "floatonly 32x32 bfloat16 efficiency on cpu: unsupported: NotImplementedError" in out
    study = Path("results/profile")
    assert {path.name for path in (study / "efficiency").iterdir()} == {
        "tinynet.32x32.cpu.float32.json",
        "tinynet.32x32.cpu.bfloat16.json",
        "floatonly.32x32.cpu.float32.json",
    }
    assert not (study / "runs").exists()
    assert "32×32 bfloat16: p50" in (study / "report/tables/profile.md").read_text("utf-8")
    plots = {path.name for path in (study / "report/plots").iterdir()}
    assert {"profile.pdf", "profile.png"} < plots
    rooflines = {name for name in plots if name.startswith("roofline.32x32.")}
    assert {name.split(".", 3)[-1] for name in rooflines} == {
        f"{dtype}.{kind}" for dtype in ("float32", "bfloat16") for kind in ("pdf", "png")
    }
    assert plots == {"profile.pdf", "profile.png"} | rooflines
    assert "Peak: " in (study / "report/tables/roofline.md").read_text("utf-8")
    assert "Latency and memory on" in out


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_budget_reaches_the_measurement(call: Call) -> None:
    arguments = ("profile", "--models", f"{TINY}:TinyNet", "--sizes", "32", "--threads", "1", "--device", "cpu")
    code, out, err = call(*arguments, "--budget", "1")
    assert code == 0, err
    raised = Path("results/profile/report/tables/roofline.md").read_text("utf-8")
    (share,) = re.findall(r"^\| tinynet \|.* (\S+) \|$", raised, re.MULTILINE)
    assert "Roofline share (%)" in out
    assert re.search(rf"^tinynet .* {re.escape(share)} *$", out, re.MULTILINE)
    (file,) = Path("results/profile/efficiency").glob("*.json")
    assert EfficiencyRecord.from_json(file.read_bytes()).settings.budget_seconds == 1.0


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_network_that_fails_under_profile_is_a_line_and_exit_code_1(call: Call) -> None:
    code, out, err = call("profile", "--models", f"{TINY}:RaisesOnImages", "--sizes", "32", "--device", "cpu")
    assert code == 1, err
    assert "raisesonimages 32x32 float32 efficiency on cpu: error: RuntimeError: the sort of bug that shows late" in out
    assert re.search(r"\(raised in tiny\.py:\d+, in forward\)", out)
    assert not Path("results/profile/report").exists()


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_resume_measures_only_what_is_missing(call: Call, measured: Measured) -> None:
    arguments = ("profile", "--models", f"{TINY}:TinyNet", "--device", "cpu", "--threads", "1")
    arguments += ("--budget", "1", "--sizes")
    kept, added = (Path(f"results/profile/efficiency/tinynet.{side}x{side}.cpu.float32.json") for side in (32, 64))
    measured("profile")
    before = kept.read_bytes()
    code, out, err = call(*arguments, "32,64", "--resume")
    assert code == 0, err
    assert "--resume: results/profile has 1 of 2 settings" in out
    assert "[1/1] tinynet 64x64" in out
    assert kept.read_bytes() == before
    assert added.exists()
    code, out, err = call(*arguments, "32,64", "--resume")
    assert code == 0, err
    assert "2 of 2" in out
    assert "Latency and memory on" in out


def assert_compiled_form_is_a_line(call: Call, reason: str) -> None:
    arguments = ("--models", f"{TINY}:TinyNet", "--sizes", "32", "--device", "cpu", "--threads", "1")
    code, out, err = call("profile", *arguments, "--execution", "eager,graph,compile", "--budget", "1")
    assert code == 0, err
    assert "left out: --execution graph on a CPU, which has no CUDA graphs" in out
    assert re.search(r"tinynet 32x32 float32 efficiency on cpu: measured.*, \d+ s", out)
    assert "tinynet 32x32 float32 compile efficiency on cpu: unsupported: UnsupportedFormError: compile: " in out
    assert reason in out
    assert [path.name for path in Path("results/profile/efficiency").iterdir()] == ["tinynet.32x32.cpu.float32.json"]


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_form_that_a_device_or_machine_lacks_is_a_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    assert_compiled_form_is_a_line(call, "No working C++ compiler found")


@pytest.mark.slow
@pytest.mark.usefixtures("no_gpu")
def test_compiler_that_the_machine_lacks_is_a_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # of the worker
    assert_compiled_form_is_a_line(call, "no-such-compiler")


@needs_a_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("no_gpu")
def test_compiled_forwards_are_measured_and_stand_apart(call: Call) -> None:
    arguments = ("--models", f"{TINY}:TinyNet", "--sizes", "32", "--device", "cpu", "--threads", "1")
    code, out, err = call("profile", *arguments, "--execution", "eager,compile")
    assert code == 0, err
    study = Path("results/profile")
    assert {path.name for path in (study / "efficiency").iterdir()} == {
        "tinynet.32x32.cpu.float32.json",
        "tinynet.32x32.cpu.float32.compile.json",
    }
    table = (study / "report/tables/efficiency.md").read_text("utf-8")
    assert table.count(", torch.compile default") == 1
    code, out, err = call("profile", *arguments, "--execution", "eager,compile", "--resume")
    assert "--resume: results/profile has 2 of 2 settings" in out


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "letnet", "--sizes", "40"], "--sizes 40: letnet takes multiples of 16"),
        (["--sizes", "512,large"], "--sizes 'large': expected whole numbers of pixels"),
        (["--dtype", "float32,bfloat61"], "--dtype 'bfloat61': expected .*; did you mean 'bfloat16'?"),
        (
            ["--execution", "eager,graphs"],
            "--execution 'graphs': expected eager, graph, compile; did you mean 'graph'?",
        ),
        (
            ["--execution", "graph"],
            "--execution graph: replays CUDA graphs, which a CPU does not have; use --device cuda",
        ),
        (["--device", "cuda"], r"--device 'cuda': torch sees 0 CUDA devices; .*; use --device cpu"),
        (["--budget", "0"], "Invalid value for '--budget'"),
        (["--device", "cpu,tpu"], "--device 'tpu': expected auto, cpu"),
    ],
)
def test_wrong_flags_of_profile_are_refused(call: Call, arguments: list[str], message: str) -> None:
    code, _, err = call("profile", "--device", "cpu", *arguments)
    assert code == 2
    assert re.search(message, err), err
    assert not Path("results").exists()


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_figures_with_weights_of_a_file_say_so_and_stand_for_no_others(call: Call) -> None:
    arguments = ("profile", "--models", f"{TINY}:TinyNet", "--sizes", "32", "--threads", "1", "--device", "cpu")
    torch.save(TinyNet(3).state_dict(), "lab.pth")
    digest = hashlib.sha256(Path("lab.pth").read_bytes()).hexdigest()
    code, out, err = call(*arguments, "--budget", "1", "--weights", "lab.pth")
    assert (code, err) == (0, "")
    file = Path("results/profile/efficiency/tinynet.32x32x3.cpu.float32.json")
    record = EfficiencyRecord.from_json(file.read_bytes())
    assert (record.in_channels, record.weights) == (3, digest[:16])
    assert "timed with the weights of lab.pth" in record.warnings
    code, out, _ = call(*arguments, "--budget", "1", "--weights", "lab.pth", "--resume")
    assert "--resume: results/profile has 1 of 1 setting" in out
    code, out, _ = call(*arguments, "--budget", "1", "--channels", "3", "--resume")
    assert "--resume: results/profile has 0 of 1 setting" in out
    assert EfficiencyRecord.from_json(file.read_bytes()).weights is None


def test_weights_of_another_network_or_of_other_channels_are_one_message(call: Call) -> None:
    arguments = ("profile", "--models", f"{TINY}:TinyNet", "--sizes", "32", "--weights", "lab.pth")
    torch.save(TinyNet(3).state_dict(), "lab.pth")
    code, _, err = call(*arguments, "--channels", "1")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--channels 1: --weights lab.pth are for 3; leave it out" in err
    torch.save({"head.bias": torch.zeros(1)}, "lab.pth")
    code, _, err = call(*arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "lab.pth: does not fit the network: features.weight is 4x1x3x3 here and none there" in err


@pytest.mark.usefixtures("no_gpu", "in_process")
def test_layers_are_logits_with_figures_of_their_own(call: Call) -> None:
    tiny = ("profile", "--models", f"{TINY}:TinyNet", "--sizes", "32", "--threads", "1", "--device", "cpu")
    assert call(*tiny, "--budget", "1")[0] == 0
    code, out, err = call(*tiny, "--budget", "1", "--layers", "track,via")
    assert code == 0, err
    assert "tinynet 32x32 float32 2 layers efficiency on cpu: measured" in out
    files = {
        path.name: EfficiencyRecord.from_json(path.read_bytes())
        for path in Path("results/profile/efficiency").glob("*")
    }
    assert {name: record.classes for name, record in files.items()} == {
        "tinynet.32x32.cpu.float32.json": 1,
        "tinynet.32x32.2layers.cpu.float32.json": 2,
    }
    single, double = (files[name].params for name in sorted(files, reverse=True))
    assert double - single == 4 + 1  # weights and bias of a logit
    page = Path("results/profile/report/tables/efficiency.md").read_text("utf-8")
    assert page.count(", 2 layers") == 1
    code, _, err = call(*tiny, "--layers", "track,track")
    assert (code, "names a layer twice" in err) == (2, True)

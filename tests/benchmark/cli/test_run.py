"""The command line as a user meets it: answers, refusals, exit codes, and one whole study."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.config.protocol import load_protocol
from benchmark.devices import hardware_slots
from benchmark.devices.hardware_slots import Hardware
from tests.benchmark.conftest import TINY, Call, Measured, do_without_workers, settings, tiny_run
from tests.benchmark.data.folder_makers import write_pairs
from tests.benchmark.interrupted import interrupt_second_run

ROOT = Path(__file__).parents[3]
NO_PANELS = ("--set", "report.panels=0")  # which take more time than the training of a tiny network
STATES = ("done", "done", "missing")


def modules_after(*arguments: str, cwd: Path) -> set[str]:
    """Return what a command line imported, in a process of its own."""
    code = (
        "import sys; from benchmark.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stderr.split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = {"torch", "numpy", "scipy", "pandas", "matplotlib", "pydantic", "rich", "PIL", "skimage"}
    assert not heavy & modules_after("--help", cwd=tmp_path)


def test_dry_run_of_everything_imports_no_torch_and_writes_nothing(tmp_path: Path) -> None:
    loaded = modules_after(
        "run", "--models", "all", "--datasets", "omc,miic", "--dry-run", "--device", "cpu", cwd=tmp_path
    )
    assert "torch" not in loaded
    assert "matplotlib" not in loaded
    assert list(tmp_path.iterdir()) == []


def transfer_run(*flags: str) -> list[str]:
    words = tiny_run(*NO_PANELS)
    datasets = words.index("--datasets")
    return [*words[:datasets], *flags, *words[datasets + 2 :]]


@pytest.mark.usefixtures("in_process")
def test_networks_trained_on_two_datasets_are_tested_on_a_third(call: Call, measured: Measured, tmp_path: Path) -> None:
    measured("quick")
    flags = ("--train", "omc-syn,miic-syn", "--test", "hy5syn-syn,omc-syn")
    code, out, err = call(*transfer_run(*flags))
    assert code == 0, err
    assert "omc-syn+miic-syn" in out
    folder = tmp_path / "results/quick/runs/omc-syn+miic-syn/tinynet/0"
    record = json.loads((folder / "record.json").read_text())
    assert (record["train"], record["test"]) == (["omc-syn", "miic-syn"], ["omc-syn", "hy5syn-syn"])
    assert record["metrics"].keys() == {"hy5syn-syn", "omc-syn"}
    assert (record["training"]["train_images"], record["training"]["test_images"]) == (12, 4)
    assert {path.name for path in folder.glob("images.*.csv")} == {"images.hy5syn-syn.csv", "images.omc-syn.csv"}
    # Without a training of its own, a dataset still has its rows without training; one that is not tested has none.
    references = {path.name.partition(".")[0] for path in (tmp_path / "results/quick/references").iterdir()}
    assert references == {"hy5syn-syn", "omc-syn"}
    assert (tmp_path / "results/quick/report/tables/transfer.csv").is_file()
    code, out, _ = call(*transfer_run(*flags), "--dry-run")
    assert code == 0
    assert re.search(r"omc-syn\+miic-syn +omc-syn, hy5syn-syn +.* 32x32 +1 +0 +0", out)
    code, _, err = call(*transfer_run("--train", "omc-syn,miic-syn", "--test", "hy5syn-syn"))
    assert code == 2
    assert "tested on omc-syn, hy5syn-syn, now on hy5syn-syn" in err


def test_leaving_each_dataset_out_in_turn_is_one_call(call: Call) -> None:
    flags = ("--datasets", "omc-syn,miic-syn,hy5syn-syn", "--leave-one-out", "--dry-run")
    code, out, err = call(*transfer_run(*flags))
    assert code == 0, err
    for train, test in (("miic-syn+hy5syn-syn", "omc-syn"), ("omc-syn+hy5syn-syn", "miic-syn")):
        assert re.search(rf"{re.escape(train)} +{test} ", out)
    code, _, err = call(*transfer_run("--datasets", "omc-syn", "--train", "miic-syn"))
    assert (code, "--train and --datasets" in err) == (2, True)
    code, _, err = call(*transfer_run("--train", "omc-syn", "--test", "omv-syn"))
    assert (code, "omc-syn marks track and omv-syn via" in err) == (2, True)


def test_module_and_console_script_are_the_same() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"benchmark": "benchmark.cli.main:main"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_execution_stands_in_the_record_and_in_what_differs_between_studies(call: Call, finished: Path) -> None:
    record = finished / "runs/omc-syn/tinynet/0/record.json"
    content = json.loads(record.read_text())
    assert content["environment"]["execution"] == "eager"
    other = shutil.copytree(finished, finished.with_name("other")) / record.relative_to(finished)
    content["environment"] |= {"execution": "graph"}
    other.write_text(json.dumps(content))
    _, out, _ = call("diff", "quick", "other")
    assert "execution: eager | eager, graph" in out
    assert "Execution" in (finished / "report/index.html").read_text("utf-8")


@pytest.mark.usefixtures("in_process")
def test_tiles_without_labels_are_told_by_plan_and_run(call: Call, measured: Measured) -> None:
    measured("quick")
    write_pairs(Path("data/mychip"), 14)
    Path("data/mychip/ignore").mkdir()
    for index in range(2):
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(f"data/mychip/ignore/{index}.png")
    arguments = tiny_run(*NO_PANELS, "--set", "split.counts=none", "--set", "split.near_duplicates=apart")
    arguments[arguments.index("omc-syn")] = "mychip"
    code, out, _ = call(*arguments, "--dry-run")
    assert code == 0
    assert "mychip: tiles with too few labelled pixels will be left out; `data verify mychip` counts them" in out
    note = "mychip: 2 of 14 tiles left out, since less than 0.1 of their pixels"
    code, out, _ = call(*arguments)
    assert (code, out.count(note)) == (0, 1)
    code, out, _ = call(*arguments, "--repeats", "2", "--dry-run")
    assert (code, out.count(note)) == (0, 1)


def test_dry_run_tells_the_state_of_every_run_and_then_what_run_would_say(call: Call, finished: Path) -> None:
    code, out, _ = call(*tiny_run("--dry-run", repeats=3))
    assert code == 0
    states = [line for line in out.splitlines() if " tinynet repeat " in line]
    assert states == [f"omc-syn tinynet repeat {repeat}: {state}" for repeat, state in enumerate(STATES)]
    assert re.search(r"Estimated time: about \d+ s \(from times of earlier runs on this machine\)", out)
    assert re.search(r"Estimated memory: \d+ MB for 1 run at a time, most for tinynet \(from training steps", out)
    assert re.search(r"Estimated disk: \d+ MB in results/quick \(checkpoints ", out)
    other = ("--set", "training.weight_decay=0.5")
    code, out, message = call(*tiny_run(*other, "--dry-run", repeats=3))
    assert code == 2
    assert (
        "omc-syn tinynet repeat 1: stale (training.weight_decay: 0.0 -> 0.5)\nomc-syn tinynet repeat 2: missing" in out
    )
    assert call(*tiny_run(*other, repeats=3)) == (2, "", message)


def test_whole_study_of_real_files_and_an_own_network(
    call: Call, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are done by a worker process, as users' are."""
    measured("quick")
    write_pairs(Path("data/mychip"), 10)
    arguments = tiny_run(repeats=2)
    arguments[arguments.index("omc-syn")] = "mychip"
    code, out, err = call(*arguments)
    assert code == 0, err
    assert "[2/2] mychip tinynet repeat 1: ok" in out
    assert out.splitlines()[-1] == "Report: results/quick/report/index.html"
    assert "mychip   10 image/label pairs" in out
    study = Path("results/quick")
    assert load_protocol(study / "protocol.toml").training.steps == 4
    record = json.loads((study / "runs/mychip/tinynet/0/record.json").read_text())
    assert record["metrics"]["mychip"]["image"]["miou"] > 0
    table = (study / "report/tables/accuracy.md").read_text()
    assert "mychip" in table
    assert "Otsu threshold" in table

    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    do_without_workers(monkeypatch)
    code, out, err = call(*arguments)
    assert code == 0
    assert "repeat" not in out.partition("Accuracy on")[0].replace("2 repeats = 2 runs", "")
    assert "Making the report" not in out
    assert out.splitlines()[-1] == "Report: results/quick/report/index.html"
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before

    code, out, err = call("report", "quick")
    assert code == 0
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before


@pytest.mark.slow  # a busy machine is given minutes to become quiet
def test_run_measures_the_efficiency_of_an_own_network(call: Call) -> None:
    code, _, err = call(*tiny_run(*NO_PANELS))
    assert code == 0, err
    record = json.loads(Path("results/quick/efficiency/tinynet.32x32.cpu.float32.json").read_text())
    assert record["params"] == 4 * 9 + 4 + 8 + 5


@pytest.mark.usefixtures("in_process")
def test_failed_run_ends_the_study_with_exit_code_1_and_a_row(call: Call, measured: Measured) -> None:
    measured("quick", "tinynet", "notanumber")
    arguments = tiny_run(*NO_PANELS)
    arguments[2] = f"{TINY}:TinyNet,{TINY}:NotANumber"
    code, out, _ = call(*arguments)
    assert code == 1
    assert "omc-syn notanumber repeat 0: failed (nan_loss)" in out
    assert "omc-syn tinynet repeat 0: ok" in out
    assert r"failed (nan\_loss)" in Path("results/quick/report/tables/accuracy.md").read_text()
    code, out, _ = call(*arguments)
    assert code == 1
    assert "failed earlier: omc-syn notanumber repeat 0" in out


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("validation", [pytest.param("0.2", marks=pytest.mark.slow), "0"])
def test_training_on_everything_works_to_the_end_and_says_that_nothing_was_tested(
    call: Call, measured: Measured, validation: str
) -> None:
    measured("quick")
    more = settings("split.counts=none", "split.test=0", f"split.validation={validation}")[-6:]
    arguments = [*tiny_run(repeats=2), *more, "--test", "omc-syn,miic-syn"]
    code, out, err = call(*arguments)
    assert code == 0, err
    assert "No test images to judge: trained, not tested." in out
    study = Path("results/quick")
    facts = [json.loads(file.read_text())["training"] for file in study.rglob("record.json")]
    images = [(fact["train_images"], fact["validation_images"], fact["test_images"]) for fact in facts]
    assert images == [(8, 2, 0) if validation != "0" else (10, 0, 0)] * 2
    kept = sorted(file.parent.name for file in study.rglob("best.safetensors"))
    assert len(kept) == 1
    if validation == "0":  # the last weights, and of repeats that nothing ranks those of the first
        assert [(fact["best_round"], fact["best_validation_loss"]) for fact in facts] == [(2, None)] * 2
        assert kept == ["0"]
    accuracy = (study / "report/tables/accuracy.md").read_text()
    assert accuracy.count("No test images to judge: trained, not tested.") == 2
    assert "repeats 0, 1 had no test images of miic-syn" in accuracy
    assert not (study / "references").exists()
    assert not list(study.glob("report/plots/*miou*"))
    assert {file.stem for file in study.glob("report/tables/*.md")} == {
        *("accuracy", "efficiency", "training", "methods", "networks"),
    }
    assert call(*arguments)[0] == 0
    assert call("report", "quick", "--columns", "miou,params", "--layout", "wide")[0] == 0
    assert "No test images to judge: trained, not tested." in (study / "report/tables/custom.md").read_text()


@pytest.mark.usefixtures("in_process")
def test_interrupted_study_leaves_a_report_and_exit_code_130(
    call: Call, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    measured("quick", "tinynet", "waits")
    monkeypatch.setattr(signal, "pause", interrupt)
    arguments = tiny_run(*NO_PANELS)
    arguments[2] = f"{TINY}:TinyNet,{TINY}:Waits"
    code, out, err = call(*arguments)
    assert code == 130, err
    assert "the same command goes on from here" in out + err
    assert out.splitlines()[-1] == "Report: results/quick/report/index.html"


@pytest.mark.slow  # starts processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(measured: Measured, tmp_path: Path) -> None:
    measured("quick", "tinynet", "waits")
    arguments = tiny_run(*NO_PANELS)
    arguments[2] = f"{TINY}:TinyNet,{TINY}:Waits"
    code, out = interrupt_second_run(["-m", "benchmark", *arguments], tmp_path)
    assert code == 130, out
    assert "the same command goes on from here" in out
    assert out.splitlines()[-1] == "Report: results/quick/report/index.html"
    assert "Traceback" not in out


@pytest.mark.gpu
def test_gpu_is_used_without_being_asked_for(call: Call) -> None:
    arguments = tiny_run()
    arguments[arguments.index("cpu")] = "auto"
    code, out, err = call(*arguments)
    assert code == 0, err
    assert "run on cuda:0" in out
    record = json.loads(Path("results/quick/runs/omc-syn/tinynet/0/record.json").read_text())
    assert record["environment"]["device"] == "cuda:0"
    assert Path("results/quick/efficiency/tinynet.32x32.cuda.float32.json").is_file()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_not_looked_for(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert hardware_slots.hardware_of("auto", 3) == Hardware("cpu", 3)


def test_list_tells_all_of_networks(call: Call) -> None:
    code, out, _ = call("list", "models", "-v")
    assert code == 0
    assert "eal_icnet.no_tssa" in out
    assert "802,698" in out
    assert "published: 0.95 M params, 13.6 G MACs, 120 FPS on one RTX 3090" in " ".join(out.split())


def test_synthesized_folder_can_be_trained_on(call: Call, measured: Measured) -> None:
    measured("quick")
    code, _, err = call("data", "synthesize", "--datasets", "omc", "--count", "10", "--height", "64", "--width", "64")
    assert code == 0, err
    assert len(list(Path("data/omc-syn/image").iterdir())) == 10
    assert call("data", "verify", "omc-syn", "--protocol", "quick", *settings())[0] == 0
    code, out, err = call(*tiny_run("--real-only", "--dry-run"))
    assert code == 0, err
    assert "omc-syn  10 image/label pairs" in out
    code, _, err = call("data", "synthesize", "--datasets", "omx")
    assert code == 2
    assert "omx" in err

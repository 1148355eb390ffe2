"""What the command line refuses before any work, and the message that says so."""

from __future__ import annotations

import re
import shlex
import shutil
import types
from pathlib import Path

import numpy as np
import pytest

from benchmark.config.protocol import load_protocol
from benchmark.data import packs
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from tests.benchmark.conftest import Call, tiny_run
from tests.benchmark.data.folder_makers import save, write_pairs
from tests.benchmark.report import fake


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "unett"], r"unknown model 'unett'; did you mean 'unet'\?"),
        (["--datasets", "miik"], r"unknown dataset 'miik'; did you mean 'miic'\?"),
        (["--protocol", "quik"], r"unknown protocol 'quik'; did you mean 'quick'\?"),
        (["--set", "training.learning=1"], r"no field 'training\.learning'; the nearest is 'training\.\w+'"),
        (["--set", "training.batch=lots"], r"training\.batch: .*found 'lots'"),
        (["--repeats", "0"], r"repeats: .*greater than or equal to 1, found 0"),
        (["--device", "tpu"], r"--device 'tpu': expected auto, cpu, cuda or cuda:N"),
        (["--study", "../elsewhere"], r"--study '\.\./elsewhere': expected a plain name"),
        (["--models", "letnet", "--set", "input.size=40"], r"letnet: takes sizes that are multiples of 16"),
        (["--models", "nowhere.py:Net"], r"no file 'nowhere\.py'"),
        (["--datasets", "omc", "--real-only"], r"--real-only: no folder data/omc"),
        (["--models", ""], r"--models is empty"),
        (["--data-root", "dta"], r"--data-root dta: no such folder"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(call: Call, arguments: list[str], message: str) -> None:
    code, out, err = call("run", "--protocol", "quick", "--device", "cpu", *arguments)
    assert code == 2, out
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--execution", "graph"],
            "--execution graph: replays CUDA graphs, and the device is a CPU; use --device cuda",
        ),
        (["--execution", "compile", "--set", "determinism=deterministic"], "--execution compile: on a GPU"),
    ],
)
def test_execution_that_cannot_be_is_refused_before_any_work(call: Call, flags: list[str], message: str) -> None:
    code, _, err = call(*tiny_run(*flags))
    assert code == 2
    assert message in err
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("networks.json", "[1]", r"content: Input should be an object\); delete it"),
        ("networks.json", '{"mine": {"where": 1}}', r"mine.target: Field required, and 1 more\); delete it"),
        ("efficiency/unet.json", "{", r"content: Invalid JSON: EOF .*\); delete it and measure again"),
        ("bench/forward.json", "{}", r"what: Field required, and \d+ more\); delete it and measure again"),
        ("report/custom.json", '{"a\\u001b": 1}', r"a\?: Extra inputs are not permitted\); delete it and choose"),
        ("protocol.toml", "name = ", r"not valid TOML \(.*\); expected lines such as .*: correct the file"),
    ],
)
def test_broken_file_of_a_study_is_one_line(call: Call, file: str, content: str, message: str) -> None:
    path = fake.write_study(Path("results/lab"), ["unet"], ["omc-syn"], repeats=1) / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    code, _, err = call("report", "lab")
    assert code == 2
    assert re.fullmatch(rf"benchmark: .*results/lab/{file}\b.*{message}.*", err.strip()), err


@pytest.mark.parametrize(
    "verb",
    [("predict", "a.png", "--out", "out"), ("stages", "--image", "a.png"), ("export", "--format", "torch")],
    ids=lambda verb: verb[0],
)
@pytest.mark.parametrize(
    ("study", "message"),
    [
        (
            "nowhere",
            "--study nowhere: no study in results/nowhere (no such folder); expected a folder that `benchmark run`",
        ),
        ("file", "--study file: no study in results/file (a file, not a folder); expected a folder that"),
        ("empty", "--study empty: no study in results/empty (no runs there); expected a folder that"),
    ],
)
def test_study_without_trainings_is_not_called_an_unknown_model(
    call: Call, verb: tuple[str, ...], study: str, message: str
) -> None:
    Path("results/empty").mkdir(parents=True)
    Path("results/file").touch()
    code, _, err = call(*verb, "--study", study, "--models", "mynet")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data", "synthesize", "--layout", "no.gds"), "--layout no.gds: no such file; expected a GDS or OASIS file"),
        (("data", "synthesize", "--layout", "truth"), "--layout truth: a folder or device; expected a GDS or OASIS"),
        (("score", "--ignore", "empty"), "--ignore empty: no masks; expected some of the predictions' stems"),
        (("score", "--group", "("), "unterminated subpattern at position 0); expected one such as '(frame"),
    ],
)
def test_wrong_files_and_patterns_are_named_with_a_remedy(call: Call, arguments: tuple[str, ...], message: str) -> None:
    for folder in ("truth", "prediction"):
        save(Path(folder, "0.png"), np.eye(40, dtype=np.uint8))
    Path("empty").mkdir()
    folders = ("--truth", "truth", "--prediction", "prediction", "--out", "out") if arguments[0] == "score" else ()
    code, _, err = call(*arguments, *folders)
    assert code == 2
    assert message in err
    assert not Path("out").exists()


def test_empty_data_folder_is_refused_and_not_replaced_by_a_stand_in(call: Call) -> None:
    Path("data/omc/image").mkdir(parents=True)
    Path("data/omc/label").mkdir()
    code, _, err = call("run", "--datasets", "omc", "--protocol", "quick", "--device", "cpu")
    assert code == 2
    assert "data/omc/image: no images" in err


def test_image_without_a_label_is_refused_by_name(call: Call) -> None:
    write_pairs(Path("data/omc"), 10)
    Path("data/omc/label/7.png").unlink()
    code, _, err = call("run", "--datasets", "omc", "--protocol", "quick", "--device", "cpu")
    assert code == 2
    assert "data/omc/image/7.png: image without label" in err


def test_mask_with_other_values_is_refused_before_any_training(call: Call) -> None:
    write_pairs(Path("data/omc"), 10, label=lambda mask: np.where(mask > 0, 127, 0).astype(np.uint8))
    arguments = tiny_run()
    arguments[arguments.index("omc-syn")] = "omc"
    code, _, err = call(*arguments)
    assert code == 2
    assert re.search(r"data/omc/label/\d\.png: mask values \{0, 127\}; expected \{0, 1\} or \{0, 255\}", err)
    assert not list(Path("results").rglob("record.json"))


def test_results_that_cannot_be_written_are_refused(call: Call) -> None:
    Path("results").write_text("a file where a folder should be")
    code, _, err = call(*tiny_run())
    assert code == 2
    assert "results/quick: cannot be claimed (Not a directory); choose another --results" in err


def test_paper_study_on_a_cpu_is_stopped_with_its_estimate(call: Call) -> None:
    code, _, err = call("run", "--models", "unet", "--datasets", "omc", "--device", "cpu", "--threads", "1")
    assert code == 2
    assert re.search(
        r"would take about \d+ (h|days|weeks)\b.*--models unet --datasets omc .*--protocol quick`.*small`.*--yes", err
    )
    assert not Path("results").exists()


@pytest.mark.parametrize("settings", [("--set", "loss.dice=0.2"), ("--set", "training.epochs=20")])
def test_commands_that_a_slow_study_is_refused_for_keep_its_flags_and_can_be_copied(
    call: Call, settings: tuple[str, str]
) -> None:
    flags = ("--models", "unet,eal_icnet*", "--train", "omc,miic", "--test", "hy5syn", "--device", "cpu")
    code, out, _ = call("run", *flags, *settings, "--dry-run")
    assert code == 0
    commands = re.findall(r"`python -m benchmark ([^`]*)`", out)
    for command, protocol in zip(commands, ("quick", "small"), strict=True):
        kept = settings if "loss" in settings[1] else ()  # these protocols have steps in place of epochs
        assert set(shlex.split(command)) == {"run", *flags, *kept, "--protocol", protocol}
    code, out, err = call(*shlex.split(commands[0]), "--dry-run")
    assert code == 0, err
    assert "protocol quick" in out


def test_protocol_that_is_too_slow_is_not_proposed_again(call: Call) -> None:
    settings = ("--set", "training.steps=1000000")
    code, _, err = call(
        "run", "--models", "unet", "--datasets", "omc", "--device", "cpu", "--protocol", "small", *settings
    )
    assert code == 2
    assert "or see results in minutes (later with your settings) with `" in err
    assert "--set training.steps=1000000 --protocol quick`; or add --yes" in err
    assert "--protocol small" not in err


@pytest.mark.parametrize("packed", [False, True])
def test_split_that_cannot_be_filled_is_refused_before_any_image_is_decoded(
    call: Call, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    write_pairs(Path("data/mychip"), 20)
    arguments = tiny_run("--set", "split.counts=[48,8,8]")
    arguments[arguments.index("omc-syn")] = "mychip"
    if packed:
        chosen = load_protocol("quick", arguments[arguments.index("--set") + 1 :: 2])
        packs.open_pack(
            *resolve("mychip", Path("data"), chosen, HashCache(Path("hashes.json"))), chosen, Path("data/.cache")
        )
    monkeypatch.setattr(packs, "decode", None)
    refused = [call(*arguments, *flags) for flags in (["--dry-run"], [])]
    for code, out, err in refused:
        assert code == 2
        assert "1 run on cpu" in out
        assert re.search(r"mychip: 20 images( in 20 groups)? cannot fill split\.counts \(48, 8, 8\)", err)
    assert refused[0][2] == refused[1][2]
    assert not Path("results").exists()


def test_full_disk_is_refused_before_any_work_whatever_one_says(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    for flag in ("--yes", "--dry-run"):
        code, out, err = call(*tiny_run(flag))
        assert code == 2
        assert "1 run on cpu" in out
        assert re.search(r"not enough disk: the study needs about \d+ kB.* but 1 kB are free", err)
    assert not Path("results").exists()
    assert not Path("data").exists()

"""Flags of `run` from a file: what is typed wins, what is no flag is refused, and a study keeps its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.benchmark.conftest import SMALL, TINY, Call, Measured

OWN = f"{TINY}:TinyNet"
SETTINGS = dict(setting.split("=") for setting in SMALL)


def test_file_of_a_finished_study_repeats_it(finished: Path, call: Call) -> None:
    kept = tomllib.loads((finished / "study.toml").read_text())
    assert Path(kept["models"].partition(":")[0]).name == "tiny.py"
    assert kept | {"models": ""} == {
        **{"models": "", "datasets": "omc-syn", "protocol": "quick", "repeats": 2},
        "settings": SETTINGS,
    }
    words = ["--models", OWN]  # the finished study was copied, so that its file is no longer at the place it names
    words += ["--config", "results/quick/study.toml", "--device", "cpu", "--threads", "1", "--dry-run"]
    code, out, err = call("run", *words)
    assert code == 0, err
    assert out.splitlines()[-2:] == [f"omc-syn tinynet repeat {repeat}: done" for repeat in range(2)]
    assert "note:" not in out
    code, out, err = call("run", *words, "--study", "new")
    assert code == 0, err
    assert "note: results/quick/study.toml is of the study results/quick, and this call works in results/new" in out


def test_what_is_typed_replaces_what_the_file_says_of_the_same(tmp_path: Path, call: Call) -> None:
    (tmp_path / "study.toml").write_text('models = "edanet"\ntrain = "omc"\ntest = "miic"\nrepeats = 2\n')
    words = ["--config", "study.toml", "--protocol", "quick", "--device", "cpu", "--dry-run"]
    assert "omc-syn edanet repeat 1: missing" in call("run", *words)[1]
    out = call("run", *words, "--datasets", "omv", "--set", "repeats=1")[1]
    assert [line for line in out.splitlines() if line.endswith("missing")] == ["omv-syn edanet repeat 0: missing"]


@pytest.mark.usefixtures("in_process")
def test_stress_tests_alone_are_kept_too(finished: Path, call: Call) -> None:
    words = ["--models", OWN, "--config", "results/quick/study.toml", "--device", "cpu", "--threads", "1"]
    code, _, err = call("run", *words, "--stress", "noise", "--strength", "1")
    assert code == 0, err
    assert tomllib.loads((finished / "study.toml").read_text())["stress"] == "noise"


@pytest.mark.usefixtures("in_process")
def test_typed_flags_win_and_lists_tables_and_dashes_are_understood(
    tmp_path: Path, call: Call, measured: Measured
) -> None:
    measured("mine")
    settings = "".join(f'"{path}" = "{value}"\n' for path, value in SETTINGS.items())
    (tmp_path / "asked.toml").write_text(
        f"""models = ["contextnet", "{OWN}"]
datasets = ["omc-syn"]
protocol = "quick"
repeats = 3
keep-weights = "none"
real-only = false
[settings]
{settings}"""
    )
    typed = ["--models", OWN, "--repeats", "1", "--set", "training.steps=2", "--study", "mine"]
    code, _, err = call("run", "--config", "asked.toml", "--device", "cpu", "--threads", "1", *typed)
    assert code == 0, err
    kept = tomllib.loads((tmp_path / "results/mine/study.toml").read_text())
    assert kept | {"models": ""} == {
        **{"models": "", "datasets": "omc-syn", "protocol": "quick", "repeats": 1, "keep_weights": "none"},
        **{"study": "mine", "settings": {**SETTINGS, "training.steps": "2"}},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modls = 'unet'", "--config study.toml: unknown 'modls'; did you mean 'models'?"),
        ("real-only = true\nreal_only = true", "real_only is there twice"),
        ("reproduce = 'x.json'", "--config study.toml: unknown 'reproduce'"),
        ("config = 'x.toml'", "--config study.toml: unknown 'config'"),
        ("settings = 3", "settings = 3; expected a table [settings] of path = value"),
        ("dry_run = 'yes'", "dry_run = 'yes'; expected true or false"),
        ("models = true", "models = True; expected a text, a number or a list"),
        ("models = ", "--config study.toml: not valid TOML"),
        ("repeats = 'many'", "valid integer"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, call: Call, text: str, message: str) -> None:
    (tmp_path / "study.toml").write_text(text)
    code, _, err = call("run", "--config", "study.toml", "--dry-run")
    assert code == 2
    assert message in err


def test_missing_file_is_named(call: Call) -> None:
    code, _, err = call("run", "--config", "nothing.toml")
    assert code == 2
    assert "--config nothing.toml: cannot be read" in err

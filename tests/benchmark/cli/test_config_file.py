"""Flags of `run` from a file: what is typed wins, what is no flag is refused, and a study keeps its own."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import tomli_w
import typer.main

from benchmark.cli import main
from benchmark.cli.config_file import NOT_IN_FILES
from benchmark.cli.run import run
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


COMMAND = typer.main.get_command(main.app).commands["run"]  # type: ignore[attr-defined]
IN_FILES = [parameter for parameter in COMMAND.params if parameter.name not in NOT_IN_FILES]


def two_values(hint: Any) -> tuple[Any, Any]:
    """Return two different values that a parameter of this type takes."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if isinstance(kinds[0], str):  # choices
        return kinds[0], kinds[1]
    if get_origin(kinds[0]) is Literal:
        return two_values(kinds[0])
    return {bool: (False, True), int: (2, 3), float: (2.5, 3.5)}.get(kinds[0], ("ours", "theirs"))


@pytest.mark.parametrize("parameter", IN_FILES, ids=lambda parameter: parameter.name)
def test_every_flag_that_is_typed_wins_over_the_file(tmp_path: Path, parameter: Any) -> None:
    ours, theirs = two_values(get_type_hints(run)[parameter.name])
    file = tmp_path / "study.toml"
    for typed, kept in ((ours, theirs), (theirs, ours)):
        words = [parameter.opts[0], str(typed)]
        if isinstance(typed, bool):
            words = [(parameter.opts if typed else parameter.secondary_opts)[0]]
        file.write_text(tomli_w.dumps({parameter.name: kept}))
        calls = (["--config", str(file)], ["--config", str(file), *words], [*words, "--config", str(file)])
        values = [str(COMMAND.make_context("run", call).params[parameter.name]) for call in calls]
        assert values == [str(kept), str(typed), str(typed)]


def test_off_forms_replace_no_other_flag_and_clutter_no_help(tmp_path: Path, call: Call) -> None:
    (tmp_path / "study.toml").write_text('models = "edanet"\ntrain = "omc"\ntest = "miic"\nreal-only = true\n')
    words = ["--config", "study.toml", "--protocol", "quick", "--device", "cpu", "--dry-run", "--repeats", "1"]
    assert "--real-only" in call("run", *words)[2]
    code, out, err = call("run", *words, "--no-real-only", "--no-leave-one-out")
    assert code == 0, err
    assert re.search(r"omc-syn +miic-syn", out)
    help_text = call("run", "--help")[1]
    assert "--real-only  " in help_text
    assert "no-real-only" not in help_text
    (tmp_path / "study.toml").write_text('datasets = "omc,miic"\nleave-one-out = true\n')
    out = call("run", *words, "--models", "edanet", "--no-leave-one-out")[1]
    assert "omc-syn edanet repeat 0: missing" in out
    assert "miic-syn edanet repeat 0: missing" in out


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

"""What ``--help`` shows, and what the shell completes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer.main

from benchmark.cli import data, main
from benchmark.cli.help import ALIASES, VERBS
from benchmark.cli.run import PANELS, run
from benchmark.config.protocol import PRESETS
from tests.benchmark.conftest import Call


def test_verbs_stand_in_the_order_of_use_and_no_line_is_cut(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["-h"], ["--help"], ["data", "-h"]):
        code, out, _ = call(*words)
        commands = out.partition("Commands:\n")[2].splitlines()
        assert code == 0
        assert commands
        assert not [line for line in commands if line.endswith("...") or len(line) > 80]
    verbs = [line.split()[0] for line in call("--help")[1].partition("Commands:\n")[2].splitlines()]
    assert verbs == [verb for verb in VERBS if verb in verbs]
    assert verbs[:3] == [verb for verb in ("run", "status", "report", "data") if verb in verbs][:3]


def test_every_verb_answers_to_h(call: Call) -> None:
    for name in typer.main.get_command(main.app).commands:  # type: ignore[attr-defined]
        code, out, _ = call(name, "-h")
        assert code == 0
        assert f" {name} " in out


@pytest.mark.parametrize("verb", ["run", "score"])
def test_help_names_every_preset(verb: str) -> None:
    (flag,) = (p for p in typer.main.get_command(main.app).commands[verb].params if p.name == "protocol")  # type: ignore[attr-defined]
    assert set(PRESETS) <= set(flag.help.split(" or ")[0].replace(" ", "").split(","))


def test_each_flag_of_run_is_in_one_panel(call: Call) -> None:
    flags = [flag for panel in PANELS.values() for flag in panel]
    assert sorted(flags) == sorted(inspect.signature(run).parameters.keys() - {"context"})
    out = call("run", "-h")[1]
    titles = [line[:-1] for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [*PANELS, "Other"]
    assert out.index("Hardware:") < out.index("--device") < out.index("Output:") < out.index("--study")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("benchmark re", ["report"]),
        ("benchmark run --models unet,eal_icnet.no_t", ["unet,eal_icnet.no_tssa"]),
        ("benchmark run --datasets omc,my", ["omc,mychip"]),
        ("benchmark run --protocol st", ["strict", "standins"]),
        ("benchmark run --study le", ["left"]),
    ],
)
def test_shell_completes_verbs_and_values(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]
) -> None:
    Path("data/mychip").mkdir(parents=True)
    Path("results/left/runs").mkdir(parents=True)
    Path("results/left+other/report").mkdir(parents=True)  # no study
    monkeypatch.setenv("_BENCHMARK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert call()[1].split() == expected


def test_flags_have_one_name_in_all_verbs_and_answer_to_their_other_names(call: Call) -> None:
    shown = {flag for flags in verbs_with_flags().values() for flag in flags}
    assert not shown & ALIASES.keys()
    assert set(ALIASES.values()) <= shown
    code, _, err = call("profile", "--model=contextnett", "--devices", "cpu")
    assert code == 2
    assert "unknown model 'contextnett'; did you mean 'contextnet'?" in err
    code, _, err = call("profile", "--models", "contextnet", "--devices", "tpu")
    assert "--device 'tpu': expected auto, cpu" in err
    assert call("data", "synthesize", "--dataset", "omx")[0] == 2


def test_other_names_are_no_flags_where_the_verb_has_no_such_flag(call: Call) -> None:
    code, _, err = call("score", "--devices", "cpu")
    assert code == 2
    assert "No such option" in err


def verbs_with_flags() -> dict[str, set[str]]:
    groups = {"": typer.main.get_command(main.app), "data": typer.main.get_command(data.app)}
    verbs = {f"{name} {verb}": command for name, group in groups.items() for verb, command in group.commands.items()}  # type: ignore[attr-defined]
    return {
        name: {flag for parameter in verb.params if parameter.param_type_name == "option" for flag in parameter.opts}
        for name, verb in verbs.items()
    }

"""``run --ensembles`` as a user meets it: a plan, a study with its report, the same in Python, refusals."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import benchmark
from benchmark.records.store import WEIGHTS
from tests.benchmark.conftest import SMALL, TINY, Call, Measured, tiny_run

NO_PANELS = ("--set", "report.panels=0")


@pytest.mark.usefixtures("in_process")
def test_ensembles_are_planned_tested_and_reported_once(call: Call, measured: Measured, tmp_path: Path) -> None:
    code, out, _ = call(*tiny_run(*NO_PANELS, repeats=2), "--ensembles", "--dry-run")
    assert code == 0
    assert "Ensembles of 2 repeats, whose weights are all kept: 1 to test after the runs" in out
    assert "omc-syn tinynet ensemble of 2: omc-syn" in out
    measured("quick")
    code, out, err = call(*tiny_run(*NO_PANELS, repeats=2), "--ensembles")
    assert (code, err) == (0, "")
    assert "omc-syn tinynet ensemble of 2: tested" in out
    assert "tinynet (ensemble of 2)" in out
    study = tmp_path / "results/quick"
    assert len(list(study.glob(f"runs/*/*/*/{WEIGHTS}"))) == 2
    assert "tinynet (ensemble of 2)" in (study / "report/tables/electrical.md").read_text()
    assert tomllib.loads((study / "study.toml").read_text())["ensembles"] is True
    code, out, _ = call("run", "--config", study / "study.toml", "--dry-run")
    assert code == 0
    assert "whose weights are all kept: nothing left to test" in out
    settings = dict(setting.split("=", 1) for setting in (*SMALL, "report.panels=0"))
    loaded = benchmark.run(
        models=f"{TINY}:TinyNet", datasets="omc-syn", protocol="quick", device="cpu", threads=1, repeats=2,
        settings=settings, ensembles=True, progress=False,
    )  # fmt: skip
    assert [*loaded.table("accuracy").index.get_level_values("model")][:2] == ["tinynet", "tinynet+ensemble"]


@pytest.mark.parametrize(
    ("repeats", "flags", "message"),
    [
        (1, ("--ensembles",), "--ensembles: averages the repeats of each network, and there is one; expected two or"),
        (2, ("--ensembles", "--keep-weights", "none"), "which --keep-weights none throws away; leave that out"),
    ],
)
def test_ensembles_that_cannot_be_end_with_2_before_anything_starts(
    call: Call, tmp_path: Path, repeats: int, flags: tuple[str, ...], message: str
) -> None:
    code, _, err = call(*tiny_run(repeats=repeats), *flags)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
    assert not (tmp_path / "results").exists()


def test_study_that_kept_one_repeat_s_weights_is_refused(call: Call, finished: Path) -> None:
    code, _, err = call(*tiny_run(repeats=2), "--ensembles")
    assert code == 2
    assert "results/quick keeps no weights of omc-syn tinynet repeat" in err
    assert "leave tinynet out of --models" in err


def test_help_says_that_all_weights_are_kept(call: Call) -> None:
    code, out, _ = call("run", "--help")
    assert code == 0
    assert "keeps the weights of all repeats" in " ".join(out.replace("│", " ").split())

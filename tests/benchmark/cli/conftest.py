"""A study that the verb `run` finished once, for tests of what comes after."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.devices import facts
from benchmark.report.plots import plot_style
from tests.benchmark.conftest import Call, do_without_workers, leave_plots_blank, tiny_run
from tests.benchmark.report import fake


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny network was trained twice."""
    folder = tmp_path_factory.mktemp("finished")
    fake.write_efficiency(folder / "results/quick", "tinynet", 32, name=facts.cpu_name(), threads=1)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        do_without_workers(patch)
        leave_plots_blank(patch)
        patch.setattr("sys.argv", ["benchmark", *tiny_run("--execution", "eager", repeats=2)])
        with pytest.raises(SystemExit) as end:
            main.main()
    assert not end.value.code
    return folder


@pytest.fixture
def finished(workplace: Path, tmp_path: Path, call: Call) -> Path:
    """The study in the test's own folder, which `call` enters."""
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results/quick"


@pytest.fixture(autouse=True)
def _blank_plots(blank_plots: None) -> None:
    """Tests of the report look at its plots, and tests of the reference study at those of real runs."""


@pytest.fixture
def blank_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `stages` write empty files in place of its figure."""
    monkeypatch.setattr(plot_style, "save", lambda figure, kind: b"")

"""One finished study of eleven models, reported once for all tests that only look at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.records.run_record import Failure
from benchmark.report import build
from tests.benchmark.report import fake


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 models x 2 datasets x 3 repeats; UNet lacks a repeat of omc-syn, HRNet failed on all of miic-syn."""
    folder = fake.write_study(tmp_path_factory.mktemp("results") / "quick")
    lost = Failure(kind="nan_loss", message="the training loss became NaN in step 37")
    fake.write_run(folder, "unet", ["omc-syn"], 1, None, lost)
    for repeat in range(3):
        failure = Failure(kind="out_of_memory", message="needs 12 GiB, has 8 GiB")
        fake.write_run(folder, "hrnet", ["miic-syn"], repeat, None, failure)
    return folder


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build reports without figures, which take most of the time, for tests that look at tables."""
    monkeypatch.setattr(build.all_plots, "PLOTS", ())


@pytest.fixture
def no_plot_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw plots into the page alone."""
    monkeypatch.setattr(build.all_plots, "PLOTS", [replace(plot, kinds=()) for plot in build.all_plots.PLOTS])


@pytest.fixture(scope="session")
def built(study: Path) -> list[Path]:
    return build.build(study)

"""One finished study of eleven models, reported once for all tests that only look at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.records.run_record import Failure
from benchmark.report.build import build
from benchmark.report.plots.all_plots import PLOTS
from tests.benchmark.report import fake

#: Plots that are in the page alone, since their files take most of the time of a report.
IN_PAGE = tuple(replace(plot, kinds=()) for plot in PLOTS)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 models x 2 datasets x 3 repeats; UNet lacks a repeat of omc-syn, HRNet failed on all of miic-syn."""
    folder = fake.write_study(tmp_path_factory.mktemp("results") / "quick")
    failure = Failure(kind="nan_loss", message="the training loss became NaN in step 37")
    fake.write_run(folder, "unet", ["omc-syn"], 1, None, failure)
    for repeat in range(3):
        failure = Failure(kind="out_of_memory", message="needs 12 GiB, has 8 GiB")
        fake.write_run(folder, "hrnet", ["miic-syn"], repeat, None, failure)
    return folder


@pytest.fixture(scope="session")
def built(study: Path) -> list[Path]:
    """The report's files; only the first kind of plot has some, and the second, which takes longest, is left out."""
    return build(study, plots=(*PLOTS[:1], *IN_PAGE[2:]))

"""Reports of the commands that begin a study here have blank files of plots, and tests of a file share a study."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmark.cli.conftest import _blank_plots

__all__ = ["_blank_plots"]

Once = Callable[[Path, Callable[[], object]], None]


@pytest.fixture(scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "study"


@pytest.fixture
def once(_kept: Path) -> Once:
    """Fill a study's folder, for the first test of a file that asks, and copy what it holds for the others."""

    def fill(folder: Path, work: Callable[[], object]) -> None:
        if _kept.exists():
            shutil.copytree(_kept, folder)
        else:
            work()
            shutil.copytree(folder, _kept)

    return fill

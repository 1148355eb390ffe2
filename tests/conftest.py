"""Sets threads, examples of property tests, and the tests that a call skips."""

from __future__ import annotations

import gc
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest
import torch

from benchmark.utils import telemetry

telemetry.switch_off()  # tests import onnxruntime and Ray themselves

# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile("everyday", deadline=None, max_examples=25)
hypothesis.settings.register_profile("slow", deadline=None, max_examples=500)
hypothesis.settings.load_profile("everyday")

FOLDERS = itertools.count()
MOST_PROCESSES = 8  # each takes up to a gigabyte


def pytest_configure(config: pytest.Config) -> None:
    if "slow" in config.getoption("-m"):
        hypothesis.settings.load_profile("slow")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two OpenMP threads beside another busy process slow a small network a hundredfold."""
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Every collection of garbage would look at thousands of tests and the modules of torch."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Thousands of small files need not survive a loss of power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder; pytest's own fixture would look through those of all earlier tests for the next number."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{name}_{next(FOLDERS)}", numbered=False)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the whole suite out over the cores; chosen or slow tests, which also compare times, run in this process."""
    chosen = config.getoption("-m") or config.getoption("-k") or config.args_source is not config.ArgsSource.TESTPATHS
    return 0 if chosen else min(os.cpu_count() or 1, MOST_PROCESSES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("-m"):
        skip_slow = pytest.mark.skip(reason="slow: run with `pytest -m slow`")
        for item in items:
            if item.get_closest_marker("slow"):  # not `keywords`, which have the names of folders too
                item.add_marker(skip_slow)
    if not torch.cuda.is_available():
        skip_gpu = pytest.mark.skip(reason="needs a CUDA device, and torch sees none here")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip_gpu)

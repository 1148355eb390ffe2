"""A folder to check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark.data.check.folder_checks import STEMS
from tests.benchmark.data.folder_makers import make_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "mychip", STEMS)

"""Packages that a flag needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.utils.errors import UserError, require


def test_folder_of_a_package_s_name_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="--tracker: some_tracker is not installed"):
        require("some_tracker", "pytest", flag="--tracker", extra="trackers")

"""Tests are skipped for their own marks only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import conftest


@pytest.mark.parametrize(("mark", "skipped"), [("", 0), ("gpu", 1), ("slow", 1)])
def test_folder_s_name_skips_no_test(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path, mark: str, skipped: int
) -> None:
    checkout = pytest.Dir.from_parent(request.session, path=tmp_path / "gpu")
    item: Any = _Item.from_parent(pytest.Dir.from_parent(checkout, path=tmp_path / "gpu/slow"), name="test_nothing")
    if mark:
        item.add_marker(mark)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config: Any = SimpleNamespace(getoption=lambda name: "")
    conftest.pytest_collection_modifyitems(config, [item])
    assert len(list(item.iter_markers("skip"))) == skipped


class _Item(pytest.Item):
    def runtest(self) -> None:
        pass

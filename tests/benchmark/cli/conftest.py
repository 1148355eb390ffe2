"""Plots that tests of verbs do not look at are blank."""

from __future__ import annotations

import pytest

from benchmark.report.plots import plot_style


@pytest.fixture(autouse=True)
def _blank_plots(blank_plots: None) -> None:
    """Tests of the report look at its plots, and tests of the reference study at those of real runs."""


@pytest.fixture
def blank_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `stages` write empty files in place of its figure."""
    monkeypatch.setattr(plot_style, "save", lambda figure, kind: b"")

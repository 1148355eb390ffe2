"""Ticks of logarithmic axes: decades where they give a scale, else evenly placed round numbers."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from benchmark.report.plots.plot_style import round_ticks


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0.9, 60), ["1", "2", "5", "10", "20", "50"]),
        ((0.07, 0.13), ["0.08", "0.1", "0.12"]),
        ((0.0121, 0.0139), ["0.0125", "0.013", "0.0135"]),
    ],
)
def test_ticks_give_a_scale(limits: tuple[float, float], expected: list[str]) -> None:
    axes = Figure().subplots()
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    round_ticks(axes.xaxis, fine=True)
    ticks = [tick for tick in axes.xaxis.get_majorticklocs() if limits[0] <= tick <= limits[1]]
    assert axes.xaxis.get_major_formatter().format_ticks(ticks) == expected

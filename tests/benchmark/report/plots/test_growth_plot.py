"""The growth plot draws latency and memory of each network against image size."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex

from benchmark.report.plots import growth_plot
from benchmark.report.plots.plot_style import STYLES
from benchmark.report.read import read_study
from tests.benchmark.report import fake
from tests.benchmark.report.tables.test_growth_table import SIDES, write_growth


def test_plot_draws_each_network_s_figures_in_its_family_s_colour(tmp_path: Path) -> None:
    write_growth(tmp_path)
    ((name, figure),) = growth_plot.draw(read_study(tmp_path))
    assert name == "growth.AMD-EPYC-9B14-96-Core-Processor.float32"
    latency, memory = figure.axes
    lines = {line.get_label(): line for line in latency.lines if line.get_marker() == "o"}
    assert set(lines) == {"EAL-ICNet", "UNet", "ESNet"}
    np.testing.assert_allclose(lines["UNet"].get_xdata(), SIDES[:3])
    np.testing.assert_allclose(lines["UNet"].get_ydata(), [10, 40, 160])
    assert to_hex(lines["UNet"].get_color()).upper() == STYLES["ic"][1]
    held = {line.get_label(): line for line in memory.lines if line.get_marker() == "o"}
    np.testing.assert_allclose(held["EAL-ICNet"].get_ydata(), [16, 64, 256])  # MiB
    for axes in (latency, memory):
        assert {text.get_text() for text in axes.texts} == {"EAL-ICNet", "UNet", "ESNet"}
        guides = [
            line.get_xydata() for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2
        ]
        slopes = {
            round(float(np.log(y1 / y0) / np.log(x1 / x0)), 6)
            for (x0, y0), (x1, y1) in guides
            if x1 > 300  # leaders are drawn in inches
        }
        assert slopes == {2.0}


def test_names_keep_their_distance_and_their_order() -> None:
    for expected in ([1.0, 1.0, 1.05, 3.0], [0.0, 4.9, 4.95, 5.0], [2.0]):
        placed = growth_plot.apart(expected, gap=0.2, top=5.0)
        assert all(after - before >= 0.2 - 1e-9 for before, after in itertools.pairwise(placed))
        assert max(placed) <= 5.0
    assert growth_plot.apart([1.0, 2.0, 3.0], gap=0.2, top=5.0).tolist() == [1.0, 2.0, 3.0]


def test_study_without_memory_says_so_in_the_plot(tmp_path: Path) -> None:
    for side in SIDES:
        fake.write_efficiency(tmp_path, "unet", side, memory=None)
    ((_, figure),) = growth_plot.draw(read_study(tmp_path))
    assert [text.get_text() for text in figure.axes[1].texts] == ["not measured"]

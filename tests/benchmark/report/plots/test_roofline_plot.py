"""The roofline plot shows every network below the limits of its device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.report.plots import roofline_plot
from benchmark.report.read import read_study
from tests.benchmark.report import fake
from tests.benchmark.report.plots.test_accuracy_cost_plot import assert_readable
from tests.benchmark.report.tables.test_roofline_table import limits, write, write_roofline


def test_plot_has_every_network_at_its_place_under_its_roof(tmp_path: Path) -> None:
    write_roofline(tmp_path)
    ((name, figure),) = roofline_plot.draw(read_study(tmp_path))
    assert name == "roofline.96x96.AMD-EPYC-9B14-96-Core-Processor.float32"
    (axes,) = figure.axes
    marks = [line.get_xydata()[0] for line in axes.lines if line.get_marker() not in ("None", "_", "|")]
    expected = [(0.5, 2.0), (5.0, 125.0), (20.0, 50.0)]
    np.testing.assert_allclose(sorted(map(tuple, marks)), expected)
    (roof,) = (line for line in axes.lines if str(line.get_label()).startswith("Limit"))
    (left, low), ridge, (right, high) = roof.get_xydata()
    assert left < 0.5
    assert right > 20
    assert low == pytest.approx(left * 20)
    assert tuple(ridge) == pytest.approx((5.0, 100.0))
    assert high == pytest.approx(100.0)
    assert {text.get_text() for text in axes.texts} == {"UNet", "ESNet", "FCN"}


def test_network_without_macs_has_no_mark(tmp_path: Path) -> None:
    write(tmp_path, "unet", 2_000_000_000, 100_000_000, 40.0, limits(100, 20))
    write(tmp_path, "mine", 0, 1000, 1.0, limits(100, 20))
    ((_, figure),) = roofline_plot.draw(read_study(tmp_path))
    assert {text.get_text() for text in figure.axes[0].texts} == {"UNet"}


def test_settings_have_plots_of_their_own_names(tmp_path: Path) -> None:
    for size, dtype in ((96, "float32"), (128, "float32"), (96, "bfloat16")):
        fake.write_efficiency(tmp_path, "unet", size, dtype=dtype, bytes_moved=10**8, limits=limits(100, 20))
    fake.write_efficiency(tmp_path, "fcn", dtype="float32", threads=1, bytes_moved=10**8, limits=limits(60, 20))
    device = "AMD-EPYC-9B14-96-Core-Processor"
    assert sorted(name for name, _ in roofline_plot.draw(read_study(tmp_path))) == [
        f"roofline.128x128.{device}.float32",
        f"roofline.96x96.{device}.bfloat16",
        f"roofline.96x96.{device}.float32",
        f"roofline.96x96.{device}.float32.2",
    ]


@pytest.mark.parametrize("device", ["Intel(R) Xeon(R) Processor @ 2.50GHz", "INTEL(R) XEON(R) GOLD 6338 CPU @ 2.00GHZ"])
def test_footnote_with_a_long_device_name_stays_in_the_figure(tmp_path: Path, device: str) -> None:
    for model in ("unet", "fcn"):
        fake.write_efficiency(tmp_path, model, name=device, bytes_moved=10**8, limits=limits(132, 22.5))
    ((name, figure),) = roofline_plot.draw(read_study(tmp_path))
    assert_readable(name, figure)

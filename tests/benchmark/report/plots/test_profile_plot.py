"""The profile plot shows the latency of every setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from benchmark.report.plots import profile_plot
from benchmark.report.read import StudyResults, read_study
from tests.benchmark.report import fake
from tests.benchmark.report.tables.test_profile_table import GPU, write_profile


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return read_study(write_profile(tmp_path))


def test_plot_shows_each_latency_once_where_it_belongs(study: StudyResults) -> None:
    ((name, figure),) = profile_plot.draw(study)
    assert name == "profile"
    assert [axes.get_title(loc="left").partition(",")[0] for axes in figure.axes] == [fake.CPU, GPU]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["EAL-ICNet", "UNet"]
    shapes = {512: "o", 1024: "s"}
    for axes, device in zip(figure.axes, ("cpu", "cuda"), strict=True):
        marks = {
            (line.get_xdata()[0], round(line.get_ydata()[0]), line.get_marker(), to_hex(line.get_color()).upper())
            for line in axes.lines
            if line.get_marker() != "None"
        }
        assert marks == {
            (
                one.record.latency.p50_ms,
                ["eal_icnet", "unet"].index(one.record.model),
                shapes[one.record.height],
                profile_plot.COLOURS[one.record.dtype],
            )
            for one in study.efficiency
            if one.record.device == device
        }


def test_marks_of_one_model_do_not_cover_each_other(study: StudyResults) -> None:
    ((_, figure),) = profile_plot.draw(study)
    for axes in figure.axes:
        rows = [line.get_ydata()[0] for line in axes.lines if line.get_marker() != "None"]
        assert len(set(rows)) == len(rows)

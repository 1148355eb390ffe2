"""The stress plot has a column per effect, a row per metric and every value."""

from __future__ import annotations

from pathlib import Path

from benchmark.report.plots import stress_plot
from benchmark.report.read import read_study
from benchmark.report.tables import stress_table
from tests.benchmark.report.tables.test_stress_table import write_stressed


def test_plot_has_a_column_per_effect_and_a_row_per_metric_and_every_value(tmp_path: Path) -> None:
    study = read_study(write_stressed(tmp_path))
    ((stem, figure),) = stress_plot.draw(study)
    assert stem == "hy5syn-syn.stress"
    top = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in top] == ["clouds", "noise"]
    assert len(figure.axes) == 4
    assert {axes.get_ylim() for axes in top} == {top[0].get_ylim()}
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["mIoU (%),\nimage reduction", "Net error rate (%),\npooled reduction"]
    drawn = sorted(
        round(y, 6) for line in top[0].lines if line.get_marker() not in ("None", "") for y in line.get_ydata()
    )
    block = stress_table.table(study).blocks[0]
    keys = ("drawn", "clouds-1", "clouds-2")
    means = sorted(round(100 * row.cells[key].mean, 6) for row in block.rows for key in keys)
    assert [value for value in drawn if value in means] == means
    texts = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "n = 2 repeats (ddof = 1). 4 test images. Protocol: quick." in texts
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["EAL-ICNet", "UNet"]


def test_study_without_stress_tests_has_no_plot(study: Path) -> None:
    assert not list(stress_plot.draw(read_study(study)))

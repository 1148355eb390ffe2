"""Heat maps of transfer print every mean, and studies without a foreign test have none."""

from __future__ import annotations

from pathlib import Path

from benchmark.report.plots import transfer_plot
from benchmark.report.read import read_study
from benchmark.report.tables import transfer_table
from tests.benchmark.report.tables.test_transfer_table import NAMES, write_crossed


def test_heat_map_prints_every_mean_and_frames_the_trainings_own_data(tmp_path: Path) -> None:
    study = read_study(write_crossed(tmp_path))
    ((stem, figure),) = transfer_plot.draw(study)
    assert stem == "transfer.miou"
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["EAL-ICNet", "ESNet", "LETNet", "UNet"]
    blocks = [block for block in transfer_table.table(study).blocks if block.facts["metric_name"] == "miou"]
    expected = [f"{100 * block.rows[1].cells[test].mean:.1f}" for block in blocks for test in NAMES]
    assert [text.get_text() for text in panels[1].texts] == expected
    assert len(panels[1].patches) == 3 + 2  # three on themselves, and both parts of the joint training


def test_study_without_a_crossing_has_no_heat_map(study: Path) -> None:
    assert not list(transfer_plot.draw(read_study(study)))

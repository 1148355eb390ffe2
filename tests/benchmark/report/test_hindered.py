"""Figures that were taken while something else had the device: shown with a mark, and never compared with others."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli.progress import open_console
from benchmark.cli.summary import print_summary
from benchmark.records.efficiency_record import Conditions, Latency, Limits
from benchmark.report import merge
from benchmark.report.build import build
from benchmark.report.plots import accuracy_cost_plot, growth_plot, profile_plot, roofline_plot
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables import (
    accuracy_table,
    efficiency_table,
    growth_table,
    paper_table,
    profile_table,
    roofline_table,
)
from benchmark.report.tables.numbers import macros
from benchmark.report.tables.render import HINDERED, Table
from tests.benchmark.report import fake

MODELS = ("eal_icnet", "contextnet", "unet")
SIZES = (96, 192, 384)
MOMENT = Conditions(clock_mhz=2600.0, load_average=1.0)
#: Faster than any other network: without its mark it would be the best everywhere.
FASTEST = Latency.from_raw([0.01] * 400, MOMENT, MOMENT)


def limits(macs_per_second: float = 1e11) -> Limits:
    return Limits(macs_per_second=macs_per_second, bytes_per_second=2e10, product_side=512, copied_bytes=1 << 28)


def write_figures(folder: Path) -> None:
    """Three networks at three sizes; ContextNet was timed while a matrix product ran at 1 % of the study's best."""
    for model in MODELS:
        for size in SIZES:
            slow: dict[str, object] = {"limits": limits(1e9), "latency": FASTEST} if model == "contextnet" else {}
            fake.write_efficiency(folder, model, size, **({"limits": limits(), "bytes_moved": 10**8} | slow))


def write(folder: Path) -> Path:
    fake.write_study(folder, MODELS, ("omc-syn",))
    write_figures(folder)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    return read_study(write(tmp_path_factory.mktemp("hindered")))


def every_table(study: StudyResults) -> list[Table]:
    return [
        efficiency_table.efficiency(study),
        profile_table.overview(study),
        growth_table.table(study),
        roofline_table.table(study),
        paper_table.table(study, paper_table.PaperChoice()),
    ]


@pytest.mark.parametrize("place", range(5), ids=("efficiency", "profile", "growth", "roofline", "paper"))
def test_hindered_time_is_marked_and_never_best_or_second(study: StudyResults, place: int) -> None:
    table = every_table(study)[place]
    times = ("latency", "fps", "images_per_second", "limit_share")
    for block in table.blocks:
        marks = block.marks()
        timed = [column.key for column in block.columns if column.key.startswith(times)]
        timed = [key for key in timed if not key.endswith("exponent")]
        assert timed
        for row in block.rows:
            for key in timed:
                if key not in row.cells:
                    continue
                assert row.cells[key].hindered == (row.key == "contextnet")
                assert (row.key, key) not in marks or row.key != "contextnet"
            assert not any(row.cells[key].hindered for key in row.cells if not key.startswith(times))
        assert any(said.startswith(HINDERED) for said in block.conventions)
        (remark,) = [row.remark for row in block.rows if row.key == "contextnet"]
        assert "a matrix product just before ran at 1%" in remark or "told in the efficiency table" in remark


def test_no_exponent_is_formed_from_a_hindered_time(study: StudyResults) -> None:
    (block,) = growth_table.table(study).blocks
    rows = {row.key: row.cells for row in block.rows}
    assert "latency_p50_ms.exponent" in rows["unet"]
    assert "latency_p50_ms.exponent" not in rows["contextnet"]
    assert "forward_peak_bytes.exponent" in rows["contextnet"]
    ((_, figure),) = growth_plot.draw(study)
    latency, memory = ({line.get_label() for line in axes.lines if len(line.get_xdata())} for axes in figure.axes)
    assert "ContextNet" in memory
    assert "ContextNet" not in latency


def test_hindered_network_is_no_point_of_a_plot_of_times_and_on_no_front(study: StudyResults) -> None:
    charts = {
        chart.axis.name: chart
        for chart in accuracy_cost_plot.charts(study, accuracy_table.scores(study, accuracy_table.ACCURACY).blocks)
    }
    assert [point.row.key for point in charts["fps"].points] == ["eal_icnet", "unet"]
    assert charts["fps"].missing == ()
    assert f"{accuracy_cost_plot.HINDERED_NAMES}: ContextNet." in charts["fps"].footnote
    for other in ("params", "macs"):
        assert "contextnet" in {point.row.key for point in charts[other].points}
        assert accuracy_cost_plot.HINDERED_NAMES not in charts[other].footnote


def test_no_plot_is_drawn_against_times_that_are_all_hindered(study: StudyResults) -> None:
    everything = replace(study, efficiency=tuple(replace(result, hindered=True) for result in study.efficiency))
    result = accuracy_cost_plot.charts(everything, accuracy_table.scores(study, accuracy_table.ACCURACY).blocks)
    assert [chart.axis.name for chart in result] == ["params", "macs"]


def test_hindered_times_are_hollow_marks(study: StudyResults) -> None:
    for _, figure in roofline_plot.draw(study):
        faces = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() in ("*", "o", "s")]
        assert sorted(face == "white" for face in faces) == [False, False, True]
        assert any("Hollow: something else" in text.get_text().replace("\n", " ") for text in figure.texts)
    ((_, figure),) = profile_plot.draw(study)
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    hollow = [line for line in marks if line.get_markerfacecolor() == "white"]
    assert len(hollow) == len(SIZES)
    assert {float(line.get_xdata()[0]) for line in hollow} == {FASTEST.p50_ms}
    assert "hindered" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_files_page_and_terminal_print_the_mark_beside_the_figure(tmp_path: Path) -> None:
    folder = write(tmp_path / "hindered")
    build(folder, choice=paper_table.PaperChoice(), plots=())
    markdown = (folder / "report/tables/custom.md").read_text("utf-8")
    (line,) = [line for line in markdown.splitlines() if line.startswith("| ContextNet")]
    assert line.endswith(f"| 100000.0{HINDERED} |")
    assert "100000.0$\\ddagger$" in (folder / "report/tables/custom.tex").read_text("utf-8")
    assert f"100000.0{HINDERED}" in (folder / "report/index.html").read_text("utf-8")
    assert "100000.0\\ensuremath{\\ddagger}" in macros(every_table(read_study(folder)), "image")
    shutil.rmtree(folder / "runs")
    (folder / "protocol.toml").unlink()
    output = io.StringIO()
    print_summary(open_console(file=output, width=300), folder)
    line, *remarks = [line for line in output.getvalue().splitlines() if "ContextNet" in line]
    assert len(remarks) == 1
    assert line.count(f"0.01{HINDERED}") == len(SIZES)


def test_merged_studies_take_the_figures_that_nothing_hindered(tmp_path: Path) -> None:
    first = tmp_path / "busy"  # studies are taken by name, so that this one is the first
    write_figures(first)
    second = shutil.copytree(first, tmp_path / "free")
    for size in SIZES:
        fake.write_efficiency(second, "contextnet", size, limits=limits(), bytes_moved=10**8)
    result = merge.merge([first, second])
    assert len(result.efficiency) == len(MODELS) * len(SIZES)
    assert not any(one.hindered or one.warnings for one in result.efficiency)

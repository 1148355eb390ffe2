"""Growth with the image size: exponents of made-up figures, what the plot draws, and when there is any of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmark.records.efficiency_record import Conditions, Latency, Memory
from benchmark.report.plots import growth_plot
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables import growth_table, render
from tests.benchmark.report import fake

MOMENT = Conditions(clock_mhz=None, load_average=None)
#: Powers of the number of pixels by which latency and memory grow.
POWERS = {"eal_icnet": (1.8, 1.0), "unet": (1.0, 1.0), "esnet": (0.5, 0.8)}
SIDES = (256, 512, 1024, 2048)


def write(folder: Path, model: str, side: int, latency: float, memory: float | None, **changes: object) -> None:
    peak = None if memory is None else round(memory)
    fake.write_efficiency(
        folder, model, side, latency=Latency.from_raw([latency] * 30, MOMENT, MOMENT),
        memory=Memory(forward_peak_bytes=peak, train_step_peak_bytes=None, method="growth; a step adds"), **changes,
    )  # fmt: skip


def write_growth(folder: Path) -> Path:
    """Write three networks at four sizes; UNet was not measured at 2048, whose memory EAL-ICNet lacks."""
    for (model, (slow, large)), side in itertools.product(POWERS.items(), SIDES):
        if (model, side) != ("unet", 2048):
            pixels = (side / 256) ** 2
            memory = None if (model, side) == ("eal_icnet", 2048) else 2**24 * pixels**large
            write(folder, model, side, 10 * pixels**slow, memory)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_growth(tmp_path)


@pytest.fixture
def study(folder: Path) -> StudyResults:
    return read_study(folder)


def test_exponents_are_those_that_the_figures_were_made_of(study: StudyResults) -> None:
    (block,) = growth_table.table(study).blocks
    result = {
        row.key: tuple(
            cell and cell.mean
            for cell in (row.cells.get("latency_p50_ms.exponent"), row.cells.get("forward_peak_bytes.exponent"))
        )
        for row in block.rows
    }
    assert result["eal_icnet"] == (pytest.approx(1.8), None)
    assert result["esnet"] == (pytest.approx(0.5), pytest.approx(0.8))
    assert result["unet"] == (None, None)


def test_exponent_is_of_the_largest_two_sizes(tmp_path: Path) -> None:
    for side, ms in ((256, 1.0), (512, 1.0), (1024, 16.0)):
        write(tmp_path, "unet", side, ms, None)
    (block,) = growth_table.table(read_study(tmp_path)).blocks
    assert block.rows[0].cells["latency_p50_ms.exponent"].mean == pytest.approx(2.0)
    assert "from 512×512 to 1024×1024" in " ".join(block.conventions)
    # No memory was measured, so there are no columns of it.
    assert {column.title for column in block.columns} == {"p50"}


def test_columns_go_from_small_to_large_sizes(study: StudyResults) -> None:
    (block,) = growth_table.table(study).blocks
    groups = [f"{side}×{side}" for side in SIDES] + ["Exponent"]
    assert [column.group for column in block.columns] == [group for group in groups for _ in range(2)]
    text = render.to_markdown(growth_table.table(study))
    assert "position attention" in text
    assert "1: in proportion to the number of pixels" in text
    assert "| 10.00 |" in text.replace("**", "").replace("<u>", "").replace("</u>", "")


def test_attention_is_told_of_where_it_is(tmp_path: Path) -> None:
    for side in SIDES:
        write(tmp_path, "unet", side, side, side**2)
    assert "attention" not in render.to_markdown(growth_table.table(read_study(tmp_path)))


def test_more_sizes_than_a_page_is_wide_leave_out_the_small_ones(tmp_path: Path) -> None:
    for side in (32, 64, *SIDES, 4096):
        write(tmp_path, "unet", side, side, side**2)
    (block,) = growth_table.table(read_study(tmp_path)).blocks
    assert "The 5 largest of 7 sizes." in block.conventions
    assert [column.group for column in block.columns[::2]] == [
        *(f"{side}×{side}" for side in (256, 512, 1024, 2048, 4096)),
        "Exponent",
    ]


def test_cut_short_measurements_are_pointed_to(folder: Path) -> None:
    write(folder, "esnet", 2048, 80.0, 2**24, warnings=("cut short by the budget of 20 s: latency from n = 7 timings",))
    (block,) = growth_table.table(read_study(folder)).blocks
    remarks = {row.key: row.remark for row in block.rows}
    assert remarks["esnet"] == "warnings, told in the efficiency table, at 2048×2048"
    assert not remarks["unet"]


def test_two_sizes_or_three_on_different_devices_are_no_growth(tmp_path: Path) -> None:
    for side, name in ((256, "A"), (512, "A"), (1024, "B")):
        fake.write_efficiency(tmp_path, "unet", side, name=name)
    study = read_study(tmp_path)
    assert growth_table.table(study).blocks == ()
    assert list(growth_plot.draw(study)) == []

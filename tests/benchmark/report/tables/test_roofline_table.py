"""The roofline: shares formed by hand, what binds, what the plot shows, and studies without limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.records.efficiency_record import Conditions, Latency, Limits
from benchmark.report.plots import roofline_plot
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables import render, roofline_table
from benchmark.report.tables.roofline_table import Roof
from tests.benchmark.report import fake

MOMENT = Conditions(clock_mhz=None, load_average=None)


def limits(gmacs: float, gbytes: float) -> Limits:
    return Limits(macs_per_second=gmacs * 1e9, bytes_per_second=gbytes * 1e9, product_side=1024, copied_bytes=256 << 20)


def write(folder: Path, model: str, macs: int, moved: int, ms: float, found: Limits, **changes: object) -> None:
    fake.write_efficiency(
        folder, model, macs=macs, bytes_moved=moved, latency=Latency.from_raw([ms] * 30, MOMENT, MOMENT),
        limits=found, **changes,
    )  # fmt: skip


def write_roofline(folder: Path) -> None:
    """100 GMAC/s and 20 GB/s at best: the ridge lies at 5 MACs a byte."""
    write(folder, "unet", 2_000_000_000, 100_000_000, 40.0, limits(90, 20))
    write(folder, "esnet", 100_000_000, 200_000_000, 50.0, limits(100, 15))
    write(folder, "fcn", 500_000_000, 100_000_000, 4.0, limits(60, 19))
    fake.write_efficiency(folder, "hrnet")  # an older measurement


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    write_roofline(tmp_path)
    return read_study(tmp_path)


def test_shares_are_those_of_a_hand(study: StudyResults) -> None:
    (block,) = roofline_table.table(study).blocks
    rows = {row.key: row.cells for row in block.rows}
    assert list(rows) == ["esnet", "fcn", "unet"]
    # 2 GMAC take 20 ms, 100 MB 5 ms
    assert rows["unet"]["limit_ms"].mean == pytest.approx(20.0)
    assert rows["unet"]["limit_share"].mean == pytest.approx(0.5)
    assert rows["unet"]["macs_per_byte"].mean == 20.0
    assert rows["unet"]["ridge_ratio"].text == "compute"
    # 0.1 GMAC take 1 ms, 200 MB 10 ms
    assert rows["esnet"]["limit_ms"].mean == pytest.approx(10.0)
    assert rows["esnet"]["limit_share"].mean == pytest.approx(0.2)
    assert rows["esnet"]["ridge_ratio"].text == "memory"
    # on the ridge both take 5 ms, and a cache made it faster
    assert rows["fcn"]["limit_ms"].mean == pytest.approx(5.0)
    assert rows["fcn"]["limit_share"].mean == pytest.approx(1.25)


def test_header_says_what_the_limit_is(study: StudyResults) -> None:
    text = render.to_markdown(roofline_table.table(study))
    assert "Peak: 100.0 GMAC/s (median 90.0), a product of square matrices" in text
    assert "bandwidth: 20.0 GB/s (median 19.0), a copy, read + written; the best of 3 measurements" in text
    assert "compute from 5.0 MACs/byte on, memory below" in text
    assert "above 100 %" in text
    plain = re.sub(r"</?u>|\*\*", "", text)
    assert "| FCN | 0.500 | 100.0 | 5.0 | 4.00 | 5.00 | compute | 125.0 |" in plain


def test_roof_is_the_lower_of_both_limits() -> None:
    roof = Roof((limits(100, 10), limits(50, 20)))
    assert roof.ridge == 5.0
    assert [roof.attained_at(x) for x in (1.0, 5.0, 50.0)] == [20e9, 100e9, 100e9]


def test_network_without_macs_has_a_row(tmp_path: Path) -> None:
    write(tmp_path, "unet", 2_000_000_000, 100_000_000, 40.0, limits(100, 20))
    write(tmp_path, "mine", 0, 1000, 1.0, limits(100, 20))
    study = read_study(tmp_path)
    assert {row.key for row in roofline_table.table(study).blocks[0].rows} == {"unet", "mine"}


def test_one_device_has_one_roof_for_all_sizes_and_another_per_number_format(tmp_path: Path) -> None:
    for size, dtype, gmacs in ((96, "float32", 40), (128, "float32", 100), (96, "bfloat16", 70)):
        fake.write_efficiency(
            tmp_path, "unet", size, dtype=dtype, macs=10**9, bytes_moved=10**6, limits=limits(gmacs, 20)
        )
    limits_ms = {
        (block.facts["height"], block.facts["dtype"]): block.rows[0].cells["limit_ms"].mean
        for block in roofline_table.table(read_study(tmp_path)).blocks
    }
    assert limits_ms == {
        (96, "float32"): pytest.approx(10.0),
        (128, "float32"): pytest.approx(10.0),
        (96, "bfloat16"): pytest.approx(1000 / 70),
    }


def test_study_without_limits_has_none_of_it(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    study = read_study(tmp_path)
    assert roofline_table.table(study).blocks == ()
    assert list(roofline_plot.draw(study)) == []

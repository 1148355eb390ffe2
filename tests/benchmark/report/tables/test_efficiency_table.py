"""The efficiency table: settings that share no column, what its header says, remarks and broken files."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.records.efficiency_record import Throughput
from benchmark.report.read import read_study
from benchmark.report.tables import efficiency_table
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake
from tests.benchmark.report.tables.test_accuracy_table import row


def test_efficiency_of_different_devices_and_sizes_never_shares_a_column(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    fake.write_efficiency(tmp_path, "unet", device="cuda", name="NVIDIA H100")
    fake.write_efficiency(tmp_path, "unet", size=512)
    fake.write_efficiency(tmp_path, "fcn", threads=4)

    blocks = efficiency_table.efficiency(read_study(tmp_path)).blocks

    assert [(block.facts["height"], block.facts["device"], block.facts["threads"]) for block in blocks] == [
        (96, fake.CPU, 2),
        (96, fake.CPU, 4),
        (96, "NVIDIA H100", 2),
        (512, fake.CPU, 2),
    ]
    assert [[row.key for row in block.rows] for block in blocks] == [["unet"], ["fcn"], ["unet"], ["unet"]]


def test_efficiency_header_names_conventions_and_conditions(study: Path) -> None:
    (block,) = efficiency_table.efficiency(read_study(study)).blocks
    header = " ".join([block.title, *block.conventions])

    for part in ("96×96", fake.CPU, "float32", "batch 1", "2 threads", "FLOPs = 2 × MACs", "FPS = 1000 / p50"):
        assert part in header
    cells = row(block, "contextnet").cells
    assert cells["flops"].mean == 2 * cells["macs"].mean
    assert "energy_j_per_image" not in {column.key for column in block.columns}


def test_energy_is_told_for_the_batch_sizes_it_was_measured_at(tmp_path: Path) -> None:
    best = Throughput(batch=8, images_per_second=99.0, tried=(), stopped=None, energy_j_per_image=0.125)
    fake.write_efficiency(tmp_path, "unet", device="cuda", energy_j_per_image=0.5, throughput=best)
    (block,) = efficiency_table.efficiency(read_study(tmp_path)).blocks
    cells = row(block, "unet").cells
    assert (cells["energy_j_per_image"].mean, cells["energy_j_per_image_batch"].mean) == (0.5, 0.125)
    assert [column.title for column in block.columns][-2:] == ["Energy", "Energy at Batch"]
    assert any(
        line == "Energy: joules per image at batch 1 and at the best Batch, of the whole GPU, idle power included, "
        "over at least 10 s."
        for line in block.conventions
    )
    fake.write_efficiency(tmp_path, "unet", device="cuda", energy_j_per_image=0.5)
    (block,) = efficiency_table.efficiency(read_study(tmp_path)).blocks
    assert "energy_j_per_image_batch" not in {column.key for column in block.columns}
    assert any("per image at batch 1, of the whole GPU" in line for line in block.conventions)


def test_efficiency_remarks_carry_warnings_and_unused_parameters(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet", unused_params={"a": 5, "b": 7}, warnings=("the machine was busy",))

    (block,) = efficiency_table.efficiency(read_study(tmp_path)).blocks

    assert row(block, "unet").cells["unused_params"].mean == 12
    assert row(block, "unet").remark == "never take part in the forward pass: a, b; the machine was busy"

    fake.write_efficiency(tmp_path, "unet", unused_params=dict.fromkeys("abcdefg", 1))
    (block,) = efficiency_table.efficiency(read_study(tmp_path)).blocks
    assert row(block, "unet").remark == "never take part in the forward pass: a, b, c and 4 more"


def test_broken_efficiency_figures_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    (file,) = (tmp_path / "efficiency").iterdir()
    file.write_text('{"schema": 1}')

    with pytest.raises(UserError, match=file.name):
        read_study(tmp_path)

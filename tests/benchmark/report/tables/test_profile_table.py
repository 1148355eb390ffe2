"""The overview of several settings: what stands in which column, and what the plot shows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmark.records.efficiency_record import EfficiencySettings, Form, Limits
from benchmark.report.plots import profile_plot
from benchmark.report.read import Measurement, StudyResults, comparable, read_study
from benchmark.report.tables import efficiency_table, growth_table, profile_table, render, roofline_table
from tests.benchmark.report import fake

GPU = "NVIDIA H100 80GB HBM3"


def write_profile(folder: Path) -> Path:
    """Write two networks on two devices in two sizes and two formats; the GPU lacks UNet in bfloat16 at 1024."""
    for size in (1024, 512):
        for dtype in ("float32", "bfloat16"):
            for model in ("unet", "eal_icnet"):
                fake.write_efficiency(folder, model, size, dtype=dtype)
                if (size, dtype, model) != (1024, "bfloat16", "unet"):
                    fake.write_efficiency(folder, model, size, "cuda", GPU, dtype=dtype)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> StudyResults:
    return read_study(write_profile(tmp_path))


def measurement(study: StudyResults, *setting: object) -> Measurement:
    """Return the figures of a model, device, size and number format."""
    (result,) = (
        figures
        for figures in study.efficiency
        if (figures.record.model, figures.record.device, figures.record.height, figures.record.dtype) == setting
    )
    return result


def test_block_per_device_with_columns_by_size_then_number_format(study: StudyResults) -> None:
    cpu, gpu = profile_table.overview(study).blocks
    assert fake.CPU in cpu.title
    assert GPU in gpu.title
    groups = ["512×512 float32", "512×512 bfloat16", "1024×1024 float32", "1024×1024 bfloat16"]
    for block in (cpu, gpu):
        assert [column.group for column in block.columns] == ["", *(group for group in groups for _ in range(3))]
        assert [column.title for column in block.columns] == ["Params", *["p50", "FPS", "Forward"] * 4]
        assert [row.key for row in block.rows] == ["eal_icnet", "unet"]


def test_forms_share_no_block_and_say_what_they_are(tmp_path: Path) -> None:
    forms: tuple[Form, ...] = ("eager", "graph", "compile")
    for form in forms:
        settings = EfficiencySettings.for_device("cuda", form)
        for dtype in ("float32", "bfloat16"):
            fake.write_efficiency(tmp_path, "unet", 512, "cuda", GPU, dtype=dtype, settings=settings)
    study = read_study(tmp_path)
    assert len(study.efficiency) == 6
    titles = [
        block.title.removeprefix(f"Latency and memory on {GPU}, ") for block in profile_table.overview(study).blocks
    ]
    assert titles == [
        "batch 1, 2 threads",
        "batch 1, 2 threads, channels_last, torch.compile default",
        "batch 1, 2 threads, channels_last, CUDA graph",
    ]
    # What tables and plots show beside accuracy is the plain forward.
    assert {one.record.settings.form for one in comparable(study.efficiency, {"unet"})} == {"eager"}
    assert len({block.key for block in profile_table.overview(study).blocks}) == 3
    rows = csv.DictReader(render.to_csv(efficiency_table.efficiency(study)).splitlines())
    assert {(row["memory_format"], row["compile_mode"], row["replay"]) for row in rows} == {
        ("contiguous", "", ""), ("channels_last", "", "CUDA graph"), ("channels_last", "default", ""),
    }  # fmt: skip


def test_figures_timed_with_freed_memory_kept_stand_apart_from_those_of_earlier_releases(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet", 512)
    fake.write_efficiency(tmp_path, "eal_icnet", 512, freed_memory="kept")
    study = read_study(tmp_path)
    returned, kept = profile_table.overview(study).blocks
    assert [[row.key for row in block.rows] for block in (returned, kept)] == [["unet"], ["eal_icnet"]]
    assert returned.key != kept.key
    assert "Input channels: 1; torch 2.15.0." in returned.conventions
    assert "Input channels: 1; torch 2.15.0; timed with freed memory kept for its next use." in kept.conventions
    assert "freed_memory" not in returned.facts
    assert kept.facts["freed_memory"] == "kept"


def test_figures_of_a_hindered_device_say_so_wherever_they_are_shown(tmp_path: Path) -> None:
    def limits(macs: float, moved: float = 2e10) -> Limits:
        return Limits(macs_per_second=macs, bytes_per_second=moved, product_side=512, copied_bytes=1 << 28)

    for size, rates in ((256, (1.3e11, 2e10)), (512, (0.7e11, 1.1e10)), (1024, (0.4e11, 0.8e10)), (2048, (1e11, 1e9))):
        fake.write_efficiency(tmp_path, "unet", size, limits=limits(*rates), bytes_moved=10**8)
    # Another number format has a best rate of its own, and older figures have none.
    fake.write_efficiency(tmp_path, "unet", 256, dtype="bfloat16", limits=limits(0.3e11))
    fake.write_efficiency(tmp_path, "eal_icnet", 1024)
    study = read_study(tmp_path)
    warnings = {
        (figures.record.model, figures.record.height): figures.warnings
        for figures in study.efficiency
        if figures.warnings
    }
    product, copy = "a matrix product just before ran at 31%", "a copy just before ran at 40%"
    end = "of the best rate known: something else may have had the device"
    both = f"{product} of the best rate known and {copy} {end}"
    alone = f"a copy just before ran at 5% {end}"
    assert warnings == {("unet", 1024): (both,), ("unet", 2048): (alone,)}
    efficiency = [row for block in efficiency_table.efficiency(study).blocks for row in block.rows if row.remark]
    assert [(row.key, row.remark) for row in efficiency] == [("unet", both), ("unet", alone)]
    (grown,) = growth_table.table(study).blocks
    assert {row.key: row.remark for row in grown.rows}["unet"].endswith("at 1024×1024, 2048×2048")
    roofs = [row.remark for block in roofline_table.table(study).blocks for row in block.rows]
    assert sorted(roofs) == ["", "", *["warnings, told in the efficiency table"] * 2]


def test_every_cell_is_the_figure_of_its_own_setting(study: StudyResults) -> None:
    for block, device in zip(profile_table.overview(study).blocks, ("cpu", "cuda"), strict=True):
        for row in block.rows:
            for size in (512, 1024):
                for dtype in ("float32", "bfloat16"):
                    key = f"latency_p50_ms.{size}x{size}.{dtype}"
                    if (device, row.key, size, dtype) == ("cuda", "unet", 1024, "bfloat16"):
                        assert key not in row.cells
                        continue
                    expected = measurement(study, row.key, device, size, dtype)
                    assert row.cells[key].mean == expected.record.latency.p50_ms
                    assert row.cells[f"fps.{size}x{size}.{dtype}"].mean == expected.record.latency.fps


def test_more_settings_than_a_page_is_wide_make_more_blocks(tmp_path: Path) -> None:
    for size in (256, 512, 768, 1024, 1280):
        fake.write_efficiency(tmp_path, "unet", size)
    blocks = profile_table.overview(read_study(tmp_path)).blocks
    assert [len({column.group for column in block.columns if column.group}) for block in blocks] == [4, 1]
    assert len({block.key for block in blocks}) == 2


def test_warning_of_a_measurement_is_pointed_to(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet", 512)
    fake.write_efficiency(tmp_path, "unet", 1024, warnings=("clocks moved",))
    (block,) = profile_table.overview(read_study(tmp_path)).blocks
    assert block.rows[0].remark == "warnings, told in the efficiency table, at 1024×1024 float32"


def test_one_setting_alone_is_told_by_the_efficiency_table(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    assert profile_table.overview(read_study(tmp_path)).blocks == ()


def test_study_of_runs_in_one_setting_has_no_profile(study: StudyResults, tmp_path: Path) -> None:
    fake.write_study(tmp_path / "runs", ["unet"], ["omc-syn"], 1)
    plain = read_study(tmp_path / "runs")
    assert profile_table.overview(plain).blocks == ()
    assert list(profile_plot.draw(plain)) == []


def test_groups_head_their_columns_in_every_format(study: StudyResults) -> None:
    table = profile_table.overview(study)
    rows = list(csv.DictReader(render.to_csv(table).splitlines()))
    assert {row["device"] for row in rows} == {fake.CPU, GPU}
    assert "fps.1024x1024.bfloat16" in {row["metric"] for row in rows}
    assert "| 512×512 bfloat16: p50 ↓ (ms) |" in render.to_markdown(table)
    latex = render.to_latex(table)
    assert r" & \multicolumn{1}{c}{} & \multicolumn{3}{c}{512$\times$512 float32} & " in latex
    assert r"\cmidrule(lr){3-5}\cmidrule(lr){6-8}\cmidrule(lr){9-11}\cmidrule(lr){12-14}" in latex

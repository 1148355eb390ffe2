from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from benchmark.records.run_record import Failure
from benchmark.report.build import RENDERERS, build, check
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table, efficiency_table, paper_table
from benchmark.report.tables.paper_table import PaperChoice
from benchmark.report.tables.render import Block, Row, Table, to_latex, to_markdown
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake


def custom(folder: Path, columns: str | None = None, **choice: object) -> Table:
    names = None if columns is None else tuple(columns.split(","))
    return paper_table.table(read_study(folder), PaperChoice(columns=names, **choice))


def row(block: Block, key: str) -> Row:
    (result,) = [row for row in block.rows if row.key == key]
    return result


def test_columns_stand_in_the_order_asked_for_and_the_figures_are_those_of_the_standard_tables(study: Path) -> None:
    omc, miic = custom(study, "params,dice,miou,net_error_rate,fps").blocks

    assert [column.key for column in omc.columns] == [
        "params", "dice.image", "miou.image", "net_error_rate", "fps",
    ]  # fmt: skip
    assert (omc.key, miic.key) == ("omc-syn", "miic-syn")
    result = read_study(study)
    accuracy = accuracy_table.scores(result, accuracy_table.ACCURACY).blocks[0]
    electrical = accuracy_table.scores(result, accuracy_table.ELECTRICAL).blocks[0]
    (efficiency,) = efficiency_table.efficiency(result).blocks
    assert [row.key for row in omc.rows] == [row.key for row in accuracy.rows]
    for name in fake.MODELS:
        cells = row(omc, name).cells
        assert cells["miou.image"] == row(accuracy, name).cells["miou"]
        assert cells["net_error_rate"] == row(electrical, name).cells["net_error_rate"]
        assert cells["fps"] == row(efficiency, name).cells["fps"]
    assert row(omc, "otsu").cells["dice.image"] == row(accuracy, "otsu").cells["dice"]
    assert "params" not in row(omc, "otsu").cells


def test_both_reductions_stand_side_by_side_and_each_is_named(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    image = {"ignored": 0, "aji_num": 1, "aji_den": 2, "ajip_num": 1, "ajip_den": 2}
    rows = [image | {"tp": 10, "fp": 10, "fn": 0, "tn": 80}, image | {"tp": 50, "fp": 0, "fn": 0, "tn": 50}]
    fake.write_run(tmp_path, "unet", ["omc"], 0, rows)

    (block,) = custom(tmp_path, "fg_iou,fg_iou.pooled").blocks

    cells = row(block, "unet").cells
    assert (cells["fg_iou.image"].mean, cells["fg_iou.pooled"].mean) == (pytest.approx(0.75), pytest.approx(60 / 70))
    assert [column.unit for column in block.columns] == ["%, image", "%, pooled"]
    (one,) = custom(tmp_path, "fg_iou", reduction="pooled").blocks
    assert [(column.key, column.unit) for column in one.columns] == [("fg_iou.pooled", "%")]
    assert any("Reduction: pooled" in sentence for sentence in one.conventions)


def test_counts_beside_a_metric_per_image_need_no_name_of_a_reduction(study: Path) -> None:
    omc, _ = custom(study, "miou,opens").blocks

    assert [column.unit for column in omc.columns] == ["%", ""]
    assert "Counts are sums over the test images." in omc.conventions


def test_models_are_filtered_by_the_usual_patterns_in_the_registry_s_order(study: Path) -> None:
    omc, _ = custom(study, "miou", models="otsu,lightweight,eal_*").blocks

    assert [row.key for row in omc.rows] == ["eal_icnet", "irdpnet", "edanet", "contextnet", "esnet", "letnet", "otsu"]


def test_model_known_only_to_the_records_can_be_chosen(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["my_net", "unet"], ["omc-syn"], repeats=1)

    (block,) = custom(tmp_path, models="my_*").blocks

    assert [row.key for row in block.rows] == ["my_net"]


def test_datasets_are_those_asked_for_in_the_tables_order(study: Path) -> None:
    assert [block.key for block in custom(study, "miou", datasets=("miic-syn", "omc-syn")).blocks] == [
        "omc-syn",
        "miic-syn",
    ]
    assert [block.key for block in custom(study, "miou", datasets=("miic-syn",)).blocks] == ["miic-syn"]
    with pytest.raises(UserError, match="--datasets 'omc-sym': not in this study, which has omc-syn, miic-syn"):
        custom(study, "miou", datasets=("omc-syn", "omc-sym"))


def test_digits_are_those_of_percentages_and_counts_and_not_of_costs(study: Path) -> None:
    text = to_markdown(custom(study, "miou,opens,params", digits=0, models="eal_icnet"))

    (line,) = {line.rpartition("|")[0] for line in text.split("##")[1].splitlines() if line.startswith("| EAL-ICNet")}
    mean, opens, params = (part.strip() for part in line.split("|")[2:])
    assert "." not in mean + opens
    assert params == "0.803"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("miuo", r"--columns 'miuo': no such column; did you mean 'miou'\?"),
        ("param", r"did you mean 'params'\?"),
        ("miou.mean", r"miou is taken image or pooled"),
        ("opens.image", r"opens is taken pooled"),
        ("energy_j_per_image", r"no run or measurement of this study has it"),
        ("via_f1", r"no run or measurement of this study has it"),
        ("miou,", r"--columns ''"),
    ],
)
def test_column_that_is_not_there_is_an_error_that_says_which(study: Path, columns: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        custom(study, columns)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("unett", r"unknown model 'unett'; did you mean 'unet'\?"),
        ("eal_icnet,unet.*", r"unknown model 'unet\.\*'"),
        ("eal_icnet.no_pam", r"--models 'eal_icnet.no_pam': not in this study, which has eal_icnet"),
        (" ,", r"--models is empty"),
    ],
)
def test_pattern_without_a_row_is_an_error(study: Path, models: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        custom(study, models=models)


def test_speed_comes_from_the_one_setting_that_covers_most_models_at_the_dataset_s_own_size(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path, "input.size_by_dataset={miic = 64}")
    rows = fake.counts(0.9, np.random.default_rng(0))
    for model in ("unet", "fcn", "edanet"):
        for dataset in ("omc-syn", "miic-syn"):
            fake.write_run(tmp_path, model, [dataset], 0, rows)
    for model in ("unet", "fcn"):
        fake.write_efficiency(tmp_path, model, device="cuda", name="NVIDIA H100")
    fake.write_efficiency(tmp_path, "edanet")
    fake.write_efficiency(tmp_path, "unet", size=64)

    omc, miic = custom(tmp_path, "miou,macs,fps").blocks

    assert "fps" not in row(omc, "edanet").cells  # measured on another device: not comparable
    assert "macs" in row(omc, "edanet").cells  # the same on every device
    assert "Efficiency at 96×96 on NVIDIA H100, float32, batch 1, 2 threads." in omc.conventions
    assert (omc.facts["input"], omc.facts["device"]) == ("96×96×1", "NVIDIA H100, float32, batch 1, 2 threads")
    assert set(row(miic, "unet").cells) == {"miou.image", "macs", "fps"}
    assert set(row(miic, "fcn").cells) == {"miou.image"}
    assert any(sentence.startswith("Efficiency at 64×64 on AMD") for sentence in miic.conventions)
    columns = paper_table.widen(Table("custom", "Results", (omc, miic))).blocks[0].columns
    assert [column.group for column in columns] == [
        "omc-syn", "miic-syn", "96×96×1", "96×96×1", "64×64×1", "64×64×1",
    ]  # fmt: skip


def test_cost_is_no_mean_over_repeats(study: Path) -> None:
    text = to_markdown(custom(study, "miou,params,fps", models="eal_icnet,unet"))

    assert "n=1" not in text
    assert text.count("[n=2]") == 1  # UNet's accuracy on omc-syn


def test_datasets_side_by_side_are_groups_of_columns_and_shared_costs_stand_once(study: Path) -> None:
    long = custom(study, "miou,params,aji")
    (block,) = paper_table.widen(long).blocks

    assert [(column.group, column.title) for column in block.columns] == [
        ("omc-syn", "mIoU"), ("omc-syn", "AJI"), ("miic-syn", "mIoU"), ("miic-syn", "AJI"), ("Efficiency", "Params"),
    ]  # fmt: skip
    for part in long.blocks:
        for line in part.rows:
            merged = row(block, line.key).cells
            assert merged.get(f"{part.key}/miou.image") == line.cells.get("miou.image")
            assert merged.get("Efficiency/params") == line.cells.get("params")
    assert [line.key for line in block.rows] == [line.key for line in long.blocks[0].rows]
    failed = "miic-syn: repeats 0, 1, 2 failed (out_of_memory): needs 12 GiB, has 8 GiB"
    assert row(block, "hrnet").remark == failed
    assert "omc-syn is the synthetic stand-in for omc." in block.conventions
    text = to_latex(Table("custom", "Results", (block,)))
    assert r"\multicolumn{4}{c}{omc-syn} & \multicolumn{4}{c}{miic-syn} & \multicolumn{1}{c}{Efficiency}" in text
    assert r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}\cmidrule(lr){10-10}" in text
    assert "omc-syn: mIoU ↑ (%)" in to_markdown(Table("custom", "Results", (block,)))


def test_marks_of_datasets_side_by_side_are_those_below_each_other(study: Path) -> None:
    long = custom(study, "miou,aji")
    (block,) = paper_table.widen(long).blocks

    below = {
        (line, f"{part.key}/{column}"): mark for part in long.blocks for (line, column), mark in part.marks().items()
    }
    assert block.marks() == below
    assert len(below) == 8


def test_one_dataset_has_nothing_beside_it(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"])
    table = custom(tmp_path)

    assert paper_table.widen(table) == table


def test_default_columns_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, fake.counts(0.9, np.random.default_rng(0)))

    (block,) = custom(tmp_path).blocks

    assert [column.title for column in block.columns] == ["mIoU", "MPA", "Dice", "AJI"]
    assert not any("Efficiency" in sentence for sentence in block.conventions)


def test_study_without_finished_runs_still_says_why(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, None, Failure(kind="error", message="RuntimeError: no"))

    assert "- UNet: repeat 0 failed (error): RuntimeError: no" in to_markdown(custom(tmp_path, "miou,opens"))


def test_efficiency_alone_makes_no_paper_table(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    with pytest.raises(UserError, match="needs runs"):
        build(tmp_path, PaperChoice())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return fake.write_study(tmp_path / "quick", ["eal_icnet", "unet"], ["omc-syn", "miic-syn"], repeats=2)


def test_choice_is_kept_and_the_standard_tables_stay_as_they_were(small: Path) -> None:
    before = {path: path.read_bytes() for path in build(small, plots=()) if path.name != "tables.tex"}
    assert not any("custom" in path.name for path in before)

    build(small, PaperChoice(columns=("miou.pooled", "params"), digits=1, layout="wide"), plots=())
    tex = small / "report/tables/custom.tex"
    first = tex.read_bytes()
    different = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert different == {"numbers.tex", "index.html"}

    fake.write_run(small, "unet", ["omc-syn"], 2, fake.counts(0.5, np.random.default_rng(1)))
    assert f"{tex}: differs from the records" in check(small, plots=())
    build(small, plots=())  # what `run` does at its end
    assert tex.read_bytes() != first
    assert b"cmidrule" in tex.read_bytes()
    assert json.loads((small / "report/custom.json").read_text())["columns"] == ["miou.pooled", "params"]
    assert check(small, plots=()) == []


def test_kept_choice_that_no_longer_fits_names_its_file(small: Path) -> None:
    build(small, plots=())
    file = small / "report/custom.json"
    file.write_text('{"columns": ["via_f1"]}')
    with pytest.raises(UserError, match=r"custom\.json: no longer fits the study .*via_f1.*delete it"):
        build(small, plots=())
    file.write_text('{"columns": 3}')
    with pytest.raises(UserError, match=r"custom\.json: cannot be read"):
        build(small, plots=())


def test_csv_is_one_line_per_figure_in_either_layout_and_says_how_it_was_taken(small: Path) -> None:
    texts = []
    for layout in ("long", "wide"):
        build(small, PaperChoice(columns=("miou", "miou.pooled", "macs"), layout=layout), plots=())
        texts.append((small / "report/tables/custom.csv").read_text())
    assert texts[0] == texts[1]
    lines = list(csv.DictReader(io.StringIO(texts[0])))
    assert {line["metric"] for line in lines} == {"miou.image", "miou.pooled", "macs"}
    (result,) = [
        line for line in lines if (line["dataset"], line["model"], line["metric"]) == ("omc-syn", "unet", "macs")
    ]
    assert (result["input"], result["n"]) == ("96×96×1", "1")
    cells = [run.scores["omc-syn"].reduced["pooled"]["miou"] for run in read_study(small).runs
             if run.record.model == "unet" and "omc-syn" in run.scores]  # fmt: skip
    (result,) = [
        line for line in lines if (line["dataset"], line["model"], line["metric"]) == ("omc-syn", "unet", "miou.pooled")
    ]
    assert float(result["mean"]) == pytest.approx(statistics.fmean(cells))


def test_check_names_what_differs_is_missing_or_belongs_to_no_table_and_writes_nothing(small: Path) -> None:
    build(small, plots=())
    assert check(small, plots=()) == []
    folder = small / "report/tables"
    (folder / "accuracy.md").write_text("edited by hand")
    (folder / "efficiency.csv").unlink()
    (folder / "old.tex").write_text("")
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}

    assert check(small, plots=()) == [
        f"{folder / 'accuracy.md'}: differs from the records",
        f"{folder / 'efficiency.csv'}: missing",
        f"{folder / 'old.tex'}: belongs to no table of this report",
    ]
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before


def test_tables_that_a_study_has_no_longer_go_and_files_of_others_stay(small: Path) -> None:
    build(small, PaperChoice(columns=("miou",)), plots=())
    folder = small / "report/tables"
    first = {path.name for path in folder.iterdir()}
    (folder / "transfer.md").write_text("of an earlier report")
    (folder / "notes.md").write_text("a user's")
    (small / "report" / paper_table.CHOICE).unlink()
    build(small, plots=())
    assert {path.name for path in folder.iterdir()} == {*first, "notes.md"} - {f"custom.{kind}" for kind in RENDERERS}


def test_datasets_side_by_side_with_other_numbers_of_repeats_say_so(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for dataset, repeats in (("omc", 3), ("miic", 2)):
        for repeat in range(repeats):
            fake.write_run(tmp_path, "unet", [dataset], repeat, fake.counts(0.9, np.random.default_rng(repeat)))

    text = to_markdown(paper_table.widen(custom(tmp_path, "miou")))

    assert "omc: Mean ± std over n = 3 repeats (std with ddof = 1)." in text
    assert "miic: Mean ± std over n = 2 repeats (std with ddof = 1)." in text
    (line,) = [line for line in text.splitlines() if line.startswith("| UNet")]
    omc, miic = line.split("|")[2:4]
    assert "n=" not in omc
    assert "[n=2]" in miic

"""Rows of ensembles: their place, figures and caption; and reports that copy, rename, merge or leave them out."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

import benchmark
from benchmark.evaluation.counts import counts_csv
from benchmark.records.asked_runs import AskedRuns
from benchmark.records.ensemble_record import EnsembleMember, EnsembleRecord
from benchmark.records.store import Store
from benchmark.report.build import build, check
from benchmark.report.diff import compare_studies
from benchmark.report.merge import merge
from benchmark.report.plots.comparison_plot import standings
from benchmark.report.read import read_study
from benchmark.report.redact import redact_study, rename_study
from benchmark.report.tables import numbers, paper_table, render
from benchmark.report.tables.accuracy_table import ACCURACY, ELECTRICAL, scores
from benchmark.report.tables.paper_table import PaperChoice
from tests.benchmark.report import fake
from tests.benchmark.report.test_merge import settled

TESTS = ("omc-syn", "miic-syn")


def write_ensemble(folder: Path, model: str, test: str, quality: float, repeats: int = 2) -> Path:
    """Write a test of repeats that runs of :mod:`fake` trained."""
    members = tuple(EnsembleMember(repeat=repeat, key="0" * 16, weights="w") for repeat in range(repeats))
    record = EnsembleRecord(behaviour=1, model=model, train=(test,), members=members, test=test)
    rows = fake.counts(quality, fake.random_of("ensemble", model, test))
    named = [{"image": f"{number}.png", "group": f"g{number // 2}", **row} for number, row in enumerate(rows)]
    store = Store(folder)
    store.write_test(record, counts_csv(named))
    return store.test_file(record)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of two networks, each with an ensemble that beats every single one."""
    folder = settled(fake.write_study(tmp_path / "study", ["unet", "eal_icnet"], TESTS, repeats=2))
    for test in TESTS:
        for model in ("unet", "eal_icnet"):
            write_ensemble(folder, model, test, 0.995)
    return folder


def test_row_stands_under_its_network_with_its_own_figures_and_no_mark(folder: Path) -> None:
    study = read_study(folder)
    for kind in (ACCURACY, ELECTRICAL):
        block = next(block for block in scores(study, kind).blocks if block.facts["dataset"] == "omc-syn")
        labels = [row.label for row in block.rows]
        assert labels[:4] == ["EAL-ICNet", "EAL-ICNet (ensemble of 2)", "UNet", "UNet (ensemble of 2)"]
        assert not [key for key, _ in block.marks() if "ensemble" in key]
        for row in block.rows[1:4:2]:
            assert all((cell.n, cell.std) == (1, None) for cell in row.cells.values())
    ensemble = study.ensemble_of("omc-syn", "unet", "omc-syn")
    assert ensemble is not None
    block = scores(study, ACCURACY).blocks[0]
    assert block.rows[3].cells["miou"].mean == ensemble.scores.reduced["image"]["miou"]
    assert block.rows[3].cells["miou"].mean > max(row.cells["miou"].mean for row in block.rows[:3:2])
    assert any(text.startswith("Ensemble of n: the network's n repeats") for text in block.conventions)
    assert block.n == 2
    assert "n=1" not in render.to_markdown(scores(study, ACCURACY))


def test_macros_frames_and_a_table_for_a_paper_have_the_row(folder: Path) -> None:
    study = read_study(folder)
    table = scores(study, ACCURACY)
    value = render.Column("", "", None, scale=100).text(table.blocks[0].rows[3].cells["miou"].mean)
    macros = numbers.macros([table], "image")
    assert f"\\csname result/omc-syn/unet+ensemble/miou\\endcsname{{{value}}}" in macros
    assert "resultstd/omc-syn/unet+ensemble" not in macros
    frame = benchmark.load(folder).table("accuracy")
    assert frame.xs("unet+ensemble", level="model")["miou", "n"].tolist() == [1, 1]
    wide = paper_table.widen(paper_table.table(study, PaperChoice(columns=("miou", "params"))))
    assert [row.key for row in wide.blocks[0].rows][:4] == ["eal_icnet", "eal_icnet+ensemble", "unet", "unet+ensemble"]
    row = wide.blocks[0].rows[3]
    assert row.cells["omc-syn/miou.image"].mean == table.blocks[0].rows[3].cells["miou"].mean
    assert sum("Ensemble of n" in text for text in wide.blocks[0].conventions) == 1
    chosen = paper_table.table(study, PaperChoice(models="unet,unet+ensemble"))
    assert [row.key for row in chosen.blocks[0].rows] == ["unet", "unet+ensemble"]
    alone = paper_table.table(study, PaperChoice(models="unet"))
    assert [row.key for row in alone.blocks[0].rows] == ["unet"]


def test_plots_compare_single_networks_alone(folder: Path) -> None:
    study = read_study(folder)
    (standing, _) = standings(study, scores(study, ACCURACY).blocks)
    assert {row.key for row in standing.ranked} == {"unet", "eal_icnet"}
    assert {*standing.references} <= {"Otsu threshold", "All background"}


def test_row_of_some_repeats_names_them_and_the_largest_ensemble_counts(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=3)
    write_ensemble(folder, "unet", "omc-syn", 0.99)
    row = scores(read_study(folder), ACCURACY).blocks[0].rows[1]
    assert (row.label, row.remark) == ("UNet (ensemble of 2)", "of repeats 0, 1")
    write_ensemble(folder, "unet", "omc-syn", 0.98, repeats=3)
    row = scores(read_study(folder), ACCURACY).blocks[0].rows[1]
    assert (row.label, row.remark) == ("UNet (ensemble of 3)", "")


def test_row_that_was_asked_for_and_not_tested_says_so(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path, ["unet", "fcn"], ["omc-syn"], repeats=2)
    datasets = ((("omc-syn",), ("omc-syn",)),)
    AskedRuns(datasets=datasets, models=("unet",), repeats=2, ensembles=True).write(folder)
    rows = scores(read_study(folder), ACCURACY).blocks[0].rows
    assert [(row.label, row.remark) for row in rows if "ensemble" in row.key] == [("UNet (ensemble)", "not tested yet")]


def test_report_and_its_redacted_form_hold_the_row_and_broken_files_are_named(folder: Path) -> None:
    shutil.rmtree(folder / "efficiency")
    build(folder, plots=())
    rows = list(csv.DictReader((folder / "report/tables/accuracy.csv").read_text().splitlines()))
    assert {row["display"] for row in rows if row["model"] == "unet+ensemble"} == {"UNet (ensemble of 2)"}
    assert "UNet (ensemble of 2)" in (folder / "report/index.html").read_text("utf-8")
    assert check(folder, plots=()) == []
    (folder / "ensembles/omc-syn/unet/0+1/omc-syn.csv").write_text("image,group\n")
    (folder / "ensembles/miic-syn/unet/0+1/miic-syn.json").write_text("{")
    wrong = check(folder, plots=())
    assert sum("/unet/0+1/" in line for line in wrong) == 2
    text = " ".join(scores(read_study(folder), ACCURACY).blocks[0].conventions)
    assert "unet/0+1/omc-syn.csv" in text
    redacted = redact_study(read_study(folder))
    assert "/unet/0+1/" not in " ".join(scores(redacted, ACCURACY).blocks[0].conventions)


def test_names_of_images_and_datasets_are_replaced(folder: Path) -> None:
    redacted = redact_study(read_study(folder))
    assert {name for tested in redacted.ensembles for name in tested.scores.images} == {""}
    renamed = rename_study(redacted, {"omc-syn": "chip-syn", "omc": "die"}, ["study"])
    block = next(block for block in scores(renamed, ACCURACY).blocks if block.facts["dataset"] == "chip-syn")
    assert [row.key for row in block.rows][1::2][:2] == ["eal_icnet+ensemble", "unet+ensemble"]


def test_studies_are_merged_and_compared_without_ensembles(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    assert not [row.key for row in scores(merge([folder, other]), ACCURACY).blocks[0].rows if "ensemble" in row.key]
    assert benchmark.load(folder, other).table().index.get_level_values("model").str.contains("ensemble").sum() == 0
    difference = compare_studies(folder, other)
    assert all(row.identical == row.repeats == 2 for row in difference.numbers)


def test_record_of_other_members_or_another_place_is_left_out(folder: Path) -> None:
    file = folder / "ensembles/omc-syn/unet/0+1/omc-syn.json"
    content = json.loads(file.read_text())
    content["members"][1]["key"] = "1" * 16
    file.write_text(json.dumps(content))
    study = read_study(folder)
    assert (study.ensemble_of("omc-syn", "unet", "omc-syn"), study.broken_ensembles) == (None, ())
    content["members"][1]["repeat"] = 7
    file.write_text(json.dumps(content))
    (broken,) = read_study(folder).broken_ensembles
    assert "is the record of another test" in broken
    assert "unet+ensemble" not in render.to_csv(scores(read_study(folder), ACCURACY)).split("miic-syn")[0]

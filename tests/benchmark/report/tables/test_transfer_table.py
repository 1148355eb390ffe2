"""The transfer tables and heat maps: what stands in which cell, and that nothing is drawn where nothing crosses."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table, transfer_table
from tests.benchmark.report import fake

NAMES = ("omc-syn", "miic-syn", "hy5syn-syn")


def write_crossed(folder: Path) -> Path:
    """Write four networks trained on each of three datasets, and on two together, and tested on all three."""
    fake.write_protocol(folder)
    for model in ("eal_icnet", "esnet", "letnet", "unet"):
        for train in (*((name,) for name in NAMES), NAMES[:2]):
            for repeat in range(2):
                rows = fake.counts(0.9 if model == "esnet" else 0.8, fake.random_of(model, train, repeat))
                fake.write_run(folder, model, train, repeat, rows, test=NAMES)
    return folder


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crossed(tmp_path_factory.mktemp("crossed"))


def test_block_per_training_set_holds_models_against_test_datasets(crossed: Path) -> None:
    study = read_study(crossed)
    blocks = [block for block in transfer_table.table(study).blocks if block.facts["metric_name"] == "miou"]
    assert [block.facts["train"] for block in blocks] == ["omc-syn", "miic-syn", "hy5syn-syn", "omc-syn+miic-syn"]
    joint = blocks[-1]
    assert [column.key for column in joint.columns] == list(NAMES)
    assert [row.key for row in joint.rows] == ["eal_icnet", "esnet", "letnet", "unet"]
    values = [
        run.scores["hy5syn-syn"].reduced["image"]["miou"]
        for run in study.runs
        if run.record.train == NAMES[:2] and run.record.model == "esnet"
    ]
    cell = joint.rows[1].cells["hy5syn-syn"]
    assert (cell.mean, cell.n) == (pytest.approx(statistics.fmean(values)), 2)
    text = " ".join(joint.conventions)
    assert "omc-syn, miic-syn: trained on too" in text
    assert "Reduction: image" in text
    assert "hy5syn-syn is the synthetic stand-in for hy5syn" in text
    assert joint.marks()["esnet", "hy5syn-syn"] == "best"


def test_net_errors_are_pooled_whatever_the_protocol_says(crossed: Path) -> None:
    blocks = [b for b in transfer_table.table(read_study(crossed)).blocks if b.facts["metric_name"] == "net_error_rate"]
    assert len(blocks) == 4
    assert {block.facts["reduction"] for block in blocks} == {"pooled"}


def test_each_block_says_how_many_images_its_own_dataset_has(crossed: Path) -> None:
    study = read_study(crossed)
    blocks = accuracy_table.scores(study, accuracy_table.ACCURACY).blocks
    assert len(blocks) == 12
    for block in blocks:
        (run, *_) = [run for run in study.runs if "+".join(run.record.train) == block.facts["train"]]
        assert block.facts["test_images"] == str(len(run.scores[str(block.facts["dataset"])].images))


def test_study_without_a_crossing_has_no_table(study: Path) -> None:
    assert not transfer_table.table(read_study(study)).blocks

"""Tests that records of earlier releases, stored as files, load, appear in reports and keep their keys."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.records.run_record import Failure, Initial, KeyParts, Record, TrainingFacts
from benchmark.records.store import Store, run_key
from benchmark.report import build
from benchmark.report.read import read_study

GENERATIONS = sorted(Path(__file__).parent.glob("generation-*"))


def test_generations_have_every_kind_of_end() -> None:
    ends = {folder.name: [record.status for _, record in Store(folder).records()] for folder in GENERATIONS}
    assert ends == {
        "generation-1": ["ok", "failed"],
        "generation-2": ["ok", "failed", "interrupted"],
        "generation-3": ["ok", "failed"],
    }


@pytest.mark.parametrize("folder", GENERATIONS, ids=lambda folder: folder.name)
def test_old_studies_load_keep_their_keys_and_are_written_again_as_they_were(folder: Path) -> None:
    assert Store(folder).read_protocol() is not None
    for place, record in Store(folder).records():
        assert run_key(record.key_parts) == record.key
        raw = json.loads((place / "record.json").read_bytes())
        assert within(raw, json.loads(record.to_json())), place


#: Fields that got another name: validation rounds, once called epochs.
RENAMED = {"epochs": "rounds", "best_epoch": "best_round"}


def within(old: Any, new: Any) -> bool:
    """Tell whether everything that a record said is still said, in the same words, beside what may have been added."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = {name: name if name in new else RENAMED.get(name, name) for name in old}
        return all(names[name] in new and within(value, new[names[name]]) for name, value in old.items())
    return bool(old == new)


def test_no_field_of_an_old_record_has_left_the_schema() -> None:
    parts = {"": Record, "key_parts": KeyParts, "training": TrainingFacts, "init": Initial, "failure": Failure}
    seen = set()
    for file in (file for folder in GENERATIONS for file in folder.rglob("record.json")):
        raw = json.loads(file.read_bytes())
        for part, model in parts.items():
            if result := raw.get(part) if part else raw:
                seen.add(part)
                known = set(model.model_json_schema()["properties"])
                assert {RENAMED.get(name, name) for name in result} <= known, (file, part)
    assert seen == set(parts)


@pytest.mark.parametrize("folder", GENERATIONS, ids=lambda folder: folder.name)
def test_old_studies_report_the_figures_that_their_records_hold(folder: Path, tmp_path: Path) -> None:
    study = shutil.copytree(folder, tmp_path / folder.name)

    build.build(study, plots=())

    runs = read_study(study).runs
    with (study / "report/tables/accuracy.csv").open() as file:
        printed = {(line["dataset"], line["metric"]): line for line in csv.DictReader(file)}
    (finished,) = (run.record for run in runs if run.record.status == "ok")
    assert len(finished.metrics) == len(finished.test)
    for dataset, metrics in finished.metrics.items():
        for name in ("miou", "aji", "fg_iou"):
            assert float(printed[dataset, name]["mean"]) == pytest.approx(metrics["image"][name], rel=1e-12)
    (failed,) = (run.record for run in runs if run.record.status == "failed")
    assert failed.failure is not None
    assert failed.failure.message in printed[finished.test[0], "miou"]["remark"]
    assert finished.training is not None
    cost = (study / "report/tables/training.csv").read_text()
    assert "AMD EPYC" in cost


def test_rounds_of_old_records_were_called_epochs_and_are_rounds_now() -> None:
    (facts,) = (record.training for _, record in Store(GENERATIONS[0]).records() if record.training is not None)
    raw = json.loads(next(GENERATIONS[0].rglob("0/record.json")).read_bytes())["training"]
    assert (facts.rounds, facts.best_round) == (raw["epochs"], raw["best_epoch"])
    assert not {"epochs", "best_epoch"} & facts.model_dump().keys()

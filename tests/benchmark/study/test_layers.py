"""A study of several layers: each is a test of its own in records, files, resumed calls and stress tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmark.config import registry
from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import open_pack
from benchmark.data.stressed import Stresses
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.evaluation.counts import counts_csv, reduce_counts
from benchmark.evaluation.evaluate import evaluate
from benchmark.executors.events import Event, Finished
from benchmark.metrics import CONNECTION_COLUMNS
from benchmark.records.run_record import Failure
from benchmark.records.weights import find_trained
from benchmark.report.build import build
from benchmark.report.read import read_study
from benchmark.report.redact import rename_study
from benchmark.report.tables import accuracy_table
from benchmark.report.tables.accuracy_table import ACCURACY, ELECTRICAL
from benchmark.runs.jobs import EnsembleJob, StressJob, TrainJob
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.report import fake

TESTS = ("omc_omv-syn@track", "omc_omv-syn@via")
CPU = torch.device("cpu")


def make(root: Path, *overrides: str) -> Study:
    protocol = load_protocol("quick", [*SMALL, "repeats=1", "report.panels=1", "training.steps=2", *overrides])
    (source,) = resolve("omc_omv", root / "data", protocol, HashCache(None))
    entries, task = registry.select("contextnet"), Task((source,), (source,))
    study = Study(root / "results/both", protocol, entries, [task], Hardware("cpu", 1), root / "cache")
    study.stress = Stresses(("noise",), (1.0,))
    return study


def do(study: Study) -> list[type]:
    """Do what is left of a study; return the kinds of jobs that were done, without measurements."""
    events: list[Event] = []
    execute(study, make_plan(study), InProcessExecutor(), events.append)
    done = [event for event in events if isinstance(event, Finished) and not event.job.exclusive]
    assert not [event.outcome for event in done if isinstance(event.outcome, Failure)]
    return [type(event.job) for event in done]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layers")
    assert do(make(root)) == [TrainJob, StressJob]
    return root


def test_ensemble_is_tested_on_each_layer(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    study = make(tmp_path, "repeats=2")
    study.stress, study.ensembles, study.keep_weights = None, True, "all"
    assert do(study) == [TrainJob, EnsembleJob]
    assert make_plan(study).ensembles == []
    for block in accuracy_table.scores(read_study(study.folder), ACCURACY).blocks:
        assert [row.label for row in block.rows][:2] == ["ContextNet", "ContextNet (ensemble of 2)"]
        assert block.rows[1].cells["miou"].n == 1
    assert {file.stem for file in study.folder.glob("ensembles/*/*/0+1/*.csv")} == set(TESTS)


def test_each_layer_is_a_test_in_record_and_files(root: Path) -> None:
    study = make(root).store
    record = study.read_record(["omc_omv-syn"], "contextnet", 0)
    assert record is not None
    assert (record.schema_, record.status, record.test) == (3, "ok", TESTS)
    assert record.metrics.keys() == set(TESTS)
    electrical = ["opens" in json.dumps(record.metrics[test]) for test in TESTS]
    assert electrical == [True, False]
    assert record.training is not None
    assert record.training.test_images == 2
    folder = study.run_folder(["omc_omv-syn"], "contextnet", 0)
    for test in TESTS:
        for file in (folder / f"images.{test}.csv", folder / f"panels.{test}.npz", study.images_file(test)):
            assert file.is_file()
        for method in ("background", "otsu", "kmeans"):
            assert study.reference_file(test, method).is_file()
    assert study.split_file("omc_omv-syn").is_file()


def test_kept_weights_mark_the_layers_and_give_the_counts_again(root: Path) -> None:
    study = make(root)
    (trained,) = find_trained(study.folder, registry.select("contextnet"))
    assert trained.layers == ("track", "via")
    record, folder = trained.record, trained.file.parent
    assert record is not None
    pack = open_pack(study.sources[0], study.protocol, study.cache)
    again = evaluate(trained.build(), pack, pack.divide(study.protocol).test, study.protocol, CPU)
    for test in TESTS:
        assert counts_csv(again[test]) == (folder / f"images.{test}.csv").read_bytes()
        assert reduce_counts(again[test]) == record.metrics[test]
        (drawn,) = (study.folder / "stress").glob(f"*/*/*/{test}.drawn.csv")
        assert drawn.read_bytes() == (folder / f"images.{test}.csv").read_bytes()
        assert len([*drawn.parent.glob(f"{test}.noise-1.csv")]) == 1


def test_same_study_again_has_nothing_left_to_do(root: Path) -> None:
    plan = make_plan(make(root))
    assert (len(plan.done), plan.todo, plan.stale) == (1, [], [])
    assert do(make(root)) == []
    reference = make(root).store.reference_file(TESTS[1], "otsu")
    content = reference.read_bytes()
    reference.unlink()
    assert do(make(root)) == []
    assert reference.read_bytes() == content


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        ("loss.layer_weights.via=3", "loss.layer_weights.via: none -> 3.0"),
        ("data.target=metal+via", "data.target: none -> 'metal\\+via'"),
    ],
)
def test_other_weights_or_layers_make_runs_stale(root: Path, setting: str, difference: str) -> None:
    with pytest.raises(UserError, match=difference):
        make_plan(make(root, setting))
    assert len(make_plan(make(root, setting), replace_stale=True).todo) == 1


def test_report_has_a_block_a_layer_that_is_of_the_training_s_own_dataset(root: Path) -> None:
    folder = make(root).folder
    build(folder)
    study = read_study(folder)
    blocks = {kind.name: accuracy_table.scores(study, kind).blocks for kind in (ACCURACY, ELECTRICAL)}
    assert [block.key for block in blocks["accuracy"]] == [*TESTS]
    assert [block.title for block in blocks["accuracy"]] == [f"Accuracy on {test}" for test in TESTS]
    assert "omc_omv-syn@via is the layer via of omc_omv-syn." in blocks["accuracy"][1].conventions
    of_nets, of_vias = ({column.key.partition(".")[0] for column in block.columns} for block in blocks["electrical"])
    assert ("opens" in of_nets, "opens" in of_vias) == (True, False)
    of_layer = [{*CONNECTION_COLUMNS} & study.runs[0].scores[test].columns.keys() for test in TESTS]
    assert of_layer == [set(), {*CONNECTION_COLUMNS}]
    page = (folder / "report/index.html").read_text("utf-8")
    assert "omc_omv-syn is the synthetic stand-in for omc_omv" in page
    assert "trained on omc_omv-syn</" not in page
    assert "--datasets omc_omv-syn --set data.target" not in page  # the dataset's own target needs no flag
    assert r"result/omc_omv-syn@via/contextnet/via_f1" in (folder / "report/tables/numbers.tex").read_text()
    assert {file.name.split(".")[0] for file in (folder / "report/panels").glob("*.png")} == {*TESTS}


def test_renamed_report_keeps_layers_and_no_name_of_the_dataset(root: Path) -> None:
    study = rename_study(read_study(make(root).folder), {"omc_omv": "chip"}, ["both"])
    (run,) = study.runs
    assert run.record.test == tuple(run.scores) == ("chip-syn@track", "chip-syn@via")
    assert study.references.keys() == {"chip-syn@track", "chip-syn@via"}


def test_efficiency_is_that_of_a_network_with_a_logit_a_layer(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    study = make(tmp_path)
    assert [job.classes for job in make_plan(study).measurements] == [2]
    for classes in (1, 2):
        fake.write_efficiency(study.folder, "contextnet", 32, threads=1, classes=classes)
    results = read_study(study.folder)
    (run,) = results.runs
    assert run.record.efficiency == ("contextnet.32x32.2layers.cpu.float32.json",)
    for test in TESTS:
        (measured,) = results.measured_for(test)
        assert measured.record.classes == 2
        assert measured.setting.describe().endswith(", 2 layers")
        assert measured.setting.facts["layers"] == 2
    assert make_plan(study).measurements == []
    assert make(tmp_path, "data.target=track").measurements() == []  # the other file

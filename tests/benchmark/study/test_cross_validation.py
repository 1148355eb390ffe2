"""A study of folds: its records, its shared files, its report, and what goes on from it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import benchmark
from benchmark import metrics
from benchmark.api.loaded_study import LoadedStudy
from benchmark.cli import main
from benchmark.config.protocol import Protocol
from benchmark.data.datasets import standin
from benchmark.data.specs import KNOWN
from benchmark.devices import facts
from benchmark.evaluation.kept_images import read_predictions
from benchmark.records.run_record import Record
from benchmark.records.store import Store
from benchmark.report.build import check
from benchmark.report.contradictions import divided
from benchmark.report.diff import compare_studies
from benchmark.report.merge import merge
from benchmark.report.plots import panels
from benchmark.report.read import StudyResults, read_study
from benchmark.report.scores import Scores
from benchmark.report.tables import accuracy_table, conventions, significance_table, stress_table
from benchmark.report.tables.render import Cell
from tests.benchmark.conftest import SMALL, TINY, Call, Measured, do_without_workers, leave_plots_blank, settings
from tests.benchmark.data.folder_makers import write_pairs
from tests.benchmark.report import fake

FOLDS = ("split.counts=none", "split.folds=3", "split.validation=0.3")
MODELS = f"{TINY}:TinyNet,{TINY}:Comparable"
IMAGES = {f"image{number:04d}" for number in range(10)}


def run(*flags: str, study: str = "folds") -> list[str]:
    words = ["run", "--models", MODELS, "--datasets", "omc-syn", "--protocol", "quick", "--device", "cpu"]
    return [*words, "--threads", "1", "--study", study, *settings(*FOLDS), *flags]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a command trained two networks on three folds."""
    folder = tmp_path_factory.mktemp("crossed")
    for model in ("tinynet", "comparable"):
        here = {"name": facts.cpu_name(), "threads": 1, "network_code": fake.TINY_CODE}
        fake.write_efficiency(folder / "results/folds", model, 32, **here)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        do_without_workers(patch)
        leave_plots_blank(patch)
        patch.setattr("sys.argv", ["benchmark", *run("--keep-weights", "all", "--reference", "tinynet")])
        with pytest.raises(SystemExit) as end:
            main.main()
    assert not end.value.code
    return folder


@pytest.fixture(scope="module")
def study(workplace: Path) -> Path:
    return workplace / "results/folds"


@pytest.fixture(scope="module")
def results(study: Path) -> StudyResults:
    return read_study(study)


@pytest.fixture
def copied(workplace: Path, tmp_path: Path, call: Call, in_process: None) -> Path:
    """The study in the test's own folder, which `call` enters."""
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results/folds"


def run_again(study: str = "folds", **more: Any) -> LoadedStudy:
    """Ask for the same study by the function, or for one that differs in an argument."""
    values = dict(setting.split("=") for setting in (*SMALL, *FOLDS))
    asked = {"device": "cpu", "threads": 1, "settings": values, "keep_weights": "all", "report": False}
    return benchmark.run(MODELS, "omc-syn", "quick", study=study, progress=False, **(asked | more))


def protocol_of(results: StudyResults) -> Protocol:
    assert results.protocol is not None
    return results.protocol


def test_each_repeat_is_tested_on_its_own_fold_and_all_images_are_tested_once(
    study: Path, results: StudyResults
) -> None:
    store, splits = Store(study), dict[int, set[str]]()
    assert protocol_of(results).repeats == 3
    for run in results.runs:
        assert run.record.training is not None
        splits.setdefault(run.record.repeat, set()).add(run.record.training.split)
        lists = store.read_split("omc-syn", run.record.repeat)
        assert sorted(run.scores["omc-syn"].images) == lists["test"]
        assert {*lists["train"], *lists["val"], *lists["test"]} == IMAGES
        facts = run.record.training
        sizes = [facts.train_images, facts.validation_images, facts.test_images]
        assert [len(lists[part]) for part in ("train", "val", "test")] == sizes
    assert [len(of_repeat) for of_repeat in splits.values()] == [1, 1, 1], "models of a repeat share its division"
    assert len(set().union(*splits.values())) == 3
    tests = [store.read_split("omc-syn", fold)["test"] for fold in range(3)]
    assert sorted(name for names in tests for name in names) == sorted(IMAGES)
    digests = {fold["digest"] for fold in json.loads(store.split_file("omc-syn").read_text())["folds"]}
    assert digests == set().union(*splits.values())


def test_tables_say_folds_and_methods_without_training_are_means_over_the_same(
    study: Path, results: StudyResults
) -> None:
    (block,) = accuracy_table.scores(results, accuracy_table.ACCURACY).blocks
    text = (study / "report/tables/accuracy.md").read_text("utf-8")
    for words in (text, " ".join(block.conventions)):
        assert "over n = 3 folds (std with ddof = 1). Cross-validation: each of 3 folds of the images is the" in words
        assert "Test images: 10." in words
        assert "repeat" not in words
    assert block.facts["folds"] == 3
    rows = {row.key: row for row in block.rows}
    otsu = results.references["omc-syn"]["otsu"]
    by_fold = {run.record.repeat: run.scores["omc-syn"].images for run in results.runs}
    assert [scores.images for scores in otsu] == [by_fold[fold] for fold in range(3)]
    assert rows["otsu"].cells["miou"] == Cell.over(scores.reduced["image"]["miou"] for scores in otsu)
    assert rows["otsu"].cells["miou"].n == rows["tinynet"].cells["miou"].n == 3
    assert list(divided(results)) == []
    assert check(study) == []
    page = (study / "report/index.html").read_text("utf-8")
    assert "mean ± std over folds" in page
    assert "n = 3 trainings per model and dataset, each tested on one of 3 folds" in page
    assert "split by group into 3 folds" in page
    assert "over folds\n" in (study / "report/tables/numbers.tex").read_text("utf-8")


def test_tests_pair_by_fold_and_know_that_trainings_share_images(results: StudyResults) -> None:
    blocks = accuracy_table.scores(results, accuracy_table.ACCURACY).blocks
    methods, networks = significance_table.written(results, blocks, "tinynet")
    (pair,) = [line for line in methods.lines if line["metric"] == "miou"]
    values = {
        model: [scores["omc-syn"].reduced["image"]["miou"] for scores in by_repeat]
        for model, by_repeat in (
            (name, [run.scores for run in results.runs if run.record.model == name])
            for name in ("tinynet", "comparable")
        )
    }
    differences = [mine - theirs for mine, theirs in zip(values["comparable"], values["tinynet"], strict=True)]
    assert pair["difference"] == pytest.approx(sum(differences) / 3)
    assert pair["n"] == pair["folds"] == 3
    text = " ".join(methods.table.blocks[0].conventions)
    assert "paired t-test over folds" in text
    assert "the variance of a mean is taken as 1/n + 0.5 of that of a difference" in text
    # Frames are tested with the network of their fold: ten images are ten frames here.
    (pair,) = [line for line in networks.lines if line["metric"] == "miou"]
    assert pair["clusters"] == 10
    pooled = [
        [value for scores in results.scores_of("omc-syn", "omc-syn")[name].values() for value in image_values(scores)]
        for name in ("comparable", "tinynet")
    ]
    assert pair["difference"] == pytest.approx(sum(pooled[0]) / 10 - sum(pooled[1]) / 10)


def image_values(scores: Scores) -> list[float]:
    values: list[float] = metrics.ratios(scores.columns)["miou"].tolist()
    return values


def test_some_folds_are_said_to_be_some(copied: Path, tmp_path: Path, call: Call) -> None:
    for run_folder in (copied / "runs/omc-syn").glob("*/2"):
        shutil.rmtree(run_folder)
    (copied / "asked.json").unlink()
    results = read_study(copied)
    (block,) = accuracy_table.scores(results, accuracy_table.ACCURACY).blocks
    assert block.conventions[0] == "Mean ± std over n = 2 of 3 folds (std with ddof = 1)."
    assert [row.cells["miou"].n for row in block.rows if row.key == "otsu"] == [2]
    assert int(str(block.facts["test_images"])) == sum(
        len(scores.images) for scores in results.references["omc-syn"]["otsu"]
    )
    code, out, _ = call(*run("--dry-run"))
    assert code == 0
    assert "2 models x 1 training set x 3 folds = 6 runs" in out
    code, out, _ = call(*run("--dry-run", "--repeats", "2"))
    assert "x 2 of 3 folds = 4 runs" in out
    assert "missing" not in out


def test_panels_show_networks_that_were_not_trained_on_the_image(study: Path, results: StudyResults) -> None:
    kept = [
        read_predictions(Store(study).predictions_file(["omc-syn"], "tinynet", fold, "omc-syn")).names
        for fold in range(3)
    ]
    assert sorted(name for names in kept for name in names) == sorted(IMAGES)
    blocks = accuracy_table.scores(results, accuracy_table.ACCURACY).blocks
    sheets = list(panels.sheets(study, results, blocks, pytest.fail))
    assert len(sheets) == 3
    for sheet in sheets:
        image = sheet.title.rpartition(": ")[2]
        (fold,) = (number for number, names in enumerate(kept) if image in names)
        assert sheet.caption.startswith(f"Networks: of fold {fold}, which were not trained on this image.")
        assert "of 10 images" in sheet.title


def test_function_finds_the_study_of_the_command_finished(copied: Path) -> None:
    made = (copied / "report/index.html").stat().st_mtime_ns
    again = run_again(report=True)
    assert repr(again) == "<folds: 6 runs of comparable, tinynet on omc-syn>"
    assert (copied / "report/index.html").stat().st_mtime_ns == made
    assert again.table("accuracy").attrs["folds"] == 3
    with pytest.raises(benchmark.UserError, match="ask for 3 repeats at most"):
        run_again(repeats=4)


def test_run_of_a_fold_is_reproduced(copied: Path, call: Call) -> None:
    record = copied / "runs/omc-syn/comparable/2/record.json"
    code, out, err = call("run", "--reproduce", record, "--study", "again", "--models", f"{TINY}:Comparable")
    assert code == 0, (out, err)
    again = Record.from_json((copied.parent / "again/runs/omc-syn/comparable/2/record.json").read_bytes())
    assert again.training is not None
    original = Record.from_json(record.read_bytes()).training
    assert original is not None
    assert again.training.split == original.split


def test_weights_start_the_same_fold_and_never_one_that_they_have_seen(copied: Path, measured: Measured) -> None:
    measured("tuned", "tinynet", "comparable")
    tuned = run_again("tuned", init_from="folds")
    assert [run.record.init.repeat for run in tuned.results.runs if run.record.init] == [0, 1, 2] * 2
    for model in ("tinynet", "comparable"):
        shutil.rmtree(copied / f"runs/omc-syn/{model}/1")
    with pytest.raises(
        benchmark.UserError, match=r"test images of omc-syn that study folds trained or .* --keep-weights\s+all"
    ):
        run_again("seen", init_from="folds")


def test_stress_tests_are_of_each_fold(copied: Path) -> None:
    with pytest.raises(
        benchmark.UserError, match=r"best repeats of two networks have other test .* --keep-weights all"
    ):
        run_again(stress="noise", strength="1", keep_weights="best-repeat")
    results = run_again(stress="noise", strength="1").results
    (tested,) = stress_table.tested(results)
    assert not tested.strangers, "images as drawn give each fold's own counts"
    own = {run.record.repeat: run.scores["omc-syn"].images for run in results.runs}
    for repeat, scores in tested.counts:
        assert scores.images == own[repeat]
    block = stress_table.table(results).blocks[0]
    assert "Mean ± std over n = 3 folds (std with ddof = 1)." in block.conventions
    assert block.facts["test_images"] == "10"


def test_studies_of_folds_merge_and_compare_fold_by_fold(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "results/other"
    shutil.copytree(copied, other)
    shutil.rmtree(copied / "runs/omc-syn/comparable")
    shutil.rmtree(other / "runs/omc-syn/tinynet")
    merged = merge([copied, other])
    (block,) = accuracy_table.scores(merged, accuracy_table.ACCURACY).blocks
    assert {row.key: row.cells["miou"].n for row in block.rows if "miou" in row.cells} == dict.fromkeys(
        ("tinynet", "comparable", "otsu", "kmeans", "background"), 3
    )
    shutil.rmtree(other / "runs/omc-syn/comparable/2")
    with pytest.raises(benchmark.UserError, match=r"have different folds.*comparable without repeat 2 of seed 0"):
        merge([copied, other])


def test_studies_of_other_numbers_of_folds_have_the_same_division_of_those_in_common(copied: Path) -> None:
    other = copied.parent / "other"
    shutil.copytree(copied, other)
    shutil.rmtree(other / "runs/omc-syn/tinynet/2")
    shutil.rmtree(other / "runs/omc-syn/comparable/2")
    difference = compare_studies(copied, other)
    assert difference.sections["data and code"] == []
    assert [(row.repeats, row.identical) for row in difference.numbers] == [(2, 2), (2, 2)]


def test_fold_of_other_images_is_left_out_by_name(copied: Path) -> None:
    split = Store(copied).split_file("omc-syn")
    content = json.loads(split.read_text())
    content["folds"][1]["test"] = content["folds"][1]["test"][1:]
    split.write_text(json.dumps(content))
    results = read_study(copied)
    assert results.references == {}
    assert len(results.strangers) == 3
    assert all("tested on other images than the runs" in reason for reason in results.strangers)
    split.unlink()
    assert [reason.partition(" (")[2] for reason in read_study(copied).strangers] == [
        "the lists of its folds in splits/ are missing or name other images)"
    ] * 3
    (run,) = [run for run in results.runs if (run.record.model, run.record.repeat) == ("tinynet", 0)]
    moved = replace(run, record=run.record.model_copy(update={"repeat": 1}))
    assert len(list(divided(replace(results, runs=(*results.runs, moved))))) == 1


def test_words_without_folds_are_those_of_repeats(small: Protocol) -> None:
    assert conventions.folds_of(small) == {}
    assert conventions.over_repeats(3, small) == "Mean ± std over n = 3 repeats (std with ddof = 1)."
    assert list(conventions.cross_validation(small)) == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("",), r"mychip: found 2 groups but split\.folds=3 needs 3 at least: bring more images"),
        (("train", "val", "test"), r"each dataset comes in train/, val/ and test/, which are kept.*leave it out"),
    ],
)
def test_data_without_folds_are_refused_before_any_work(
    tmp_path: Path, call: Call, parts: tuple[str, ...], message: str
) -> None:
    for part in parts:
        write_pairs(tmp_path / "data/mychip" / part, 2)
    code, _, err = call(*("mychip" if word == "omc-syn" else word for word in run()))
    assert code == 2
    assert re.search(message, err), err
    assert not (tmp_path / "results").exists()


def test_repeats_of_several_seeds_are_folds_of_each(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "results/other"
    shutil.copytree(copied, other)
    shutil.rmtree(other / "references")
    protocol = Store(other).read_protocol()
    assert protocol is not None
    protocol = protocol.model_copy(update={"seed": 1})
    Store(other).write_protocol(protocol)
    data = standin(KNOWN["omc"], "track", protocol).fingerprint
    digest = protocol.digest()
    fake.change(
        other,
        lambda record: {"key_parts": record.key_parts.model_copy(update={"protocol": digest, "data": data})},
    )
    merged = merge([copied, other])
    assert "Repeats pair up within a seed, fold by fold" in " ".join(merged.origin)
    (block,) = accuracy_table.scores(merged, accuracy_table.ACCURACY).blocks
    assert [row.cells["miou"].n for row in block.rows if row.ranked] == [6, 6]
    assert block.facts["test_images"] == "20"
    assert block.conventions[0] == "Mean ± std over n = 6 folds (std with ddof = 1)."

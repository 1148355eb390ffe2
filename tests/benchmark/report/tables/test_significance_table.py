"""The tables of differences to the reference model, against scipy on the values of the accuracy table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.records.run_record import Failure
from benchmark.report.build import build
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables import accuracy_table, significance_table
from benchmark.report.tables.render import Block, Row, to_latex, to_markdown
from benchmark.report.tables.significance_table import SignificanceTable
from tests.benchmark.report import fake

Counts = dict[str, int]


def written(folder: Path, reference: str = "eal_icnet") -> tuple[SignificanceTable, SignificanceTable]:
    study = read_study(folder)
    methods, networks = significance_table.written(
        study, accuracy_table.scores(study, accuracy_table.ACCURACY).blocks, reference
    )
    return methods, networks


def lines(found: SignificanceTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found.to_csv())))


def row(block: Block, key: str) -> Row:
    (result,) = [row for row in block.rows if row.key == key]
    return result


def printed(block: Block, key: str) -> dict[str, str]:
    return {name: cell.text for name, cell in row(block, key).cells.items()}


def values(study: StudyResults, dataset: str, model: str, metric: str, reduction: str) -> dict[int, float]:
    return {
        run.record.repeat: run.scores[dataset].reduced[reduction][metric]
        for run in study.runs
        if run.record.model == model and dataset in run.scores
    }


def image(tp: int, wrong: int, correct: int = 9) -> Counts:
    """An image of 9216 pixels with as many false positives as false negatives, and nine nets."""
    return {"tp": tp, "fp": wrong, "fn": wrong, "tn": fake.PIXELS - tp - 2 * wrong, "nets": 9, "components": 9,
            "opens": 0, "shorts": 9 - correct, "missed": 0, "false": 0, "correct": correct}  # fmt: skip


def write_models(folder: Path, models: dict[str, list[list[Counts]]], dataset: str = "omc-syn") -> Path:
    """Write a study of models with the given images of each repeat."""
    fake.write_protocol(folder)
    for model, repeats in models.items():
        for repeat, images in enumerate(repeats):
            fake.write_run(folder, model, [dataset], repeat, images)
    return folder


def test_verdict_rests_on_scipys_paired_test_and_holms_correction(study: Path) -> None:
    result = read_study(study)
    others = [model for model in fake.MODELS if model != "eal_icnet"]
    for metric, reduction in (("miou", "image"), ("net_error_rate", "pooled")):
        mine = {
            line["model"]: line
            for line in lines(written(study)[0])
            if (line["dataset"], line["metric"]) == ("omc-syn", metric)
        }
        theirs = values(result, "omc-syn", "eal_icnet", metric, reduction)
        p = {}
        for model in others:
            ours = values(result, "omc-syn", model, metric, reduction)
            shared = sorted(ours.keys() & theirs.keys())
            pairs = [ours[repeat] for repeat in shared], [theirs[repeat] for repeat in shared]
            expected = stats.ttest_rel(*pairs)
            interval = expected.confidence_interval(0.95)
            line, p[model] = mine[model], expected.pvalue
            assert (line["n"], line["holm_models"]) == (str(len(shared)), "10")
            for name, value in (
                ("difference", np.mean(pairs[0]) - np.mean(pairs[1])),
                ("ci95_low", interval.low),
                ("ci95_high", interval.high),
                ("p", expected.pvalue),
            ):
                assert float(line[name]) == pytest.approx(value, rel=1e-6), name
            assert line["exploratory_p_below_0.05"] == str(expected.pvalue < 0.05).lower()
        # Holm, step by step: the smallest p times ten, the next times nine, never below the one before.
        least = 0.0
        for place, model in enumerate(sorted(p, key=lambda model: p[model])):
            least = max(least, min(1.0, (10 - place) * p[model]))
            assert float(mine[model]["p_holm"]) == pytest.approx(least, rel=1e-6)
            better = (float(mine[model]["difference"]) > 0) == (metric == "miou")
            expected_verdict = ("better" if better else "worse") if least < 0.05 else "no difference shown"
            assert mine[model]["verdict"] == expected_verdict


@pytest.fixture
def clear(tmp_path: Path) -> Path:
    """UNet always three points above EAL-ICNet but short of nets, FCN below, EDANet about the same."""

    def repeats(wrong: int, correct: int) -> list[list[Counts]]:
        return [[image(3000, wrong + repeat + number, correct - repeat % 2) for number in range(8)]
                for repeat in range(3)]  # fmt: skip

    def jitter(images: list[list[Counts]]) -> list[list[Counts]]:
        return [[image(3000 + repeat, one["fp"] + repeat, one["correct"]) for one in of_repeat]
                for repeat, of_repeat in enumerate(images)]  # fmt: skip

    models = {
        "eal_icnet": repeats(200, 8),
        "unet": jitter(repeats(100, 4)),
        "fcn": jitter(repeats(400, 8)),
        "edanet": [[image(3000, 200 + shift)] * 8 for shift in (20, -15, 3)],
    }
    return write_models(tmp_path / "clear", models)


def test_better_and_worse_follow_the_metrics_direction(clear: Path) -> None:
    accuracy, errors = written(clear)[0].table.blocks

    assert printed(accuracy, "unet")["verdict"] == "better"
    assert printed(accuracy, "fcn")["verdict"] == "worse"
    assert printed(accuracy, "edanet")["verdict"] == "no difference shown"
    assert printed(accuracy, "unet")["difference"].startswith("+")
    assert printed(accuracy, "fcn")["difference"].startswith("−")
    assert "exploratory" not in printed(accuracy, "edanet")
    assert printed(accuracy, "fcn")["exploratory"] == "✓"
    # UNet has four more nets wrong in every image of every repeat: sure, but nothing that a t-test can weigh.
    assert printed(errors, "unet")["verdict"] == "no test"
    assert printed(errors, "unet")["difference"] == "+44.44"
    assert row(errors, "unet").remark == "no test: the difference is the same in every repeat"


def test_better_model_has_fewer_net_errors(tmp_path: Path) -> None:
    correct = {"eal_icnet": (3, 4, 3), "unet": (8, 9, 9), "fcn": (3, 3, 4)}
    models = {
        model: [[image(3000, 200, value)] * 20 + [image(3000, 200, 5 + repeat)] for repeat, value in enumerate(result)]
        for model, result in correct.items()
    }
    _, errors = written(write_models(tmp_path, models))[0].table.blocks

    assert printed(errors, "unet")["verdict"] == "better"
    assert printed(errors, "unet")["difference"].startswith("−")
    assert printed(errors, "fcn")["verdict"] == "no difference shown"


def test_columns_and_sentences_say_what_n_can_show(study: Path) -> None:
    block = written(study)[0].table.blocks[0]
    said = " ".join(block.conventions)

    assert [column.title for column in block.columns] == [
        *("n", "Difference", "95 % interval", "p", "Exploratory, n=2 or 3", "Holm p", "Verdict")
    ]
    # Student's t with two degrees of freedom at 0.05 / 10, two-sided, is 14.09; over the root of three.
    for part in (
        "paired t-test over repeats",
        "Holm p: corrected over the 10 models",
        "at least 8.1 times the standard deviation",
        "A rank or sign-flip test over 3 pairs never falls below p = 0.25",
        "Reduction: image",
        "Test images: 8",
        "omc-syn is the synthetic stand-in for omc",
    ):
        assert part in said


def test_failed_run_is_left_out_of_the_pairs_and_n_says_so(study: Path) -> None:
    omc, _, miic, _ = written(study)[0].table.blocks

    assert printed(omc, "unet")["n"] == "2"
    assert row(omc, "unet").remark.startswith("repeat 1 failed (nan_loss)")
    assert printed(miic, "hrnet") == {"n": "0", "verdict": "no test"}
    assert row(miic, "hrnet").remark.endswith("no test: no repeat in common")
    assert "corrected over the 9 models" in " ".join(miic.conventions)  # one that could never be tested is no test


def test_repeats_pair_up_by_number(tmp_path: Path) -> None:
    images = [[image(3000, wrong)] * 4 for wrong in (100, 200, 300)]
    write_models(tmp_path, {"eal_icnet": images, "unet": [[image(3000, one[0]["fp"] + 5)] * 4 for one in images]})
    lost = Failure(kind="error", message="RuntimeError: no")
    fake.write_run(tmp_path, "eal_icnet", ["omc-syn"], 0, None, lost)
    fake.write_run(tmp_path, "unet", ["omc-syn"], 2, None, lost)

    for result in written(tmp_path):
        (first, *_) = lines(result)
        assert first["n"] == ("1" if "clusters" in first else "")
    # Only repeat 1 is common: its difference, not that of means over different repeats.
    (line, *_) = lines(written(tmp_path)[1])
    before, after = ((3000 / (3000 + 2 * wrong) + (6216 - 2 * wrong) / 6216) / 2 for wrong in (200, 205))
    assert float(line["difference"]) == pytest.approx(after - before, rel=1e-6)


def test_networks_carry_the_interval_and_p_of_their_frames(study: Path) -> None:
    """Frames of two images: the cluster means' t interval, and all sixteen sign flips, averaged over repeats."""
    result = read_study(study)
    tested = {
        (run.record.model, run.record.repeat): run.scores["omc-syn"] for run in result.runs if "omc-syn" in run.scores
    }

    def per_image(model: str, repeat: int) -> np.ndarray:
        c = tested[model, repeat].columns
        errors = c["fp"] + c["fn"]
        return (c["tp"] / (c["tp"] + errors) + c["tn"] / (c["tn"] + errors)) / 2

    difference = np.mean([per_image("fcn", repeat) - per_image("eal_icnet", repeat) for repeat in range(3)], axis=0)
    frames = difference.reshape(4, 2).mean(axis=1)  # images 0 and 1 are of frame g0, and so on
    interval = stats.ttest_1samp(frames, 0).confidence_interval(0.95)
    p = stats.permutation_test((frames, np.zeros(4)), lambda x, y: np.mean(x - y), permutation_type="samples").pvalue

    (line,) = [
        line
        for line in lines(written(study)[1])
        if (line["dataset"], line["metric"], line["model"]) == ("omc-syn", "miou", "fcn")
    ]

    assert (line["n"], line["clusters"], line["holm_models"]) == ("3", "4", "10")
    for name, value in (
        ("difference", frames.mean()),
        ("ci95_low", interval.low),
        ("ci95_high", interval.high),
        ("p", p),
    ):
        assert float(line[name]) == pytest.approx(value, rel=1e-6), name


def test_networks_never_speak_of_methods(clear: Path) -> None:
    _, networks = written(clear)
    for text in (to_markdown(networks.table), to_latex(networks.table), networks.to_csv()):
        assert "better" not in text
        assert "worse" not in text
        assert "verdict" not in text.lower()
        assert "✓" not in text
        assert "surd" not in text
    for block in networks.table.blocks:
        assert block.title.startswith("These trained networks, not the methods: ")
    assert (
        "With 4 frames p never falls below 0.125; Holm p can fall below 0.05 from 7 frames on, so it cannot here."
        in (" ".join(networks.table.blocks[0].conventions))
    )


def test_one_repeat_is_no_test_of_methods_but_one_of_networks(tmp_path: Path) -> None:
    methods, networks = written(fake.write_study(tmp_path, ["eal_icnet", "unet"], ["omc-syn"], repeats=1))

    for block in methods.table.blocks:
        assert block.rows == ()
        assert block.conventions[0].startswith("No test: no model has more than one repeat in common with EAL-ICNet")
    assert "| Model |" not in to_markdown(methods.table)
    assert "tabular" not in to_latex(methods.table)
    assert [line["remark"][:8] for line in lines(methods)] == ["No test:"] * 2
    assert printed(networks.table.blocks[0], "unet")["n"] == "1"


@pytest.mark.parametrize(
    ("models", "reference", "sentence"),
    [
        (["fcn", "unet"], "eal_icnet", "this study. The option 'reference' of report compares with another model."),
        (
            ["unet"],
            "eal_icnet",
            "EAL-ICNet, which every model is compared with, is not among the models of this study.\n",
        ),
        (["eal_icnet"], "eal_icnet", "No test: EAL-ICNet is the only model here."),
    ],
)
def test_without_reference_or_others_a_sentence_says_why(
    tmp_path: Path, models: list[str], reference: str, sentence: str
) -> None:
    fake.write_study(tmp_path, models, ["omc-syn"])
    for result in written(tmp_path, reference):
        assert all(block.rows == () for block in result.table.blocks)
        assert sentence in to_markdown(result.table)
        assert "begin{table}" not in to_latex(result.table)


def test_reference_can_be_another_model(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["eal_icnet", "fcn", "unet"], ["omc-syn"])

    build(tmp_path, reference="unet", plots=())

    text = (tmp_path / "report/tables/methods.md").read_text()
    assert "mIoU against UNet on omc-syn" in text
    assert "| EAL-ICNet | 3 |" in text
    assert "| UNet |" not in text


def test_reference_that_failed_everywhere_is_said(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"])
    fake.write_run(tmp_path, "eal_icnet", ["omc-syn"], 0, None, Failure(kind="error", message="RuntimeError: no"))

    for result in written(tmp_path):
        assert "No test: no run of EAL-ICNet has a value here." in to_markdown(result.table)


def move_one_image(file: Path) -> None:
    file.write_text(file.read_text().replace("3.png", "4711.png"))


def join_all_frames(file: Path) -> None:
    table = pd.read_csv(file)
    table["group"] = "frame"
    table.to_csv(file, index=False)


@pytest.mark.parametrize(
    ("change", "of", "sentence"),
    [
        (move_one_image, "unet", "the runs were not tested on the same images"),
        (join_all_frames, "*", "all test images come from one source frame"),
    ],
)
def test_networks_without_common_images_or_several_frames_are_not_tested(
    tmp_path: Path, change: Callable[[Path], None], of: str, sentence: str
) -> None:
    fake.write_study(tmp_path, ["eal_icnet", "unet"], ["omc-syn"])
    for file in tmp_path.glob(f"runs/omc-syn/{of}/*/images.omc-syn.csv"):
        change(file)

    methods, networks = written(tmp_path)

    assert sentence in to_markdown(networks.table)
    assert all(block.rows == () for block in networks.table.blocks)
    assert all(block.rows for block in methods.table.blocks)


def test_via_targets_are_compared_by_their_f1(tmp_path: Path) -> None:
    def via(matched: int) -> Counts:
        accuracy = {name: value for name, value in image(3000, 200).items() if name in ("tp", "fp", "fn", "tn")}
        return accuracy | {"via_true": 10, "via_predicted": 10, "via_matched": matched}

    models = {
        model: [[via(base + repeat % 2)] * 4 for repeat in range(3)] for model, base in (("eal_icnet", 5), ("unet", 8))
    }
    write_models(tmp_path, models, "omv-syn")
    fake.write_run(tmp_path, "unet", ["omv-syn"], 2, [via(9)] * 4)

    for result in written(tmp_path):
        _, block = result.table.blocks
        assert (block.facts["metric"], block.facts["reduction"]) == ("via_f1", "pooled")
        # F1 of matched, true and predicted 10 each is matched / 10.
        assert printed(block, "unet")["difference"] == "+33.33"


def test_names_that_look_like_numbers_or_nothing_are_kept(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["eal_icnet"], ["omc-syn"], repeats=1)
    file = tmp_path / "runs/omc-syn/eal_icnet/0/images.omc-syn.csv"
    table = pd.read_csv(file)
    table["image"], table["group"] = [f"00{index}" for index in range(8)], ["NA", "nan"] * 4
    table.to_csv(file, index=False)

    (run,) = read_study(tmp_path).runs

    assert run.scores["omc-syn"].images == tuple(f"00{index}" for index in range(8))
    assert set(run.scores["omc-syn"].groups) == {"NA", "nan"}
    assert run.scores["omc-syn"].columns["tp"].tolist() == table["tp"].tolist()

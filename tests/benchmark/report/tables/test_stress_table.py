"""Stress tests in a report: figures from counts alone, the sentence per network, and what cannot be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmark.evaluation.counts import counts_csv
from benchmark.records.store import Store
from benchmark.records.stress_record import StressRecord
from benchmark.report.build import build, check
from benchmark.report.read import StudyResults, read_study
from benchmark.report.redact import redact_study
from benchmark.report.tables import render, stress_table
from tests.benchmark.report import fake

TEST = "hy5syn-syn"
#: Model -> effect -> quality at strengths 1 and 2; 0.9 as drawn.
QUALITY: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "eal_icnet": {"clouds": (0.89, 0.86), "noise": (0.88, 0.60)},
    "unet": {"clouds": (0.80, 0.50), "noise": (0.89, 0.88)},
}
DRAWN = 0.9
Rows = list[dict[str, int]]


def rows_of(quality: float, name: object) -> Rows:
    """Counts of four images; at worse quality fewer nets are correct."""
    rows = fake.counts(quality, fake.random_of("stress", name), images=4)
    return [{**row, "correct": int(9 * quality)} for row in rows]


def write(
    folder: Path, model: str, repeat: int, effect: str | None, strength: float | None, rows: Rows, **changes: object
) -> Path:
    record = StressRecord(
        **{
            "key": "0" * 16, "behaviour": 1, "weights": "w", "model": model, "train": (TEST,), "repeat": repeat,
            "test": TEST, "images": "i", "convention": 1, "standin_version": 3, "effect": effect, "strength": strength,
            **changes,
        }
    )  # fmt: skip
    named = [{"image": f"{number}.png", "group": f"{number}", **row} for number, row in enumerate(rows)]
    store = Store(folder)
    store.write_test(record, counts_csv(named))
    return store.test_file(record).with_suffix(".csv")


def write_stressed(folder: Path) -> Path:
    """Write two networks with two repeats, each under two effects at two strengths."""
    fake.write_protocol(folder)
    for model, effects in QUALITY.items():
        for repeat in range(2):
            drawn = rows_of(DRAWN, (model, repeat))
            fake.write_run(folder, model, [TEST], repeat, drawn)
            write(folder, model, repeat, None, None, drawn)
            for effect, qualities in effects.items():
                for strength, quality in zip((1.0, 2.0), qualities, strict=True):
                    write(folder, model, repeat, effect, strength, rows_of(quality, (model, repeat, effect, strength)))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_stressed(tmp_path / "study")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    return read_study(write_stressed(tmp_path_factory.mktemp("stressed")))


def only(study: StudyResults) -> stress_table.Tested:
    (result,) = stress_table.tested(study)
    return result


def miou(rows: Rows) -> float:
    """The mean over images of the mean of both classes' IoU, by its definition."""
    return float(np.mean([
        np.mean([r["tp"] / (r["tp"] + r["fp"] + r["fn"]), r["tn"] / (r["tn"] + r["fp"] + r["fn"])]) for r in rows
    ]))  # fmt: skip


def test_values_and_changes_follow_from_the_counts(study: StudyResults) -> None:
    values, changes, errors, error_changes = stress_table.table(study).blocks
    assert [column.key for column in values.columns] == ["drawn", "clouds-1", "clouds-2", "noise-1", "noise-2"]
    assert [column.group for column in changes.columns] == ["clouds", "clouds", "noise", "noise"]
    expected = [miou(rows_of(0.5, ("unet", repeat, "clouds", 2.0))) for repeat in range(2)]
    drawn = [miou(rows_of(DRAWN, ("unet", repeat))) for repeat in range(2)]
    cell = values.rows[1].cells["clouds-2"]
    assert (cell.mean, cell.std, cell.n) == (
        pytest.approx(np.mean(expected)),
        pytest.approx(np.std(expected, ddof=1)),
        2,
    )
    change = changes.rows[1].cells["clouds-2"]
    assert change.mean == pytest.approx(np.mean(expected) - np.mean(drawn))
    assert change.std == pytest.approx(np.std(np.subtract(expected, drawn), ddof=1))
    # 9 nets in each image, of which int(9 x quality) are correct: 8 as drawn, 4 under clouds at 2.
    assert errors.rows[1].cells["drawn"].mean == pytest.approx(1 / 9)
    assert errors.rows[1].cells["clouds-2"].mean == pytest.approx(5 / 9)
    assert error_changes.rows[1].cells["clouds-2"].mean == pytest.approx(4 / 9)
    assert changes.columns[0].text(change.mean).startswith("-")
    assert {block.facts["reduction"] for block in (errors, error_changes)} == {"pooled"}


def test_header_says_what_a_strength_is_and_what_is_forced(study: StudyResults) -> None:
    for block in stress_table.table(study).blocks:
        text = " ".join(block.conventions)
        assert "so many times the hardest strength that hy5syn-syn draws" in text
        assert "(noise forces shot and read)" in text
        assert "n = 2 repeats (std with ddof = 1)" in text
        assert "Test images: 4" in text
        assert "hy5syn-syn is the synthetic stand-in for hy5syn" in text
    assert "Interior nets in all test images: 36" in text


def test_csv_has_a_line_per_model_effect_and_strength(study: StudyResults) -> None:
    lines = list(csv.DictReader(io.StringIO(render.to_csv(stress_table.table(study)))))
    keys = {(line["metric_name"], line["shown"], line["model"], line["metric"]) for line in lines}
    assert ("net_error_rate", "change", "eal_icnet", "noise-2") in keys
    assert len(lines) == 2 * 2 * (5 + 4)


def test_sentence_names_the_effect_that_costs_most_at_the_largest_common_strength(folder: Path) -> None:
    study = read_study(folder)
    sentences = dict(stress_table.sentences(study, only(study)))
    assert sentences["eal_icnet"].startswith("EAL-ICNet: at strength 2, mIoU falls most under noise (−")
    assert "Net error rate rises most under noise (+33.3 points, 11.1 to 44.4 %)" in sentences["eal_icnet"]
    assert "UNet: at strength 2, mIoU falls most under clouds" in sentences["unet"]
    for model in QUALITY:  # clouds alone go further, so 2 stays the largest that is common
        write(folder, model, 0, "clouds", 4.0, rows_of(0.2, model))
    study = read_study(folder)
    assert dict(stress_table.sentences(study, only(study))) == sentences


def test_equal_changes_are_named_together_and_none_is_none(folder: Path) -> None:
    for repeat in range(2):
        for effect in ("clouds", "noise"):
            write(folder, "unet", repeat, effect, 2.0, rows_of(0.6, (repeat, "same")))
            write(folder, "eal_icnet", repeat, effect, 2.0, rows_of(DRAWN, ("eal_icnet", repeat)))
    study = read_study(folder)
    sentences = dict(stress_table.sentences(study, only(study)))
    assert "mIoU falls most under clouds and noise" in sentences["unet"]
    assert (
        sentences["eal_icnet"]
        == "EAL-ICNet: at strength 2, mIoU falls under no effect; Net error rate rises under no effect."
    )


def test_effects_without_a_common_strength_have_no_sentence(folder: Path) -> None:
    for file in (folder / "stress").glob("*/*/*/*.clouds-*.json"):
        file.unlink()
    write(folder, "unet", 0, "clouds", 0.5, rows_of(0.8, "half"))
    study = read_study(folder)
    assert stress_table.sentences(study, only(study)) == []


def test_images_as_drawn_with_other_counts_than_the_run_s_are_remarked_on(folder: Path) -> None:
    write(folder, "unet", 1, None, None, rows_of(DRAWN, "another device"))
    rows = {row.key: row.remark for row in stress_table.table(read_study(folder)).blocks[0].rows}
    assert rows["eal_icnet"] == ""
    assert rows["unet"].startswith("repeat 1: as drawn, other counts than in the run's own test")


@pytest.mark.parametrize("changes", [{"key": "1" * 16}, {"weights": "other"}, {"images": "other"}, {"convention": 2}])
def test_tests_of_other_weights_or_images_than_those_as_drawn_are_left_out(
    folder: Path, changes: dict[str, object]
) -> None:
    before = stress_table.table(read_study(folder)).blocks[0].rows[1].cells["noise-2"]
    write(folder, "unet", 1, "noise", 2.0, rows_of(0.1, "other"), **changes)
    after = stress_table.table(read_study(folder)).blocks[0].rows[1].cells["noise-2"]
    assert (before.n, after.n) == (2, 1)


def test_broken_files_are_named_and_the_rest_is_reported(folder: Path) -> None:
    tests = folder / "stress" / TEST / "unet" / "1"
    (tests / f"{TEST}.noise-1.csv").write_text("image,group\n")
    (tests / f"{TEST}.noise-2.json").write_text("{")
    (tests / f"{TEST}.clouds-1.json").write_bytes((tests / f"{TEST}.clouds-2.json").read_bytes())
    study = read_study(folder)
    assert len(study.broken_stress) == 3
    assert stress_table.table(study).blocks[0].rows[1].cells["noise-1"].n == 1
    text = " ".join(stress_table.table(study).blocks[0].conventions)
    for stem in ("noise-1.csv", "noise-2.json", "clouds-1.json"):
        assert f"{TEST}.{stem}" in text
    build(folder, plots=())
    wrong = check(folder, plots=())
    assert len(wrong) == 3
    assert all("/unet/1/" in line for line in wrong)
    redacted = render.to_csv(stress_table.table(redact_study(study)))
    assert "/unet/1/" not in redacted


def test_via_tests_show_the_via_metric(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    vias = {"ignored": 0, "tp": 5, "fp": 1, "fn": 1, "tn": 93, "via_true": 4, "via_predicted": 4, "via_matched": 3}
    fake.write_run(tmp_path, "unet", [TEST], 0, [vias])
    write(tmp_path, "unet", 0, None, None, [vias])
    write(tmp_path, "unet", 0, "noise", 1.0, [{**vias, "via_matched": 1}])
    blocks = stress_table.table(read_study(tmp_path)).blocks
    assert [block.facts["metric_name"] for block in blocks] == ["miou", "miou", "via_f1", "via_f1"]
    assert blocks[3].rows[0].cells["noise-1"].mean == pytest.approx(-0.5)


def test_page_shows_sentences_and_tables(folder: Path) -> None:
    build(folder, plots=())
    page = (folder / "report/index.html").read_text()
    section = page.partition('<section id="stress">')[2].partition("</section>")[0]
    assert "EAL-ICNet: at strength 2, mIoU falls most under noise" in section
    assert "n = 2 trained networks each" in section
    assert "Change of Net error rate under stress on hy5syn-syn" in section

"""Scores of masks as arrays and files: those of the verb `score`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import benchmark
from benchmark import metrics
from tests.benchmark.conftest import Call


def drawing() -> tuple[np.ndarray, np.ndarray]:
    """Two tracks, and a prediction that joins them."""
    truth = np.zeros((200, 200), bool)
    truth[60:70] = truth[120:130] = True
    prediction = truth.copy()
    prediction[70:120, 90:100] = True
    return truth, prediction


def test_scores_are_those_of_the_verb(tmp_path: Path, call: Call) -> None:
    truth, prediction = drawing()
    for name, mask in (("truth", truth), ("prediction", prediction)):
        (tmp_path / name).mkdir()
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / name / "die.png")
    code, _, err = call("score", "--truth", "truth", "--prediction", "prediction", "--out", "scores")
    assert code == 0, err
    with (tmp_path / "scores/images.csv").open() as file:
        (row,) = csv.DictReader(file)
    for scores in (
        benchmark.score(truth, prediction),
        benchmark.score(tmp_path / "truth/die.png", str(tmp_path / "prediction/die.png")),
        benchmark.score(truth.astype(int), prediction.astype(np.uint8) * 255),
    ):
        assert scores["shorts"] == 1
        assert {name: scores[name] for name in metrics.COUNT_COLUMNS if name in scores} == {
            name: int(row[name]) for name in metrics.COUNT_COLUMNS if row.get(name)
        }
        for name in metrics.METRICS:
            if row.get(name):
                assert scores[name] == pytest.approx(float(row[name]))


def test_ignored_pixels_count_nowhere() -> None:
    truth, prediction = drawing()
    ignore = np.zeros_like(truth)
    ignore[65:125, 80:110] = True
    assert benchmark.score(truth, prediction, ignore=ignore)["shorts"] == 0


def test_vias_are_counted_in_place_of_nets() -> None:
    truth = np.zeros((64, 64), bool)
    truth[20:26, 20:26] = truth[40:46, 40:46] = True
    scores = benchmark.score(truth, truth, target="via")
    assert scores["via_f1"] == 1
    assert "shorts" not in scores


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.full((4, 4), 0.5), r"prediction: an array \(4, 4\), values of float64; expected \(H, W\) of bool"),
        (np.full((4, 4), 7), r"values 7; expected"),
        (np.zeros((4, 4, 1), bool), r"an array \(4, 4, 1\)"),
        (np.zeros((4, 5), bool), r"truth \(4, 4\), prediction \(4, 5\); expected one height and width"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_other_masks_are_refused(wrong: object, message: str) -> None:
    with pytest.raises(benchmark.UserError, match=message):
        benchmark.score(np.zeros((4, 4), bool), wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": "vias"}, "target: found 'vias'; expected"),
        ({"border_px": -1}, "border_px -1, min_area_px 35: expected"),
        ({"min_area_px": 0}, "border_px 35, min_area_px 0: expected"),
        ({"ignore": [[0, 1], [1]]}, "ignore: not an array"),
    ],
)
def test_other_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(benchmark.UserError, match=message):
        benchmark.score(np.zeros((2, 2), bool), np.zeros((2, 2), bool), **wrong)  # type: ignore[arg-type]

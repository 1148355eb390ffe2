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


VALUES = {"background": 3, "foreground": [7, 9], "ignore": 255}


def test_values_tell_foreground_of_arrays_and_files(tmp_path: Path) -> None:
    truth, prediction = drawing()
    painted = np.where(truth, 7, 3).astype(np.uint8)
    painted[120:130] = 9
    painted[75:110, 80:110] = 255  # the bridge is ignored, so there is no short
    Image.fromarray(painted).save(tmp_path / "die.png")
    (tmp_path / "chip.toml").write_text("[values]\nbackground = 3\nforeground = [7, 9]\nignore = 255\n")
    scores = benchmark.score(painted, prediction, values=VALUES)
    assert (scores["shorts"], scores["fn"], scores["ignored"]) == (0, 0, 35 * 30)
    assert benchmark.score(painted.astype(np.int64), prediction, values=VALUES) == scores
    assert benchmark.score(tmp_path / "die.png", prediction, values=str(tmp_path / "chip.toml")) == scores
    colours = np.zeros((200, 200, 3), np.uint8)
    colours[truth] = 255, 255, 0
    values = {"background": 0, "foreground": "#ffff00"}
    assert benchmark.score(colours, prediction, values=values) == benchmark.score(truth, prediction)


def test_threshold_takes_probabilities_and_gray_values(tmp_path: Path) -> None:
    truth, prediction = drawing()
    gray = np.where(prediction, 200, 100).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    expected = benchmark.score(truth, prediction)
    for likely in (gray, gray / 255, (gray / 255).astype(np.float32), gray.astype(np.uint16) * 257, prediction):
        assert benchmark.score(truth, likely, threshold=0.5) == expected
    assert benchmark.score(truth, tmp_path / "gray.png", threshold=0.5) == expected
    assert benchmark.score(truth, gray, threshold=0.9)["tp"] == 0


def test_protocol_gives_border_and_least_area_and_arguments_replace_them() -> None:
    truth, prediction = np.zeros((2, 64, 64), bool)
    truth[10:14, 2:62] = True  # within 35 px of the border, not within 8 px
    assert benchmark.score(truth, prediction)["missed"] == 0
    assert benchmark.score(truth, prediction, protocol="quick")["missed"] == 1
    assert benchmark.score(truth, prediction, protocol="quick", border_px=35)["missed"] == 0
    with pytest.raises(benchmark.UserError, match="unknown protocol 'quik'; did you mean 'quick'"):
        benchmark.score(truth, prediction, protocol="quik")


def test_cldice_may_be_left_out() -> None:
    truth, prediction = drawing()
    assert "cldice" in benchmark.score(truth, prediction)
    assert "cldice" not in benchmark.score(truth, prediction, cldice=False)


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
        ({"border_px": -1}, "border_px: found -1; expected greater than or equal to 0"),
        ({"min_area_px": 0}, "min_area_px: found 0; expected"),
        ({"threshold": 50}, "threshold: found 50; expected a share between 0 and 1"),
        ({"threshold": 0.5, "prediction": np.full((2, 2), 2.0)}, r"values of float64; expected \(H, W\) of floats in"),
        ({"threshold": 0.5, "prediction": np.full((2, 2), np.nan)}, "expected .* of floats in"),
        ({"threshold": 0.5, "prediction": np.zeros((2, 2), int)}, "expected .* of floats in"),
        ({"values": {"foreground": 1}}, "values: found .*Field required.*expected background, foreground"),
        ({"values": {"background": 3, "foreground": 1}}, "truth: 4 pixels of mask values \\{0\\}; expected those of"),
        ({"values": VALUES, "truth": np.zeros((2, 2))}, r"truth: an array \(2, 2\), values of float64; expected"),
        ({"values": "nowhere.toml"}, "nowhere.toml"),
        ({"ignore": [[0, 1], [1]]}, "ignore: not an array"),
    ],
)
def test_other_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    masks = {"truth": np.zeros((2, 2), bool), "prediction": np.zeros((2, 2), bool)}
    with pytest.raises(benchmark.UserError, match=message):
        benchmark.score(**{**masks, **wrong})  # type: ignore[arg-type]

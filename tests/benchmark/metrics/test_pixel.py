"""Pixel metrics against scikit-learn and torchmetrics, and their conventions on absent classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, recall_score
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index

from benchmark.metrics import count_image, ratios
from benchmark.metrics.components import Mask
from tests.benchmark.metrics.strategies import mask_pairs


def per_image(counts: dict[str, int]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in ratios({k: np.array([v]) for k, v in counts.items()}).items()}


@given(mask_pairs())
def test_scikit_learn_agrees(pair: tuple[Mask, Mask]) -> None:
    truth, prediction = (mask.ravel() for mask in pair)
    counts = count_image(*pair)
    matrix = confusion_matrix(truth, prediction, labels=[False, True])
    assert [[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]] == matrix.tolist()
    values = per_image(counts)
    either = sorted({*truth.tolist(), *prediction.tolist()})
    expected = {
        "miou": jaccard_score(truth, prediction, labels=either, average="macro"),
        "mpa": recall_score(truth, prediction, labels=sorted(set(truth.tolist())), average="macro"),
        "dice": f1_score(truth, prediction, zero_division=1.0),
        "fg_iou": jaccard_score(truth, prediction, zero_division=1.0) if (truth | prediction).any() else 1.0,
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12), name


def test_torchmetrics_agrees() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((64, 64)) < 0.3
    prediction = truth ^ (rng.random((64, 64)) < 0.1)
    values = per_image(count_image(truth, prediction))
    # torchmetrics divides in float32: 1e-6 is its rounding, not ours.
    pair = torch.from_numpy(prediction), torch.from_numpy(truth).int()
    assert values["fg_iou"] == pytest.approx(binary_jaccard_index(*pair).item(), abs=1e-6)
    assert values["dice"] == pytest.approx(binary_f1_score(*pair).item(), abs=1e-6)


@given(mask_pairs())
def test_ignored_pixels_count_nowhere(pair: tuple[Mask, Mask]) -> None:
    truth, prediction = pair
    ignore = np.random.default_rng(truth.size).random(truth.shape) < 0.3
    counts = count_image(truth, prediction, ignore=ignore)
    assert counts["ignored"] == ignore.sum()
    seen = ~ignore
    assert sum(counts[k] for k in ("tp", "fp", "fn", "tn")) == seen.sum()
    assert counts["tp"] + counts["tn"] == np.count_nonzero(truth[seen] == prediction[seen])
    # Whatever the masks hold under the ignored pixels changes nothing.
    assert counts == count_image(truth | ignore, prediction & ~ignore, ignore=ignore)
    if seen.any():
        correct = accuracy_score(truth[seen], prediction[seen], normalize=False)
        assert counts["tp"] + counts["tn"] == correct


def test_ignored_cut_divides_a_net() -> None:
    truth = np.zeros((5, 9), bool)
    truth[2] = True
    ignore = np.zeros_like(truth)
    ignore[:, 4] = True
    counts = count_image(truth, truth, ignore=ignore, border_px=0, min_area_px=1)
    assert (counts["nets"], counts["components"], counts["correct"], counts["opens"]) == (2, 2, 2, 0)


@pytest.mark.parametrize("bad", [np.zeros((3, 3), bool), np.zeros((2, 2), np.uint8)])
def test_bad_ignore_mask_is_refused(bad: np.ndarray) -> None:
    mask = np.zeros((2, 2), bool)
    with pytest.raises(ValueError, match="expected an ignore mask"):
        count_image(mask, mask, ignore=bad)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        # Both empty: the background alone is averaged, the foreground is perfect by convention.
        (0, 0, {"miou": 1.0, "mpa": 1.0, "dice": 1.0, "fg_iou": 1.0, "aji": 1.0, "aji_plus": 1.0}),
        (1, 1, {"miou": 1.0, "mpa": 1.0, "dice": 1.0, "fg_iou": 1.0, "aji": 1.0, "aji_plus": 1.0}),
        (0, 1, {"miou": 0.0, "mpa": 0.0, "dice": 0.0, "fg_iou": 0.0, "aji": 0.0, "aji_plus": 0.0}),
        (1, 0, {"miou": 0.0, "mpa": 0.0, "dice": 0.0, "fg_iou": 0.0, "aji": 0.0, "aji_plus": 0.0}),
    ],
)
def test_conventions_for_absent_classes(truth: int, prediction: int, expected: dict[str, float]) -> None:
    values = per_image(count_image(np.full((4, 5), bool(truth)), np.full((4, 5), bool(prediction))))
    assert {name: values[name] for name in expected} == expected


def test_absent_background_is_excluded_from_mpa_only() -> None:
    prediction = np.ones((2, 5), bool)
    prediction[0, 0] = False
    values = per_image(count_image(np.ones((2, 5), bool), prediction))
    assert values["mpa"] == pytest.approx(0.9)
    assert values["miou"] == pytest.approx(0.45)

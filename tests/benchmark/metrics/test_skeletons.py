"""clDice against its definition on scikit-image's skeletons, its conventions and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from skimage.morphology import skeletonize

from benchmark.metrics import count_image, ratios
from benchmark.metrics.components import Mask
from benchmark.metrics.skeletons import skeleton_counts
from tests.benchmark.metrics.layouts import damaged, window
from tests.benchmark.metrics.strategies import SPECIAL, mask_pairs, special


def cldice_of(truth: Mask, prediction: Mask, ignore: Mask | None = None) -> float:
    counts = count_image(truth, prediction, ignore=ignore, cldice=True)
    return float(ratios({name: np.array([value]) for name, value in counts.items()})["cldice"][0])


def defined(truth: Mask, prediction: Mask) -> float:
    """Equations 1 to 3 of the paper, with its conventions for empty masks spelled out."""
    if not truth.any() or not prediction.any():
        return float(truth.any() == prediction.any())
    precision = np.mean(truth[skeletonize(prediction)])
    sensitivity = np.mean(prediction[skeletonize(truth)])
    return float(2 * precision * sensitivity / (precision + sensitivity)) if precision + sensitivity else 0.0


@given(mask_pairs())
def test_cldice_equals_definition_and_is_symmetric_and_bounded(pair: tuple[Mask, Mask]) -> None:
    value = cldice_of(*pair)
    assert value == pytest.approx(defined(*pair), abs=1e-12)
    assert value == cldice_of(*pair[::-1])
    assert 0 <= value <= 1
    assert cldice_of(pair[0], pair[0]) == 1.0


@pytest.mark.parametrize("first", SPECIAL)
@pytest.mark.parametrize("second", SPECIAL)
def test_special_masks(first: str, second: str) -> None:
    pair = special(first, 13, 20), special(second, 13, 20)
    assert cldice_of(*pair) == pytest.approx(defined(*pair), abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_skeletons_of_tracks(seed: int) -> None:
    truth = window(seed, 256)
    prediction = damaged(truth, 30, seed)
    assert cldice_of(truth, prediction) == pytest.approx(defined(truth, prediction), abs=1e-12)
    assert 0.5 < cldice_of(truth, prediction) < 1


def test_cldice_ignores_width_and_counts_gap_length() -> None:
    truth = np.zeros((30, 100), bool)
    truth[10:15, 10:90] = True
    wider = np.zeros_like(truth)
    wider[8:17, 8:92] = True
    counts = skeleton_counts(truth, wider)
    assert counts["skeleton_true_hit"] == counts["skeleton_true"] > 70
    gap = truth.copy()
    gap[:, 40:60] = False
    counts = skeleton_counts(truth, gap)
    assert counts["skeleton_predicted_hit"] == counts["skeleton_predicted"]
    assert counts["skeleton_true"] - counts["skeleton_true_hit"] == 20


@pytest.mark.parametrize(("truth", "prediction", "expected"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0), (1, 1, 1.0)])
def test_conventions_for_empty_masks(truth: int, prediction: int, expected: float) -> None:
    assert cldice_of(np.full((6, 7), bool(truth)), np.full((6, 7), bool(prediction))) == expected


def test_disjoint_skeletons_give_0() -> None:
    truth, prediction = np.zeros((2, 9, 9), bool)
    truth[:3], prediction[6:] = True, True
    assert cldice_of(truth, prediction) == 0.0


def test_ignored_pixels_are_background_in_skeletons() -> None:
    truth = np.zeros((20, 60), bool)
    truth[8:13, 5:55] = True
    ignore = np.zeros_like(truth)
    ignore[:, 30:] = True
    counts = count_image(truth, truth, ignore=ignore, cldice=True)
    assert counts["skeleton_true"] == np.count_nonzero(skeletonize(truth & ~ignore))

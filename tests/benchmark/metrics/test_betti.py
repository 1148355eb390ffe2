"""Betti numbers against scikit-image's Euler number and scipy's components of the background, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage
from skimage.measure import euler_number

from benchmark.metrics import count_image, reduce
from benchmark.metrics.components import Components, Mask
from tests.benchmark.metrics.layouts import damaged, window
from tests.benchmark.metrics.reference import EIGHT
from tests.benchmark.metrics.strategies import mask_pairs


def betti(mask: Mask) -> tuple[int, int]:
    """Components of the foreground, and of the background but the outer one."""
    return ndimage.label(mask, EIGHT)[1], ndimage.label(np.pad(~mask, 1, constant_values=True))[1] - 1


@given(mask_pairs())
def test_scikit_image_and_scipy_agree(pair: tuple[Mask, Mask]) -> None:
    components = Components.of(pair[0])
    assert components.count - components.holes == euler_number(np.pad(pair[0], 1), connectivity=2)
    truth, predicted = map(betti, pair)
    counts = count_image(*pair)
    assert counts["betti0_error"] == abs(truth[0] - predicted[0])
    assert counts["betti1_error"] == abs(truth[1] - predicted[1])


def test_tracks() -> None:
    truth = window(0, 256)
    prediction = damaged(truth, 30, 0)
    counts = count_image(truth, prediction)
    assert (counts["betti0_error"], counts["betti1_error"]) == tuple(
        abs(a - b) for a, b in zip(betti(truth), betti(prediction), strict=True)
    )
    assert counts["betti0_error"] > 0


def test_cut_pinhole_and_loop_by_hand() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:15, 5:35] = truth[25:30, 5:35] = True
    cut, pinhole, loop = truth.copy(), truth.copy(), truth.copy()
    cut[:, 20] = False
    pinhole[12, 20] = False
    loop[10:30, 5:8] = loop[10:30, 32:35] = True
    for prediction, expected in ((truth, (0, 0)), (cut, (2, 0)), (pinhole, (0, 1)), (loop, (1, 1))):
        counts = count_image(truth, prediction)
        assert (counts["betti0_error"], counts["betti1_error"]) == expected


def test_pixels_that_touch_by_corners_enclose_a_hole() -> None:
    ring = np.zeros((5, 5), bool)
    ring[1, 2] = ring[3, 2] = ring[2, 1] = ring[2, 3] = True
    assert (Components.of(ring).count, Components.of(ring).holes) == (1, 1)


def test_mean_and_sum_over_images() -> None:
    counts = {"betti0_error": np.array([3, 0]), "betti1_error": np.array([1, 1])}
    assert reduce(counts, "image") == pytest.approx({"betti0_error": 1.5, "betti1_error": 1.0})
    assert reduce(counts, "pooled") == pytest.approx({"betti0_error": 3.0, "betti1_error": 2.0})

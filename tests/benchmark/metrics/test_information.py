"""Variation of information against scikit-image's and its own properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage
from skimage.metrics import variation_of_information

from benchmark.metrics import count_image, ratios
from benchmark.metrics.components import Components, Mask, Overlap
from benchmark.metrics.information import information_counts
from tests.benchmark.metrics.layouts import damaged, tracks, window
from tests.benchmark.metrics.reference import EIGHT
from tests.benchmark.metrics.strategies import SPECIAL, mask_pairs, special


def vi_of(truth: Mask, prediction: Mask, ignore: Mask | None = None) -> tuple[float, float]:
    counts = count_image(truth, prediction, ignore=ignore)
    values = ratios({name: np.array([value]) for name, value in counts.items()})
    return float(values["vi_split"][0]), float(values["vi_merge"][0])


def skimage_vi(truth: Mask, prediction: Mask, counted: Mask | None = None) -> tuple[float, float]:
    """(H(P|G), H(G|P)), the background a segment like any other."""
    labels = (ndimage.label(mask, EIGHT)[0] for mask in (truth, prediction))
    split, merge = variation_of_information(*(image if counted is None else image[counted] for image in labels))
    return float(split), float(merge)


@given(mask_pairs())
def test_scikit_image_agrees_to_the_last_nanobit(pair: tuple[Mask, Mask]) -> None:
    counts = information_counts(Overlap.of(*pair))
    for stored, expected in zip(counts.values(), skimage_vi(*pair), strict=True):
        assert stored == pytest.approx(expected * pair[0].size * 1e9, abs=0.5 + 1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_is_below_1e_12_on_large_image(seed: int) -> None:
    truth = tracks(512, 10, 6, margin=12) if seed % 2 else window(seed, 512)
    prediction = damaged(truth, 40, seed)
    if seed == 3:
        prediction ^= np.random.default_rng(seed).random(truth.shape) < 0.1
    assert vi_of(truth, prediction) == pytest.approx(skimage_vi(truth, prediction), abs=1e-12)
    assert min(vi_of(truth, prediction)) > 1e-3


def test_one_cut_and_one_bridge_by_hand() -> None:
    """Two bars of 8 px on 32 px; a net cut without losing a pixel is not to be had, so pieces touch nothing."""
    truth = np.zeros((4, 8), bool)
    truth[0] = truth[2] = True
    assert vi_of(truth, truth) == (0.0, 0.0)
    prediction = truth.copy()
    prediction[0, 3] = False  # 3 + 4 px, and one that falls to the background
    h = -(3 * np.log2(3 / 8) + 4 * np.log2(4 / 8) + np.log2(1 / 8)) / 32
    assert vi_of(truth, prediction) == pytest.approx((h, -(16 * np.log2(16 / 17) + np.log2(1 / 17)) / 32), abs=1e-11)
    bridged = truth.copy()
    bridged[1, 3] = True  # one component of 17 px over two nets and a background pixel
    split, merge = vi_of(truth, bridged)
    assert split == pytest.approx(-(15 * np.log2(15 / 16) + np.log2(1 / 16)) / 32, abs=1e-11)
    assert merge == pytest.approx(-(16 * np.log2(8 / 17) + np.log2(1 / 17)) / 32, abs=1e-11)


@given(mask_pairs())
def test_bounds_symmetry_and_order(pair: tuple[Mask, Mask]) -> None:
    truth, prediction = pair
    split, merge = information_counts(Overlap.of(truth, prediction)).values()
    assert tuple(information_counts(Overlap.of(prediction, truth)).values()) == (merge, split)
    for value, mask in ((split, prediction), (merge, truth)):
        segments = Components.of(mask).count + (not mask.all())
        assert 0 <= value <= 1e9 * mask.size * np.log2(segments) + 1
    for turned in (lambda m: m[::-1], lambda m: m[:, ::-1], lambda m: m.T, lambda m: m[::-1, ::-1].T):
        again = information_counts(Overlap.of(*(turned(mask) for mask in pair)))
        assert tuple(again.values()) == (split, merge)
    assert set(information_counts(Overlap.of(truth, truth)).values()) == {0}


@pytest.mark.parametrize("first", SPECIAL)
@pytest.mark.parametrize("second", ["empty", "full", "pixel", "checkerboard"])
def test_special_masks(first: str, second: str) -> None:
    pair = special(first, 24, 40), special(second, 24, 40)
    assert vi_of(*pair) == pytest.approx(skimage_vi(*pair), abs=1e-12)


def test_empty_and_a_full_mask_are_one_segment_each() -> None:
    empty = np.zeros((5, 6), bool)
    assert vi_of(empty, ~empty) == (0.0, 0.0)


@given(mask_pairs())
def test_ignored_pixels_count_nowhere(pair: tuple[Mask, Mask]) -> None:
    ignore = np.random.default_rng(pair[0].size).random(pair[0].shape) < 0.3
    if ignore.all():
        return
    expected = skimage_vi(pair[0] & ~ignore, pair[1] & ~ignore, ~ignore)
    assert vi_of(*pair, ignore) == pytest.approx(expected, abs=0.51e-9 / np.count_nonzero(~ignore) + 1e-12)


def test_image_without_a_counted_pixel_has_no_value() -> None:
    mask = np.ones((3, 3), bool)
    assert np.isnan(vi_of(mask, mask, mask)).all()

"""Components and overlaps against scipy's and scikit-image's label images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage
from skimage.measure import label, regionprops

from benchmark.metrics.components import Components, Mask, Overlap
from tests.benchmark.metrics.reference import EIGHT, masks_of
from tests.benchmark.metrics.strategies import SPECIAL, mask_pairs, special


def label_image(components: Components) -> np.ndarray:
    image = np.zeros(components.shape, int)
    for index in range(components.count):
        image[components.paint(np.arange(components.count) == index)] = index + 1
    return image


def assert_same_components(mask: Mask) -> None:
    components = Components.of(mask)
    expected, count = ndimage.label(mask, EIGHT)
    assert components.count == count
    np.testing.assert_array_equal(label_image(components), expected)
    np.testing.assert_array_equal(components.area_px, np.bincount(expected.ravel(), minlength=count + 1)[1:])


@given(mask_pairs())
def test_components_equal_ndimage_in_raster_order(pair: tuple[Mask, Mask]) -> None:
    assert_same_components(pair[0])


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (9, 10)])
def test_special_masks(name: str, shape: tuple[int, int]) -> None:
    assert_same_components(special(name, *shape))


def test_diagonal_neighbours_are_one_component_but_row_ends_are_not() -> None:
    assert Components.of(np.eye(5, dtype=bool)).count == 1
    wrap = np.zeros((3, 6), bool)
    wrap[0, -1] = wrap[1, 0] = wrap[2, -1] = True  # neighbours in memory, far apart in the image
    assert Components.of(wrap).count == 3


def test_views_of_larger_arrays_are_accepted() -> None:
    base = np.random.default_rng(0).random((20, 30)) < 0.4
    assert_same_components(base[::2, ::-1])
    assert_same_components(base.T)


def test_areas_and_centroids_equal_scikit_image() -> None:
    mask = np.random.default_rng(1).random((40, 31)) < 0.3
    regions = regionprops(label(mask, connectivity=2))
    components = Components.of(mask)
    assert components.count == len(regions) > 5
    np.testing.assert_allclose(components.centroids(), [region.centroid for region in regions], atol=1e-12)


@given(mask_pairs())
def test_interior_equals_cropped_mask(pair: tuple[Mask, Mask]) -> None:
    mask = pair[0]
    components = Components.of(mask)
    for border in (0, 1, 3, 20):
        inner = np.zeros_like(mask)
        inner[border : mask.shape[0] - border, border : mask.shape[1] - border] = True
        if 2 * border >= min(mask.shape):
            inner[:] = False
        expected = [bool((component & inner).any()) for component in masks_of(mask)]
        assert components.reach_interior(border).tolist() == expected


@given(mask_pairs())
def test_pairs_are_the_histogram_of_two_label_images(pair: tuple[Mask, Mask]) -> None:
    truth, prediction = pair
    overlap = Overlap.of(truth, prediction)
    g, p = ndimage.label(truth, EIGHT)[0], ndimage.label(prediction, EIGHT)[0]
    pairs, counts = np.unique(np.stack([g, p])[:, truth & prediction], axis=1, return_counts=True)
    np.testing.assert_array_equal(np.stack([overlap.truth_index, overlap.predicted_index]) + 1, pairs)
    np.testing.assert_array_equal(overlap.intersection_px, counts)
    unions = [np.count_nonzero((g == i) | (p == k)) for i, k in pairs.T]
    np.testing.assert_array_equal(overlap.union_px, unions)


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.zeros((2, 3), np.uint8), np.zeros((1, 2, 3), bool)])
def test_mask_must_be_bool(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a \(H, W\) bool mask"):
        Components.of(bad)


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"truth is \(2, 3\) and prediction \(3, 2\)"):
        Overlap.of(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


@given(mask_pairs())
def test_touched_components_equal_dilation_by_one_pixel(pair: tuple[Mask, Mask]) -> None:
    (labels, count), (others, _) = (ndimage.label(mask, EIGHT) for mask in pair)
    grown = (ndimage.binary_dilation(labels == index, EIGHT) for index in range(1, count + 1))
    expected = [len(set(others[one].tolist()) - {0}) for one in grown]
    assert Components.of(pair[0]).touched(Components.of(pair[1])).tolist() == expected

"""Outlines against labels that scipy gives, and paths with cuts against what HY5SYN's reader and matplotlib fill."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.formats.svg import rasterise, read_svg
from benchmark.predict.polygons import outlines
from benchmark.predict.polygons.circles import rounded
from benchmark.predict.polygons.outlines import Polygon, trace
from benchmark.predict.polygons.svg_writer import path_of, to_svg

EIGHT = np.ones((3, 3), int)
Mask = NDArray[np.bool_]

masks = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: st.one_of(
        arrays(np.bool_, shape),
        arrays(np.bool_, shape, elements=st.sampled_from([True, True, True, False])),  # full of holes
    )
)


def blobs(seed: int, height: int = 150, width: int = 200) -> Mask:
    noise = np.random.default_rng(seed).standard_normal((height, width))
    return ndimage.gaussian_filter(noise, 2) > 0


def redrawn(tmp_path: Path, mask: Mask) -> Mask:
    path = tmp_path / "a.svg"
    path.write_text(to_svg(mask.shape, trace(mask)))
    return rasterise(read_svg(path)).track


def filled(polygon: Polygon, shape: tuple[int, int]) -> Mask:
    """Pixels whose centres lie in the outer outline and in no hole, by matplotlib."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = Outline(polygon.outer).contains_points(centres)
    for hole in polygon.holes:
        inside &= ~Outline(hole).contains_points(centres)
    return inside.reshape(shape)


@given(masks)
def test_polygons_are_the_8_connected_components_with_their_4_connected_holes(mask: Mask) -> None:
    labels, count = ndimage.label(mask, EIGHT)
    result = trace(mask)
    assert [polygon.area_px for polygon in result] == np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
    for label, polygon in enumerate(result, start=1):
        component = labels == label
        background = ndimage.label(np.pad(~component, 1, constant_values=True))[1]
        assert len(polygon.holes) == background - 1
        for outline in (polygon.outer, *polygon.holes):
            steps = np.roll(outline, -1, axis=0) - outline
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert tuple(outline[0][::-1]) == min(map(tuple, outline[:, ::-1].tolist()))
        if len(np.unique(polygon.outer, axis=0)) == len(polygon.outer):  # else it crosses itself where pixels touch
            np.testing.assert_array_equal(filled(polygon, mask.shape), component)


@given(masks.filter(np.any))
def test_mask_is_read_back_to_the_pixel(tmp_path_factory: pytest.TempPathFactory, mask: Mask) -> None:
    np.testing.assert_array_equal(redrawn(tmp_path_factory.mktemp("svg"), mask), mask)


@pytest.mark.parametrize("seed", range(3))
def test_large_mask_is_read_back_to_the_pixel(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "BAND", 64)  # so that components cross the borders of bands
    mask = blobs(seed)
    result = trace(mask)
    assert sum(len(polygon.holes) for polygon in result) > 20
    np.testing.assert_array_equal(redrawn(tmp_path, mask), mask)


@pytest.mark.parametrize("seed", range(3))
def test_both_rules_of_filling_leave_holes_empty(seed: int) -> None:
    """What is off the line, by winding numbers of the path as a viewer counts them."""
    mask = blobs(seed, 60, 80)
    labels, _ = ndimage.label(mask, EIGHT)
    for label, polygon in enumerate(trace(mask), start=1):
        path = path_of(polygon)
        following = np.roll(path, -1, axis=0)
        y, x = np.mgrid[:60, :80]
        winding = np.zeros(mask.shape, int)
        # Rays to the right from just below the pixels' centres, which no vertex is on.
        for (x0, y0), (x1, y1) in zip(path.tolist(), following.tolist(), strict=True):
            if y0 == y1:
                continue
            low, high = min(y0, y1), max(y0, y1)
            crosses = (y + 0.25 > low) & (y + 0.25 < high)
            at = x0 + (y + 0.25 - y0) * (x1 - x0) / (y1 - y0)
            winding += np.where(crosses & (at > x + 0.1), np.sign(y1 - y0), 0)
        component = labels == label
        solid = ndimage.binary_erosion(component, EIGHT)
        clear = ~ndimage.binary_dilation(component, EIGHT)
        assert set(np.unique(np.abs(winding[solid]))) <= {1}
        assert set(np.unique(winding[clear])) <= {0}


def test_frame_is_one_path_with_a_cut_of_no_width() -> None:
    mask = np.zeros((7, 8), np.bool_)
    mask[1:6, 1:7] = True
    mask[3, 3:5] = False
    (polygon,) = trace(mask)
    assert polygon.outer.tolist() == [[1, 1], [7, 1], [7, 6], [1, 6]]
    assert [hole.tolist() for hole in polygon.holes] == [[[3, 3], [3, 4], [5, 4], [5, 3]]]
    assert polygon.anchors == (1,)
    assert path_of(polygon).tolist() == [
        *([1, 1], [6, 1], [6, 5], [1, 5], [1, 3]),
        *([2, 3], [3, 4], [4, 4], [5, 3], [4, 2], [3, 2], [2, 3], [1, 3]),
    ]


def test_diagonal_lines_take_two_points() -> None:
    (polygon,) = trace(np.eye(40, dtype=np.bool_))
    assert np.unique(path_of(polygon), axis=0).tolist() == [[0, 0], [39, 39]]


def test_nothing_has_no_polygons() -> None:
    assert trace(np.zeros((5, 5), np.bool_)) == []


def test_discs_are_whole_circles_in_red(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(
        to_svg((40, 60), circles=rounded(np.array([[10.4, 20.6, 3.5], [30, 5, 0.2], [40, 20, 99]]), (40, 60)))
    )
    result = read_svg(path)
    assert result.size == (40, 60)
    assert result.vias.tolist() == [[10, 21, 4], [30, 5, 1], [40, 20, 30]]


def test_cuts_leave_a_border_in_the_order_in_which_it_is_followed() -> None:
    mask = np.ones((9, 5), np.bool_)
    mask[[2, 6], 2] = False
    (polygon,) = trace(mask)
    path = path_of(polygon).tolist()
    assert path[:4] == [[0, 0], [4, 0], [4, 8], [0, 8]]
    assert [y for x, y in path if x == 0] == [0, 8, 6, 6, 2, 2]  # upwards, without going back


def test_cuts_into_holes_behind_holes_take_no_memory_of_their_own() -> None:
    polygons = trace(np.random.default_rng(0).random((140, 140)) < 0.6)
    largest = max(polygons, key=lambda polygon: len(polygon.holes))
    corners = len(largest.outer) + sum(map(len, largest.holes))
    assert len(largest.holes) > 150
    tracemalloc.start()
    try:
        path_of(largest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * corners

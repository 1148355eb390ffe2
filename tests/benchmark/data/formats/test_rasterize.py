"""Polygons as masks: exact on pixel borders, a partition where edges are shared, as a point-in-polygon test says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from benchmark.data.formats import rasterize
from benchmark.data.formats.rasterize import Mask, Points, fill


def corners(*points: tuple[float, float]) -> Points:
    return np.array(points, np.float64)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return corners((left, top), (right, top), (right, bottom), (left, bottom))


floats = st.floats(-20, 60, allow_nan=False).map(lambda value: round(value, 3) + 1e-4)  # never on a pixel's centre


@given(st.lists(st.tuples(floats, floats), min_size=3, max_size=12))
def test_pixel_centre_decides(points: list[tuple[float, float]]) -> None:
    """Polygons may cross themselves: both sides count by the even-odd rule."""
    polygon = corners(*points)
    y, x = np.mgrid[0:30, 0:40] + 0.5
    expected, is_near = even_odd(polygon, x, y)
    assert (is_near | (fill([polygon], (30, 40)) == expected)).all()
    triangle = polygon[:3]
    closed = Outline(np.vstack([triangle, triangle[:1]]))
    inside = closed.contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(30, 40)
    assert (even_odd(triangle, x, y)[1] | (fill([triangle], (30, 40)) == inside)).all()


def even_odd(polygon: Points, x: Points, y: Points) -> tuple[Mask, Mask]:
    """Cast a ray to the left from every point; also tell which points an edge passes within a rounding error."""
    inside, is_near = np.zeros(x.shape, bool), np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            crossed = (y0 > y) != (y1 > y)
            right = x - (x0 + (y - y0) * (x1 - x0) / (y1 - y0))
            inside ^= crossed & (right > 0)
            is_near |= crossed & (abs(right) < 1e-9)
    return inside, is_near


def test_corners_on_pixel_borders_give_the_exact_area() -> None:
    mask = fill([rectangle(3, 5, 10, 9)], (20, 30))
    assert mask.sum() == 7 * 4
    assert mask[5:9, 3:10].all()


@given(st.integers(0, 2**32 - 1))
def test_polygons_that_share_edges_partition_the_image(seed: int) -> None:
    """A fan of triangles around a point covers every pixel once, whichever way each triangle is drawn."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(1, 31, 2) / 2  # often on a pixel's centre or border
    outline = corners((0, 0), (5, 0), (16, 0), (16, 7.5), (16, 16), (4, 16), (0, 16), (0, 3))
    fan = [
        corners(tuple(centre), tuple(a), tuple(b)) for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True)
    ]
    fan = [triangle[:: rng.choice([-1, 1])] for triangle in fan]
    assert (sum(fill([triangle], (16, 16)).astype(int) for triangle in fan) == 1).all()


def test_union_counts_overlaps_once_and_keeps_slit_holes() -> None:
    hole = corners((2, 2), (12, 2), (12, 12), (2, 12), (2, 5), (5, 5), (5, 8), (9, 8), (9, 5), (2, 5))
    mask = fill([hole, rectangle(0, 0, 4, 4)], (16, 16))
    assert not mask[5:8, 5:9].any()
    assert mask.sum() == 100 - 12 + 16 - 4


def test_polygon_that_overlaps_itself_is_full_by_the_nonzero_rule() -> None:
    twice = corners((1, 1), (9, 1), (9, 9), (1, 9), (1, 1), (4, 1), (4, 4), (1, 4))
    for polygon in (twice, twice[::-1]):
        assert fill([polygon], (10, 10), nonzero=True).sum() == 64
        assert fill([polygon], (10, 10)).sum() == 64 - 9


@pytest.mark.parametrize("far", [1e6, 1e15, 1e300])
def test_polygons_are_cut_at_the_border(far: float) -> None:
    assert fill([rectangle(-far, -far, far, far)], (8, 9)).all()
    assert not fill([rectangle(far, far, 2 * far, 2 * far), rectangle(-far, 2, -1, 3)], (8, 9)).any()
    assert fill([rectangle(4, -far, 5, far)], (8, 9)).sum() == 8


def test_large_polygons_are_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    polygon = rng.uniform(0, 64, (200, 2))
    whole = fill([polygon], (64, 64))
    monkeypatch.setattr(rasterize, "CHUNK", 97)
    assert (fill([polygon], (64, 64)) == whole).all()

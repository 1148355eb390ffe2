"""Pieces of components against what gdstk joins and matplotlib fills."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.predict.polygons.outlines import trace
from benchmark.predict.polygons.pieces import FIFTHS, pieces_of
from tests.benchmark.predict.shapes import Mask, area, blobs, comb, count, gdstk, masks, merged, pixels_in, polygons_of

NECK_AREA = 2 * 0.5  # of a neck, in square fifths of a pixel: a triangle on either side


def corner_contacts(mask: Mask) -> int:
    nw, ne, sw, se = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    return int(((nw & se & ~ne & ~sw) | (ne & sw & ~nw & ~se)).sum())


@given(masks, st.sampled_from([12, 30, 10**6]))
def test_pieces_cover_each_component_once_and_touch_no_other(mask: Mask, most: int) -> None:
    every = []
    for polygon in trace(mask):
        pieces = list(pieces_of(polygon, most))
        assert len(merged(polygons_of(pieces))) == 1
        assert all(area(piece) > 0 for piece in pieces)
        every += pieces
    together = merged(polygons_of(every))
    assert len(together) == count(mask)
    exact = FIFTHS**2 * mask.sum() + NECK_AREA * corner_contacts(mask)
    assert sum(map(area, every)) == exact
    assert sum(one.area() for one in together) == pytest.approx(exact, rel=1e-3)  # so they nowhere overlap
    np.testing.assert_array_equal(pixels_in(every, mask.shape), mask)


def test_what_has_no_hole_and_few_points_is_one_exact_polygon() -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[2:5, 1:8] = mask[5:8, 3:5] = True
    (piece,) = pieces_of(trace(mask)[0], 8190)
    expected = [[1, 2], [8, 2], [8, 5], [5, 5], [5, 8], [3, 8], [3, 5], [1, 5]]
    assert (piece / FIFTHS).tolist() == expected


def test_pixels_that_touch_by_a_corner_are_joined_by_a_neck() -> None:
    (piece,) = pieces_of(trace(np.eye(2, dtype=np.bool_))[0], 8190)
    apart = [FIFTHS * (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + k) for k in (0, 1)]
    joined, without = (gdstk.boolean(polygons_of(paths), [], "or") for paths in ([piece], apart))
    assert (len(joined), len(without)) == (1, 2)
    assert {tuple(point) for point in piece.tolist()} >= {(4, 5), (5, 4), (6, 5), (5, 6)}


def test_hole_is_cut_open_along_a_row() -> None:
    mask = np.ones((5, 5), np.bool_)
    mask[2, 2] = False
    (piece,) = pieces_of(trace(mask)[0], 8190)
    assert piece.tolist() == [
        *([0, 0], [25, 0], [25, 25], [0, 25], [0, 12]),
        *([10, 12], [10, 15], [15, 15], [15, 10], [10, 10], [10, 12], [0, 12]),
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_long_combs_are_sliced_across(turned: bool) -> None:
    """Of 12,002 points, nearly all of them in two rows."""
    mask = comb(3000).T if turned else comb(3000)
    pieces = [piece for polygon in trace(np.ascontiguousarray(mask)) for piece in pieces_of(polygon, 8190)]
    assert len(pieces) == 2
    assert max(map(len, pieces)) <= 8190
    assert len(merged(polygons_of(pieces))) == 1


def test_ragged_nets_are_sliced_both_ways() -> None:
    mask = blobs(0, 700, 800, 1.2)
    polygons = trace(mask)
    assert max(len(polygon.outer) for polygon in polygons) > 20_000
    pieces = [piece for polygon in polygons for piece in pieces_of(polygon, 8190)]
    assert len(pieces) > len(polygons)
    assert max(map(len, pieces)) <= 8190
    assert sum(map(area, pieces)) == FIFTHS**2 * mask.sum() + NECK_AREA * corner_contacts(mask)

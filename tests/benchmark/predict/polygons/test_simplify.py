"""What simplified outlines must leave as it is, by gdstk on polygons, and by matplotlib and scipy on their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import KDTree

from benchmark.predict.polygons import simplify
from benchmark.predict.polygons.outlines import trace
from benchmark.predict.polygons.pieces import FIFTHS, pieces_of
from benchmark.predict.polygons.simplify import filled, simplified
from tests.benchmark.predict.shapes import (
    EIGHT,
    Mask,
    Points,
    area,
    blobs,
    count,
    gdstk,
    masks,
    merged,
    pixels_in,
    polygons_of,
)

tolerances = st.sampled_from([0.2, 0.49, 0.8, 1, 1.5, 2.5, 6])
MOST = st.sampled_from([20, 8190])


def exact_of(mask: Mask, most: int = 8190) -> tuple[list[Points], list[int]]:
    """All pieces of a mask, and the component of each."""
    result = [(piece, index) for index, polygon in enumerate(trace(mask)) for piece in pieces_of(polygon, most)]
    return [piece for piece, _ in result], [index for _, index in result]


def nets_of_pixels(mask: Mask, drawn: Mask) -> list[set[int]]:
    """For each component of one mask, which of the other it shares pixels with."""
    (first, count_first), (second, _) = ndimage.label(mask, EIGHT), ndimage.label(drawn, EIGHT)
    return [set(np.unique(second[first == label]).tolist()) - {0} for label in range(1, count_first + 1)]


def along(path: Points, step: float = 0.5) -> np.ndarray:
    """Points on a closed path, no farther apart than a step."""
    sides = np.roll(path, -1, axis=0) - path
    counts = (np.hypot(*sides.T) / step).astype(int) + 1
    side = np.repeat(np.arange(len(path)), counts)
    share = (np.arange(len(side)) - np.repeat(counts.cumsum() - counts, counts)) / counts[side]
    return path[side] + share[:, None] * sides[side]


@given(masks, tolerances, MOST)
@example(np.ones((1, 1), np.bool_), 6, 8190)  # a single pixel must not vanish
@example(np.eye(9, dtype=np.bool_), 2.5, 20)
@example(np.indices((9, 9)).sum(axis=0) % 2 == 0, 6, 8190)  # a chessboard is one net with holes
def test_no_net_is_joined_cut_or_lost(mask: Mask, tolerance: float, most: int) -> None:
    paths, owner = exact_of(mask, most)
    result = simplified(list(paths), mask, tolerance)
    assert len(result) == len(paths)
    # As a layout tool sees them: pieces of a net meet, and nothing else does.
    nets = [[one for one, of in zip(result, owner, strict=True) if of == net] for net in range(count(mask))]
    by_net = [merged(polygons_of(net)) for net in nets]
    assert [len(net) for net in by_net] == [1] * count(mask)
    together = merged(polygons_of(result))
    assert len(together) == count(mask)
    areas = sorted(one.area() for one in together)
    assert areas == pytest.approx(sorted(net[0].area() for net in by_net), rel=1e-6)
    assert not areas or areas[0] > 0
    # As pixels again: components are the same, one for one.
    drawn = pixels_in(result, mask.shape)
    assert count(drawn) == count(mask)
    partners = nets_of_pixels(mask, drawn)
    assert all(len(partner) == 1 for partner in partners)
    assert len(set.union(set(), *partners)) == count(mask)
    if tolerance < 0.5:  # no centre is nearer to an outline
        np.testing.assert_array_equal(drawn, mask)


@given(masks, tolerances)
def test_outlines_keep_within_the_tolerance_both_ways(mask: Mask, tolerance: float) -> None:
    paths, _ = exact_of(mask)
    for exact, simple in zip(paths, simplified(list(paths), mask, tolerance), strict=True):
        assert len(simple) <= len(exact)
        assert {tuple(point) for point in simple.tolist()} <= {tuple(point) for point in exact.tolist()}
        one, other = along(exact), along(simple)
        slack = 0.25  # half of what sampled points are apart
        assert KDTree(one).query(other)[0].max() <= tolerance * FIFTHS + slack
        assert KDTree(other).query(one)[0].max() <= tolerance * FIFTHS + slack


@given(masks)
def test_tolerance_of_nothing_leaves_nothing_out(mask: Mask) -> None:
    paths, _ = exact_of(mask)
    for exact, simple in zip(paths, simplified(list(paths), mask, 0.0), strict=True):
        assert exact.tolist() == simple.tolist()


@given(masks, MOST)
def test_pixels_are_filled_as_matplotlib_fills_them(mask: Mask, most: int) -> None:
    paths = simplified(exact_of(mask, most)[0], mask, 1.0)
    closed = [2 * np.concatenate([path, path[:1]]) for path in paths]
    owner = np.repeat(np.arange(len(closed)), [len(path) for path in closed])
    drawn = filled(np.concatenate([np.zeros((0, 2), int), *closed]), owner, mask.shape)
    np.testing.assert_array_equal(drawn, pixels_in(paths, mask.shape))


def test_ragged_outlines_lose_most_of_their_points() -> None:
    y, x = np.mgrid[:300, :300]
    ragged = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((300, 300)), 2) * 5
    mask = (y - 0.13 * x + ragged) % 60 < 25
    paths, _ = exact_of(mask)
    before = sum(map(len, paths))
    after = [sum(map(len, simplified(list(paths), mask, tolerance))) for tolerance in (1, 2, 3)]
    assert (np.array(after) < np.array([0.3, 0.15, 0.06]) * before).all()


def test_edges_of_a_line_askew_become_straight() -> None:
    y, x = np.mgrid[:60, :200]
    mask = np.abs(y - 20 - 0.1 * x) < 8
    paths, _ = exact_of(mask)
    (path,) = simplified(paths, mask, 1.0)
    assert len(path) <= 8


@pytest.mark.parametrize("corner", [False, True])
def test_holes_stay_holes(corner: bool) -> None:
    mask = np.ones((60, 60), np.bool_)
    mask[30, 30] = False
    mask[31, 31] = not corner
    (path,) = simplified(exact_of(mask)[0], mask, 2.5)
    assert 0 < mask.size - area(path) / FIFTHS**2 < 3
    around = polygons_of([np.array([[0, 0], [300, 0], [300, 300], [0, 300]])])
    assert len(gdstk.boolean(around, polygons_of([path]), "not", precision=1e-4)) == 1 + corner


def test_pixels_that_would_join_nets_are_held() -> None:
    """Outlines that do not touch can still have pixels that do: without the look at pixels, some of these would."""
    result = [blobs(seed, 40, 40, 1.2) for seed in range(8)]
    expected = [count(mask) for mask in result]
    assert [count(pixels_in(simplified(exact_of(mask)[0], mask, 2.0), mask.shape)) for mask in result] == expected


@pytest.mark.parametrize("rows", [1, 7, 2**22])
def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    mask = blobs(3, 60, 70)
    expected = simplified(exact_of(mask)[0], mask, 1.5)
    monkeypatch.setattr(simplify, "MOST_ROWS", rows)
    result = simplified(exact_of(mask)[0], mask, 1.5)
    assert [path.tolist() for path in result] == [path.tolist() for path in expected]


def test_nothing_stays_nothing() -> None:
    assert simplified([], np.zeros((3, 3), np.bool_), 1.0) == []

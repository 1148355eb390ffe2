"""Simplifies outlines within a tolerance without changing any net.

A point b between a and c is left out if the replaced points lie within the tolerance of the edge from a to c, and if no
other point lies in the triangle abc. Separate outlines stay separate: an edge across the new edge would end inside the
triangle or cross ab or bc. So nets are neither joined nor cut, and holes stay. The result is drawn and compared with
the mask: where pixels would join or cut nets (at a thin gap, for example), no triangle may hold the centres of these
pixels, and the simplification starts again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.components import Components, Overlap, ranges
from benchmark.predict.polygons.outlines import Integers, Mask
from benchmark.predict.polygons.pieces import FIFTHS, on_cut

PIXEL = 2 * FIFTHS  # lengths are tenths of a pixel, so that its centre has whole numbers
MOST_ROWS = 2**18  # rows of pixels below triangles or beside edges that are computed at a time
ROUNDING = 1e-9


def simplified(paths: list[Integers], mask: Mask, tolerance: float) -> list[Integers]:
    """Leave out points of closed paths; the first point and the ends of cuts and slices stay.

    Args:
        paths: all paths of a mask by :func:`~benchmark.predict.polygons.pieces.pieces_of`; the list is emptied.
        mask: ``(H, W)`` bool.
        tolerance: largest Hausdorff distance from the exact outlines, pixels.

    Returns:
        The paths; the pixels with their centre inside have exactly the mask's 8-connected components.
    """
    if not paths:
        return []
    closed = [2 * np.concatenate([path, path[:1]]) for path in paths]
    paths.clear()
    lengths = np.array([len(path) for path in closed])
    points = np.concatenate(closed)
    owner = np.repeat(np.arange(len(closed)), lengths)
    del closed
    held = np.zeros((0, 2), np.int64)
    while True:
        at = _reduced(points, owner, tolerance * PIXEL, held)
        drawn = filled(points[at], owner[at], mask.shape)
        wrong = _wrong(mask, drawn)
        if not len(wrong):
            break
        held = np.concatenate([held, wrong])
    ends = np.flatnonzero(np.diff(owner[at], append=-1))
    return [path[:-1] // 2 for path in np.split(points[at], ends[:-1] + 1)]


def _reduced(points: Integers, owner: Integers, tolerance: float, held: Integers) -> Integers:
    """Return the indices of the points that stay; arguments as in :func:`filled`, lengths in tenths of a pixel.

    ``held`` are ``(M, 2)`` further points that no triangle may hold.
    """
    count = len(points)
    fixed = on_cut(points // 2)
    fixed[np.flatnonzero(np.diff(owner, prepend=-1))] = True
    fixed[np.flatnonzero(np.diff(owner, append=-1))] = True
    # Of equal distances (of a staircase, for example) the first in a fixed random order counts.
    rank = np.random.default_rng(0).permutation(count)
    distance = np.full(count, np.inf)  # of a point, and the points left out beside it, from the replacing edge
    at = np.arange(count)
    stale = np.flatnonzero(~fixed)
    while True:
        distance[at[stale]] = _distances(points, at[stale - 1], at[stale + 1])
        candidates = _least(distance[at], rank[at], tolerance)
        if not len(candidates):
            return at
        distance[at[candidates]] = np.inf  # stays so for remaining points until a point beside them changes
        chosen = candidates[_new_edges(points[at], fixed[at], candidates)]
        chosen = chosen[~_hold_points(points[at[chosen[:, None] + (-1, 0, 1)]], np.concatenate([points[at], held]))]
        stay = np.ones(len(at), np.bool_)
        stay[chosen] = False
        stale = np.unique((np.cumsum(stay) - 1)[np.concatenate([chosen - 1, chosen + 1])])
        at = at[stay]
        stale = stale[~fixed[at[stale]]]


def _distances(points: Integers, first: Integers, last: Integers) -> NDArray[np.float64]:
    """Return the largest distance of a path's points between first and last from the edge between these two."""
    between = ranges(first + 1, last)
    lengths = last - first - 1
    origin, edge = points[first], points[last] - points[first]
    squared = np.maximum((edge**2).sum(axis=1), 1)
    origin, edge, squared = (np.repeat(values, lengths, axis=0) for values in (origin, edge, squared))
    offset = points[between] - origin
    along = np.clip((offset * edge).sum(axis=1) / squared, 0, 1)
    away = np.hypot(*(offset - along[:, None] * edge).T)
    largest: NDArray[np.float64] = np.maximum.reduceat(away, np.cumsum(lengths) - lengths) if len(away) else away
    return largest


def _least(distance: NDArray[np.float64], rank: Integers, tolerance: float) -> Integers:
    """Return the indices of distances within the tolerance that are less than both neighbours."""
    least = distance <= tolerance + ROUNDING
    less = (distance[:-1] < distance[1:]) | ((distance[:-1] == distance[1:]) & (rank[:-1] < rank[1:]))
    least[:-1] &= less
    least[1:] &= ~less
    return np.flatnonzero(least)


def _new_edges(points: Integers, fixed: Mask, chosen: Integers) -> Mask:
    """Tell for which points the replacing edge does not exist yet, since an outline of two edges has no inside.

    An outline so short has a fixed point, so only edges with a fixed point are compared.
    """
    existing = np.flatnonzero(fixed[:-1] | fixed[1:])
    new = _edge_keys(points[chosen - 1], points[chosen + 1])
    first = np.zeros(len(chosen), np.bool_)
    first[np.unique(new, return_index=True)[1]] = True
    unknown: Mask = first & ~np.isin(new, _edge_keys(points[existing], points[existing + 1]))
    return unknown


def _edge_keys(a: Integers, b: Integers) -> Integers:
    """Return a hash of each edge without its direction; equal hashes of two edges only keep a point more."""
    first, second = (ends[:, 1] << 32 | ends[:, 0] for ends in (a, b))
    keys: Integers = np.minimum(first, second) * 0x5851F42D4C957F2D + np.maximum(first, second)
    return keys


def _hold_points(corners: Integers, points: Integers) -> Mask:
    """Tell which triangles ``(T, 3, 2)`` hold one of the points ``(N, 2)`` beside their corners; borders count."""
    rows = points[:, 1] // PIXEL
    keys = rows << 32 | points[:, 0]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    low, high = (edge(corners[:, :, 1], axis=1) // PIXEL for edge in (np.min, np.max))
    edges = np.roll(corners, -1, axis=1) - corners
    hold = np.zeros(len(corners), np.bool_)
    for some in _portions(high - low + 1):
        row, triangle = ranges(low[some], high[some] + 1), np.repeat(some, (high - low + 1)[some])
        left, right = _extents(corners[triangle], row)
        first = np.searchsorted(keys, row << 32 | left)
        last = np.searchsorted(keys, row << 32 | right, side="right")
        point, triangle = points[order[ranges(first, last)]], np.repeat(triangle, last - first)
        sides = [_beside(corners[:, index], edges[:, index], triangle, point) for index in range(3)]
        inside = np.flatnonzero((np.minimum.reduce(sides) >= 0) | (np.maximum.reduce(sides) <= 0))
        triangle, point = triangle[inside], point[inside]
        hold[triangle[(corners[triangle] != point[:, None]).any(axis=2).all(axis=1)]] = True
    return hold


def _extents(corners: Integers, row: Integers) -> tuple[Integers, Integers]:
    """Return bounds of x of each triangle ``(T, 3, 2)`` in a row of pixels."""
    left, right = np.full(len(row), np.inf), np.full(len(row), -np.inf)
    top, bottom = row * PIXEL, (row + 1) * PIXEL
    for first, second in ((0, 1), (1, 2), (2, 0)):
        (x0, y0), (x1, y1) = corners[:, first].T, corners[:, second].T
        within = (np.minimum(y0, y1) <= bottom) & (np.maximum(y0, y1) >= top)
        slope = (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
        for y, x in ((y0, x0), (y1, x1)):
            here = np.where(y1 == y0, x, x0 + (np.clip(y, top, bottom) - y0) * slope)
            left = np.where(within, np.minimum(left, here), left)
            right = np.where(within, np.maximum(right, here), right)
    return np.floor(left).astype(np.int64) - 1, np.ceil(right).astype(np.int64) + 1


def _beside(origins: Integers, edges: Integers, of: Integers, points: Integers) -> Integers:
    """Return the side of an edge ``(T, 2)`` on which each point ``(n, 2)`` lies, as a cross product."""
    sides: Integers = edges[of, 0] * (points[:, 1] - origins[of, 1]) - edges[of, 1] * (points[:, 0] - origins[of, 0])
    return sides


def _portions(rows: Integers) -> list[Integers]:
    """Divide the indices of counts of rows into portions of about ``MOST_ROWS``."""
    return np.split(np.arange(len(rows)), np.flatnonzero(np.diff(np.cumsum(rows) // MOST_ROWS)) + 1)


def filled(points: Integers, owner: Integers, shape: tuple[int, int]) -> Mask:
    """Return the pixels ``(H, W)`` whose centres lie inside of closed paths that do not overlap.

    A centre on an edge counts as if it lay a little farther to the right.

    Args:
        points: ``(N, 2)`` tenths of a pixel, path after path, the first point of each once more at its end.
        owner: ``(N,)`` the path of each.
        shape: height and width.
    """
    height, width = shape
    turns = np.zeros((height, width + 1), np.uint8)
    edge = np.flatnonzero((owner[:-1] == owner[1:]) & (points[:-1, 1] != points[1:, 1]))
    down = points[edge, 1] < points[edge + 1, 1]
    (x0, y0), (x1, y1) = points[np.where(down, edge, edge + 1)].T, points[np.where(down, edge + 1, edge)].T
    first, last = ((y + FIFTHS - 1) // PIXEL for y in (y0, y1))  # the first row whose centre is not above
    for some in _portions(last - first):
        row, of = ranges(first[some], last[some]), np.repeat(some, (last - first)[some])
        rise = y1[of] - y0[of]
        run = x0[of] * rise + (row * PIXEL + FIFTHS - y0[of]) * (x1[of] - x0[of])
        column = -((FIFTHS * rise - run) // (PIXEL * rise))  # the first whose centre is not to the left
        np.bitwise_xor.at(turns, (row, np.clip(column, 0, width)), 1)
    np.bitwise_xor.accumulate(turns, axis=1, out=turns)
    return turns[:, :width].view(np.bool_)


def _wrong(mask: Mask, drawn: Mask) -> Integers:
    """Return the centres ``(n, 2)`` of changed pixels that change nets; none if the nets of both masks are equal.

    Both masks are ``(H, W)``. Between two parts of a net that was cut lies a group of changed pixels that touches both.
    """
    overlap = Overlap.of(mask, drawn)
    counts = overlap.truth.count, overlap.prediction.count
    pairs = np.sort(overlap.truth_index), np.sort(overlap.predicted_index)
    if all(np.array_equal(pair, np.arange(count)) for pair, count in zip(pairs, counts, strict=True)):
        return np.zeros((0, 2), np.int64)
    added, removed = Components.of(drawn & ~mask), Components.of(mask & ~drawn)
    wrong = added.paint(added.touched(overlap.truth) != 1) | removed.paint(removed.touched(overlap.prediction) != 1)
    y, x = np.nonzero(wrong if wrong.any() else mask != drawn)
    return np.column_stack([x, y]) * PIXEL + FIFTHS

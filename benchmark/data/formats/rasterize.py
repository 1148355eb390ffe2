"""Draws polygons as masks: a pixel belongs to a polygon if its centre does."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]

CHUNK = 1 << 22  # crossings of edges with rows at a time, some 200 MB


def fill(polygons: Iterable[Points], shape: tuple[int, int], *, nonzero: bool = False) -> Mask:
    """Draw the union of polygons.

    The pixel of row r and column c spans ``[c, c + 1) x [r, r + 1)``. A centre on an edge belongs to the polygon to its
    right or below: two polygons that share an edge have neither overlap nor gap, and a polygon with corners on the
    pixels' borders has its exact area.

    Args:
        polygons: the corners of each, ``(n, 2)`` finite float64 as (x, y). Holes that a slit joins to the outline stay
            empty.
        shape: height and width; parts outside are cut off.
        nonzero: fill a polygon where it overlaps itself, as SVG does; by default the even-odd rule decides.

    Returns:
        ``(H, W)`` bool.
    """
    mask = np.zeros(shape, np.bool_)
    for corners in polygons:
        _add(mask, corners, nonzero)
    return mask


def _add(mask: Mask, corners: Points, nonzero: bool) -> None:
    height, width = mask.shape
    (x, slope), low, high, turns = _edges(corners)
    first, last = _rows(low, high, height)
    top, bottom = int(first.min(initial=height)), int(last.max(initial=0))
    sides = np.array([corners[:, 0].min(), corners[:, 0].max()])
    left, right = np.clip(np.ceil(sides - 0.5), 0, width).astype(int).tolist()
    if top >= bottom or left >= right:
        return
    counts, columns = last - first, right - left + 1
    # For each row, the change at each column of how often the outline winds around the pixels to the right.
    changes = np.zeros((bottom - top) * columns, np.int64)
    ends = np.cumsum(counts)
    for start in range(0, int(ends[-1]), CHUNK):
        number = np.arange(start, min(start + CHUNK, int(ends[-1])))
        edge = np.searchsorted(ends, number, side="right")
        row = first[edge] + number - (ends[edge] - counts[edge])
        crossing = x[edge] + (row + 0.5 - low[edge]) * slope[edge]
        column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64) - left
        changes += np.bincount((row - top) * columns + column, turns[edge], changes.size).astype(np.int64)
    winding = np.cumsum(changes.reshape(-1, columns), axis=1)[:, :-1]
    mask[top:bottom, left:right] |= winding != 0 if nonzero else winding % 2 == 1


def _edges(corners: Points) -> tuple[tuple[Points, Points], Points, Points, Points]:
    """Return, of each edge, x of the upper end and dx/dy, y of both ends, and 1 where it leads down or -1 up."""
    following = np.roll(corners, -1, axis=0)
    down = (following[:, 1] > corners[:, 1])[:, None]
    start, end = np.where(down, corners, following), np.where(down, following, corners)
    rise = end[:, 1] - start[:, 1]
    slope = (end[:, 0] - start[:, 0]) / np.where(rise > 0, rise, 1)
    return (start[:, 0], slope), start[:, 1], end[:, 1], np.where(down[:, 0], 1.0, -1.0)


def _rows(low: Points, high: Points, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row whose centre each edge reaches, and the first row after its last."""
    return tuple(np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (low, high))  # type: ignore[return-value]

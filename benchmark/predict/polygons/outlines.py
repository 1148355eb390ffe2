"""Traces the outlines of a mask's components along the edges of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

BAND = 512  # rows per search for corners, so that a large mask needs no second mask in memory
RIGHT, DOWN, LEFT, UP = range(4)


@dataclass(frozen=True, eq=False)
class Polygon:
    """One 8-connected component.

    Corners are (x, y) on the lattice between pixels: the pixel in row y and column x is the square from (x, y) to
    (x + 1, y + 1). The first corner of an outline is its topmost, of these the leftmost; edges are horizontal and
    vertical by turns. With y downwards, the foreground lies to the right of every edge: ``outer`` runs clockwise, holes
    run the other way. Where pixels touch by a corner only, an outline passes that corner twice.

    Attributes:
        outer: ``(n, 2)`` int64.
        holes: ``(n, 2)`` int64 each, in raster order of their first corners.
        anchors: for each hole, the column in which the run of foreground to the left of its first pixel begins: a cut
            from the hole to there stays in the foreground, and ends at the outer outline or at an earlier hole's.
    """

    outer: Integers
    holes: tuple[Integers, ...]
    anchors: tuple[int, ...]

    @property
    def area_px(self) -> int:
        """Number of pixels (the shoelace formula; holes, which run the other way, count negative)."""
        doubled = 0
        for outline in (self.outer, *self.holes):
            x, y = outline.T
            doubled += int(x @ np.roll(y, -1) - y @ np.roll(x, -1))
        return doubled // 2


def trace(mask: Mask) -> list[Polygon]:
    """Return the components of a ``(H, W)`` bool mask as polygons, in raster order of their first pixels.

    Memory beside the mask grows with the number of corners, not of pixels.
    """
    if not mask.any():
        return []
    edges = _edges(*_corners(mask), mask.shape[1] + 1)
    return _polygons(mask, edges, *_outlines(edges, mask.shape[1] + 1))


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges ``(E,)``: start and end as flat lattice positions ``y * (W + 1) + x``, and direction.

    Horizontal edges come first, in raster order; then vertical edges, by column.
    """

    starts: Integers
    ends: Integers
    directions: Integers


def count_corners(mask: Mask) -> int:
    """Return the number of corners of a ``(H, W)`` bool mask's outlines, in little more than the mask's memory."""
    return sum(int(times.sum()) for _, times, _ in _turns(mask))


def _corners(mask: Mask) -> tuple[Integers, Mask]:
    """Return the corners' flat positions in raster order and whether the pixel below right is foreground."""
    bands = [(np.repeat(position, times), np.repeat(below, times)) for position, times, below in _turns(mask)]
    return np.concatenate([position for position, _ in bands]), np.concatenate([below for _, below in bands])


def _turns(mask: Mask) -> Iterator[tuple[Integers, Integers, Mask]]:
    """Yield, for a band of rows, positions of corners, their number, and whether the pixel below right is foreground.

    Pixels that touch diagonally have two corners there, since two outlines turn there, or one turns twice.
    """
    height, width = mask.shape
    for top in range(0, height + 1, BAND):
        bottom = min(top + BAND, height + 1)
        framed = np.zeros((bottom - top + 1, width + 2), np.bool_)
        first = max(top - 1, 0)
        rows = mask[first:bottom]
        framed[first - top + 1 : first - top + 1 + len(rows), 1:-1] = rows
        nw, ne, sw, se = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
        across, down = nw != ne, nw != sw
        turns = (across | (sw != se)) & (down | (ne != se))
        position = np.flatnonzero(turns)
        times = 1 + (across & down & (nw == se)).ravel()[position].astype(np.int64)
        yield position + top * (width + 1), times, se.ravel()[position]


def _edges(corners: Integers, below: Mask, stride: int) -> _Edges:
    """Join corners: in every row, and in every column, the first with the second, the third with the fourth."""
    by_column = np.lexsort((corners, corners % stride))
    pairs = np.concatenate([corners, corners[by_column]]).reshape(-1, 2)
    # Foreground lies below a horizontal edge, or right of a vertical one, where it is below right of its first corner.
    inside = np.concatenate([below, below[by_column]])[::2]
    horizontal = np.arange(len(pairs)) < len(corners) // 2
    forwards = inside == horizontal
    directions = np.where(horizontal, np.where(forwards, RIGHT, LEFT), np.where(forwards, DOWN, UP))
    starts, ends = np.where(forwards[:, None], pairs, pairs[:, ::-1]).T
    return _Edges(starts, ends, directions)


def _outlines(edges: _Edges, stride: int) -> tuple[list[Integers], Integers]:
    """Follow the edges around; return each outline's corners ``(n, 2)`` and the outline of each edge ``(E,)``."""
    keys = edges.starts * 4 + edges.directions
    order = np.argsort(keys)
    keys = keys[order]
    # Both ways go on only where two pixels touch diagonally. To the left, the outline stays with both of them.
    left, right = (edges.ends * 4 + (edges.directions + turn) % 4 for turn in (UP, DOWN))
    at = np.searchsorted(keys, left)
    at[at == len(keys)] = 0
    following = order[np.where(keys[at] == left, at, np.searchsorted(keys, right))].tolist()
    owner = np.full(len(keys), -1)
    outlines: list[Integers] = []
    for first in range(len(keys) // 2):  # the topmost edge of an outline comes before its others
        if owner[first] >= 0:
            continue
        # Above a hole, the edge runs leftwards and ends at the first corner.
        begin = first if edges.directions[first] == RIGHT else following[first]
        path = [begin]
        while (edge := following[path[-1]]) != begin:
            path.append(edge)
        owner[path] = len(outlines)
        positions = edges.starts[path]
        outlines.append(np.stack([positions % stride, positions // stride], axis=1))
    return outlines, owner


def _polygons(mask: Mask, edges: _Edges, outlines: list[Integers], owner: Integers) -> list[Polygon]:
    """Assign each hole to the component around it, which is on its left."""
    height, width = mask.shape
    rising = np.flatnonzero(edges.directions == UP)  # the left borders of runs, by column and then downwards
    rising_at = edges.ends[rising] % (width + 1) * (height + 1) + edges.ends[rising] // (width + 1)
    component = np.full(len(outlines), -1)
    polygons: list[tuple[Integers, list[Integers], list[int]]] = []
    for index, outline in enumerate(outlines):
        x, y = (int(value) for value in outline[0])
        if outline[1, 1] == y:  # clockwise, to the right from the topmost corner
            component[index] = len(polygons)
            polygons.append((outline, [], []))
            continue
        run = mask[y, :x][::-1]
        anchor = 0 if run.all() else x - int(run.argmin())
        neighbour = owner[rising[np.searchsorted(rising_at, anchor * (height + 1) + y, side="right") - 1]]
        component[index] = component[neighbour]
        _, holes, anchors = polygons[component[index]]
        holes.append(outline)
        anchors.append(anchor)
    return [Polygon(outer, tuple(holes), tuple(anchors)) for outer, holes, anchors in polygons]

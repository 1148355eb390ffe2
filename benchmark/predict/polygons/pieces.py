"""Divides polygons into pieces without holes and with few points, for layout files.

Outlines stay on the edges of pixels with one exception: pixels that touch by a corner only are one net here, while a
layout tool sees two nets that meet at a point. There, the outline cuts the corner by a fifth of a pixel and leaves a
neck, so that no outline touches itself or another. Holes are cut open, and outlines with too many points are sliced,
along lines inside of pixels that meet no corner: all points are exact, and pieces abut without gap or overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmark.predict.polygons.cuts import cut_open
from benchmark.predict.polygons.outlines import Integers, Mask, Polygon

FIFTHS = 5  # units of length in a pixel's side
NECK, CUT, SLICE = 1, 2, 3  # fifths from a pixel's edge: necks end there, cuts to holes run there, slices run there
X, Y = range(2)


def pieces_of(polygon: Polygon, most: int) -> Iterator[Integers]:
    """Yield a component as closed paths ``(n, 2)`` in fifths of a pixel, of at most ``most`` points each.

    Their inside is on the right of each edge, with y downwards. A path passes a cut in both directions.
    """
    waiting = [_opened(polygon)]
    while waiting:
        path = waiting.pop()
        line = _line(path) if len(path) > most else None
        if line is None:
            yield path
        else:
            waiting += _sliced(path, *line)


def on_cut(points: Integers) -> Mask:
    """Tell which points ``(n, 2)`` end a cut or a slice."""
    within = points % FIFTHS
    ends: Mask = ((within == CUT) | (within == SLICE)).any(axis=1)
    return ends


def _opened(polygon: Polygon) -> Integers:
    """Return a component as one path, with necks where its pixels touch by a corner."""
    rings = [ring * FIFTHS for ring in (polygon.outer, *polygon.holes)]
    corners = np.concatenate(rings)
    keys, times = np.unique(_keys(corners), return_counts=True)
    ends = np.empty((len(polygon.holes), 2), np.int64)
    for index, hole in enumerate(rings[1:]):
        ends[index] = polygon.anchors[index] * FIFTHS, hole[0, 1] + CUT
        begin = hole[0] + (0, CUT)  # the first edge leads downwards
        rings[index + 1] = np.concatenate([begin[None], hole[1:], hole[:1]])
    path = cut_open(polygon, rings, ends)
    twice = np.isin(_keys(path), keys[times > 1]) & ~on_cut(path)
    before, after = np.roll(path, 1, axis=0), np.roll(path, -1, axis=0)
    necks = [path + NECK * np.sign(beside - path) for beside in (before, after)]
    turns = np.stack([np.where(twice[:, None], necks[0], path), necks[1]], axis=1)
    opened: Integers = turns[np.stack([np.ones_like(twice), twice], axis=1)]
    return opened


def _keys(points: Integers) -> Integers:
    keys: Integers = points[:, Y] << 32 | points[:, X]
    return keys


def _line(path: Integers) -> tuple[int, int] | None:
    """Return an axis and where to cut it, so that about half the points lie on each side; ``None`` if nowhere."""
    low, high = path.min(axis=0), path.max(axis=0)
    for axis in np.argsort(low - high, kind="stable").tolist():
        first, last = (-(-(low[axis] + 1 - SLICE) // FIFTHS), (high[axis] - 1 - SLICE) // FIFTHS)
        if first <= last:
            middle = int(np.median(path[:, axis])) // FIFTHS
            return axis, int(np.clip(middle, first, last)) * FIFTHS + SLICE
    return None


def _sliced(path: Integers, axis: int, at: int) -> Iterator[Integers]:
    """Cut a closed path by the line on which the coordinate ``axis`` is ``at``, which no point is on."""
    across = 1 - axis
    beyond = path[:, axis] > at
    crossing = np.flatnonzero(beyond != np.roll(beyond, -1))  # edges, which the line meets at right angles
    points = path[crossing]
    points[:, axis] = at
    # Along the line, edges lead into the inside and out of it by turns; of the two of a cut, which lie on each other,
    # the one that leads out comes first.
    entering = beyond[crossing] if axis == Y else ~beyond[crossing]
    order = np.argsort(2 * points[:, across] + entering)
    partner = np.empty_like(order)
    partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    partner_of = partner.tolist()
    used = [False] * len(crossing)
    for here in range(len(crossing)):
        parts = []
        while not used[here]:
            used[here] = True
            following = (here + 1) % len(crossing)
            first, last = int(crossing[here]) + 1, int(crossing[following]) + 1
            between = path[first:last] if first <= last else np.concatenate([path[first:], path[:last]])
            parts += [points[here : here + 1], between, points[following : following + 1]]
            here = partner_of[following]
        if parts:
            yield np.concatenate(parts)

"""Joins the holes of a component to its outline by cuts of no width."""

from __future__ import annotations

import numpy as np

from benchmark.predict.polygons.outlines import Integers, Polygon


def cut_open(polygon: Polygon, paths: list[Integers], ends: Integers) -> Integers:
    """Join a component's paths; the cuts run along rows of foreground pixels.

    Args:
        polygon: the component.
        paths: drawn outer outline and holes, ``(k n, 2)`` each: ``k`` points for each of the ``n`` edges; a hole's
            begin at its cut. The list is emptied.
        ends: the end ``(m, 2)`` of each hole's cut, on another outline's edge.

    Returns:
        ``(n, 2)`` points; the first of an edge's ``k`` points lies before the end of a cut.
    """
    rings = [polygon.outer, *polygon.holes]
    if not polygon.holes:
        return paths[0]
    per_edge = len(paths[0]) // len(polygon.outer)
    # Each hole's cut ends at a left border, that is at a rising edge, of an earlier ring.
    cuts: list[list[tuple[int, int, int]]] = [[] for _ in rings]
    rows = np.array([hole[0, 1] for hole in polygon.holes])
    for index, (ring, edge) in enumerate(_rising_edges_at(rings, np.column_stack([polygon.anchors, rows]))):
        cuts[ring].append((edge, -int(rows[index]), index + 1))
    for ring in range(len(rings) - 1, -1, -1):  # what is cut into a hole is complete before the hole itself is used
        parts, behind = [], 0
        for edge, _, hole in sorted(cuts[ring]):
            end = ends[hole - 1 : hole]
            parts += [paths[ring][behind : per_edge * edge + 1], end, paths[hole], paths[hole][:1], end]
            behind = per_edge * edge + 1
            paths[hole] = end  # frees the hole; otherwise holes behind holes would take memory by their square
        paths[ring] = np.concatenate([*parts, paths[ring][behind:]])
    return paths[0]


def _rising_edges_at(rings: list[Integers], ends: Integers) -> list[tuple[int, int]]:
    """Return the ring, and the edge within it, whose foreground side begins at each pixel ``(m, 2)``."""
    x, y = np.concatenate(rings).T
    top = np.concatenate([np.roll(ring[:, 1], -1) for ring in rings])
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    edge_of = np.concatenate([np.arange(len(ring)) for ring in rings])
    rising = np.flatnonzero(top < y)
    stride = int(y.max()) + 1
    keys = x[rising] * stride + top[rising]
    order = np.argsort(keys)
    edges = rising[order[np.searchsorted(keys[order], ends[:, 0] * stride + ends[:, 1], side="right") - 1]]
    return list(zip(ring_of[edges].tolist(), edge_of[edges].tolist(), strict=True))

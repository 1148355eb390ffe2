"""Polygons as HY5SYN's labels have them: an SVG with lime paths through the centres of border pixels and red circles.

The schema knows no holes. A hole is joined to the outline around it by a cut of no width, along a row of foreground
pixels: one closed path per component, of which the even-odd and the non-zero rule both leave the holes empty, and which
covers, with its line, exactly the component's pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from benchmark.predict.outlines import Integers, Polygon

LEAST_POINTS = 3  # of a path that readers take for a polygon; a single pixel is one point three times


def to_svg(shape: tuple[int, int], polygons: Iterable[Polygon] = (), discs: NDArray[np.float64] | None = None) -> str:
    """Return an SVG of an image's size.

    Args:
        shape: height and width of the image.
        polygons: tracks, drawn exactly.
        discs: vias ``(n, 3)``: centre x, centre y, radius; rounded to whole pixels, with a radius of at least one and
            at most half the longer side.
    """
    height, width = shape
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    ]
    for polygon in polygons:
        drawn = " L".join(f"{x},{y}" for x, y in path_of(polygon).tolist())
        lines.append(f'<path d="M{drawn} Z" fill="lime"/>')
    for x, y, radius in [] if discs is None else np.rint(discs).astype(int).tolist():
        r = max(min(radius, max(shape) // 2), 1)
        lines.append(f'<circle cx="{x}" cy="{y}" r="{r}" fill="red"/>')
    return "\n".join([*lines, "</svg>", ""])


def path_of(polygon: Polygon) -> Integers:
    """Return a component as one closed path of pixels ``(n, 2)`` as (x, y), with its holes cut open."""
    rings = [polygon.outer, *polygon.holes]
    paths = [_border_pixels(ring) for ring in rings]
    if polygon.holes:
        # Each hole's cut ends at a left border, that is at a rising edge, of an earlier ring.
        cuts: list[list[tuple[int, int, int]]] = [[] for _ in rings]
        ends = np.column_stack([polygon.anchors, [hole[0, 1] for hole in polygon.holes]])
        for index, (ring, edge) in enumerate(_rising_edges_at(rings, ends)):
            cuts[ring].append((edge, -int(ends[index, 1]), index + 1))
        for ring in range(len(rings) - 1, -1, -1):  # what is cut into a hole is complete before the hole itself is used
            parts, behind = [], 0
            for edge, _, hole in sorted(cuts[ring]):
                end = ends[hole - 1 : hole]
                parts += [paths[ring][behind : 2 * edge + 1], end, paths[hole], paths[hole][:1], end]
                behind = 2 * edge + 1
                paths[hole] = end  # it is cut in once; kept, holes behind holes would take memory by their square
            paths[ring] = np.concatenate([*parts, paths[ring][behind:]])
    return _simplified(paths[0])


def _border_pixels(outline: Integers) -> Integers:
    """Return the first and the last pixel ``(2 n, 2)`` along each edge, on its foreground side."""
    following = np.roll(outline, -1, axis=0)
    along = np.sign(following - outline)
    inwards = np.stack([-along[:, 1], along[:, 0]], axis=1)
    first, last = outline + (along + inwards - 1) // 2, following + (inwards - along - 1) // 2
    return np.stack([first, last], axis=1).reshape(-1, 2)


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
    found = order[np.searchsorted(keys[order], ends[:, 0] * stride + ends[:, 1], side="right") - 1]
    return list(zip(ring_of[rising[found]].tolist(), edge_of[rising[found]].tolist(), strict=True))


def _simplified(path: Integers) -> Integers:
    """Leave out repeated points and those at which a closed path goes straight on."""
    path = path[(path != np.roll(path, -1, axis=0)).any(axis=1)] if (path != path[0]).any() else path[:1]
    # All steps are horizontal, vertical or diagonal: one direction out of eight.
    arriving, leaving = np.sign(path - np.roll(path, 1, axis=0)), np.sign(np.roll(path, -1, axis=0) - path)
    kept = path[(arriving != leaving).any(axis=1)] if len(path) > 1 else path
    return np.concatenate([kept, np.repeat(kept[-1:], max(LEAST_POINTS - len(kept), 0), axis=0)])

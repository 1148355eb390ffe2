"""Writes polygons and vias as SVG, like HY5SYN's labels.

The schema has no holes. A cut of no width along a row of foreground pixels joins a hole to the outline around it: each
component is one closed path, which covers with its line exactly the component's pixels; the even-odd and the non-zero
rule both leave the holes empty. Files say that the line counts (``data-outline="inside"``).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmark.data.formats.svg import OUTLINE_INSIDE
from benchmark.predict.polygons.circles import Circles
from benchmark.predict.polygons.cuts import cut_open
from benchmark.predict.polygons.outlines import Integers, Polygon

NO_CIRCLES = np.zeros((0, 3))
LEAST_POINTS = 3  # of a path that readers take for a polygon; a single pixel is one point three times


def to_svg(shape: tuple[int, int], polygons: Iterable[Polygon] = (), circles: Circles = NO_CIRCLES) -> str:
    """Return an SVG of an image's size.

    Args:
        shape: height and width of the image.
        polygons: tracks, drawn exactly.
        circles: vias ``(n, 3)``: x and y of the centre's pixel, and the radius.
    """
    height, width = shape
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f"{OUTLINE_INSIDE}>"
    ]
    for polygon in polygons:
        drawn = " L".join(f"{x},{y}" for x, y in path_of(polygon).tolist())
        lines.append(f'<path d="M{drawn} Z" fill="lime"/>')
    lines += [f'<circle cx="{x:.10g}" cy="{y:.10g}" r="{r:g}" fill="red"/>' for x, y, r in circles.tolist()]
    return "\n".join([*lines, "</svg>", ""])


def path_of(polygon: Polygon) -> Integers:
    """Return a component as one closed path of pixels ``(n, 2)`` as (x, y), with its holes cut open."""
    paths = [_border_pixels(ring) for ring in (polygon.outer, *polygon.holes)]
    ends = np.array([(anchor, hole[0, 1]) for anchor, hole in zip(polygon.anchors, polygon.holes, strict=True)])
    return _simplified(cut_open(polygon, paths, ends))


def _border_pixels(outline: Integers) -> Integers:
    """Return the first and the last pixel ``(2 n, 2)`` along each edge, on its foreground side."""
    following = np.roll(outline, -1, axis=0)
    along = np.sign(following - outline)
    inwards = np.stack([-along[:, 1], along[:, 0]], axis=1)
    first, last = outline + (along + inwards - 1) // 2, following + (inwards - along - 1) // 2
    return np.stack([first, last], axis=1).reshape(-1, 2)


def _simplified(path: Integers) -> Integers:
    """Leave out repeated points and points on straight lines of a closed path."""
    path = path[(path != np.roll(path, -1, axis=0)).any(axis=1)] if (path != path[0]).any() else path[:1]
    # All steps are horizontal, vertical or diagonal: one direction out of eight.
    arriving, leaving = np.sign(path - np.roll(path, 1, axis=0)), np.sign(np.roll(path, -1, axis=0) - path)
    corners = path[(arriving != leaving).any(axis=1)] if len(path) > 1 else path
    return np.concatenate([corners, np.repeat(corners[-1:], max(LEAST_POINTS - len(corners), 0), axis=0)])

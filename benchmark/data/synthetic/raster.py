"""Draws the nets, vias and unlabelled shapes of a canvas as masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.measure import label

from benchmark.data.synthetic.layout import Canvas, MetalBar

# Points per rounded corner; at the largest radius (half a 150 px pad) the polygon is within 0.4 px of the arc.
CORNER_POINTS = 5


@dataclass(frozen=True)
class Raster:
    """A window of a layout."""

    # ``(H, W)`` int32, 0 on background; one number per 8-connected component, so a net that the window's border cuts in
    # two counts twice
    nets: NDArray[np.int32]
    track: NDArray[np.bool_]  # ``(H, W)`` bool, ``nets > 0``
    via: NDArray[np.bool_]  # ``(H, W)`` bool
    core: NDArray[np.bool_]  # ``(H, W)`` bool, the inner part of each via, which some appearances draw darker
    lower: NDArray[np.bool_]  # ``(H, W)`` bool, the layer below
    decoration: NDArray[np.bool_]  # ``(H, W)`` bool, unlabelled shapes
    centres: NDArray[np.float64]  # ``(N, 3)`` float64, x, y and radius of the vias whose centre lies in the window


@dataclass(frozen=True)
class Placement:
    """The window's upper left corner on the canvas, pixels, and the layout's turn about its middle, radians."""

    left: float
    top: float
    angle: float


def rasterise(canvas: Canvas, placement: Placement, height: int, width: int) -> Raster:
    """Draw the window of ``height`` x ``width`` pixels at its place on the layout's canvas."""
    vias = canvas.vias
    centres = _to_window(np.array([v.centre for v in vias]).reshape(-1, 2), placement, height, width)
    radii = np.array([via.radius for via in vias])
    drawn = _draw_bars(canvas.bars, canvas.corner_px, placement, height, width)
    nets = label(drawn, connectivity=2).astype(np.int32)
    inside = ((centres >= 0) & (centres < (width, height))).all(axis=1)
    track = nets > 0
    return Raster(
        nets=nets,
        track=track,
        via=draw_discs(centres, radii, height, width) & track,
        core=draw_discs(centres, 0.5 * radii, height, width) & track,
        lower=_draw_bars(canvas.lower, canvas.corner_px, placement, height, width) > 0,
        decoration=_draw_bars(canvas.decoration, canvas.corner_px, placement, height, width) > 0,
        centres=np.column_stack([centres[inside], radii[inside]]),
    )


def _to_window(points: NDArray[np.float64], placement: Placement, height: int, width: int) -> NDArray[np.float64]:
    """Move canvas points ``(..., 2)`` into the window and turn them about its middle."""
    middle = np.array([width / 2, height / 2])
    cos, sin = np.cos(placement.angle), np.sin(placement.angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    moved: NDArray[np.float64] = (points - (placement.left, placement.top) - middle) @ turn + middle
    return moved


def _draw_bars(bars: list[MetalBar], corner: float, placement: Placement, height: int, width: int) -> NDArray[np.int32]:
    """Paint each bar's net number; bars overlap only if they belong to one net."""
    image = Image.new("I", (width, height))
    if bars:
        draw = ImageDraw.Draw(image)
        outlines = _to_window(_outlines(bars, corner), placement, height, width)
        low, high = outlines.min(axis=1), outlines.max(axis=1)
        visible = (high >= 0).all(axis=1) & (low < (width, height)).all(axis=1)
        for index in np.flatnonzero(visible).tolist():
            draw.polygon(outlines[index].ravel().tolist(), fill=bars[index].net)
    return np.asarray(image, np.int32)


def _outlines(bars: list[MetalBar], corner: float) -> NDArray[np.float64]:
    """Return the rounded rectangles of bars as polygons ``(N, points, 2)``."""
    start, end = np.array([bar.start for bar in bars]), np.array([bar.end for bar in bars])
    size = np.array([(bar.width, bar.extend) for bar in bars])
    along = end - start
    length = np.hypot(*along.T)
    unit = np.where(length[:, None] > 0, along / np.maximum(length, 1e-9)[:, None], (1.0, 0.0))
    normal = unit[:, ::-1] * (-1, 1)
    half_length, half_width = length / 2 + size[:, 1], size[:, 0] / 2
    radius = np.minimum(np.minimum(half_width, half_length), corner)
    angles = np.linspace(0, np.pi / 2, CORNER_POINTS)
    arcs = np.array([q * np.pi / 2 + angles for q in range(4)])
    signs = np.sign(np.cos(arcs.mean(axis=1))), np.sign(np.sin(arcs.mean(axis=1)))
    u = signs[0][:, None] * (half_length - radius)[:, None, None] + radius[:, None, None] * np.cos(arcs)
    v = signs[1][:, None] * (half_width - radius)[:, None, None] + radius[:, None, None] * np.sin(arcs)
    middle = (start + end) / 2
    outline: NDArray[np.float64] = (
        middle[:, None, None] + u[..., None] * unit[:, None, None] + v[..., None] * normal[:, None, None]
    )
    return outline.reshape(len(bars), -1, 2)


def draw_discs(centres: NDArray[np.float64], radii: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Draw discs of centres ``(N, 2)`` as (x, y) and radii ``(N,)``, pixels."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for (x, y), radius in zip(centres.tolist(), radii.tolist(), strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(image, np.bool_)

"""Draws models as named marks in a scatter plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.plots.name_places import Obstacles, leaders, place
from benchmark.report.plots.plot_style import (
    DPI,
    INK,
    LINE_INCHES,
    NOTE_POINTS,
    SIZE_INCHES,
    STYLES,
    drawable,
    family_handles,
    renderer,
    tag,
)
from benchmark.report.tables.render import Row

LEFT_INCHES, TOP_INCHES = 0.75, 0.62
FOOTNOTE_WIDTH, FOOTNOTE_INCHES = 104, SIZE_INCHES[0] - LEFT_INCHES  # of a line
POINT_PX = DPI / 72
GAP_POINTS = 2.5  # a name's least distance from a mark
LEADER_POINTS = 4.5  # a name this far from its mark needs a line to it


class Spot(Protocol):
    """A model with its coordinates in a plot."""

    @property
    def row(self) -> Row:
        """The model."""

    @property
    def x(self) -> float:
        """Across."""

    @property
    def y(self) -> float:
        """Up."""

    @property
    def spread(self) -> float:
        """Half the height of the error bar; 0 for none."""


def inside(x_title: str, footnote: str) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of the axes as fractions of the figure, with room for the texts below."""
    width, height = SIZE_INCHES
    bottom = 0.42 + LINE_INCHES * (x_title.count("\n") + footnote.count("\n") + 2)
    return LEFT_INCHES / width, bottom / height, 1 - (LEFT_INCHES + 0.2) / width, 1 - (bottom + TOP_INCHES) / height


def draw_spots(axes: Axes, points: Sequence[Spot], tips: Mapping[str, str], *, hollow: bool = False) -> None:
    """Draw each model's mark in its family's look, with its error bar."""
    for point in points:
        marker, colour, size = STYLES[point.row.family]
        bar = axes.errorbar(
            point.x, point.y, yerr=point.spread or None, fmt=marker, color=colour, markersize=size,
            markerfacecolor="white" if hollow else colour, markeredgecolor=colour if hollow else "white",
            markeredgewidth=1.0 if hollow else 0.6, elinewidth=1.1, capsize=2.5,
            zorder=4 if point.row.family == "ours" else 3,
        )  # fmt: skip
        tag(point.row.key, tips[point.row.key], *bar.get_children())


def write_frame(figure: Figure, title: str, points: Sequence[Spot], line: Line2D, footnote: str) -> None:
    """Write title and legend above the axes and the footnote below, away from all labels."""
    width, height = SIZE_INCHES
    left = LEFT_INCHES / width
    figure.text(left, 1 - 0.1 / height, drawable(title), fontsize=10.5, fontweight="bold", va="top")
    figure.legend(
        handles=[*family_handles([point.row for point in points]), line],
        loc="upper left", bbox_to_anchor=(left, 1 - 0.3 / height), ncols=len(STYLES) + 1,
        frameon=False, fontsize=7.8, borderaxespad=0, borderpad=0.2, columnspacing=0.9, handletextpad=0.3,
    )  # fmt: skip
    figure.text(left, 0.08 / height, footnote, fontsize=NOTE_POINTS, color=INK, va="bottom")


def label_spots(axes: Axes, points: Sequence[Spot], line: Line2D, *, placed: bool = True) -> None:
    """Write each model's name beside its mark so that it covers no mark, error bar or other name.

    A name far from its mark gets a leader line. No name stands on the drawn line if there is room elsewhere.
    Without ``placed``, all names stand on their marks, in the same order, for a check that compares texts alone.
    """
    if not placed:
        for point in points:
            axes.text(point.x, point.y, drawable(point.row.label), zorder=5)
        return
    texts = [
        axes.text(
            point.x, point.y, drawable(point.row.label), fontsize=8.5, va="center", zorder=5,
            fontweight="bold" if point.row.family == "ours" else "normal",
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )
        for point in points
    ]  # fmt: skip
    floor, ceiling = axes.get_ylim()
    pixels = axes.transData.transform
    obstacles = Obstacles(
        pixels([(point.x, point.y) for point in points]),
        np.array([STYLES[point.row.family][2] / 2 * POINT_PX for point in points]),
        np.hstack([
            pixels([(point.x, max(point.y - point.spread, floor)) for point in points]),
            pixels([(point.x, min(point.y + point.spread, ceiling)) for point in points]),
        ]),
        np.hstack([pixels(line.get_xydata())[:-1], pixels(line.get_xydata())[1:]]),
        np.array(axes.get_window_extent().extents),
    )  # fmt: skip
    measure = renderer(axes.figure)
    sizes = [text.get_window_extent(measure).size for text in texts]
    boxes = place(sizes, obstacles, GAP_POINTS * POINT_PX, LEADER_POINTS * POINT_PX)
    for point, text, box, leader, radius_px in zip(
        points, texts, boxes, leaders(obstacles.marks, boxes), obstacles.radii, strict=True
    ):
        (near, mark), (left, bottom, right, top) = leader.reshape(2, 2), box
        # The page draws names in another font: they grow away from their marks.
        text.set_horizontalalignment("left" if left > mark[0] else "right" if right < mark[0] else "center")
        across = left if left > mark[0] else right if right < mark[0] else (left + right) / 2
        x, y = axes.transData.inverted().transform((across, (bottom + top) / 2))
        text.set_position((x, y))
        tag(point.row.key, "", text)
        if math.dist(near, mark) >= radius_px + LEADER_POINTS * POINT_PX:
            (drawn,) = axes.plot(
                *axes.transData.inverted().transform([near, mark]).T, color=INK, linewidth=0.6, zorder=0.9
            )
            tag(point.row.key, "", drawn)

"""Accuracy against cost: one figure per dataset and cost, with error bars and the Pareto front, as PDF and PNG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import matplotlib.style
import textalloc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.plots.plot_style import (
    DPI,
    INK,
    LINE_INCHES,
    SIZE_INCHES,
    STYLE,
    STYLES,
    drawable,
    family_handles,
    round_ticks,
    tag,
    wrapped,
)
from benchmark.report.read import Measurement, Study, comparable
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.report.tables.efficiency_table import cost
from benchmark.report.tables.render import Block, Cell, Row

LEFT_INCHES, TOP_INCHES = 0.75, 0.62
X_TITLE_WIDTH, FOOTNOTE_WIDTH = 88, 115  # characters that fit beside each other
POINT_PX = DPI / 72
#: Sides of a mark on which its name may stand, the preferred ones first.
DIRECTIONS = ("east", "north", "south", "west", "northeast", "southeast", "northwest", "southwest")
# As fractions of the axes: a name's least distance from its own mark (2.5 points) and from everything else.
OWN_GAP, GAP = 0.006, 0.005
LEADER_POINTS = 4.5  # a name this far from its mark needs a line to it
#: A footnote's words before the names that have no place in a plot of times.
HINDERED_NAMES = "Not drawn, since something else had the device when they were timed"


@dataclass(frozen=True)
class Axis:
    """A cost that accuracy is plotted against.

    Attributes:
        name: the last part of the file name.
        figure: key among a measurement's figures.
        scale: factor from the stored unit to the printed one.
        lower_is_better: the direction of the Pareto front.
    """

    name: str
    figure: str
    scale: float
    lower_is_better: bool


AXES = (
    Axis("params", "params", 1e-6, lower_is_better=True),
    Axis("macs", "macs", 1e-9, lower_is_better=True),
    Axis("fps", "fps", 1.0, lower_is_better=False),
)


class Spot(Protocol):
    """A model at a place of a plot."""

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


@dataclass(frozen=True)
class Point:
    """A model with its cost, as printed, and its mIoU."""

    row: Row
    x: float
    cell: Cell

    @property
    def y(self) -> float:
        """The mIoU in percent."""
        return 100 * self.cell.mean

    @property
    def spread(self) -> float:
        """Half the height of the error bar, in percent; 0 for one repeat."""
        return 100 * (self.cell.std or 0.0)


@dataclass(frozen=True)
class Chart:
    """What one plot shows.

    Attributes:
        block: of the accuracy table.
        axis: the cost.
        points: the models that have both.
        missing: labels of models that were not measured.
        hindered: labels of models that were timed while something else had the device.
        x_title: of the cost, with its unit and setting.
    """

    block: Block
    axis: Axis
    points: tuple[Point, ...]
    missing: tuple[str, ...]
    hindered: tuple[str, ...]
    x_title: str

    @property
    def name(self) -> str:
        """Of the plot's files."""
        return f"{self.block.key}.miou_vs_{self.axis.name}"

    @property
    def y_title(self) -> str:
        """Of the accuracy."""
        return f"mIoU (%), {self.block.facts['reduction']} reduction"

    @property
    def footnote(self) -> str:
        """What the points rest on."""
        block = self.block
        own = [f"{point.row.label}: n = {point.cell.n}" for point in self.points if point.cell.n != block.n]
        spread = (
            f"Mean ± std over n = {block.n} repeats (ddof = 1)" if block.n > 1 else "n = 1 repeat, so no error bars"
        )
        sentences = [
            f"{spread}{'; ' * bool(own)}{', '.join(own)}",
            f"{block.facts['test_images']} test images",
            f"Protocol: {block.facts['protocol']}",
        ]
        if self.missing:
            sentences.append(f"Not measured: {', '.join(self.missing)}")
        if self.hindered:
            sentences.append(f"{HINDERED_NAMES}: {', '.join(self.hindered)}")
        return ". ".join(sentences) + "."

    def stairs(self) -> list[tuple[float, float]]:
        """Return the corners of the Pareto front: the accuracy that is reached at each cost."""
        best = front([(point.x, point.y) for point in self.points], self.axis.lower_is_better)
        # At a cost between two front points one has the cheaper one's accuracy: the step is at the dearer point.
        corners = [best[0]]
        for (x0, y0), (x1, y1) in itertools.pairwise(best):
            corners += [(x1, y0) if self.axis.lower_is_better else (x0, y1), (x1, y1)]
        return corners

    def tips(self) -> dict[str, str]:
        """Return for each model its name and values in words."""
        best = self.stairs()
        tips = {}
        for point in self.points:
            cell, repeated = point.cell, point.cell.std is not None
            tips[point.row.key] = (
                f"{point.row.label}: mIoU {point.y:.2f}{f' ± {point.spread:.2f}' * repeated} % (n = {cell.n}"
                f"{', std with ddof = 1' * repeated}, {self.block.facts['reduction']} reduction); "
                f"{self.x_title}: {point.x:.4g}{'; on the Pareto front' * ((point.x, point.y) in best)}"
            )
        return tips

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the ends of both axes, with room around the points for labels."""
        low, high = min(point.x for point in self.points), max(point.x for point in self.points)
        left, right = low / max((high / low) ** 0.1, 1.25), high * max((high / low) ** 0.2, 1.6)  # names go right
        floor = min(point.y - point.spread for point in self.points)
        ceiling = max(point.y + point.spread for point in self.points)
        padding = max(0.1 * (ceiling - floor), 0.5)
        return (left, right), (floor - padding, ceiling + padding)


def front(points: Sequence[tuple[float, float]], lower_is_better: bool) -> list[tuple[float, float]]:
    """Return the points that no other one beats on both axes, by rising x; a higher y is better.

    Args:
        points: (x, y) pairs.
        lower_is_better: whether a smaller x is better.
    """
    kept: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (point[0] if lower_is_better else -point[0], -point[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return sorted(kept)


def charts(study: Study, blocks: Sequence[Block]) -> Iterator[Chart]:
    """Collect one chart per block and cost; a cost that was measured for none of a block's models has none.

    Args:
        study: where the costs come from; those at each dataset's input size are taken.
        blocks: the accuracy table's blocks.
    """
    for block in blocks:
        measured = study.measured_for(str(block.facts["dataset"]))
        models = {row.key for row in block.rows}
        for axis in AXES:
            chart = _chart(block, axis, comparable(measured, models) if axis.name == "fps" else measured)
            if chart is not None:
                yield chart


def _chart(block: Block, axis: Axis, measured: Sequence[Measurement]) -> Chart | None:
    cells = {found.record.model: cost(found, axis.figure) for found in measured if axis.figure in found.figures}
    costs = {model: axis.scale * cell.mean for model, cell in cells.items() if not cell.hindered}
    scored = [row for row in block.rows if row.ranked and "miou" in row.cells]
    points = tuple(Point(row, costs[row.key], row.cells["miou"]) for row in scored if costs.get(row.key, 0) > 0)
    if not points:
        return None
    missing = tuple(row.label for row in scored if row.key not in cells)
    hindered = tuple(row.label for row in scored if row.key in cells and cells[row.key].hindered)
    return Chart(block, axis, points, missing, hindered, _x_title(axis, measured))


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per chart of the study's accuracy table.

    Yields:
        The file name without its ending, and the figure.
    """
    for chart in charts(study, scores(study, ACCURACY).blocks):
        yield chart.name, _figure(chart)


def _figure(chart: Chart) -> Figure:
    points = chart.points
    x_title = wrapped(chart.x_title, X_TITLE_WIDTH)
    footnote = wrapped(chart.footnote, FOOTNOTE_WIDTH)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(SIZE_INCHES, dpi=DPI)
        figure.set_gid(str(chart.block.facts["dataset"]))
        axes = figure.add_axes(inside(x_title, footnote))
        draw_spots(axes, points, chart.tips())
        stairs = _draw_front(axes, chart)
        _scale(axes, chart)
        axes.set_xlabel(x_title)
        axes.set_ylabel(chart.y_title)
        write_frame(figure, chart.block.title, points, stairs, footnote)
        label_spots(axes, points, stairs)
    return figure


def inside(x_title: str, footnote: str) -> tuple[float, float, float, float]:
    """Return where the axes go, as fractions of the figure: the more lines below them, the higher their floor."""
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


def _draw_front(axes: Axes, chart: Chart) -> Line2D:
    across, up = zip(*chart.stairs(), strict=True)
    (stairs,) = axes.plot(
        across, up, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1, label="Pareto front"
    )  # fmt: skip
    return stairs


def _scale(axes: Axes, chart: Chart) -> None:
    """Put round numbers on the logarithmic axis."""
    (left, right), height = chart.limits()
    axes.set_xlim(left, right)  # before the scale, which would warn of the limits of tiny values
    axes.set_xscale("log")
    round_ticks(axes.xaxis, fine=right / left < 1e3)
    axes.set_ylim(*height)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def _x_title(axis: Axis, measured: Sequence[Measurement]) -> str:
    setting = measured[0].setting
    return {
        "params": "Trainable parameters (M)",
        "macs": f"MACs per image (G), {setting.size}, batch 1",
        "fps": f"FPS ({setting.describe()}), {setting.size}",
    }[axis.name]


def write_frame(figure: Figure, title: str, points: Sequence[Spot], line: Line2D, footnote: str) -> None:
    """Write title and legend above the axes and the footnote below, where no label can be."""
    width, height = SIZE_INCHES
    left = LEFT_INCHES / width
    figure.text(left, 1 - 0.1 / height, drawable(title), fontsize=10.5, fontweight="bold", va="top")
    figure.legend(
        handles=[*family_handles([point.row for point in points]), line],
        loc="upper left", bbox_to_anchor=(left, 1 - 0.3 / height), ncols=len(STYLES) + 1,
        frameon=False, fontsize=7.8, borderaxespad=0, borderpad=0.2, columnspacing=0.9, handletextpad=0.3,
    )  # fmt: skip
    figure.text(left, 0.08 / height, footnote, fontsize=7.5, color=INK, va="bottom")


def label_spots(axes: Axes, points: Sequence[Spot], line: Line2D) -> None:
    """Write each model's name beside its mark, where it covers no mark, error bar or other name.

    A name that had to move away gets a leader line. Where there is room, none stands on the drawn line.
    """
    radii_px = [STYLES[point.row.family][2] / 2 * POINT_PX for point in points]
    segments = [((point.x, point.x), (point.y - point.spread, point.y + point.spread)) for point in points]
    across, up = zip(*segments, line.get_data(), strict=True)
    *_, names, leaders = textalloc.allocate(
        axes, [point.x for point in points], [point.y for point in points],
        [drawable(point.row.label) for point in points], x_scatter=[point.x for point in points],
        y_scatter=[point.y for point in points], scatter_sizes=radii_px, text_scatter_sizes=radii_px,
        x_lines=list(across), y_lines=list(up), direction=list(DIRECTIONS), nbr_candidates=600, margin=GAP,
        min_distance=OWN_GAP, max_distance=0.3, avoid_label_lines_overlap=True, avoid_crossing_label_lines=True,
        linecolor=INK, linewidth=0.6, textsize=8.5, va="center", zorder=5,
        fontweight=["bold" if point.row.family == "ours" else "normal" for point in points],
        bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )  # fmt: skip
    for point, radius_px, name, leader in zip(points, radii_px, names, leaders, strict=True):
        tag(point.row.key, "", *filter(None, (name, leader)))
        if leader is not None:
            ends = axes.transData.transform(leader.get_xydata())
            if math.dist(*ends) < radius_px + LEADER_POINTS * POINT_PX:
                leader.remove()

"""Draws accuracy against cost, with error bars and the Pareto front."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.plots import axis_limits
from benchmark.report.plots.plot_style import (
    DPI,
    INK,
    SIZE_INCHES,
    STYLE,
    STYLES,
    round_ticks,
    tag,
    wrapped,
    wrapped_note,
)
from benchmark.report.plots.spots import FOOTNOTE_INCHES, FOOTNOTE_WIDTH, draw_spots, inside, label_spots, write_frame
from benchmark.report.read import Measurement, StudyResults, comparable
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.report.tables.conventions import other_counts
from benchmark.report.tables.efficiency_table import cost
from benchmark.report.tables.render import Block, Cell, Row, noun_of
from benchmark.utils.words import counted

X_TITLE_WIDTH = 88  # characters that fit beside each other
#: A footnote's words before the names that have no place in a plot of times.
HINDERED_NAMES = "Not drawn, since something else had the device when they were timed"
EDGE = 0.04  # share of the axis between its end and a mark of a value beyond it


@dataclass(frozen=True)
class CostAxis:
    """A cost that accuracy is plotted against.

    Attributes:
        name: the last part of the file name.
        title: the cost in the plot's title.
        figure: key among a measurement's figures.
        scale: factor from the stored unit to the printed one.
        lower_is_better: the direction of the Pareto front.
    """

    name: str
    title: str
    figure: str
    scale: float
    lower_is_better: bool


AXES = (
    CostAxis("params", "parameters", "params", 1e-6, lower_is_better=True),
    CostAxis("macs", "MACs", "macs", 1e-9, lower_is_better=True),
    CostAxis("fps", "frames per second", "fps", 1.0, lower_is_better=False),
)


@dataclass(frozen=True)
class Point:
    """A model in the plot.

    Attributes:
        row: the model.
        x: its cost, as printed.
        y: its mIoU in percent.
        spread: half the height of the error bar, in percent; 0 for one repeat.
    """

    row: Row
    x: float
    y: float
    spread: float

    @classmethod
    def of(cls, row: Row, x: float) -> Point:
        """Read a model's mIoU from its row."""
        cell = row.cells["miou"]
        return cls(row, x, 100 * cell.mean, 100 * (cell.std or 0.0))

    @property
    def cell(self) -> Cell:
        """The mIoU in the table."""
        return self.row.cells["miou"]


@dataclass(frozen=True)
class Chart:
    """The content of one plot.

    Attributes:
        block: of the accuracy table.
        axis: the cost.
        points: the models that have both.
        missing: labels of models that were not measured.
        hindered: labels of models that were timed while something else had the device.
        x_title: of the cost, with its unit and setting.
    """

    block: Block
    axis: CostAxis
    points: tuple[Point, ...]
    missing: tuple[str, ...]
    hindered: tuple[str, ...]
    x_title: str

    @property
    def name(self) -> str:
        """Of the plot's files."""
        return f"{self.block.key}.miou_vs_{self.axis.name}"

    @property
    def title(self) -> str:
        """Of the plot."""
        return f"mIoU against {self.axis.title}{self.block.title.removeprefix(ACCURACY.title)}"

    @property
    def y_title(self) -> str:
        """Of the accuracy."""
        return f"mIoU (%), {self.block.facts['reduction']} reduction"

    @property
    def footnote(self) -> str:
        """Of the points: repeats, images, protocol, and models that are left out."""
        block, noun = self.block, noun_of(self.block.facts)
        others = other_counts({point.row.label: point.cell.n for point in self.points}, block.n)
        spread = (
            f"Mean ± std over n = {block.n} {noun}s (ddof = 1)" if block.n > 1 else f"n = 1 {noun}, so no error bars"
        )
        sentences = [
            f"{spread}{others}",
            counted(str(block.facts["test_images"]), "test image"),
            f"Protocol: {block.facts['protocol']}",
        ]
        if self.missing:
            sentences.append(f"Not measured: {', '.join(self.missing)}")
        _, (floor, ceiling) = self.limits
        if any(not floor <= point.y <= ceiling for point in self.points):
            sentences.append("▲ ▼: beyond the axis, with its value")
        if any(point.y - point.spread < floor or point.y + point.spread > ceiling for point in self.drawn()):
            sentences.append("Arrowheads: error bars that go on beyond the axis")
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

    @cached_property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The ends of both axes, with room around the points for labels."""
        low, high = min(point.x for point in self.points), max(point.x for point in self.points)
        left, right = low / max((high / low) ** 0.1, 1.25), high * max((high / low) ** 0.2, 1.6)  # names go right
        bars = [(point.y, point.y - point.spread, point.y + point.spread) for point in self.points]
        floor, ceiling = axis_limits.with_bars(bars)
        padding = max(0.1 * (ceiling - floor), 0.5)
        return (left, right), (floor - padding, ceiling + padding)

    def drawn(self) -> list[Point]:
        """Return the points as they are drawn: a value beyond the axis lies at its end and is written out."""
        _, (floor, ceiling) = self.limits
        edge = EDGE * (ceiling - floor)
        points = []
        for point in self.points:
            if floor <= point.y <= ceiling:
                points.append(point)
                continue
            y, arrow = (floor + edge, "▼") if point.y < floor else (ceiling - edge, "▲")
            row = replace(point.row, label=f"{point.row.label} {arrow} {point.y:.2f}")
            points.append(Point(row, point.x, y, 0.0))
        return points


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


def charts(study: StudyResults, blocks: Sequence[Block]) -> Iterator[Chart]:
    """Collect one chart per block and cost that two of the block's models or more have.

    Args:
        study: has the costs; those at each dataset's input size are taken.
        blocks: the accuracy table's blocks.
    """
    for block in blocks:
        measured = study.measured_for(str(block.facts["dataset"]))
        models = {row.key for row in block.rows}
        for axis in AXES:
            chart = _chart(block, axis, comparable(measured, models) if axis.name == "fps" else measured)
            if chart is not None:
                yield chart


def _chart(block: Block, axis: CostAxis, measured: Sequence[Measurement]) -> Chart | None:
    cells = {
        measurement.record.model: cost(measurement, axis.figure)
        for measurement in measured
        if axis.figure in measurement.figures
    }
    costs = {model: axis.scale * cell.mean for model, cell in cells.items() if not cell.hindered}
    scored = [row for row in block.rows if row.ranked and "miou" in row.cells]
    points = tuple(Point.of(row, costs[row.key]) for row in scored if costs.get(row.key, 0) > 0)
    if len(points) < 2:  # a single point shows nothing that its row does not
        return None
    missing = tuple(row.label for row in scored if row.key not in cells)
    hindered = tuple(row.label for row in scored if row.key in cells and cells[row.key].hindered)
    return Chart(block, axis, points, missing, hindered, _x_title(axis, measured))


def draw(study: StudyResults, *, placed: bool = True) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per chart of the study's accuracy table.

    Yields:
        The file name without its ending, and the figure.
    """
    for chart in charts(study, scores(study, ACCURACY).blocks):
        yield chart.name, _figure(chart, placed=placed)


def _figure(chart: Chart, *, placed: bool) -> Figure:
    points = chart.drawn()
    (left, right), (floor, ceiling) = chart.limits
    x_title = wrapped(chart.x_title, X_TITLE_WIDTH)
    footnote = wrapped_note(chart.footnote, FOOTNOTE_WIDTH, FOOTNOTE_INCHES)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(SIZE_INCHES, dpi=DPI)
        figure.set_gid(str(chart.block.facts["dataset"]))
        axes = figure.add_axes(inside(x_title, footnote))
        draw_spots(axes, points, chart.tips())
        stairs = _draw_front(axes, chart)
        axes.set_xlim(left, right)  # before the scale, which would warn of the limits of tiny values
        axes.set_xscale("log")
        round_ticks(axes.xaxis, fine=right / left < 1e3)
        axes.set_ylim(floor, ceiling)
        _draw_cut_bars(axes, points, floor, ceiling)
        axes.grid(color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(x_title)
        axes.set_ylabel(chart.y_title)
        write_frame(figure, chart.title, points, stairs, footnote)
        label_spots(axes, points, stairs, placed=placed)
    return figure


def _draw_front(axes: Axes, chart: Chart) -> Line2D:
    across, up = zip(*chart.stairs(), strict=True)
    (stairs,) = axes.plot(
        across, up, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1, label="Pareto front"
    )  # fmt: skip
    return stairs


def _draw_cut_bars(axes: Axes, points: Sequence[Point], floor: float, ceiling: float) -> None:
    """Draw an arrowhead where an error bar goes on beyond the axis."""
    for point in points:
        for end, marker, beyond in (
            (floor, "v", point.y - point.spread < floor),
            (ceiling, "^", point.y + point.spread > ceiling),
        ):
            if beyond:
                head = axes.plot(
                    point.x, end, marker, color=STYLES[point.row.family][1], markersize=5, clip_on=False, zorder=4
                )
                tag(point.row.key, "", *head)


def _x_title(axis: CostAxis, measured: Sequence[Measurement]) -> str:
    setting = measured[0].setting
    return {
        "params": "Trainable parameters (M)",
        "macs": f"MACs per image (G), {setting.size}, batch 1",
        "fps": f"FPS ({setting.describe()}), {setting.size}",
    }[axis.name]

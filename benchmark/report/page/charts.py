"""The page's plots as shapes with places: accuracy against cost, models beside each other, stacked errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark import metrics
from benchmark.report.page.drawing import Axis, digits, number, path, shortened, text_width
from benchmark.report.plots import accuracy_cost_plot as plots
from benchmark.report.plots.comparison_plot import LINES, Standing
from benchmark.report.plots.electrical_plot import Faults
from benchmark.report.plots.labels import Box, place

#: Models in a plot with a row for each, and blocks that are drawn at all; what is beyond is in the tables.
ROWS, BLOCKS = 60, 12
WIDTH, HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 34
LABEL_PX = 11.5
MARK_PX = {"ours": 9.0, "lightweight": 5.5, "ic": 5.0, "user": 5.5}  # half a marker's extent
ROW, ROW_LEFT, ROW_RIGHT, ROW_BOTTOM = 26, 160, 14, 30
NAME_CHARACTERS = 20


@dataclass(frozen=True)
class Tick:
    """A line of the grid and what it is called."""

    at: str
    text: str


@dataclass(frozen=True)
class Dot:
    """A model in a scatter plot.

    Attributes:
        x: of the marker, as ``y``.
        error: ends of the error bar; blank where there is none.
        text_x: middle of the label, as ``text_y``.
        leader: path from the marker to a label that had to move.
        tip: what is said of it.
    """

    key: str
    label: str
    family: str
    x: str
    y: str
    error: tuple[str, str] | None
    text_x: str
    text_y: str
    leader: str
    tip: str


@dataclass(frozen=True)
class Scatter:
    """Accuracy against one cost."""

    chart: plots.Chart
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    front: str
    dots: tuple[Dot, ...]
    families: tuple[str, ...]


def _ticks(axis: Axis) -> tuple[Tick, ...]:
    decimals = digits(axis.ticks)
    texts = [f"{tick:g}" if axis.logarithmic else f"{tick:.{decimals}f}".replace("-", "−") for tick in axis.ticks]
    return tuple(Tick(number(axis.place(tick)), text) for tick, text in zip(axis.ticks, texts, strict=True))


def scatter(chart: plots.Chart) -> Scatter:
    """Place markers, error bars, the Pareto front and labels."""
    width, height = chart.limits()
    x = Axis.over(width, (LEFT, WIDTH - RIGHT), most=9, logarithmic=True)
    y = Axis.over(height, (HEIGHT - BOTTOM, TOP))
    corners = [(x.place(at), y.place(value)) for at, value in chart.stairs()]
    best = set(plots.front([(point.x, point.y) for point in chart.points], chart.axis.lower_is_better))
    # The search for places costs the square of their number: of many models, only those that lead are named.
    named = [point for point in chart.points if len(chart.points) <= ROWS or (point.x, point.y) in best]
    boxes = dict(zip((point.row.key for point in named), _labels(named, x, y, corners), strict=True))
    dots = []
    for point in chart.points:
        centre = x.place(point.x), y.place(point.y)
        label, leader = boxes.get(point.row.key, (None, ""))
        dots.append(
            Dot(
                key=point.row.key,
                label=shortened(point.row.label, NAME_CHARACTERS) if label else "",
                family=point.row.family,
                x=number(centre[0]),
                y=number(centre[1]),
                error=_error(point, y),
                text_x=number((label.left + label.right) / 2) if label else "",
                text_y=number((label.bottom + label.top) / 2 + LABEL_PX * 0.35) if label else "",
                leader=leader,
                tip=_said(chart, point, (point.x, point.y) in best),
            )
        )
    return Scatter(
        chart, _ticks(x), _ticks(y), path(corners), tuple(dots), families([point.row.family for point in chart.points])
    )


def families(found: Sequence[str]) -> tuple[str, ...]:
    """Return the families that a legend names, in their order."""
    return tuple(family for family in plots.STYLES if family in found)


def _error(point: plots.Point, y: Axis) -> tuple[str, str] | None:
    if not point.spread:
        return None
    return number(y.place(point.y - point.spread)), number(y.place(point.y + point.spread))


def _said(chart: plots.Chart, point: plots.Point, leads: bool) -> str:
    cell = point.cell
    spread = f" ± {point.spread:.2f}" if cell.std is not None else ""
    over = f"n = {cell.n}{', std with ddof = 1' * (cell.std is not None)}, {chart.block.facts['reduction']} reduction"
    front = "; on the Pareto front" if leads else ""
    return f"{point.row.label}: mIoU {point.y:.2f}{spread} % ({over}); {chart.x_title}: {point.x:.4g}{front}"


def _labels(
    points: Sequence[plots.Point], x: Axis, y: Axis, corners: Sequence[tuple[float, float]]
) -> list[tuple[Box, str]]:
    centres = [(x.place(point.x), y.place(point.y)) for point in points]
    marks = []
    for point, (at, height) in zip(points, centres, strict=True):
        half = MARK_PX[point.row.family]
        marks.append(Box(at - half, height - half, at + half, height + half))
        ends = sorted((y.place(point.y - point.spread), y.place(point.y + point.spread)))
        marks.append(Box(at - 2, ends[0], at + 2, ends[1]))
    placed = place(
        centres,
        [(text_width(shortened(point.row.label, NAME_CHARACTERS), LABEL_PX) + 4, LABEL_PX + 4) for point in points],
        [MARK_PX[point.row.family] + 2 for point in points],
        Box(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        marks,
        list(itertools.pairwise(corners)),
    )
    return [(label.box, path(label.leader) if label.leader else "") for label in placed]


@dataclass(frozen=True)
class Bar:
    """A model in a plot with a row for each.

    Attributes:
        y: middle of its row.
        mean: place of its marker; blank in a plot of errors.
        interval: ends of its interval.
        repeats: places of single repeats.
        parts: (kind, left, width) of each stacked part.
        total: (place, text) behind the parts.
    """

    key: str
    label: str
    family: str
    y: str
    tip: str
    mean: str = ""
    interval: tuple[str, str] | None = None
    repeats: tuple[str, ...] = ()
    parts: tuple[tuple[str, str, str], ...] = ()
    total: tuple[str, str] | None = None


@dataclass(frozen=True)
class Rows:
    """A plot with a row for each model.

    Attributes:
        right: end of the axis.
        height: of the rows, and of all.
        groups: x and ends of each line that joins models, and the heights of its dots.
        lines: (place, dashes, text) of each method without training; the place is blank where it is off the axis.
        kinds: (kind, name) of errors.
        left_out: models that are not drawn.
    """

    key: str
    dataset: str
    title: str
    x_title: str
    footnote: str
    right: str
    floor: str
    height: str
    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    lines: tuple[tuple[str, str, str], ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()
    families: tuple[str, ...] = ()
    left_out: int = 0


def _middle(row: int) -> float:
    return TOP + ROW * (row + 0.5)


def ladder(standing: Standing) -> Rows:
    """Place means, intervals, repeats and groups."""
    ranked = standing.ranked[:ROWS]
    joined = [tuple(place for place in group if place < ROWS) for group in standing.joined]
    gap = min(12.0, 150.0 / (len(joined) + 1))
    right = WIDTH - ROW_RIGHT - gap * len(joined)
    x = Axis.over(standing.limits(), (ROW_LEFT, right))
    bars = []
    for index, row in enumerate(ranked):
        values, interval = standing.percent(row.key), standing.intervals[row.key]
        mean = math.fsum(values) / len(values)
        known = not math.isnan(interval[0])
        low, high = (f"{100 * end:.2f}" for end in interval)
        said = f"95 % interval [{low}, {high}]" if known else "no interval"
        singles = ", ".join(f"{value:.2f}" for value in values[:12]) + ", …" * (len(values) > 12)
        bars.append(
            Bar(
                key=row.key,
                label=row.label,
                family=row.family,
                y=number(_middle(index)),
                tip=f"{row.label}: {standing.x_title} {mean:.2f}, {said}; repeats: {singles}",
                mean=number(x.place(mean)),
                interval=(number(x.place(100 * interval[0])), number(x.place(100 * interval[1]))) if known else None,
                repeats=tuple(number(x.place(value)) for value in values[:100]),
            )
        )
    return _rows(
        standing,
        x,
        len(ranked),
        bars=tuple(bars),
        groups=tuple(
            (number(right + gap * (index + 1)), tuple(number(_middle(place)) for place in group))
            for index, group in enumerate(joined)
            if len(group) > 1
        ),
        lines=tuple(_references(standing, x)),
        families=families([row.family for row in ranked]),
    )


def _rows(made: Standing | Faults, x: Axis, drawn: int, **content: Any) -> Rows:
    """Return a plot of rows: what is the same for all of them, and its content."""
    floor = TOP + ROW * drawn
    return Rows(
        key=made.found.key,
        dataset=str(made.found.facts["dataset"]),
        title=made.title,
        x_title=made.x_title,
        footnote=made.footnote,
        right=number(x.places[1]),
        floor=number(floor),
        height=number(floor + ROW_BOTTOM),
        ticks=_ticks(x),
        left_out=len(made.ranked) - drawn,
        **content,
    )


def _references(standing: Standing, x: Axis) -> list[tuple[str, str, str]]:
    found = []
    for (label, value), (_, dashes) in zip(standing.references.items(), itertools.cycle(LINES), strict=False):
        percent = 100 * value
        side = "left" if percent < x.ends[0] else "right" if percent > x.ends[1] else ""
        beyond = f" ({side} of the axis)" if side else ""
        at = "" if side else number(x.place(percent))
        found.append((at, " ".join(f"{dash:g}" for dash in dashes), f"{label} {percent:.2f}{beyond}"))
    return found


def bars(made: Faults) -> Rows:
    """Place stacked errors."""
    ranked = made.ranked[:ROWS]
    right = WIDTH - ROW_RIGHT
    x = Axis.over((0.0, made.longest), (ROW_LEFT, right))
    names = {kind: metrics.METRICS[kind].display for kind in made.kinds}
    drawn = []
    for index, row in enumerate(ranked):
        counts = made.means[row.key]
        start, parts = 0.0, []
        for kind in made.kinds:
            length = counts.get(kind, 0.0)
            if length:
                parts.append((kind, number(x.place(start)), number(x.place(start + length) - x.place(start))))
            start += length
        told = ", ".join(f"{names[kind]} {counts[kind]:.1f}" for kind in made.kinds if kind in counts)
        over = f"mean over n = {len(made.found.scores[row.key])} of counts summed over all test images"
        drawn.append(
            Bar(
                key=row.key,
                label=row.label,
                family=row.family,
                y=number(_middle(index)),
                tip=f"{row.label}: {told}; together {start:.1f} ({over})",
                parts=tuple(parts),
                total=(number(x.place(start) + 5), f"{start:.1f}"),
            )
        )
    return _rows(made, x, len(ranked), bars=tuple(drawn), kinds=tuple(names.items()))

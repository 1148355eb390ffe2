"""The frame of a plot with one model per row: title, legend, names, footnote."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.plots.plot_style import (
    DPI,
    INK,
    LINE_INCHES,
    NOTE_POINTS,
    SIZE_INCHES,
    drawable,
    legend_lines,
    renderer,
    tag,
    wrapped,
    wrapped_note,
)
from benchmark.report.tables.render import Row

ROW_INCHES = 0.27
NAME_WIDTH = 26  # characters of a line of a name; two lines fit into a row
FOOTNOTE_WIDTH = 120  # characters from edge to edge
TOP_INCHES, LEGEND_INCHES, LEGEND_POINTS = 0.38, 0.18, 7.8
AROUND = 2 + 0.5 + 1.2  # a legend's mark, and the gaps behind it and behind its text, in sizes of its letters
MARGIN_INCHES = 0.12


def frame(
    title: str, rows: Sequence[Row], legend: Sequence[Sequence[Artist]], footnote: str, right_inches: float
) -> tuple[Figure, Axes]:
    """Return a figure as high as its rows need, and axes in which row ``i`` lies at height ``i`` from the top.

    Call it, and draw, in matplotlib's style context :data:`~benchmark.report.plots.plot_style.STYLE`.

    Args:
        title: above all.
        rows: from the top.
        legend: handles, line by line; a long line is broken.
        footnote: below all, wrapped here.
        right_inches: free space on the right of the axes.
    """
    room = SIZE_INCHES[0] - MARGIN_INCHES
    lines = wrapped_note(footnote, FOOTNOTE_WIDTH, room)
    legend = [line for handles in legend for line in legend_lines(handles, room, LEGEND_POINTS, AROUND)]
    bottom = 0.42 + LINE_INCHES * (lines.count("\n") + 2)
    top = TOP_INCHES + LEGEND_INCHES * len(legend)
    width, height = SIZE_INCHES[0], bottom + ROW_INCHES * len(rows) + top
    figure = Figure((width, height), dpi=DPI)
    names = [wrapped(row.label, NAME_WIDTH) for row in rows]
    left = _widest_inches(figure, names) + 2 * MARGIN_INCHES
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right_inches) / width, ROW_INCHES * len(rows) / height)
    )
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(fontsize=8.5, fontweight="bold" if row.family == "ours" else "normal", linespacing=1.05)
        tag(row.key, "", label)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    # Everything else starts at the figure's edge, so that a long name pushes nothing off the page.
    edge = MARGIN_INCHES / width
    figure.text(edge, 1 - 0.1 / height, drawable(title), fontsize=10.5, fontweight="bold", va="top")
    for number, handles in enumerate(legend):
        figure.legend(
            handles=list(handles), loc="upper left", frameon=False, fontsize=LEGEND_POINTS, ncols=len(handles),
            bbox_to_anchor=(edge, 1 - (0.3 + LEGEND_INCHES * number) / height),
            borderaxespad=0, borderpad=0.2, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
    figure.text(edge, 0.08 / height, lines, fontsize=NOTE_POINTS, color=INK, va="bottom")
    return figure, axes


def _widest_inches(figure: Figure, names: Sequence[str]) -> float:
    """Measure names in the bold face that one of them may have."""
    texts = [figure.text(0, 0, name, fontsize=8.5, fontweight="bold") for name in names]
    measure = renderer(figure)
    widest = max(text.get_window_extent(measure).width for text in texts) / DPI
    for text in texts:
        text.remove()
    return float(widest)

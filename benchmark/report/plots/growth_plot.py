"""Draws how latency and memory grow with the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from benchmark.report.plots.plot_style import (
    DASHES,
    DPI,
    INK,
    NOTE_POINTS,
    STYLE,
    STYLES,
    drawable,
    family_handles,
    file_stem,
    round_ticks,
    tag,
    wrapped_note,
)
from benchmark.report.read import Setting, StudyResults
from benchmark.report.tables.conventions import display, in_order
from benchmark.report.tables.efficiency_table import cost
from benchmark.report.tables.growth_table import FIGURES, Growing, groups
from benchmark.report.tables.profile_table import Measured
from benchmark.report.tables.render import Row

PANEL_INCHES, HEIGHT_INCHES = 3.1, 4.4
LEFT_INCHES, NAMES_INCHES, TOP_INCHES, BOTTOM_INCHES = 0.65, 1.05, 0.85, 0.95
NAME_GAP_INCHES, NAME_OVER_INCHES = 0.14, 0.2  # between names, and of the first above the panel
NOTE_WIDTH = 140  # characters that fit beside each other


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw latency and memory against the image's side, one line per network.

    Yields:
        The file name without its ending, and the figure.
    """
    taken: set[str] = set()
    for shared, sizes in groups(study):
        yield file_stem("growth", (shared.device, shared.dtype), taken), _figure(shared, sizes)


def _figure(shared: Setting, sizes: Mapping[Setting, Measured]) -> Figure:
    models = in_order({model for measured in sizes.values() for model in measured})
    rows = [Row(model, *display(model), {}) for model in models]
    width = 2 * (LEFT_INCHES + PANEL_INCHES + NAMES_INCHES)
    note = wrapped_note(
        f"{shared.describe()}. Light dashes: in proportion to the number of pixels; a steeper line grows faster. "
        "A line that ends early has no figure at larger sizes."
        + " Latencies taken while something else had the device are left out."
        * any(measurement.hindered for measured in sizes.values() for measurement in measured.values()),
        NOTE_WIDTH,
        width - 0.1,
    )
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((width, HEIGHT_INCHES), dpi=DPI)
        for index, growing in enumerate(FIGURES):
            left = LEFT_INCHES + index * width / 2
            height = HEIGHT_INCHES - TOP_INCHES - BOTTOM_INCHES
            inside = left / width, BOTTOM_INCHES / HEIGHT_INCHES, PANEL_INCHES / width, height / HEIGHT_INCHES
            _panel(figure.add_axes(inside), growing, sizes, rows)
        figure.text(
            0.1 / width, 1 - 0.1 / HEIGHT_INCHES, "Growth with image size", fontsize=10.5, fontweight="bold", va="top"
        )
        handles = family_handles(rows)
        for handle in handles:
            handle.set(marker="", linestyle="-", linewidth=2.0)
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.1 / width, 1 - 0.3 / HEIGHT_INCHES),
            ncols=len(handles), frameon=False, fontsize=7.8, borderaxespad=0, borderpad=0.2, columnspacing=1.2,
            handletextpad=0.5,
        )  # fmt: skip
        figure.text(0.1 / width, 0.08 / HEIGHT_INCHES, note, fontsize=NOTE_POINTS, color=INK, va="bottom")
    return figure


def _panel(axes: Axes, growing: Growing, sizes: Mapping[Setting, Measured], rows: Sequence[Row]) -> None:
    """Draw one figure's lines; a study without the figure gets an empty panel that says so."""
    lines = {row.key: _line(growing, sizes, row.key) for row in rows}
    sides = [math.sqrt(setting.pixels) for setting in sizes]
    values = [value for line in lines.values() for _, value in line]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(sides[0] / 1.08, sides[-1] * 1.04)
    axes.set_xticks(sides, [str(s.height) if s.height == s.width else s.size for s in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Side of the image (pixels)")
    axes.set_title(growing.name, fontsize=9, loc="left")
    if not values:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=INK)
        return
    low, high = min(values) / 1.3, max(values) * 1.3
    _draw_guides(axes, (sides[0] / 1.08, sides[-1] * 1.04), (low, high))
    axes.set_ylim(low, high)
    round_ticks(axes.yaxis, fine=high / low < 300)
    axes.grid(axis="y", color="#EDEDED", linewidth=0.6)
    axes.set_axisbelow(True)
    drawn: dict[str, int] = {}
    for row in rows:
        dashes = DASHES[drawn.setdefault(row.family, 0) % len(DASHES)]
        drawn[row.family] += 1
        line = axes.plot(
            *np.reshape(lines[row.key], (-1, 2)).T, color=STYLES[row.family][1],
            linewidth=2.0 if row.family == "ours" else 1.2, linestyle=dashes, marker="o", markersize=2.5,
            zorder=3 if row.family == "ours" else 2, label=drawable(row.label),
        )  # fmt: skip
        values_text = ", ".join(f"{value:.4g} at {side:.0f}" for side, value in lines[row.key])
        tag(row.key, f"{row.label}: {growing.name}: {values_text}", *line)
    _write_names(axes, [(row, lines[row.key][-1]) for row in rows if lines[row.key]])


def _line(growing: Growing, sizes: Mapping[Setting, Measured], model: str) -> list[tuple[float, float]]:
    """Return (side, printed value) of a network, small to large."""
    return [
        (math.sqrt(setting.pixels), value * growing.column.scale)
        for setting, measured in sizes.items()
        if model in measured
        and (value := measured[model].figures.get(growing.key, 0)) > 0
        and not cost(measured[model], growing.key).hindered
    ]


def _draw_guides(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Draw lines of exponent 1, one per decade."""
    left, right = across
    growth = (right / left) ** 2
    start, end = math.log10(up[0] / growth), math.log10(up[1])
    for power in range(math.floor(start), math.ceil(end)):
        value = 10.0**power
        axes.plot(across, (value, value * growth), color="#C9C9C9", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)


def _write_names(axes: Axes, ends: Sequence[tuple[Row, tuple[float, float]]]) -> None:
    """Write each network's name to the right of the panel, no two over each other, with a thin line from its curve."""
    frame = axes.get_window_extent()
    across, up = np.log10(axes.get_xlim()), np.log10(axes.get_ylim())

    def inches(point: tuple[float, float]) -> tuple[float, float]:
        x, y = (
            (math.log10(value) - low) / (high - low) for value, (low, high) in zip(point, (across, up), strict=True)
        )
        return (frame.x0 + x * frame.width) / DPI, (frame.y0 + y * frame.height) / DPI

    lines = sorted(((inches(end), row) for row, end in ends), key=lambda item: item[0][1])
    heights = apart([y for (_, y), _ in lines], NAME_GAP_INCHES, frame.y1 / DPI + NAME_OVER_INCHES)
    start = frame.x1 / DPI + 0.15
    scale = axes.figure.dpi_scale_trans  # unlike pixels, the same in a PDF and a PNG
    for ((x, y), row), height in zip(lines, heights, strict=True):
        name = axes.text(
            start, height, drawable(row.label), transform=scale, fontsize=8, va="center", color=STYLES[row.family][1],
            fontweight="bold" if row.family == "ours" else "normal",
        )  # fmt: skip
        leader = Line2D(
            [x + 0.03, start - 0.03], [y, height], transform=scale, color="#8C8C8C", linewidth=0.5, clip_on=False,
            zorder=1,
        )  # fmt: skip
        tag(row.key, "", name, leader)
        axes.add_artist(leader)


def apart(heights: Sequence[float], gap: float, top: float) -> NDArray[np.float64]:
    """Move ascending heights apart until neighbours keep a distance of ``gap`` and none is above ``top``.

    Of all such heights the returned ones are nearest to the given ones, by least squares.
    """
    steps = gap * np.arange(len(heights))
    return isotonic_regression(np.minimum(np.subtract(heights, steps), top - gap * (len(heights) - 1))).x + steps

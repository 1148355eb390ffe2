"""Draws each setting's networks under the roof of their device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.plots.plot_style import DPI, INK, SIZE_INCHES, STYLE, file_stem, round_ticks, wrapped_note
from benchmark.report.plots.spots import FOOTNOTE_INCHES, FOOTNOTE_WIDTH, draw_spots, inside, label_spots, write_frame
from benchmark.report.read import Setting, StudyResults
from benchmark.report.tables.conventions import in_order
from benchmark.report.tables.profile_table import Measured
from benchmark.report.tables.render import Row
from benchmark.report.tables.roofline_table import Roof, row_of, settings_with_limits

X_TITLE = "MACs per byte moved"


@dataclass(frozen=True)
class RooflinePoint:
    """A network under the roof.

    Attributes:
        row: the network.
        x: MACs per byte.
        y: billions of MACs per second.
        spread: none.
    """

    row: Row
    x: float
    y: float
    spread: float = 0.0


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one roofline per setting that has limits.

    Yields:
        The file name without its ending, and the figure.
    """
    taken: set[str] = set()
    for setting, measured, roof in settings_with_limits(study):
        name = file_stem("roofline", (f"{setting.height}x{setting.width}", setting.device, setting.dtype), taken)
        yield name, _figure(setting, measured, roof)


def _figure(setting: Setting, measured: Measured, roof: Roof) -> Figure:
    rows = {name: row_of(name, measured[name], roof) for name in in_order(measured)}
    spots = [
        RooflinePoint(
            row, row.cells["macs_per_byte"].mean, row.cells["macs"].mean / row.cells["latency_p50_ms"].mean / 1e6
        )
        for row in rows.values()
        if row.cells["macs"].mean  # a network without MACs has no place on a logarithmic axis
    ]
    hindered = [spot for spot in spots if spot.row.cells["latency_p50_ms"].hindered]
    footnote = wrapped_note(
        f"{setting.describe()}. Limits: {roof.macs_per_second / 1e9:.3g} GMAC/s, a matrix product; "
        f"{roof.bytes_per_second / 1e9:.3g} GB/s, a copy, read + written. Bytes: every operator's inputs, weights and "
        "outputs once, unfused; caches can lift a network above the slope."
        + " Hollow: something else had the device."
        * bool(hindered),
        FOOTNOTE_WIDTH,
        FOOTNOTE_INCHES,
    )
    tips = {spot.row.key: f"{spot.row.label}: {spot.x:.4g} {X_TITLE}, {spot.y:.4g} GMAC/s" for spot in spots}
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure(SIZE_INCHES, dpi=DPI)
        axes = figure.add_axes(inside(X_TITLE, footnote))
        draw_spots(axes, [spot for spot in spots if spot not in hindered], tips)
        draw_spots(axes, hindered, tips, hollow=True)
        line = _draw_roof(axes, roof, spots)
        axes.set_xlabel(X_TITLE)
        axes.set_ylabel("GMAC/s attained (MACs / p50)")
        write_frame(figure, f"Roofline at {setting.size}", spots, line, footnote)
        label_spots(axes, spots, line)
    return figure


def _draw_roof(axes: Axes, roof: Roof, spots: Sequence[RooflinePoint]) -> Line2D:
    across = [roof.ridge, *(spot.x for spot in spots)]
    up = [roof.macs_per_second / 1e9, *(spot.y for spot in spots)]
    left, right, bottom, top = min(across) / 1.6, max(across) * 1.8, min(up) / 1.8, max(up) * 1.5
    corners = [left, roof.ridge, right]
    heights = [roof.attained_at(x) / 1e9 for x in corners]
    (line,) = axes.plot(corners, heights, color=INK, linewidth=1.4, zorder=1, label="Limit")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min(bottom, heights[0]), top)
    round_ticks(axes.xaxis, fine=right / left < 1e3)
    round_ticks(axes.yaxis, fine=top / bottom < 1e3)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    return line

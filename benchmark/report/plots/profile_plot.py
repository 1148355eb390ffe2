"""Draws latencies by model, device, size and number format."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.plots.plot_style import DPI, INK, STYLE, drawable, round_ticks, tag
from benchmark.report.read import Setting, StudyResults
from benchmark.report.tables.conventions import display, in_order
from benchmark.report.tables.profile_table import Measured, by_machine, name_of

# Okabe and Ito's palette again, one colour per number format; sizes are told apart by shape, small to large.
COLOURS: Mapping[str, str] = {"float32": "#0072B2", "bfloat16": "#D55E00", "float16": "#009E73"}
SHAPES = ("o", "s", "D", "^", "v", "P", "X")
PANEL_INCHES, PANEL_GAP_INCHES, LANE_INCHES, ROW_GAP_INCHES = 3.5, 0.3, 0.075, 0.13
TITLE_WIDTH = 52  # characters beside each other above a panel; two lines have room
NAMES_INCHES, TOP_INCHES, BOTTOM_INCHES = 1.15, 0.92, 0.5


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw the latencies of all settings: a row per model, a panel per device, a mark per size and number format.

    A study of runs has its own plots and gets this one only if it has figures in several settings.

    Yields:
        The file name without its ending, and the figure.
    """
    machines = by_machine(study)
    settings = [setting for columns in machines.values() for setting in columns]
    if not settings or (study.protocol is not None and len(settings) == 1):
        return
    models = in_order({measurement.record.model for measurement in study.efficiency})
    sides = sorted({(setting.height, setting.width) for setting in settings})
    shapes = {side: SHAPES[index % len(SHAPES)] for index, side in enumerate(sides)}
    # Within a model's row every setting has a lane, so that no mark hides another.
    inside = (ROW_GAP_INCHES + LANE_INCHES * max(map(len, machines.values()))) * len(models)
    width = NAMES_INCHES + (PANEL_INCHES + PANEL_GAP_INCHES) * len(machines)
    height = TOP_INCHES + inside + BOTTOM_INCHES
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((width, height), dpi=DPI)
        for index, (machine, columns) in enumerate(machines.items()):
            left = NAMES_INCHES + (PANEL_INCHES + PANEL_GAP_INCHES) * index
            axes = figure.add_axes((left / width, BOTTOM_INCHES / height, PANEL_INCHES / width, inside / height))
            _panel(axes, machine, columns, models, shapes, named=index == 0)
        _legend(figure, settings, shapes, hindered=any(measurement.hindered for measurement in study.efficiency))
    yield "profile", figure


def _panel(
    axes: Axes,
    machine: Setting,
    columns: Mapping[Setting, Measured],
    models: Sequence[str],
    shapes: Mapping[tuple[int, int], str],
    *,
    named: bool,
) -> None:
    lane = LANE_INCHES / (ROW_GAP_INCHES + LANE_INCHES * len(columns))
    for index, (setting, measured) in enumerate(columns.items()):
        offset = (index - (len(columns) - 1) / 2) * lane
        colour, shape = COLOURS[setting.dtype], shapes[setting.height, setting.width]
        for model, measurement in measured.items():
            latency, row = measurement.record.latency, models.index(model) + offset
            span = axes.plot([latency.p50_ms, latency.p90_ms], [row] * 2, color=colour, linewidth=1.2, zorder=2)
            inside, edge = ("white", colour) if measurement.hindered else (colour, "white")
            spot = axes.plot(
                latency.p50_ms, row, marker=shape, color=inside, markersize=5.5, markeredgecolor=edge,
                markeredgewidth=1.0 if measurement.hindered else 0.5, linestyle="", zorder=3,
            )  # fmt: skip
            tip = f"{display(model)[0]} at {name_of(setting)}: p50 {latency.p50_ms:.4g} ms, p90 {latency.p90_ms:.4g} ms"
            tag(model, tip, *spot, *span)
    axes.set_xscale("log")
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_yticks(range(len(models)), [drawable(display(model)[0]) for model in models] if named else [])
    axes.tick_params(axis="y", length=0)
    low, high = axes.get_xlim()
    round_ticks(axes.xaxis, fine=high / low < 300)  # more would touch each other
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
    for row in range(0, len(models), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F5F5F5", linewidth=0, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("Latency at batch 1 (ms): p50, line to p90")
    axes.set_title("\n".join(textwrap.wrap(drawable(machine.describe()), TITLE_WIDTH)), fontsize=8.5, loc="left")


def _legend(
    figure: Figure, settings: Sequence[Setting], shapes: Mapping[tuple[int, int], str], *, hindered: bool
) -> None:
    dtypes = [dtype for dtype in COLOURS if any(setting.dtype == dtype for setting in settings)]
    handles = [Line2D([], [], color=COLOURS[dtype], linewidth=3, label=dtype) for dtype in dtypes]
    handles += [
        Line2D([], [], color=INK, linestyle="", marker=shape, markersize=6, label=f"{height}×{width}")
        for (height, width), shape in shapes.items()
    ]
    if hindered:
        handles.append(
            Line2D([], [], linestyle="", marker="o", markersize=6, color=INK, markerfacecolor="white", label="hindered")
        )
    width, height = figure.get_size_inches()
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.1 / width, 1 - 0.35 / height), ncols=len(handles),
        frameon=False, fontsize=8, borderaxespad=0, columnspacing=1.2, handletextpad=0.4,
    )  # fmt: skip
    figure.text(0.1 / width, 1 - 0.1 / height, "Latency of one image", fontsize=10.5, fontweight="bold", va="top")

"""Several settings at a glance: latency and memory by size, number format and device, as one table and one plot."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.records.efficiency_record import DType
from benchmark.report.plots.plot_style import DPI, INK, STYLE, drawable, round_ticks, tag
from benchmark.report.read import Measurement, Setting, Study
from benchmark.report.tables.conventions import VALUE_MARKS, display, in_order
from benchmark.report.tables.efficiency_table import EFFICIENCY, about_hindered, cost
from benchmark.report.tables.render import Block, Row, Table

FIGURES = ("latency_p50_ms", "fps", "forward_peak_bytes")
SETTINGS_PER_BLOCK = 4  # with three figures each as many as a page is wide


def overview(study: Study) -> Table:
    """Return one block per device, whose columns are grouped by size and number format; empty for a single setting."""
    blocks = [
        _block(machine, dict(list(columns.items())[start : start + SETTINGS_PER_BLOCK]))
        for machine, columns in _by_machine(study).items()
        for start in range(0, len(columns), SETTINGS_PER_BLOCK)
    ]
    several = len({found.setting for found in study.efficiency}) > 1
    return Table("profile", "Latency and memory", tuple(blocks) if several else ())


Measured = Mapping[str, Measurement]  # by model


def _by_machine(study: Study) -> dict[Setting, dict[Setting, Measured]]:
    return grouped(study, lambda setting: replace(setting, height=0, width=0, dtype="", precision=""))


def grouped(study: Study, shared: Callable[[Setting], Setting]) -> dict[Setting, dict[Setting, Measured]]:
    """Group figures by what they share, then by size and number format, both in order.

    Args:
        study: whose figures.
        shared: blanks what may differ within a group.
    """
    dtypes = get_args(DType)
    groups: dict[Setting, dict[Setting, dict[str, Measurement]]] = {}
    for found in sorted(study.efficiency, key=lambda found: (found.setting.pixels, dtypes.index(found.setting.dtype))):
        group = groups.setdefault(shared(found.setting), {})
        group.setdefault(found.setting, {})[found.record.model] = found
    ordered = sorted(groups, key=lambda group: (group.channels, group.device, group.form, group))
    return {group: dict(groups[group]) for group in ordered}


def stem(name: str, parts: Sequence[str], taken: set[str]) -> str:
    """Return a name for a plot's files, made of what a reader looks for and a number where that is not enough."""
    plain = [re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts]
    base = ".".join(filter(None, (name, *plain)))
    names = itertools.chain([base], (f"{base}.{number}" for number in itertools.count(2)))
    found = next(name for name in names if name not in taken)
    taken.add(found)
    return found


def pointer(names: Sequence[str]) -> str:
    """Return the remark of a row whose measurements at these settings carry warnings."""
    return f"warnings, told in the efficiency table, at {', '.join(names)}" if names else ""


def _name(setting: Setting) -> str:
    return f"{setting.size} {setting.dtype}"


def key_of(setting: Setting, figure: str) -> str:
    """Return the key of a setting's column."""
    return f"{figure}.{setting.height}x{setting.width}.{setting.dtype}"


def _block(machine: Setting, columns: Mapping[Setting, Measured]) -> Block:
    printed = {column.key: column for column in EFFICIENCY}
    models = in_order({model for measured in columns.values() for model in measured})
    shown = [
        (setting, printed[figure])
        for setting, measured in columns.items()
        for figure in FIGURES
        if any(figure in found.figures for found in measured.values())
    ]
    facts = {
        name: value for name, value in machine.facts.items() if name not in ("height", "width", "dtype", "precision")
    }
    return Block(
        key="-".join(filter(None, (replace(machine, height=0, width=0, dtype="").key, *map(_name, columns)))),
        title=f"Latency and memory on {machine.describe()}",
        facts=facts,
        conventions=tuple(_conventions(machine, columns)),
        columns=(
            printed["params"],
            *(replace(column, key=key_of(setting, column.key), group=_name(setting)) for setting, column in shown),
        ),
        rows=tuple(_row(model, columns) for model in models),
    )


def _row(model: str, columns: Mapping[Setting, Measured]) -> Row:
    cells, warned = {}, []
    for setting, measured in columns.items():
        if model in measured:
            found = measured[model]
            cells["params"] = cost(found, "params")
            shown = [figure for figure in FIGURES if figure in found.figures]
            cells |= {key_of(setting, figure): cost(found, figure) for figure in shown}
            warned += [_name(setting)] * bool(found.warnings)
    return Row(model, *display(model), cells, remark=pointer(warned))


def _conventions(machine: Setting, columns: Mapping[Setting, Measured]) -> Iterator[str]:
    yield "p50: median latency at batch 1; FPS = 1000 / p50."
    yield from about_forward(found for measured in columns.values() for found in measured.values())
    for precision in sorted({setting.precision for setting in columns if setting.precision}):
        yield f"float32 kernels: {precision}."
    yield "Weights and input are in the number format of the column."
    yield from about_hindered(found for measured in columns.values() for found in measured.values())
    yield machine.remainder
    yield VALUE_MARKS


def about_forward(found: Iterable[Measurement]) -> Iterator[str]:
    """Say what the peak memory of a forward is, once per way of taking it."""
    for method in sorted({measured.record.memory.method for measured in found if measured.record.memory}):
        # The second half tells of training steps, which are not shown here.
        yield f"Forward: peak memory of one forward pass at batch 1: {method.partition(';')[0]}."


# Okabe and Ito's palette again, one colour per number format; sizes are told apart by shape, small to large.
COLOURS: Mapping[str, str] = {"float32": "#0072B2", "bfloat16": "#D55E00", "float16": "#009E73"}
SHAPES = ("o", "s", "D", "^", "v", "P", "X")
PANEL_INCHES, PANEL_GAP_INCHES, LANE_INCHES, ROW_GAP_INCHES = 3.5, 0.3, 0.075, 0.13
TITLE_WIDTH = 52  # characters beside each other above a panel; two lines have room
NAMES_INCHES, TOP_INCHES, BOTTOM_INCHES = 1.15, 0.92, 0.5


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Draw the latencies of all settings: a row per model, a panel per device, a mark per size and number format.

    A study of runs has its own plots and gets this one only where it has figures in several settings.

    Yields:
        The file name without its ending, and the figure.
    """
    machines = _by_machine(study)
    settings = [setting for columns in machines.values() for setting in columns]
    if not settings or (study.protocol is not None and len(settings) == 1):
        return
    models = in_order({found.record.model for found in study.efficiency})
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
        _legend(figure, settings, shapes, hindered=any(found.hindered for found in study.efficiency))
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
        for model, found in measured.items():
            latency, row = found.record.latency, models.index(model) + offset
            span = axes.plot([latency.p50_ms, latency.p90_ms], [row] * 2, color=colour, linewidth=1.2, zorder=2)
            inside, edge = ("white", colour) if found.hindered else (colour, "white")
            spot = axes.plot(
                latency.p50_ms, row, marker=shape, color=inside, markersize=5.5, markeredgecolor=edge,
                markeredgewidth=1.0 if found.hindered else 0.5, linestyle="", zorder=3,
            )  # fmt: skip
            tip = f"{display(model)[0]} at {_name(setting)}: p50 {latency.p50_ms:.4g} ms, p90 {latency.p90_ms:.4g} ms"
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

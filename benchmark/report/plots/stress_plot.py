"""Plots stress tests: a column per effect, a row per metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmark import metrics
from benchmark.report.plots.plot_style import (
    DASHES,
    DPI,
    INK,
    LINE_INCHES,
    NOTE_POINTS,
    STYLE,
    STYLES,
    drawable,
    tag,
    wrapped_note,
)
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, noun_under
from benchmark.report.tables.render import Row
from benchmark.report.tables.stress_table import METRICS, Tested, tested
from benchmark.report.tables.transfer_table import reduction_of
from benchmark.utils.words import counted

PANEL_INCHES, GAP_INCHES = (2.05, 1.75), (0.14, 0.3)
LEFT_INCHES, RIGHT_INCHES, TITLE_INCHES, AXIS_INCHES = 0.72, 0.15, 0.36, 0.75
LEGEND_INCHES, LEGEND_COLUMNS, LEGEND_COLUMN_INCHES = 0.2, 6, 1.45
NOTE_PER_INCH = 16.5  # characters beside each other in the note below
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DODGE = 0.34  # doublings from the first network's marks to the last one's
AS_DRAWN = 1.0  # distance from the images as drawn to the least strength, in doublings


@dataclass(frozen=True)
class _Look:
    """The look of a network's line: its family's colour; within a family, dashes and marks of its own."""

    row: Row
    order: int

    def options(self) -> dict[str, Any]:
        """Return it in matplotlib's words."""
        ours = self.row.family == "ours"
        return {
            "color": STYLES[self.row.family][1],
            "linestyle": DASHES[self.order % len(DASHES)],
            "linewidth": 2.0 if ours else 1.2,
            "marker": "*" if ours and self.order == 0 else MARKERS[self.order % len(MARKERS)],
            "markersize": 8.5 if ours and self.order == 0 else 4.5,
            "markeredgecolor": "white",
            "markeredgewidth": 0.4,
            "zorder": 4 if ours else 3,
        }


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per training set and stand-in that was tested under stress.

    Yields:
        The file name without its ending, and the figure.
    """
    for tests in tested(study):
        if tests.stresses:
            yield tests.plot, _figure(study, tests)


def _figure(study: StudyResults, tests: Tested) -> Figure:
    assert study.protocol is not None
    rows = [metric for metric in METRICS if tests.has(metric)]
    looks = _looks(tests.models)
    width = LEFT_INCHES + len(tests.effects) * (PANEL_INCHES[0] + GAP_INCHES[0]) - GAP_INCHES[0] + RIGHT_INCHES
    columns = max(min(LEGEND_COLUMNS, int((width - 0.2) / LEGEND_COLUMN_INCHES)), 1)
    legend = LEGEND_INCHES * -(-len(looks) // columns)
    note = wrapped_note(_note(study, tests), int(NOTE_PER_INCH * width), width - 0.1)
    top = TITLE_INCHES + legend + 0.3
    bottom = AXIS_INCHES + LINE_INCHES * (note.count("\n") + 1)
    height = top + len(rows) * (PANEL_INCHES[1] + GAP_INCHES[1]) - GAP_INCHES[1] + bottom
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((width, height), dpi=DPI)
        figure.set_gid(tests.test)
        for down, metric in enumerate(rows):
            ends = _ends(study, tests, metric)
            for across, effect in enumerate(tests.effects):
                left = LEFT_INCHES + across * (PANEL_INCHES[0] + GAP_INCHES[0])
                floor = height - top - PANEL_INCHES[1] - down * (PANEL_INCHES[1] + GAP_INCHES[1])
                axes = figure.add_axes(
                    (left / width, floor / height, PANEL_INCHES[0] / width, PANEL_INCHES[1] / height)
                )
                _panel(axes, study, tests, metric, effect, looks)
                axes.set_ylim(*ends)
                axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
                if down == 0:
                    axes.set_title(drawable(effect), fontsize=9.5, fontweight="bold")
                if across:
                    axes.tick_params(axis="y", labelleft=False, length=0)
                else:
                    axes.set_ylabel(_y_title(study, metric), fontsize=8.5)
                if down < len(rows) - 1:
                    axes.tick_params(axis="x", labelbottom=False)
        edge = 0.1 / width
        figure.text(
            edge, 1 - 0.1 / height, drawable(f"Stress {tests.where}"), fontsize=10.5, fontweight="bold", va="top"
        )
        figure.legend(
            handles=[Line2D([], [], label=drawable(look.row.label), **look.options()) for look in looks.values()],
            loc="upper left", bbox_to_anchor=(edge, 1 - 0.32 / height), ncols=columns, frameon=False, fontsize=8,
            borderaxespad=0, borderpad=0.2, columnspacing=1.2, handletextpad=0.5, handlelength=3.0,
        )  # fmt: skip
        middle = (LEFT_INCHES + width - RIGHT_INCHES) / 2 / width
        below = (bottom - 0.42) / height
        figure.text(middle, below, "Strength (1: the hardest that training shows)", fontsize=8.5, ha="center", va="top")
        figure.text(edge, 0.08 / height, note, fontsize=NOTE_POINTS, color=INK, va="bottom")
    return figure


def _looks(models: Sequence[str]) -> dict[str, _Look]:
    drawn: dict[str, int] = {}
    looks = {}
    for model in models:
        row = Row(model, *display(model), {})
        looks[model] = _Look(row, drawn.setdefault(row.family, 0))
        drawn[row.family] += 1
    return looks


def _y_title(study: StudyResults, metric: str) -> str:
    return f"{metrics.METRICS[metric].display} (%),\n{reduction_of(study, metric)} reduction"


def _ends(study: StudyResults, tests: Tested, metric: str) -> tuple[float, float]:
    """Return the ends of a row's axis, which its panels share."""
    cells = (tests.cell(study, model, metric, key) for model in tests.models for key in (None, *tests.stresses))
    values = [100 * (cell.mean + side * (cell.std or 0)) for cell in cells if cell is not None for side in (-1, 1)]
    room = max(0.06 * (max(values) - min(values)), 1.0)
    return min(values) - room, max(values) + room


def _panel(axes: Axes, study: StudyResults, tests: Tested, metric: str, effect: str, looks: dict[str, _Look]) -> None:
    """Draw one metric under one effect; all panels share the strengths of all effects."""
    positions = {strength: math.log2(strength) for strength in sorted({stress.strength for stress in tests.stresses})}
    drawn = min(positions.values()) - AS_DRAWN
    right = max(positions.values()) + 0.35
    if right > 0.35:
        axes.axvspan(DODGE / 2 + 0.08, right, color="#F2F2F2", linewidth=0, zorder=0)
    axes.axvline(drawn + AS_DRAWN / 2, color="#BFBFBF", linewidth=0.7, zorder=1)
    for number, (model, look) in enumerate(looks.items()):
        # Side by side, so that equal values do not hide each other.
        aside = DODGE * (number / max(len(looks) - 1, 1) - 0.5)
        start = tests.cell(study, model, metric, None)
        cells = [
            (stress.strength, cell)
            for stress in tests.stresses
            if stress.name == effect and (cell := tests.cell(study, model, metric, stress)) is not None
        ]
        line = [(positions[strength] + aside, cell) for strength, cell in cells]
        options = look.options()
        values = [*([("as drawn", start)] if start else []), *((f"{strength:g}", cell) for strength, cell in cells)]
        values_text = ", ".join(f"{name}: {100 * cell.mean:.2f}" for name, cell in values)
        tip = f"{look.row.label}, {metrics.METRICS[metric].display} (%) by strength of {effect}: {values_text}"
        artists: list[Artist] = []
        for points in ([(drawn + aside, start)] if start else [], line):
            x, y = [at for at, _ in points], [100 * cell.mean for _, cell in points]
            artists += axes.plot(x, y, **options)
            if any(cell.std for _, cell in points):
                bar = axes.errorbar(
                    x, y, yerr=[100 * (cell.std or 0) for _, cell in points], fmt="none", ecolor=options["color"],
                    elinewidth=0.8, capsize=1.5, zorder=2,
                )  # fmt: skip
                artists += bar.get_children()
        if start and line:
            first, cell = line[0]
            artists += axes.plot(
                [drawn + aside, first],
                [100 * start.mean, 100 * cell.mean],
                color=options["color"],
                linewidth=0.6,
                linestyle=":",
                zorder=2,
            )
        tag(model, tip, *artists)
    axes.set_xlim(drawn - 0.35, right)
    axes.set_xticks([drawn, *positions.values()], ["as\ndrawn", *(f"{strength:g}" for strength in positions)])
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def _note(study: StudyResults, tests: Tested) -> str:
    assert study.protocol is not None
    noun = noun_under(study.protocol)
    spread = f"Mean ± std over n = {tests.n} {noun}s (ddof = 1)"
    spread = spread if tests.n > 1 else f"No error bars, since n = 1 {noun}"
    return (
        "Strength: times the hardest that the stand-in draws for this effect, on every test image; layouts, masks and "
        "all other effects as drawn. Left of the line: the test images as drawn, with their own mixture of strengths. "
        "Gray: beyond what training shows. Marks of one strength stand side by side. "
        f"{spread}. {counted(tests.images(study.protocol), 'test image')}. Protocol: {study.protocol.name}."
    )

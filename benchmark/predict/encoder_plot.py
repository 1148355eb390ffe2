"""Draws encoders' stages side by side: a row per network, with one patch enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from benchmark.data.formats.images import UInt8Array
from benchmark.predict.feature_maps import Encoder, Patch, Stage
from benchmark.report.plots.plot_style import DPI, INK, STYLE, drawable, wrapped

# Every map has the same colours over the same range: two deviations are bright or dark for every network.
COLOURS = "viridis"
LIMIT = 2.0
BOX = "#D55E00"
NOTE = (
    "Each map is standardised on its own, enlarged by the nearest neighbour and stretched over the image. Sizes are "
    "height×width"
)

LEAST_COLUMNS = 3  # of the figure's width: headings and the footnote need it
# Inches.
CELL, GAP, MARGIN = 1.45, 0.14, 0.2
HEADING, TITLE, LINE = 0.34, 0.42, 0.145
BELOW = 3.8 * LINE  # of a column: name, facts, component
BAR = 0.5  # the colour bar, its ticks and its title
NAME_CHARACTERS = 24  # that fit below a map
TITLE_PER_INCH, LABEL_PER_INCH, NOTE_PER_INCH = 9, 13, 17  # characters that fit into an inch


@dataclass(frozen=True, eq=False)
class StagePanel:
    """The image that all networks see.

    Pixels are ``(H, W, C)`` uint8; ``corner`` is x and y of their upper left corner in the image's file, and ``patch``
    the enlarged square in the file's coordinates. Notes are sentences without full stops.
    """

    title: str
    pixels: UInt8Array
    corner: tuple[int, int]
    patch: Patch
    notes: tuple[str, ...]


def draw(seen: StagePanel, encoders: Sequence[Encoder]) -> Figure:
    """Draw a row per network: the image, then its stages; below each map its enlarged patch."""
    height, width = seen.pixels.shape[:2]
    tall = CELL * height / max(height, width)
    columns = max(LEAST_COLUMNS, *(1 + len(encoder.stages) for encoder in encoders))
    across = 2 * MARGIN + columns * CELL + (columns - 1) * GAP
    title = wrapped(seen.title, int((across - 2 * MARGIN) * TITLE_PER_INCH))
    notes = wrapped(". ".join((*seen.notes, NOTE)) + ".", int((across - 2 * MARGIN) * NOTE_PER_INCH))
    title_down = TITLE + 0.19 * title.count("\n")
    row = HEADING + tall + GAP / 2 + CELL + BELOW
    down = title_down + len(encoders) * row + BAR + LINE * (notes.count("\n") + 1) + MARGIN
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((across, down), dpi=DPI)
        _write(figure, MARGIN, down - 0.14, title, fontsize=10.5, fontweight="bold", va="top")
        for number, encoder in enumerate(encoders):
            top = down - title_down - number * row
            _draw_heading(figure, top - HEADING / 2, encoder)
            for column, stage in enumerate((None, *encoder.stages)):
                _draw_column(figure, MARGIN + column * (CELL + GAP), top - HEADING, tall, seen, stage)
        _draw_bar(figure, notes.count("\n") + 1)
        _write(figure, MARGIN, 0.1, notes, fontsize=7, color=INK, va="bottom", linespacing=1.3)
    return figure


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> Text:
    """Write at a place in inches from the figure's lower left corner."""
    return figure.text(x, y, text, transform=figure.dpi_scale_trans, **style)


def _draw_heading(figure: Figure, y: float, encoder: Encoder) -> None:
    right = float(figure.get_size_inches()[0]) - MARGIN
    display = _cut(encoder.display, int((right - MARGIN) * TITLE_PER_INCH))
    written = _write(figure, MARGIN, y, display, fontsize=9.5, fontweight="bold", va="center_baseline")
    x = written.get_window_extent().x1 / DPI + 0.1
    label = _cut(encoder.label, int((right - x) * LABEL_PER_INCH))
    _write(figure, x, y, label, fontsize=8, color=INK, va="center_baseline")


def _draw_column(figure: Figure, x: float, top: float, tall: float, seen: StagePanel, stage: Stage | None) -> None:
    """Draw a map, its patch and their description below each other; ``None`` is the image."""
    width, height = figure.get_size_inches()
    whole, patch = (
        figure.add_axes((x / width, bottom / height, CELL / width, side / height))
        for bottom, side in ((top - tall, tall), (top - tall - GAP / 2 - CELL, CELL))
    )
    _draw_maps(whole, patch, seen, stage)
    for number, (line, weight) in enumerate(zip(_lines(seen, stage), ("bold", "normal", "normal"), strict=True)):
        y = top - tall - GAP / 2 - CELL - LINE * (number + 0.75)
        _write(figure, x + CELL / 2, y, drawable(line), fontsize=7, fontweight=weight, ha="center", va="center")


def _draw_maps(whole: Axes, enlarged: Axes, seen: StagePanel, stage: Stage | None) -> None:
    height, width = seen.pixels.shape[:2]
    (left, top), patch = seen.corner, seen.patch
    views = (
        (whole, (left, top, left + width, top + height)),
        (enlarged, (patch.x, patch.y, patch.x + patch.side, patch.y + patch.side)),
    )
    for axes, (x0, y0, x1, y1) in views:
        if stage is None:
            pixels = seen.pixels[..., 0] if seen.pixels.shape[-1] == 1 else seen.pixels
            axes.imshow(
                pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest",
                extent=(left, left + width, top + height, top),
            )  # fmt: skip
        else:
            rows, columns = stage.covered
            axes.imshow(
                stage.values, cmap=COLOURS, vmin=-LIMIT, vmax=LIMIT, interpolation="nearest",
                extent=(left, left + columns, top + rows, top),
            )  # fmt: skip
        axes.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[])
        axes.spines[:].set(visible=True, linewidth=0.5, color=INK)
    for colour, line in (("white", 2.2), (BOX, 1.1)):  # seen on dark and on bright
        whole.add_patch(
            Rectangle((patch.x, patch.y), patch.side, patch.side, fill=False, edgecolor=colour, linewidth=line)
        )
    enlarged.spines[:].set(linewidth=1.1, color=BOX)


def _lines(seen: StagePanel, stage: Stage | None) -> tuple[str, str, str]:
    if stage is None:
        height, width = seen.pixels.shape[:2]
        (x, y), patch = seen.corner, seen.patch
        area = f"{height}×{width}" + (f" at {x},{y}" if (x, y) != (0, 0) else "")
        return "image", area, f"patch {patch.x},{patch.y},{patch.side}"
    return _cut(stage.name, NAME_CHARACTERS), stage.facts, stage.component


def _cut(text: str, most: int) -> str:
    """Keep the end of a text that is too long, since dotted names and runs differ there."""
    text = drawable(text)
    return text if len(text) <= most else f"…{text[len(text) - max(most - 1, 1) :]}"


def _draw_bar(figure: Figure, lines: int) -> None:
    across, down = figure.get_size_inches()
    wide = min(3.2, across - 2 * MARGIN)
    bottom = 0.1 + lines * LINE + 0.38
    axes = figure.add_axes((MARGIN / across, bottom / down, wide / across, 0.09 / down))
    bar = figure.colorbar(
        ScalarMappable(Normalize(-LIMIT, LIMIT), COLOURS), cax=axes, orientation="horizontal", extend="both"
    )  # fmt: skip
    bar.ax.tick_params(labelsize=7, length=2, pad=1.5)
    bar.set_label("standard deviations from a map's own mean", fontsize=7, labelpad=1.5)

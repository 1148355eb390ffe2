"""Lays out a panel: pictures of one image, each with an enlarged part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image, ImageFont

from benchmark.data.check.contact_sheet import FONT, fit, shorten
from benchmark.data.formats.images import UInt8Array
from benchmark.report.plots.plot_style import DPI, INK, STYLE, drawable, legend_lines, wrapped_note

# Lengths in pixels of the PNG. Seven cells are as wide as A4 is long at 200 dpi, and two rows of them as high as it is
# wide: eleven networks beside the image, the truth and a method without training.
CELL, GAP, MARGIN = 316, 14, 14
MOST_COLUMNS, LEAST_COLUMNS = 7, 5  # with fewer, title and legend would not fit well
HEAD, LINE, AFTER = 100, 23, 6  # title and legend; a line of text above a cell; between a picture and its enlarged part
LEGEND, AROUND = 28, 1.2 + 0.5 + 1.4  # a line of the legend; an entry's mark and gaps, in sizes of its letters
DESCENT = 7  # from a text's baseline to the picture below it
FOOT_LINE, FOOT_CHARACTER = 21, 9.4  # a caption's line; the mean advance of its letters
SMALL, TINY = 7.2, 6.6  # points
LEAST_ZOOM, MOST_SHARE = 2, 2.5  # an enlarged part shows at most 1 / 2.5 of a small image's side


@dataclass(frozen=True, eq=False)
class SheetPicture:
    """One cell.

    Attributes:
        title: whose it is.
        figure: stands at the right of the title.
        lines: stand below it.
        pixels: ``(H, W, 3)`` uint8, of the same size in all cells of a sheet.
        bold: whether the title is.
        model: key of the network's row; blank for the image and the truth.
    """

    title: str
    figure: str
    lines: tuple[str, ...]
    pixels: UInt8Array
    bold: bool = False
    model: str = ""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A panel: all results on one image.

    Attributes:
        title: above all.
        pictures: in rows, from the left.
        corner: top and left of the enlarged part in the pictures, which is ``part_side`` wide and high.
        legend: meanings of the colours.
        caption: below all, wrapped by :func:`draw`.
        stem: of its files.
        dataset: of the image.
        rank: of the image, such as ``hardest``.
    """

    title: str
    pictures: Sequence[SheetPicture]
    corner: tuple[int, int]
    legend: Sequence[tuple[str, tuple[int, int, int]]]
    caption: str
    stem: str
    dataset: str
    rank: str


def picture_width(shape: tuple[int, ...]) -> int:
    """Return the width of an image ``(H, W)`` in a cell, pixels of the PNG."""
    return fit(Image.new("L", (shape[1], shape[0])), CELL).width


def zoom_of(shape: tuple[int, ...]) -> int:
    """Return the magnification of the enlarged part of an image ``(H, W)``."""
    return max(LEAST_ZOOM, int(CELL * MOST_SHARE / min(shape[:2])))


def part_side(shape: tuple[int, ...]) -> int:
    """Return the side of the enlarged part of an image ``(H, W)``, its own pixels; the last ones may be cut."""
    return max(min(-(-picture_width(shape) // zoom_of(shape)), *shape[:2]), 1)


def draw(sheet: Sheet) -> Figure:
    """Draw a sheet."""
    pictures = sheet.pictures
    shape = pictures[0].pixels.shape
    rows = -(-len(pictures) // MOST_COLUMNS)
    columns = -(-len(pictures) // rows)
    lines = 1 + max(len(picture.lines) for picture in pictures)
    width = 2 * MARGIN + max(columns, LEAST_COLUMNS) * (CELL + GAP) - GAP
    whole = fit(Image.fromarray(pictures[0].pixels), CELL)
    step = lines * LINE + whole.height + AFTER + min(part_side(shape) * zoom_of(shape), whole.width) + GAP
    room = width - 2 * MARGIN
    foot = wrapped_note(sheet.caption, int(room / FOOT_CHARACTER), room / DPI, TINY)
    handles: list[Artist] = [
        Patch(facecolor="#" + bytes(colour).hex(), edgecolor=INK, linewidth=0.4, label=label)
        for label, colour in sheet.legend
    ]
    # The gap behind the last entry of a line may lie beyond the edge.
    meanings = legend_lines(handles, room / DPI + 1.4 * SMALL / 72, SMALL, AROUND)
    head = HEAD + LEGEND * (len(meanings) - 1)
    height = head + rows * step + (foot.count("\n") + 1) * FOOT_LINE + MARGIN
    with matplotlib.style.context(STYLE | {"image.composite_image": False}, after_reset=True):
        figure = Figure((width / DPI, height / DPI), dpi=DPI)
        canvas = _Canvas(figure, width, height)
        canvas.write(MARGIN, 40, _fitting(sheet.title, 10.5, width - 2 * MARGIN, bold=True), 10.5, bold=True)
        for number, line in enumerate(meanings):
            figure.legend(
                handles=line, loc="upper left", bbox_to_anchor=(MARGIN / width, 1 - (56 + LEGEND * number) / height),
                ncols=len(line), frameon=False, fontsize=SMALL, borderaxespad=0, borderpad=0, columnspacing=1.4,
                handletextpad=0.5, handlelength=1.2,
            )  # fmt: skip
        for number, picture in enumerate(pictures):
            left, top = MARGIN + number % columns * (CELL + GAP), head + number // columns * step
            _draw_cell(canvas, picture, sheet.corner, left, top, lines)
        canvas.write(MARGIN, head + rows * step, foot, TINY, colour=INK, va="top")
    return figure


class _Canvas:
    """One system of axes over a whole figure, in pixels from its left and from its top."""

    def __init__(self, figure: Figure, width: int, height: int) -> None:
        self._axes = figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)

    def write(
        self, left: float, top: float, text: str, size: float, *, bold: bool = False, right: bool = False,
        colour: str = "black", va: Literal["baseline", "top"] = "baseline",
    ) -> None:  # fmt: skip
        self._axes.text(
            left, top, text, fontsize=size, va=va, ha="right" if right else "left",
            fontweight="bold" if bold else "normal", color=colour, linespacing=1.15,
        )  # fmt: skip

    def show(self, left: int, top: int, pixels: UInt8Array) -> None:
        """Put pixels on pixels."""
        height, width = pixels.shape[:2]
        extent = (left, left + width, top + height, top)
        self._axes.imshow(pixels, interpolation="none", extent=extent, aspect="auto")

    def frame(self, left: float, top: float, side: float) -> None:
        """Draw a square that is seen on dark and on bright ground."""
        for colour, line in (("black", 1.8), ("white", 0.9)):
            self._axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=colour, linewidth=line))


def _draw_cell(
    canvas: _Canvas, picture: SheetPicture, corner: tuple[int, int], left: int, top: int, lines: int
) -> None:
    gap = GAP if picture.figure else 0
    room = CELL - _font(SMALL, bold=False).getlength(picture.figure) - gap
    text = top + LINE - DESCENT
    canvas.write(left, text, _fitting(picture.title, SMALL, room, bold=picture.bold), SMALL, bold=picture.bold)
    canvas.write(left + CELL, text, picture.figure, SMALL, right=True)
    for number, line in enumerate(picture.lines, start=1):
        canvas.write(left, text + number * LINE, _fitting(line, TINY, CELL, bold=False), TINY, colour=INK)
    height, width = picture.pixels.shape[:2]
    side, zoom = part_side((height, width)), zoom_of((height, width))
    whole = np.asarray(fit(Image.fromarray(picture.pixels), CELL))
    scale = whole.shape[1] / width
    top += lines * LINE
    canvas.show(left, top, whole)
    canvas.frame(left + corner[1] * scale, top + corner[0] * scale, side * scale)
    part = picture.pixels[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    enlarged = part.repeat(zoom, axis=0).repeat(zoom, axis=1)
    # As wide as the whole picture, so that both line up.
    canvas.show(left, top + whole.shape[0] + AFTER, enlarged[: whole.shape[1], : whole.shape[1]])


def _fitting(text: str, points: float, room: float, *, bold: bool) -> str:
    return shorten(drawable(text), _font(points, bold=bold), room)


def _font(points: float, *, bold: bool) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib will draw with, to measure a text before."""
    return ImageFont.truetype(Path(FONT).with_stem("DejaVuSans-Bold") if bold else FONT, points * DPI / 72)

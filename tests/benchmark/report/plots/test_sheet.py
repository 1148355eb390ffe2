"""Sheets of panels keep the pixels of their pictures and fit a printed page."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from benchmark.evaluation.fault_overlay import COLOURS
from benchmark.report.plots import plot_style, sheet


# 96 is enlarged and cut like 100, and 1024 is shrunk like 512.
@pytest.mark.parametrize("side", [32, 100, 512, *(pytest.param(side, marks=pytest.mark.slow) for side in (96, 1024))])
def test_page_of_fourteen_cells_shows_pixels_unblurred_and_fits_a4(side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    pictures = [
        sheet.SheetPicture(f"Network {n}", "91.42 %", ("12 shorts, 13 opens", "1 false, 2 missed"), pixels)
        for n in range(14)
    ]
    corner = (side // 3, side // 4)
    legend = [("open", COLOURS["open"])]
    figure = sheet.draw(sheet.Sheet("title", pictures, corner, legend, "word " * 150, "x", "x", "hardest"))
    page = np.asarray(Image.open(io.BytesIO(plot_style.save(figure, "png"))).convert("RGB"))
    assert page.shape[1] <= 11.7 * 200
    assert page.shape[0] <= 8.3 * 200
    part, zoom = sheet.part_side((side, side)), sheet.zoom_of((side, side))
    assert zoom >= 2
    enlarged = pixels[corner[0] : corner[0] + part, corner[1] : corner[1] + part].repeat(zoom, 0).repeat(zoom, 1)
    whole = side * (sheet.CELL // side) if side < sheet.CELL else sheet.CELL
    enlarged = enlarged[:whole, :whole]
    assert enlarged.shape[:2] == (whole, whole)  # below the whole picture, as wide as it
    top = sheet.HEAD + 3 * sheet.LINE + whole + sheet.AFTER
    for number in (0, 6):
        left = sheet.MARGIN + number * (sheet.CELL + sheet.GAP)
        shown = page[top : top + len(enlarged), left : left + len(enlarged)]
        np.testing.assert_array_equal(shown, enlarged)


def test_every_meaning_of_a_long_legend_is_inside() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pictures = [sheet.SheetPicture(name, "", (), pixels) for name in ("Image", "Truth", "EDANet")]
    words = ["right", "predicted, not true", "true, not predicted", "short: joins nets", "open: a net in pieces"]
    words += ["false: no such net", "missed: a net not found", "ignored"]
    legend = [(word, COLOURS["open"]) for word in words]
    figure = sheet.draw(sheet.Sheet("title", pictures, (0, 0), legend, "caption", "x", "x", "hardest"))
    canvas = plot_style.renderer(figure)
    figure.draw(canvas)
    texts = {text.get_text(): text for text in figure.findobj(Text)}
    ends = [texts[word].get_window_extent(canvas) for word in words]
    assert all(box.x1 <= figure.bbox.x1 for box in ends)
    assert ends[-1].y1 <= ends[0].y0  # a second line
    assert ends[-1].y0 >= texts["Image"].get_window_extent(canvas).y1

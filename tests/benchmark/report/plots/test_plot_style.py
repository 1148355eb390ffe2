"""Ticks of logarithmic axes: decades where they give a scale, else evenly placed round numbers; fonts of a PDF."""

from __future__ import annotations

import io
import re
import zlib

import pytest
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure

from benchmark.report.plots.plot_style import FONT, NOTE_POINTS, renderer, round_ticks, save, wrapped_note


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0.9, 60), ["1", "2", "5", "10", "20", "50"]),
        ((0.07, 0.13), ["0.08", "0.1", "0.12"]),
        ((0.0121, 0.0139), ["0.0125", "0.013", "0.0135"]),
    ],
)
def test_ticks_give_a_scale(limits: tuple[float, float], expected: list[str]) -> None:
    axes = Figure().subplots()
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    round_ticks(axes.xaxis, fine=True)
    ticks = [tick for tick in axes.xaxis.get_majorticklocs() if limits[0] <= tick <= limits[1]]
    assert axes.xaxis.get_major_formatter().format_ticks(ticks) == expected


def test_fonts_of_a_pdf_have_glyphs_and_no_rules_for_layout() -> None:
    cut = Subsetter.subset
    figure = Figure((1, 1))
    figure.text(0, 0, "AVE", family=FONT)
    content = save(figure, "pdf")
    assert Subsetter.subset is cut
    streams = [zlib.decompress(found) for found in re.findall(rb"stream\n(x.*?)\nendstream", content, re.DOTALL)]
    fonts = [TTFont(io.BytesIO(stream)) for stream in streams if stream.startswith(b"\0\1\0\0")]
    tables = set().union(*(font.keys() for font in fonts))
    assert tables & {"GDEF", "GPOS", "GSUB", "kern", "glyf"} == {"glyf"}
    assert {"A", "V", "E"} <= {glyph for font in fonts for glyph in font.getGlyphOrder()}


@pytest.mark.parametrize(("word", "breaks"), [("WWW", "earlier"), ("iii", "at the characters")])
def test_lines_of_a_note_are_no_wider_than_their_room(word: str, breaks: str) -> None:
    lines = wrapped_note(" ".join([word] * 60), 40, 2.0).split("\n")
    assert " ".join(lines) == " ".join([word] * 60)
    assert (max(map(len, lines)) < 39) == (breaks == "earlier")
    figure = Figure((3, 1), dpi=200)
    drawn = [figure.text(0, 0, line, family=FONT, fontsize=NOTE_POINTS) for line in lines]
    widest = max(text.get_window_extent(renderer(figure)).width for text in drawn) / 200
    assert 0.5 < widest <= 2.01  # hinted for the screen
    assert wrapped_note("W" * 90, 40, 0.01).count("W") == 90  # ends, though nothing fits

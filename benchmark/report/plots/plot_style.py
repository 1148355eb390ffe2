"""Gives all plots one look: colours, typeface, sizes, the files they are saved to."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.style
from fontTools import subset
from matplotlib.artist import Artist
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from benchmark.report.tables.render import FAMILIES, Row

# Okabe and Ito's palette (Color Universal Design, 2008) keeps apart under every common colour blindness; the shapes
# keep families apart in grey. Shape, colour and marker size in points.
STYLES = {
    "ours": ("*", "#D55E00", 13.0),
    "lightweight": ("o", "#0072B2", 7.0),
    "ic": ("s", "#009E73", 6.5),
    "general": ("P", "#E69F00", 7.0),
    "user": ("D", "#CC79A7", 6.0),
}
#: Within a family, whose colour they share, lines are told apart by their dashes.
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
INK = "#4D4D4D"
DPI = 200
SIZE_INCHES = (6.8, 4.8)
NOTE_POINTS, LINE_INCHES = 7.5, 0.15  # of the note below a plot
#: Between the parts of an artist's identifier: names and tips hold printable characters alone, and XML keeps this one.
SEPARATOR = "\u2028"
FONT = "DejaVu Sans"  # ships with matplotlib
#: A user's matplotlibrc must not change a report, and ``$`` in a name is no formula.
STYLE = {
    "font.family": FONT,
    "font.size": 9,
    "text.parse_math": False,
    "pdf.fonttype": 42,  # TrueType: text in a PDF stays text; journals refuse Type 3
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def wrapped(text: str, width: int) -> str:
    """Break text into lines of so many characters."""
    return "\n".join(textwrap.wrap(drawable(text), width))


def wrapped_note(text: str, characters: int, inches: float, points: float = NOTE_POINTS) -> str:
    """Break a note into lines of so many characters, or of fewer where wide letters would pass so many inches."""

    def fits(line: str) -> bool:
        return text_inches(line, points) <= inches

    while not all(map(fits, (lines := wrapped(text, characters)).split("\n"))) and characters > 1:
        characters -= 1
    return lines


def text_inches(line: str, points: float) -> float:
    """Return the width of a line of text."""
    font = FontProperties(family=FONT, size=points)
    width, _, _ = text_to_path.get_text_width_height_descent(line, font, ismath=False)
    return float(width) / 72


def legend_lines(handles: Sequence[Artist], inches: float, points: float, around: float) -> list[list[Artist]]:
    """Break the entries of a legend into lines of so many inches.

    Args:
        handles: of one line, if that were wide enough.
        inches: width of a line.
        points: size of the letters.
        around: what an entry takes beside its text, in sizes of the letters: mark and gaps.
    """
    lines, used = list[list[Artist]](), inches
    for handle in handles:
        width = text_inches(str(handle.get_label()), points) + around * points / 72
        if used + width > inches:
            lines.append([])
            used = 0.0
        lines[-1].append(handle)
        used += width
    return lines


def tag(model: str, tip: str, *artists: Artist) -> None:
    """Mark artists as a model's, and give the first of them the words that the page shows on hover.

    Both go into matplotlib's group identifier, which PDF and PNG files do not hold. A figure's own identifier is its
    dataset.

    Args:
        model: key of its row.
        tip: name and values in words; blank where another artist of the plot has them.
        artists: of the model.
    """
    for artist, text in zip(artists, itertools.chain([tip], itertools.repeat("")), strict=False):
        words = ("".join(filter(str.isprintable, word)) for word in (model, text))
        artist.set_gid(SEPARATOR.join(("model", *words)))


def round_ticks(axis: XAxis | YAxis, *, fine: bool) -> None:
    """Put 1, 2 and 5 of every decade on a logarithmic axis, or 1 alone; on a short axis, other round numbers."""
    axis.set_major_locator(_RoundLocator((1.0, 2.0, 5.0) if fine else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick_label(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


class _RoundLocator(LogLocator):
    """Places ticks by decades, or evenly if an axis holds fewer than two of these, which would give no scale."""

    def __init__(self, factors: Sequence[float]) -> None:
        super().__init__(base=10, subs=factors, numticks=20)
        self.factors = factors

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        decades = range(math.floor(math.log10(vmin)), math.floor(math.log10(vmax)) + 1)
        ticks = [factor * 10.0**decade for decade in decades for factor in self.factors]
        if sum(vmin <= tick <= vmax for tick in ticks) < 2:
            return MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        return super().tick_values(vmin, vmax)


def _tick_label(value: float) -> str:
    """Return a tick's label, longer than usual if rounding would change the value."""
    text = tick_text(value)
    return text if math.isclose(float(text), value, rel_tol=1e-9) else f"{value:g}"


def tick_text(value: float) -> str:
    """Return a tick's label, of five characters at most so that a panel's margin has room for it.

    Example:
        >>> tick_text(0.05), tick_text(20000.0), tick_text(1e5)
        ('0.05', '20000', '1e5')
    """
    text = f"{value:g}"
    if len(text) <= 5:
        return text
    digits, _, exponent = f"{value:.0e}".partition("e")
    return f"{digits}e{int(exponent)}"


def family_handles(rows: Sequence[Row]) -> list[Line2D]:
    """Return legend entries of the families that rows have."""
    return [
        Line2D(
            [], [], linestyle="", marker=marker, color=colour, markeredgecolor="white", markersize=size,
            label=FAMILIES[family],
        )
        for family, (marker, colour, size) in STYLES.items()
        if any(row.family == family for row in rows)
    ]  # fmt: skip


def drawable(text: str) -> str:
    """Replace characters without a glyph in the font, so that they are visible gaps and cause no warning."""
    known = _glyphs()
    return "".join(character if ord(character) in known else "□" for character in " ".join(text.split()))


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())


def renderer(figure: Figure | SubFigure) -> RendererAgg:
    """Return what measures a figure's texts; left to itself, matplotlib makes, and keeps, one for each of them."""
    return RendererAgg(*figure.bbox.size, figure.dpi)  # type: ignore[no-untyped-call]  # matplotlib leaves it so


def save(figure: Figure, kind: str) -> bytes:
    """Return a figure as a ``pdf`` or ``png`` file without date and version."""
    metadata = {"CreationDate": None, "Producer": None, "Creator": None} if kind == "pdf" else {"Software": None}
    content = io.BytesIO()
    with matplotlib.style.context(STYLE, after_reset=True), _glyphs_alone():
        figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    return content.getvalue()


@contextlib.contextmanager
def _glyphs_alone() -> Iterator[None]:
    """Let matplotlib embed fonts without their rules for layout, since a PDF places every glyph.

    There is no setting for that, and to cut these rules down, in vain, takes a third of a report's time.
    """
    cut = subset.Subsetter.subset

    def cut_glyphs(subsetter: Any, font: Any) -> None:
        for table in {"GDEF", "GPOS", "GSUB", "kern"} & {*font.keys()}:
            del font[table]
        cut(subsetter, font)

    subset.Subsetter.subset = cut_glyphs
    try:
        yield
    finally:
        subset.Subsetter.subset = cut


def file_stem(name: str, parts: Sequence[str], taken: set[str]) -> str:
    """Return a name for a plot's files: its parts, and a number if the name is taken."""
    plain = [re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts]
    base = ".".join(filter(None, (name, *plain)))
    names = itertools.chain([base], (f"{base}.{number}" for number in itertools.count(2)))
    stem = next(name for name in names if name not in taken)
    taken.add(stem)
    return stem

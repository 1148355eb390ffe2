"""Turns figures into SVG that the page colours, names and keeps small."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

from benchmark.report.plots.all_plots import Plot
from benchmark.report.plots.plot_style import FONT, SEPARATOR, STYLE

#: The largest distance at which a hatch of :mod:`benchmark.report.plots.electrical_plot` repeats: two rows of ``....``.
HATCH_POINTS = 6
#: A narrow window shrinks a figure to this share at most, so that its smallest texts keep 8 px; then it scrolls.
LEAST_SCALE = 0.8


@dataclass(frozen=True)
class Drawing:
    """A figure in the page.

    Attributes:
        plot: its kind.
        name: of its files, without ending.
        dataset: by which it can be chosen; blank for none.
        svg: the figure itself.
    """

    plot: Plot
    name: str
    dataset: str
    svg: Markup

    @classmethod
    def of(cls, plot: Plot, name: str, figure: Figure) -> Drawing:
        """Draw a figure."""
        return cls(plot, name, figure.get_gid() or "", Markup(to_svg(figure, name)))


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element for an HTML page.

    A colour becomes a CSS variable of its own name, with the colour itself as its default. An artist with a model, by
    :func:`benchmark.report.plots.plot_style.tag`, becomes a group of class ``pt``.

    Args:
        figure: to be drawn.
        name: of the figure; makes its identifiers differ from those of the page's other figures.
    """
    content = io.BytesIO()
    style = STYLE | {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.style.context(style, after_reset=True):
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(content.getvalue())
    for element in list(root.iter()):
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attributes(element))
        for child in element.findall("{*}style"):
            element.remove(child)
        if element.tag != "text":
            element.text = None
        element.tail = None
        if element.tag == "pattern":
            _cut(element)
        kind, _, rest = element.get("id", "").partition(SEPARATOR)
        if element.tag == "g":
            element.attrib.pop("id", None)
        if kind == "model":
            model, _, tip = rest.partition(SEPARATOR)
            element.attrib |= {"class": "pt", "data-m": model}
            if tip:
                title = ElementTree.Element("title")
                title.text = tip
                element.insert(0, title)
    del root.attrib["version"]
    least_px = LEAST_SCALE * 96 / 72 * float(root.attrib["width"].removesuffix("pt"))
    looks = {"class": "drawn", "style": f"min-width:{least_px:.0f}px", "role": "group", "aria-label": name}
    root.attrib = looks | root.attrib
    return ElementTree.tostring(root, encoding="unicode")


def _cut(pattern: ElementTree.Element) -> None:
    """Shrink the tile of a hatch, a square inch of 600 dots of four curves each, to the part that recurs."""
    pattern.attrib |= {"width": str(HATCH_POINTS), "height": str(HATCH_POINTS)}
    for path in pattern.findall("{*}path"):
        shapes = re.findall(r"M (\S+) (\S+)([^M]*)", path.get("d", ""))
        kept = [
            shape for shape in shapes if "C" not in shape[2] or max(float(shape[0]), float(shape[1])) < 2 * HATCH_POINTS
        ]
        path.set("d", "".join(f"M {x} {y}{rest}" for x, y, rest in kept))


def _attributes(element: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for qualified, value in element.items():
        key = qualified.rpartition("}")[2]
        if key in ("style", "fill"):
            coloured = re.sub("#([0-9a-f]{6})", r"var(--\1,#\1)", value)
            yield key, coloured.replace(f"'{FONT}'", "var(--face)").replace(": ", ":").replace("; ", ";")
        elif key in ("id", "href", "clip-path"):
            yield key, value
        elif not value.startswith("rotate(-0 "):
            yield key, re.sub(r"-?\d+\.\d+", _rounded, value).replace("\n", "")


def _rounded(number: re.Match[str]) -> str:
    """Return a coordinate with two decimals, which is finer than a screen shows."""
    return f"{float(number[0]):z.2f}".rstrip("0").rstrip(".")


def texts_only(page: bytes) -> bytes:
    """Return a page without shapes and pictures, whose bytes depend on libraries' versions; texts and tips stay."""
    texts = re.sub(
        rb'<svg class="drawn".*?</svg>', lambda svg: b"".join(re.findall(b">[^<>]+<", svg[0])), page, flags=re.DOTALL
    )
    return re.sub(rb'src="data:[^"]*"', b"", texts)

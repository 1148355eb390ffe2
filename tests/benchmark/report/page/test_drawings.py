"""Figures as SVG in the page: names, values and colours are kept, files and dates are not."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib.style
from matplotlib.figure import Figure

from benchmark.report.page.drawings import texts_only, to_svg
from benchmark.report.plots.plot_style import STYLE, tag

HOSTILE = "</title><script>alert(1)</script>\x07 & \"x\"\n'y'"


def figure(y: float = 0.5) -> Figure:
    with matplotlib.style.context(STYLE, after_reset=True):
        drawn = Figure((4, 3))
        axes = drawn.add_subplot()
        tag("unet", f"UNet: {y}", *axes.plot([0, 1], [0, y], "o", color="#D55E00"), axes.text(0, y, "UNet"))
        axes.bar([0], [1], hatch="....", facecolor="#009E73", label=HOSTILE)
        tag("other", HOSTILE, axes.axhline(0.3))
    return drawn


def test_models_become_groups_with_their_values() -> None:
    svg = ElementTree.fromstring(to_svg(figure(), "one"))

    shapes = [(group.get("data-m", ""), [title.text for title in group.findall("title")]) for group in svg.iter("g")]
    expected = [("unet", ["UNet: 0.5"]), ("unet", []), ("other", ["</title><script>alert(1)</script> & \"x\"'y'"])]
    assert sorted(shape for shape in shapes if shape[0]) == sorted(expected)
    assert not list(svg.iter("script"))
    assert not list(svg.iter("style"))
    assert "UNet" in [text.text for text in svg.iter("text")]


def test_colours_are_variables_and_the_typeface_is_the_pages() -> None:
    svg = to_svg(figure(), "one")

    assert "fill:var(--d55e00,#d55e00)" in svg
    assert not re.search(r"(?<!,)#[0-9a-f]{6}", svg)
    assert "DejaVu" not in svg


def test_same_figure_gives_the_same_bytes_without_a_date_and_identifiers_of_its_own() -> None:
    one, again, other = to_svg(figure(), "one"), to_svg(figure(), "one"), to_svg(figure(), "other")

    assert one == again
    assert not re.search(r"\d{4}-\d\d-\d\d|metadata", one)
    identifiers = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert identifiers[0]
    assert not identifiers[0] & identifiers[1]
    assert set(re.findall(r"#([mph][0-9a-f]{10})", one)) == identifiers[0]


def test_hatch_of_dots_takes_little_room() -> None:
    assert len(to_svg(figure(), "one")) < 15_000


def test_texts_are_compared_and_shapes_are_not() -> None:
    pages = [f"<p>a</p>{to_svg(figure(y), 'one')}<p>b</p>".encode() for y in (0.5, 0.6)]
    moved = pages[0].replace(b"translate(", b"translate(1").replace(b' x="', b' x="1')

    assert moved != pages[0]
    assert texts_only(moved) == texts_only(pages[0])
    assert texts_only(pages[0]) != texts_only(pages[1])
    assert texts_only(pages[0]).startswith(b"<p>a</p>")
    assert texts_only(pages[0]).endswith(b"<p>b</p>")

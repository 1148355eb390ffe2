from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.data.formats import svg
from benchmark.data.formats.svg import SvgLabel, rasterise, read_svg
from benchmark.utils.errors import UserError
from tests.benchmark.data.formats.svg_makers import HEAD, SQUARE, VIA, document

HY5SYN = "label0001.svg"  # how its files are called


def write(folder: Path, *shapes: str, head: str = HEAD, name: str = "label.svg") -> Path:
    path = folder / name
    path.write_text(document(*shapes, head=head))
    return path


def read_path(folder: Path, drawn: str) -> list[list[list[float]]]:
    return [track.tolist() for track in read_svg(write(folder, f'<path d="{drawn}" fill="lime"/>')).tracks]


def refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=rf"label\.svg: {message}") as caught:
        read_svg(path)
    assert str(caught.value).startswith(str(path))


def test_label_holds_its_size_and_all_its_shapes(tmp_path: Path) -> None:
    label = read_svg(write(tmp_path, SQUARE, VIA, SQUARE))
    assert label.size == (30, 40)
    square = [[2, 3], [6, 3], [6, 8], [2, 8], [2, 3]]
    assert [track.tolist() for track in label.tracks] == [square, square]
    assert label.vias.tolist() == [[20, 10, 4]]


@pytest.mark.parametrize(("shape", "tracks", "vias"), [(SQUARE, 1, 0), (VIA, 0, 1)])
def test_label_may_hold_only_tracks_or_only_vias(tmp_path: Path, shape: str, tracks: int, vias: int) -> None:
    label = read_svg(write(tmp_path, shape))
    assert (len(label.tracks), label.vias.shape) == (tracks, (vias, 3))


@pytest.mark.parametrize(
    "drawn",
    [
        "M2,3 L6,3 L6,8 Z",
        "M2 3L6 3 6 8z",
        "M 2 , 3 6,3 6,8",
        "m2,3 l4,0 l0,5 z",
        "m2 3 4 0 0 5Z",
        "M2,3 H6 V8 Z",
        "m2,3h4v5z",
        "M2,3h1 2 1V4 8Z",
        "M.2e1+3L6 .3e1 6 8.0Z",
        "\n M2,3\tL6,3\n L6,8 Z \n",
    ],
)
def test_absolute_relative_and_compact_commands_draw_the_same(tmp_path: Path, drawn: str) -> None:
    (polygon,) = read_path(tmp_path, drawn)
    assert (polygon[0], polygon[-1]) == ([2, 3], [6, 8])
    assert [6, 3] in polygon
    assert {x for x, _ in polygon} | {y for _, y in polygon} <= {2, 3, 4, 5, 6, 8}
    area = rasterise(read_svg(tmp_path / "label.svg")).track
    whole = rasterise(read_svg(write(tmp_path, '<path d="M2,3 L6,3 L6,8 Z" fill="lime"/>'))).track
    np.testing.assert_array_equal(area, whole)


def test_several_polygons_in_one_path(tmp_path: Path) -> None:
    result = read_path(tmp_path, "M2,3 L6,3 L6,8 Z m10,0 l4,0 l0,5 z l1,0 l0,1 M20,3 h4 v5")
    assert result == [
        [[2, 3], [6, 3], [6, 8]],
        [[12, 3], [16, 3], [16, 8]],  # relative to where the first one closed
        [[12, 3], [13, 3], [13, 4]],  # begins where the one before closed
        [[20, 3], [24, 3], [24, 8]],
    ]


def test_polygon_covers_the_pixels_on_its_outline(tmp_path: Path) -> None:
    layers = rasterise(read_svg(write(tmp_path, SQUARE, name=HY5SYN)))
    expected = np.zeros((30, 40), bool)
    expected[3:9, 2:7] = True
    np.testing.assert_array_equal(layers.track, expected)
    assert layers.via.shape == (30, 40)
    assert not layers.via.any()


@pytest.mark.parametrize("name", ["label.svg", "0001.svg", "label0001_mask.svg"])
def test_other_svg_files_follow_the_svg_rule(tmp_path: Path, name: str) -> None:
    """As browsers do: 4x5 pixels, and those whose centres lie in the circle."""
    layers = rasterise(read_svg(write(tmp_path, SQUARE, VIA, name=name)))
    expected = np.zeros((30, 40), bool)
    expected[3:8, 2:6] = True
    np.testing.assert_array_equal(layers.track, expected)
    y, x = np.mgrid[:30, :40] + 0.5
    np.testing.assert_array_equal(layers.via, np.hypot(x - 20, y - 10) <= 4)
    halves = '<path d="M2.6,3.4 L6.6,3.4 L6.6,8.4 L2.6,8.4 Z" fill="lime"/>'
    track = rasterise(read_svg(write(tmp_path, halves, '<circle cx="39" cy="29" r="3" fill="red"/>', name=name))).track
    assert np.argwhere(track)[[0, -1]].tolist() == [[3, 3], [7, 6]]


def test_data_outline_attribute_includes_outlines(tmp_path: Path) -> None:
    head = HEAD.replace("<svg", '<svg data-outline="inside"')
    by_name = rasterise(read_svg(write(tmp_path, SQUARE, VIA, name=HY5SYN)))
    by_word = rasterise(read_svg(write(tmp_path, SQUARE, VIA, head=head)))
    np.testing.assert_array_equal(by_word.track, by_name.track)
    np.testing.assert_array_equal(by_word.via, by_name.via)
    refused(write(tmp_path, SQUARE, head=head.replace("inside", "in")), "element 1 <svg>: data-outline 'in'; expected")


def test_concave_polygon_keeps_its_bay(tmp_path: Path) -> None:
    drawn = "M2,2 L20,2 L20,20 L15,20 L15,7 L7,7 L7,20 L2,20 Z"
    track = rasterise(read_svg(write(tmp_path, f'<path d="{drawn}" fill="lime"/>', name=HY5SYN))).track
    expected = np.zeros((30, 40), bool)
    expected[2:21, 2:21] = True
    expected[8:21, 8:15] = False
    np.testing.assert_array_equal(track, expected)


def test_via_covers_its_disc(tmp_path: Path) -> None:
    via = rasterise(read_svg(write(tmp_path, VIA, name=HY5SYN))).via
    y, x = np.mgrid[:30, :40]
    distance = np.hypot(x - 20, y - 10)
    assert via[distance <= 4].all()
    assert not via[distance > 5].any()


def test_metal_is_union_of_tracks_and_vias(tmp_path: Path) -> None:
    beside = '<path d="M5,3 L9,3 L9,8 L5,8 Z" fill="lime"/>'
    layers = rasterise(read_svg(write(tmp_path, SQUARE, SQUARE, beside, VIA, VIA, name=HY5SYN)))
    expected = np.zeros((30, 40), bool)
    expected[3:9, 2:10] = True
    np.testing.assert_array_equal(layers.of("track"), expected)
    np.testing.assert_array_equal(layers.of("via"), rasterise(read_svg(write(tmp_path, VIA, name=HY5SYN))).via)
    np.testing.assert_array_equal(layers.of("metal"), layers.track | layers.via)


def test_shapes_are_cut_at_the_border(tmp_path: Path) -> None:
    wide = '<path d="M-500,3 L500,3 L500,8 L-500,8 Z" fill="lime"/>'
    corner = '<circle cx="39" cy="29" r="3" fill="red"/>'
    layers = rasterise(read_svg(write(tmp_path, wide, corner, name=HY5SYN)))
    assert layers.track[3:9].all()
    assert layers.track.sum() == 6 * 40
    assert layers.via[29, 36:].all()
    assert layers.via[26:, 39].all()


def test_byte_order_mark_and_editor_elements_change_nothing(tmp_path: Path) -> None:
    plain = read_svg(write(tmp_path, SQUARE, VIA))
    head = HEAD.replace(">", ' xmlns:e="http://editor" e:version="3">')
    text = document(
        "<title>frame</title>", '<e:view zoom="2"/>', SQUARE.replace(" d=", ' id="p" e:kind="c" d='), VIA, head=head
    )
    for content in ("\ufeff" + text, document(SQUARE, VIA, head='<svg width="40" height="30">')):
        (tmp_path / "label.svg").write_text(content, "utf-8")
        result = read_svg(tmp_path / "label.svg")
        assert result.size == plain.size
        np.testing.assert_array_equal(result.tracks, plain.tracks)
        np.testing.assert_array_equal(result.vias, plain.vias)


DRAWING = ("ellipse", "image", "line", "polygon", "polyline", "rect", "text", "use")
HOLE = "M2,2 L20,2 L20,20 L2,20 Z M5,5 L5,15 L15,15 L15,5 Z"


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ("", "a path that begins with ''; expected M"),
        ("L2,3 L6,3 L6,8 Z", "a path that begins with 'L2,3 L6,3 L6,8 Z'; expected M"),
        ("M2,3 L6,3 Z", "a polygon of 2 points; expected at least 3"),
        ("M2,3 L6,3 L6,8 Z Z", "a polygon of 0 points"),
        ("M2,3 M4,5 L6,3 L6,8 Z", "a polygon of 1 points"),
        ("M2,3 L6,3 6 Z", "3 numbers behind 'L'; expected 2 each time"),
        ("M2,3 L L6,3 Z", "0 numbers behind 'L'"),
        ("M2,3 L6,3 L6,8 Z5", "1 numbers behind 'Z'; expected 0"),
        ("M2,3 L6,3 L6,#8 Z", "',#8'; expected numbers"),
        ("M2,3 L6,3 L6,8, Z", "','; expected numbers"),
        ("M2,3 L6,3 L6,\u0668 Z", "',\u0668'; expected numbers"),
        ("M2,3 Lnan,3 L6,8 Z", "0 numbers behind 'L'"),
        ("M2,3 L1e999,3 L6,8 Z", "a coordinate 100,000 pixels away"),
        ("M2,3 l1e999,3 l-1e999,8 Z", "a coordinate 100,000 pixels away"),
        ("M2,3 L200000,3 L6,8 Z", "a coordinate 100,000 pixels away"),
        ("M40,3 L46,3 L46,8 Z", "a shape from 40,3 to 46,8, outside the frame; .*width 40 and height 30: remove it"),
        ("M4,-9 L6,-3 L6,-1 Z", "a shape from 4,-9 to 6,-1, outside the frame"),
        (HOLE, "polygons of both directions in one path, which cut holes; .*: write each polygon as a path"),
    ],
)
def test_other_paths_are_refused(tmp_path: Path, drawn: str, message: str) -> None:
    refused(write(tmp_path, f'<path d="{drawn}" fill="lime"/>'), f"element 3 <path>: {message}")


@pytest.mark.parametrize("curve", ["C1,1 2,2 3,3", "S1,1 2,2", "Q1,1 2,2", "T4,4", "A1 1 0 0 1 5 5", "c1,1 2,2 3,3"])
def test_curves_are_refused(tmp_path: Path, curve: str) -> None:
    message = f"element 3 <path>: command '{curve[0]}'; expected M, L, H, V or Z: replace curves"
    refused(write(tmp_path, f'<path d="M2,3 {curve} Z" fill="lime"/>'), message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(((20, 10, radius), f"r={radius}; expected above 0 and at most 20: correct it") for radius in (0, -1, 21)),
        *(((x, 10, 4), "'.*'; expected numbers") for x in ("4px", "nan", "inf", "1_0", "\u0663")),
        *(((x, 10, 4), f"cx='{x}'; expected a number") for x in ("", "1 2")),
        (("1e999", 10, 4), "a coordinate 100,000 pixels away"),
        ((20, 40, 4), "a shape from 16,36 to 24,44, outside the frame"),
    ],
)
def test_other_circles_are_refused(tmp_path: Path, values: tuple[object, ...], message: str) -> None:
    shape = '<circle cx="{}" cy="{}" r="{}" fill="red"/>'.format(*values)
    refused(write(tmp_path, shape), f"element 3 <circle>: {message}")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (SQUARE.replace("lime", "red"), "<path>: fill 'red'; expected 'lime'"),
        (SQUARE.replace('fill="lime"', ""), "<path>: fill None; expected 'lime'"),
        (VIA.replace("red", "lime"), "<circle>: fill 'lime'; expected 'red'"),
        (VIA.replace("cx=", "x="), "<circle>: attribute x='20'; expected only cx, cy, fill, id, r"),
        (VIA.replace('cx="20"', ""), "<circle>: cx=None; expected a number"),
        (VIA.replace(" />", ' transform="scale(2)"/>'), "<circle>: attribute transform='scale"),
        (
            SQUARE.replace(" />", ' transform="scale(2)"/>'),
            "<path>: attribute transform='scale.*; expected only d, fill",
        ),
        (SQUARE.replace(" />", ' style="fill:red"/>'), "<path>: attribute style='fill:red'"),
        (SQUARE.replace(" />", ' fill-rule="evenodd"/>'), "<path>: attribute fill-rule='evenodd'"),
    ],
)
def test_other_drawing_attributes_are_refused(tmp_path: Path, shape: str, message: str) -> None:
    refused(write(tmp_path, shape), f"element 3 {message}")


@pytest.mark.parametrize("name", [*DRAWING, "g", "script", "style", "svg"])
def test_other_elements_are_refused(tmp_path: Path, name: str) -> None:
    message = f"element 3 <{name}>: draws or changes something; expected only path and circle: export"
    refused(write(tmp_path, f"<{name}/>"), message)


def test_invisible_shape_is_refused(tmp_path: Path) -> None:
    refused(
        write(tmp_path, f"<defs>{SQUARE}</defs>"), "element 4 <path>: inside another element; .*directly inside svg"
    )


def test_empty_label_is_refused(tmp_path: Path) -> None:
    refused(write(tmp_path), "no shape; expected path and circle elements")


def test_error_names_element_number_in_file_order(tmp_path: Path) -> None:
    refused(write(tmp_path, SQUARE, VIA, "<rect/>", SQUARE), "element 5 <rect>")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("", "element 1 <svg>: height '' and width ''; expected whole numbers of pixels from 1 to 32768"),
        ('width="40"', "element 1 <svg>: height '' and width '40'"),
        *(
            (f'width="40" height="{height}"', f"element 1 <svg>: height '{height}' and width '40'")
            for height in ("0", "-3", "1e3", "30px", "100%", "40000", "nan")
        ),
        ('width="40" height="30" viewBox="0 0 80 60"', r"element 1 <svg>: viewBox '0 0 80 60'; expected '0 0 40 30'"),
        ('width="40" height="30" transform="scale(2)"', "element 1 <svg>: attribute transform"),
    ],
)
def test_frame_without_a_plain_size_is_refused(tmp_path: Path, attributes: str, message: str) -> None:
    refused(write(tmp_path, SQUARE, head=f"<svg {attributes}>"), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not well-formed XML"),
        (b"\x89PNG\r\n", r"not UTF-8 \(invalid start byte at byte 0\); save"),
        (document(SQUARE).encode("utf-16"), "not UTF-8"),
        (document(SQUARE).encode("utf-16-le"), "null characters, as in UTF-16"),
        ("<!DOCTYPE svg>".encode("utf-16-le") + document(SQUARE)[38:].encode("utf-16-le"), "null characters"),
        (document(SQUARE)[:-9].encode(), r"not well-formed XML \(.*line 5, column \d+\)"),
        (document(SQUARE, "<title>").encode(), r"not well-formed XML \(mismatched tag: line 7"),
        (document(SQUARE, "&lol;").encode(), "not well-formed XML .*undefined entity"),
        (b"<html/>", r"element 1 <html>: is the outermost; expected svg"),
        (b'<!DOCTYPE svg [<!ENTITY a "b">]>' + document(SQUARE)[38:].encode(), "a DOCTYPE or ENTITY"),
        (b'<!doctype svg SYSTEM "file:///etc/passwd">' + document(SQUARE)[38:].encode(), "a DOCTYPE or ENTITY"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "label.svg"
    path.write_bytes(content)
    refused(path, message)


def test_unknown_declared_encoding_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "label.svg"
    path.write_text(document(SQUARE).replace("UTF-8", "klingon"))
    assert len(read_svg(path).tracks) == 1  # it is read as UTF-8 whatever it says


def test_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "label.svg", r"cannot be read \(No such file")
    (tmp_path / "label.svg").mkdir()
    refused(tmp_path / "label.svg", r"cannot be read \(Is a directory\)")


def test_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "label.svg"
    with path.open("wb") as file:
        file.truncate(svg.MOST_BYTES + 1)
    refused(path, "more than 64 MB; expected a label of one frame")


def test_too_many_points_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg, "MOST_NUMBERS", 13)
    assert len(read_svg(write(tmp_path, SQUARE, VIA)).tracks) == 1
    refused(write(tmp_path, SQUARE, VIA, VIA), "element 5 <circle>: more than a million points")


@pytest.mark.parametrize("unit", ["1", " ", ",", ".", "-", "e", "1.", "1e", "M", "M1,1", "9 , "])
def test_no_text_is_slow_to_read(tmp_path: Path, unit: str) -> None:
    """A pattern that goes back and forth over such text would not come to an end here."""
    text = unit * (200_000 // len(unit)) + "#"
    refused(write(tmp_path, f'<path d="M1,1 L{text}" fill="lime"/>'), "element 3 <path>")
    refused(write(tmp_path, VIA.replace("20", text)), "element 3 <circle>")


def frame_like_a_published_one() -> SvgLabel:
    rng = np.random.default_rng(0)

    def track() -> NDArray[np.float64]:
        x, y = rng.integers(0, 4000), rng.integers(0, 3500)
        length, width = rng.integers(100, 2000), rng.integers(16, 33)
        return np.array([[x, y], [x + length, y], [x + length, y + width], [x, y + width]], np.float64)

    vias = np.column_stack([rng.integers(0, 4096, 1000), rng.integers(0, 3536, 1000), rng.integers(3, 16, 1000)])
    return SvgLabel((3536, 4096), tuple(track() for _ in range(900)), vias.astype(np.float64), outline_inside=True)


def test_whole_frame_is_drawn() -> None:
    label = frame_like_a_published_one()
    layers = rasterise(label)
    assert layers.track.shape == label.size
    corners = np.concatenate(label.tracks).astype(int)
    corners = corners[(corners[:, 0] < 4096) & (corners[:, 1] < 3536)]
    assert layers.track[corners[:, 1], corners[:, 0]].all()
    assert layers.via[label.vias[:, 1].astype(int), label.vias[:, 0].astype(int)].all()

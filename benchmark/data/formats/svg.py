"""Reads labels in SVG: tracks are lime polygons, vias are red circles.

HY5SYN's coordinates name pixels, as contours do: a polygon covers the pixels on its outline, and x ends at
``width - 1``. These files have names like ``label0001.svg`` or, if `predict` wrote them, ``data-outline="inside"`` in
their first element. In other files a shape covers the pixels whose centres lie in it, as SVG defines. HY5SYN's files
hold exact and near duplicates and overlapping polygons of one net, so only the union of all shapes has a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from benchmark.config.targets import Target
from benchmark.data.formats.label_format import Label, LabelFormat, Layers, Legend, remembering
from benchmark.data.formats.rasterize import Mask, Points, fill
from benchmark.utils.errors import UserError
from benchmark.utils.files import TooLargeError, read_limited

MOST_BYTES = 64 * 2**20  # a frame's label has 0.15 MB
MOST_NUMBERS = 2 * 10**6  # and 30,000 numbers; this is a million points
MOST_SIDE = 2**15  # beyond it, the integers of Pillow's ellipse overflow
FARTHEST = 10**5  # pixels; the frame may cut shapes, but a shape three frames away is an error

SVG = "{http://www.w3.org/2000/svg}"
# No repetition here matches in two ways, so no text makes them slow.
NUMBER = re.compile(r"[\s,]*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
COMMAND = re.compile("([A-DF-Za-df-z])([^A-DF-Za-df-z]*)")  # E belongs to numbers
ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "Z": 0}
HY5SYN_NAME = re.compile(r"label\d+\.svg", re.IGNORECASE)
OUTLINE_INSIDE = 'data-outline="inside"'  # in files whose outlines belong to their shapes
FILLS = {"path": "lime", "circle": "red"}
# Other attributes change the drawing (transform, style, clip-path, fill-rule, ...).
ATTRIBUTES = {
    "svg": {"width", "height", "viewBox", "version", "id", "data-outline"},
    "path": {"d", "fill", "id"},
    "circle": {"cx", "cy", "r", "fill", "id"},
}
DRAWS_NOTHING = frozenset({"defs", "title", "desc", "metadata"})
EXPORT = "export the label again as plain paths and circles"


@dataclass(frozen=True, eq=False)
class SvgLabel:
    """The shapes of a label, duplicates included."""

    size: tuple[int, int]  # height and width of the frame in pixels
    tracks: tuple[Points, ...]  # the corners of each polygon, ``(n, 2)`` float64 as (x, y)
    vias: Points  # ``(n, 3)`` float64: centre x, centre y, radius
    outline_inside: bool  # whether coordinates name pixels, and pixels on an outline belong to the shape


class SvgFormat(LabelFormat):
    """One SVG file of shapes per image."""

    suffixes = frozenset({".svg"})
    is_drawn = True

    def __init__(self) -> None:
        self._shapes = remembering(read_svg)

    def size(self, label: Path) -> tuple[int, int]:
        """Return the frame's height and width; the whole file is read."""
        return self._shapes(label).size

    def read(self, label: Path, target: Target, legend: Legend) -> Label:
        """Draw the target's layer."""
        return Label(rasterise(self._shapes(label)).of(target), tells_layers=True)


def read_svg(path: Path) -> SvgLabel:
    """Read a label's shapes.

    Raises:
        UserError: names an element other than lime polygons and red circles that reach into the frame.
    """
    try:
        content = read_limited(path, MOST_BYTES)
    except TooLargeError as error:
        message = f"{path}: more than {MOST_BYTES >> 20} MB; expected a label of one frame: split or replace it"
        raise UserError(message) from error
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); expected an SVG label: replace the file"
        raise UserError(message) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save the label as UTF-8") from error
    # The parser would decode UTF-16 again and see declarations that the search does not.
    if "\0" in text:
        raise UserError(f"{path}: null characters, as in UTF-16; expected UTF-8: save the label as UTF-8")
    # Entities expand without limit and may name other files.
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise UserError(f"{path}: a DOCTYPE or ENTITY declaration; expected SVG without: remove it")
    reader = _SvgParser(path)
    parser = ElementTree.XMLParser(target=reader)
    try:
        parser.feed(text)
        parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not well-formed XML ({error}); expected an SVG label: replace the file") from error
    return reader.label()


def rasterise(label: SvgLabel) -> Layers:
    """Draw the union of the tracks and the union of the vias, cut at the frame's border.

    If outlines belong to shapes, corners, centres and radii are rounded to whole pixels, and a polygon that overlaps
    itself is filled by the even-odd rule; no published label has one. Otherwise a pixel counts by its centre.
    """
    if not label.outline_inside:
        return Layers(fill(label.tracks, label.size, nonzero=True), _discs(label.vias, label.size))
    track, via = (Image.new("L", label.size[::-1]) for _ in range(2))
    pen = ImageDraw.Draw(track)
    for corners in label.tracks:
        pen.polygon(np.rint(corners).astype(int).ravel().tolist(), fill=1)
    pen = ImageDraw.Draw(via)
    for x, y, radius in label.vias:
        box = np.rint([x - radius, y - radius, x + radius, y + radius]).astype(int).tolist()
        pen.ellipse(box, fill=1)
        if box[:2] == box[2:]:  # an ellipse of one pixel draws nothing
            pen.point(box[:2], fill=1)
    return Layers(np.asarray(track, np.bool_), np.asarray(via, np.bool_))


def _discs(vias: Points, size: tuple[int, int]) -> Mask:
    """Draw the pixels ``(H, W)`` whose centres lie in discs ``(n, 3)``."""
    mask = np.zeros(size, np.bool_)
    for x, y, radius in vias:
        low = np.maximum(np.floor([y - radius, x - radius]), 0).astype(int)
        high = np.minimum(np.ceil([y + radius, x + radius]), size).astype(int)
        rows, columns = np.ogrid[low[0] : high[0], low[1] : high[1]]
        mask[low[0] : high[0], low[1] : high[1]] |= np.hypot(rows + 0.5 - y, columns + 0.5 - x) <= radius
    return mask


class _SvgParser:
    """Reads shapes from an XML parser's events; without a tree, a hostile file needs no memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._depth = 0
        self._elements = 0
        self._numbers = 0
        self._where = str(path)
        self._size = (0, 0)
        self._tracks: list[Points] = []
        self._vias: list[tuple[float, float, float]] = []
        self._outline_inside = HY5SYN_NAME.fullmatch(path.name) is not None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        name = tag.removeprefix(SVG)
        self._where = f"{self._path}: element {self._elements} <{name[:40]}>"
        if self._depth == 1:
            if name != "svg":
                raise self._refused("is the outermost", "svg", "replace the file")
            self._check_attributes(name, attributes)
            self._size = self._read_size(attributes)
            outline = attributes.get("data-outline")
            if outline not in (None, "inside"):
                raise self._refused(f"data-outline {outline!r:.40}", "'inside'", "correct or remove it")
            self._outline_inside |= outline is not None
        elif name in FILLS:
            if self._depth > 2:
                raise self._refused("inside another element", "it directly inside svg", "ungroup the drawing")
            self._check_attributes(name, attributes)
            if attributes.get("fill") != FILLS[name]:
                raise self._refused(f"fill {attributes.get('fill')!r:.40}", repr(FILLS[name]), EXPORT)
            if name == "path":
                self._read_path(attributes.get("d", ""))
            else:
                self._read_circle(attributes)
        elif name not in DRAWS_NOTHING and not name.startswith("{"):  # elements of editors draw nothing
            raise self._refused("draws or changes something", "only path and circle", EXPORT)

    def end(self, tag: str) -> None:
        self._depth -= 1

    def label(self) -> SvgLabel:
        if not self._tracks and not self._vias:
            raise UserError(f"{self._path}: no shape; expected path and circle elements: remove an empty label's file")
        vias = np.array(self._vias, np.float64).reshape(-1, 3)
        return SvgLabel(self._size, tuple(self._tracks), vias, self._outline_inside)

    def _refused(self, content: str, expected: str, remedy: str) -> UserError:
        return UserError(f"{self._where}: {content}; expected {expected}: {remedy}")

    def _check_attributes(self, name: str, attributes: Mapping[str, str]) -> None:
        for key, value in attributes.items():
            if key not in ATTRIBUTES[name] and not key.startswith("{"):
                known = ", ".join(sorted(ATTRIBUTES[name]))
                raise self._refused(f"attribute {key[:40]}={value!r:.40}", f"only {known}", EXPORT)

    def _read_size(self, attributes: Mapping[str, str]) -> tuple[int, int]:
        sides = [attributes.get(key, "") for key in ("height", "width")]
        if not all(re.fullmatch("[0-9]{1,5}", side) and 0 < int(side) <= MOST_SIDE for side in sides):
            stated = f"height {sides[0]!r:.40} and width {sides[1]!r:.40}"
            expected = f"whole numbers of pixels from 1 to {MOST_SIDE}"
            raise self._refused(stated, expected, "write the frame's size there")
        height, width = int(sides[0]), int(sides[1])
        view = attributes.get("viewBox", f"0 0 {width} {height}")
        if view.replace(",", " ").split() != f"0 0 {width} {height}".split():
            raise self._refused(f"viewBox {view!r:.40}", f"'0 0 {width} {height}'", "do not scale the drawing")
        return height, width

    def _read_path(self, drawn: str) -> None:
        turns = set()
        for corners in self._polygons(drawn):
            if len(corners) < 3:
                raise self._refused(f"a polygon of {len(corners)} points", "at least 3", "remove it")
            polygon = np.array(corners)
            self._check_inside(polygon)
            x, y = polygon.T
            turns.add(np.sign(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
            self._tracks.append(polygon)
        if {-1, 1} <= turns:
            remedy = "write each polygon as a path, and one with a hole as two halves"
            holes = "polygons of both directions in one path, which cut holes"
            raise self._refused(holes, "polygons without holes", remedy)

    def _polygons(self, drawn: str) -> Iterator[list[tuple[float, float]]]:
        """Follow a path's commands; a polygon ends with Z, with the next M, or with the path."""
        corners: list[tuple[float, float]] = []
        first = point = (0.0, 0.0)
        for letter, values in self._commands(drawn):
            kind = letter.upper()
            if kind == "Z":
                yield corners
                corners, point = [], first
                continue
            for index in range(0, len(values), ARGUMENTS[kind]):
                x, y = point if letter.islower() else (0.0, 0.0)
                if kind == "H":
                    point = (x + values[index], point[1])
                elif kind == "V":
                    point = (point[0], y + values[index])
                else:
                    point = (x + values[index], y + values[index + 1])
                if kind == "M" and index == 0:
                    if corners:
                        yield corners
                    corners, first = [point], point
                else:
                    corners = corners or [first]  # without an M behind a Z, the next polygon begins at the same corner
                    corners.append(point)
        if corners:
            yield corners

    def _commands(self, drawn: str) -> Iterator[tuple[str, list[float]]]:
        """Yield each command's letter with its numbers, of which there are as many as it takes."""
        drawn = drawn.strip()
        if drawn[:1] not in ("M", "m"):
            raise self._refused(f"a path that begins with {drawn[:20]!r}", "M", EXPORT)
        for match in COMMAND.finditer(drawn):
            letter, arguments = match.groups()
            takes = ARGUMENTS.get(letter.upper())
            if takes is None:
                raise self._refused(f"command {letter!r}", "M, L, H, V or Z", "replace curves by polygons")
            values = self._parse(arguments)
            if bool(values) != bool(takes) or (takes and len(values) % takes):
                raise self._refused(f"{len(values)} numbers behind {letter!r}", f"{takes} each time", EXPORT)
            yield letter, values

    def _read_circle(self, attributes: Mapping[str, str]) -> None:
        numbers = []
        for key in ("cx", "cy", "r"):
            values = self._parse(attributes.get(key, ""))
            if len(values) != 1:
                raise self._refused(f"{key}={attributes.get(key)!r:.40}", "a number", EXPORT)
            numbers += values
        x, y, radius = numbers
        if not 0 < radius <= max(self._size) / 2:
            raise self._refused(f"r={radius:g}", f"above 0 and at most {max(self._size) / 2:g}", "correct it")
        self._check_inside(np.array([[x - radius, y - radius], [x + radius, y + radius]]))
        self._vias.append((x, y, radius))

    def _parse(self, text: str) -> list[float]:
        text = text.rstrip()
        values: list[float] = []
        position = 0
        while position < len(text):
            match = NUMBER.match(text, position)
            if match is None:
                raise self._refused(repr(text[position : position + 20]), "numbers", EXPORT)
            values.append(float(match[1]))
            position = match.end()
            self._numbers += 1
            if self._numbers > MOST_NUMBERS:
                raise self._refused("more than a million points", "a label of one frame", "split or replace the file")
        return values

    def _check_inside(self, corners: Points) -> None:
        """Refuse a shape without a pixel in the frame, by the box around its corners ``(n, 2)``."""
        if not (np.abs(corners) <= FARTHEST).all():  # infinity and NaN too
            raise self._refused(f"a coordinate {FARTHEST:,} pixels away", "the frame's", "remove the shape")
        low, high = corners.min(axis=0), corners.max(axis=0)
        if (high < -0.5).any() or (low > np.array(self._size[::-1]) - 0.5).any():
            shape = "a shape from {:g},{:g} to {:g},{:g}, outside the frame".format(*low, *high)
            expected = "a part of it within width {1} and height {0}".format(*self._size)
            raise self._refused(shape, expected, "remove it")

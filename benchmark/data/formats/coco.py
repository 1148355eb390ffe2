"""Reads labels from COCO files, which hold polygons and run lengths of many images."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
from pycocotools import mask as pycoco

from benchmark.config.targets import Target
from benchmark.data.formats.label_format import Label, LabelFormat, Legend, remembering
from benchmark.data.formats.rasterize import Mask, Points
from benchmark.data.formats.svg import FARTHEST, MOST_SIDE
from benchmark.data.specs import Kind, Layer
from benchmark.utils.errors import UserError
from benchmark.utils.names import comparable

MOST_BYTES = 1 << 29  # in memory, five to ten times as much
# Lengths of outlines in pixels: of one polygon (2 GB while it is drawn), and of all in one image (about a minute).
MOST_OUTLINE, MOST_OUTLINES = 2 * 10**7, 3 * 10**8
DECODING = threading.Lock()  # several threads read masks, and the process has one list of warning filters
ANY = "any layer"
MERGED = 16  # run lengths merged at a time, which is faster than one by one

# Kinds of categories by their names; a number behind the name is a layer's. The TOML file explains other names.
NAMES: Mapping[Kind, re.Pattern[str]] = {
    "track": re.compile(r"(circuit|interconnect|line|metal|m|track|trace|wire)s?[ _-]?\d*"),
    "via": re.compile(r"(via|contact)s?[ _-]?\d*"),
}


@dataclass(frozen=True)
class Shape:
    """One annotation."""

    where: str  # its name in messages
    category: str  # its category's name
    polygons: tuple[Points, ...] = ()  # corners ``(n, 2)`` in pixels
    runs: tuple[int, ...] = ()  # or lengths of runs of background and foreground in turn, column by column


@dataclass(frozen=True)
class ImageEntry:
    """The annotations of one image."""

    size: tuple[int, int]  # height and width in pixels
    shapes: tuple[Shape, ...]  # its annotations
    categories: tuple[str, ...]  # names of all categories of the file


class CocoFormat(LabelFormat):
    """COCO's annotations; a JSON file without them has another purpose."""

    suffixes = frozenset({".json"})
    holds_many = is_drawn = has_categories = True

    def __init__(self) -> None:
        self._images = remembering(_load)

    def size(self, label: Path) -> tuple[int, int]:
        """Return an image's height and width in the file."""
        return self.entry(label).size

    def read(self, label: Path, target: Target, legend: Legend) -> Label:
        """Draw the target's layer; it is told from others if a category of the file is of this layer."""
        entry, kinds = self.entry(label), _kinds(legend.categories)
        told = any(_by_name(name, kinds) in _wanted(target) for name in entry.categories)
        if not told and target not in get_args(Layer) and len(entry.categories) > 1:
            raise UserError(
                f"{label.parent}: no category is of the layer {target!r} (found {', '.join(entry.categories)[:200]}); "
                f"expected a line such as {json.dumps(entry.categories[0][:80])} = '{target}' below [categories] in "
                "the dataset's TOML file"
            )
        return Label(rasterise(entry, target, legend.categories), tells_layers=told)

    def entries(self, file: Path) -> list[Path] | None:
        """Return the labels of all images, or ``None`` for a file without annotations."""
        images = self._images(file)
        return None if images is None else [file / name for name in images]

    def form(self, label: Path) -> str:
        """Return the format's name, whatever the image's suffix."""
        return "COCO"

    def entry(self, label: Path) -> ImageEntry:
        """Return the annotations of one image; raises UserError for an unreadable, damaged or ambiguous file."""
        entry = (self._images(label.parent) or {}).get(label.name)
        if entry is None:
            missing = f"no image {label.name!r}; expected the file that was there before: restore it"
            raise UserError(f"{label.parent}: {missing}")
        return entry


def rasterise(entry: ImageEntry, target: Target, categories: Sequence[tuple[str, Kind]] = ()) -> Mask:
    """Draw the union ``(H, W)`` of an image's annotations of a layer; ``metal`` is tracks and vias.

    Drawn by pycocotools, as COCO's own evaluation does. Pixel (row r, column c) spans ``[c, c + 1) x [r, r + 1)``; a
    polygon has no holes, so several polygons of an annotation count as their union.

    Args:
        entry: the annotations.
        target: the layer.
        categories: names of categories with their layers, ``none`` for no layer; :data:`NAMES` decides for others. An
            unknown category that is the only one of its file belongs to every layer.

    Raises:
        UserError: a category of unknown kind, or more corners than can be drawn.
    """
    kinds, wanted = _kinds(categories), {*_wanted(target), ANY}
    return _union([shape for shape in entry.shapes if _kind(shape, entry, kinds) in wanted], entry.size)


def _wanted(target: Target) -> tuple[Kind, ...]:
    return ("track", "via") if target == "metal" else (target,)


def _kinds(categories: Sequence[tuple[str, Kind]]) -> dict[str, Kind]:
    return {comparable(name): kind for name, kind in categories}


def _by_name(category: str, kinds: Mapping[str, Kind]) -> Kind | None:
    by_name = (kind for kind in NAMES if NAMES[kind].fullmatch(category.strip().casefold()))
    return kinds.get(comparable(category)) or next(by_name, None)


def _kind(shape: Shape, entry: ImageEntry, kinds: Mapping[str, Kind]) -> Kind:
    name = shape.category
    kind = _by_name(name, kinds)
    if kind is not None:
        return kind
    if len(entry.categories) == 1:
        return ANY
    line = f"{json.dumps(name[:80])} = 'track' (or 'via', another layer's name, 'none')"
    raise UserError(
        f"{shape.where}: category {name[:80]!r}, which is neither a track nor a via by its name; expected names such "
        f"as metal1 and via1: add {line} below [categories] in the dataset's TOML file"
    )


def _union(shapes: Sequence[Shape], size: tuple[int, int]) -> Mask:
    polygons = [corners for shape in shapes for corners in shape.polygons]
    lengths = [np.abs(np.roll(corners, -1, axis=0) - corners).max(axis=1).sum() for corners in polygons]
    if max(lengths, default=0) > MOST_OUTLINE or sum(lengths) > MOST_OUTLINES:
        raise UserError(
            f"{shapes[0].where} and others: outlines of {sum(lengths):,.0f} pixels, the longest {max(lengths):,.0f}; "
            f"expected at most {MOST_OUTLINES:,} and {MOST_OUTLINE:,}, as tracks and vias have: simplify them"
        )
    drawn: list[Any] = [corners.ravel().tolist() for corners in polygons]
    drawn += [{"size": list(size), "counts": list(shape.runs)} for shape in shapes if shape.runs]
    runs = [pycoco.frPyObjects([shape], *size)[0] for shape in drawn]
    while len(runs) > 1:
        runs = [pycoco.merge(runs[start : start + MERGED]) for start in range(0, len(runs), MERGED)]
    return _pixels(runs[0]) if runs else np.zeros(size, np.bool_)


def _pixels(runs: Any) -> Mask:
    """Decode pycocotools' run lengths ``(H, W)``; version 2.0.11 triggers a warning of NumPy 2."""
    with DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.ascontiguousarray(pycoco.decode(runs), np.bool_)


def _load(file: Path) -> Mapping[str, ImageEntry] | None:
    """Return each image's annotations by the last part of its name, or ``None`` for another JSON file."""
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            excess = f"{size / 1e6:.0f} MB, more than {MOST_BYTES >> 20} MB"
            raise UserError(f"{file}: {excess}; expected annotations: split the file")
        content = json.loads(file.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        remedy = "check its permissions" if os.path.exists(file) else "restore it"
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a COCO file: {remedy}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        cause = str(error)[:200] or type(error).__name__
        raise UserError(f"{file}: no JSON ({cause}); expected COCO annotations: export them again") from error
    if not isinstance(content, dict) or not {"images", "annotations"} & content.keys():
        return None
    return parse(file, content)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else _is_whole(value)


def _is_plain_path(value: str) -> bool:
    plain = not value.startswith("/") and "\\" not in value and value.isprintable() and ".." not in value.split("/")
    return plain and bool(Path(value.rpartition("/")[2]).stem)


# Conditions on fields, with their text in messages.
Expected = tuple[Callable[[Any], bool], str]
ID: Expected = (lambda value: _is_whole(value) or isinstance(value, str), "a whole number")
TEXT: Expected = (lambda value: isinstance(value, str) and bool(value.strip()), "a text")
PATH: Expected = (_is_plain_path, "a relative path such as images/0001.png, without '..'")
SIDE_TEXT = f"a whole number of pixels from 1 to {MOST_SIDE}"
SIDE: Expected = (lambda value: _is_whole(value) and 0 < value <= MOST_SIDE, SIDE_TEXT)


def parse(file: Path, content: dict[str, Any]) -> dict[str, ImageEntry]:
    """Return each image's annotations in a file's content, by the last part of its file name.

    Raises:
        UserError: content that does not follow the format.
    """
    images, annotations, categories = (_items(file, content, key) for key in ("images", "annotations", "categories"))
    names = {item.field("id", *ID): item.field("name", *TEXT) for item in categories}
    if len(names) < len(categories):
        raise _refused(f"{file}: categories", "an id that occurs twice", "one category for each id")
    sizes: dict[int | str, tuple[int, int]] = {}
    paths: dict[str, str] = {}
    files: dict[int | str, str] = {}
    for item in images:
        number = item.field("id", *ID)
        if number in sizes:
            raise _refused(item.where, f"id {number!r} a second time", "one image for each id")
        sizes[number] = (item.field("height", *SIDE), item.field("width", *SIDE))
        item.field("file_name", *TEXT)
        path = item.field("file_name", *PATH)  # with folders of the exporting machine
        files[number] = path.rpartition("/")[2]
        other = paths.setdefault(comparable(Path(path).stem).casefold(), path)
        if other is not path:
            names_alike = f"{other[:80]!r} and {path[:80]!r}"
            raise _refused(item.where, names_alike, "names that differ by more than folder and suffix")
    shapes: dict[int | str, list[Shape]] = {number: [] for number in sizes}
    for item in annotations:
        item.where += f" (id {_short(item.fields['id'])})" if "id" in item.fields else ""
        image, category = item.field("image_id", *ID), item.field("category_id", *ID)
        if image not in sizes:
            raise _refused(item.where, f"image_id {image!r}", "the id of an image in the file")
        if category not in names:
            raise _refused(item.where, f"category_id {category!r}", "the id of a category in the file")
        shapes[image].append(item.shape(names[category], sizes[image]))
    known = tuple(names.values())
    return {files[number]: ImageEntry(sizes[number], tuple(shapes[number]), known) for number in sizes}


@dataclass
class _Item:
    """An object of a file, and its name in messages."""

    where: str
    fields: dict[str, Any]

    def field(self, key: str, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.fields.get(key)
        if not fits(value):
            raise _refused(self.where, f"{key} {_short(value)}", expected)
        return value

    def shape(self, category: str, size: tuple[int, int]) -> Shape:
        drawn = self.fields.get("segmentation")
        if isinstance(drawn, dict):
            return Shape(self.where, category, runs=self._runs(drawn, size))
        if not isinstance(drawn, list) or not drawn:
            raise _refused(self.where, f"segmentation {_short(drawn)}", "polygons or run lengths, not a box alone")
        return Shape(self.where, category, tuple(map(self._polygon, drawn)))

    def _polygon(self, corners: Any) -> Points:
        if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2:
            raise _refused(self.where, f"polygon {_short(corners)}", "[x, y, x, y, x, y, …] of three corners or more")
        for value in corners:
            if not _is_number(value) or not -FARTHEST <= value <= FARTHEST:
                limit = f"a number of pixels, at most {FARTHEST:,} away"
                raise _refused(self.where, f"coordinate {_short(value)}", limit)
        return np.array(corners, np.float64).reshape(-1, 2)

    def _runs(self, drawn: dict[str, Any], size: tuple[int, int]) -> tuple[int, ...]:
        if drawn.get("size") != list(size):
            stated = _short(drawn.get("size"))
            raise _refused(self.where, f"run lengths of size {stated}", f"the image's, {list(size)}")
        counts, area = drawn.get("counts"), size[0] * size[1]
        runs: Any = _decoded(counts) if isinstance(counts, str) else counts
        numbers = isinstance(runs, list) and all(map(_is_number, runs))
        if not numbers or not all(run == int(run) and 0 <= run <= area for run in runs) or sum(runs) != area:
            total = f" whose sum is {sum(runs)}" if numbers else ""
            raise _refused(self.where, f"run lengths {_short(counts)}{total}", f"lengths whose sum is {area}")
        return tuple(map(int, runs))


def _items(file: Path, content: dict[str, Any], key: str) -> list[_Item]:
    items = content.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _refused(f"{file}: {key}", _short(items), "a list of objects")
    return [_Item(f"{file}: {key}[{index}]", item) for index, item in enumerate(items)]


def _refused(where: str, content: str, expected: str) -> UserError:
    return UserError(f"{where}: found {content}; expected {expected}: export the annotations again")


def _decoded(text: str) -> list[int] | None:
    """Undo COCO's compression of run lengths, or return ``None`` for another text.

    pycocotools decodes them too, but does not check their sum, and fills masks of short ones with random memory.

    From the fourth on, a length is stored as its difference from the one before the last, in groups of five bits, the
    lowest first, each as a character from '0' on; 32 means that another group follows, 16 in the last group a minus.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs


def _short(value: Any) -> str:
    shorten = reprlib.Repr()
    shorten.maxstring, shorten.maxother, shorten.maxlevel = 80, 80, 2
    return shorten.repr(value)

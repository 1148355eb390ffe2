"""COCO's label format: one JSON file of polygons and run lengths for many images.

An image's part of ``label/instances.json`` is called by the path ``label/instances.json/<file name>``, as if the file
were a folder.
"""

from __future__ import annotations

import functools
import json
import math
import re
import reprlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pycocotools import mask as pycoco

from benchmark.data.formats.rasterize import Mask, Points
from benchmark.data.formats.svg import FARTHEST, MOST_SIDE, Layers
from benchmark.data.specs import Kind
from benchmark.utils.errors import UserError
from benchmark.utils.files import Stamp, stamp
from benchmark.utils.names import comparable

SUFFIX = ".json"
MOST_BYTES = 1 << 29  # in memory, five to ten times as much
# Lengths of outlines in pixels: of one polygon, 2 GB while it is drawn, and of all in one image, about a minute.
MOST_OUTLINE, MOST_OUTLINES = 2 * 10**7, 3 * 10**8
DECODING = threading.Lock()  # filters of warnings are the process's, and masks are read by several threads
MERGED = 16  # run lengths at a time, so that many small shapes are not each compared with all of them
Categories = Sequence[tuple[str, Kind]]

# What a category is by its name, a number behind it being that of a layer. Anything else must be told.
NAMES: Mapping[Kind, re.Pattern[str]] = {
    "track": re.compile(r"(circuit|interconnect|line|metal|m|track|trace|wire)s?[ _-]?\d*"),
    "via": re.compile(r"(via|contact)s?[ _-]?\d*"),
}


@dataclass(frozen=True)
class Shape:
    """One annotation.

    Attributes:
        where: how messages name it.
        category: its category's name.
        polygons: corners ``(n, 2)`` in pixels.
        runs: or lengths of runs of background and foreground in turn, column by column.
    """

    where: str
    category: str
    polygons: tuple[Points, ...] = ()
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What a file says of one image.

    Attributes:
        size: height and width in pixels.
        shapes: its annotations.
        categories: names of all categories of the file.
    """

    size: tuple[int, int]
    shapes: tuple[Shape, ...]
    categories: tuple[str, ...]


def is_entry(label: Path) -> bool:
    """Tell whether a label's path names an image's part of a COCO file."""
    return label.parent.suffix.lower() == SUFFIX


def file_of(label: Path) -> Path:
    """Return the file that a label's path leads to."""
    return label.parent if is_entry(label) else label


def entries(file: Path) -> list[Path] | None:
    """Return the labels that a JSON file holds; ``None`` for one that is no COCO file at all.

    Raises:
        UserError: unreadable, damaged or ambiguous.
    """
    found = _load(file)
    return None if found is None else [file / name for name in found]


def read(label: Path) -> Entry:
    """Return what a COCO file says of an image.

    Raises:
        UserError: unreadable, damaged or ambiguous.
    """
    entry = (_load(label.parent) or {}).get(label.name)
    if entry is None:
        raise UserError(f"{label.parent}: no image {label.name!r}; expected the file that was there before: restore it")
    return entry


def rasterise(entry: Entry, categories: Categories = ()) -> Layers:
    """Draw the union of an image's tracks and that of its vias.

    Drawn by pycocotools, as COCO's own evaluation does. Pixel (row r, column c) spans ``[c, c + 1) x [r, r + 1)``; a
    polygon has no holes, so that of several in one annotation the union counts.

    Args:
        entry: what is drawn.
        categories: what each category is, by its name; of the others :data:`NAMES` decides. One that is alone in its
            file and that neither knows is what the labels are about: track and via at once.

    Raises:
        UserError: a category that nothing tells, or more corners than can be drawn.
    """
    told = dict(categories)
    groups: dict[str, list[Shape]] = {"track": [], "via": []}
    for shape in entry.shapes:
        for kind in _kinds(shape, entry, told):
            groups[kind].append(shape)
    return Layers(*(_union(shapes, entry.size) for shapes in groups.values()))


def _kinds(shape: Shape, entry: Entry, told: Mapping[str, Kind]) -> Sequence[str]:
    name = shape.category
    alike = {comparable(key): kind for key, kind in told.items()}
    by_name = (kind for kind in NAMES if NAMES[kind].fullmatch(name.strip().casefold()))
    kind = alike.get(comparable(name)) or next(by_name, None)
    if kind is not None:
        return () if kind == "none" else (kind,)
    if len(entry.categories) == 1:
        return ("track", "via")
    line = f"{json.dumps(name[:80])} = 'track' (or 'via', 'none')"
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
        runs = [pycoco.merge(runs[at : at + MERGED]) for at in range(0, len(runs), MERGED)]
    return _pixels(runs[0]) if runs else np.zeros(size, np.bool_)


def _pixels(runs: Any) -> Mask:
    """Decode pycocotools' run lengths ``(H, W)``; version 2.0.11 has NumPy 2 warn of how it does so."""
    with DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.ascontiguousarray(pycoco.decode(runs), np.bool_)


def _load(file: Path) -> Mapping[str, Entry] | None:
    try:
        found = stamp(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a COCO file: restore it") from error
    return _parsed(file, found)


@functools.lru_cache(maxsize=4)  # train, val, test and one more
def _parsed(file: Path, found: Stamp) -> Mapping[str, Entry] | None:
    size = found[1]
    if size > MOST_BYTES:
        raise UserError(
            f"{file}: {size / 1e6:.0f} MB, more than {MOST_BYTES >> 20} MB; expected annotations: split the file"
        )
    try:
        content = json.loads(file.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); expected a COCO file: check its permissions"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        what = str(error)[:200] or type(error).__name__
        raise UserError(f"{file}: no JSON ({what}); expected COCO annotations: export them again") from error
    if not isinstance(content, dict) or not {"images", "annotations"} & content.keys():
        return None
    return _Reader(file).entries(content)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


class _Reader:
    """Takes a COCO file apart, and refuses what is not as the format says."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def entries(self, content: dict[str, Any]) -> Mapping[str, Entry]:
        """Return what is said of each image, by the last part of its file name."""
        images, annotations, categories = (self._list(content, key) for key in ("images", "annotations", "categories"))
        names = {
            self._id(item, "id", f"categories[{at}]"): self._text(item, "name", f"categories[{at}]")
            for at, item in enumerate(categories)
        }
        if len(names) < len(categories):
            raise self._refused("categories", "an id that occurs twice", "one category for each id")
        sizes: dict[int | str, tuple[int, int]] = {}
        paths: dict[str, str] = {}
        files: dict[int | str, str] = {}
        for at, item in enumerate(images):
            where = f"images[{at}]"
            number = self._id(item, "id", where)
            if number in sizes:
                raise self._refused(where, f"id {number!r} a second time", "one image for each id")
            sizes[number] = (self._side(item, "height", where), self._side(item, "width", where))
            path = self._file_name(item, where)
            files[number] = path.rpartition("/")[2]
            other = paths.setdefault(comparable(Path(path).stem).casefold(), path)
            if other is not path:
                raise self._refused(
                    where, f"{other[:80]!r} and {path[:80]!r}", "names that differ by more than folder and suffix"
                )
        shapes: dict[int | str, list[Shape]] = {number: [] for number in sizes}
        for at, item in enumerate(annotations):
            where = f"annotations[{at}]" + (f" (id {_short(item['id'])})" if "id" in item else "")
            image, category = self._id(item, "image_id", where), self._id(item, "category_id", where)
            if image not in sizes:
                raise self._refused(where, f"image_id {image!r}", "the id of an image in the file")
            if category not in names:
                raise self._refused(where, f"category_id {category!r}", "the id of a category in the file")
            shapes[image].append(self._shape(item, where, names[category], sizes[image]))
        known = tuple(names.values())
        return {files[number]: Entry(sizes[number], tuple(shapes[number]), known) for number in sizes}

    def _shape(self, item: dict[str, Any], where: str, category: str, size: tuple[int, int]) -> Shape:
        drawn = item.get("segmentation")
        if isinstance(drawn, dict):
            return Shape(f"{self.file}: {where}", category, runs=self._runs(drawn, where, size))
        if not isinstance(drawn, list) or not drawn:
            raise self._refused(where, f"segmentation {_short(drawn)}", "polygons or run lengths, not a box alone")
        return Shape(f"{self.file}: {where}", category, tuple(self._polygon(corners, where) for corners in drawn))

    def _polygon(self, corners: Any, where: str) -> Points:
        if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2:
            raise self._refused(where, f"polygon {_short(corners)}", "[x, y, x, y, x, y, …] of three corners or more")
        for value in corners:
            if not _is_number(value) or not -FARTHEST <= value <= FARTHEST:
                raise self._refused(
                    where, f"coordinate {_short(value)}", f"a number of pixels, at most {FARTHEST:,} away"
                )
        return np.array(corners, np.float64).reshape(-1, 2)

    def _runs(self, drawn: dict[str, Any], where: str, size: tuple[int, int]) -> tuple[int, ...]:
        if drawn.get("size") != list(size):
            raise self._refused(where, f"run lengths of size {_short(drawn.get('size'))}", f"the image's, {list(size)}")
        counts = drawn.get("counts")
        runs = _decoded(counts) if isinstance(counts, str) else counts
        if (
            not isinstance(runs, list)
            or not all(_is_number(run) and run == int(run) and 0 <= run <= size[0] * size[1] for run in runs)
            or sum(runs) != size[0] * size[1]
        ):
            total = f" whose sum is {sum(runs)}" if isinstance(runs, list) and all(map(_is_number, runs)) else ""
            raise self._refused(
                where, f"run lengths {_short(counts)}{total}", f"lengths whose sum is {size[0] * size[1]}"
            )
        return tuple(map(int, runs))

    def _list(self, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
        found = content.get(key)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._refused(key, _short(found), "a list of objects")
        return found

    def _id(self, item: dict[str, Any], key: str, where: str) -> int | str:
        found = item.get(key)
        if isinstance(found, bool) or not isinstance(found, int | str):
            raise self._refused(where, f"{key} {_short(found)}", "a whole number")
        return found

    def _text(self, item: dict[str, Any], key: str, where: str) -> str:
        found = item.get(key)
        if not isinstance(found, str) or not found.strip():
            raise self._refused(where, f"{key} {_short(found)}", "a text")
        return found

    def _side(self, item: dict[str, Any], key: str, where: str) -> int:
        found = item.get(key)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= MOST_SIDE:
            raise self._refused(where, f"{key} {_short(found)}", f"a whole number of pixels from 1 to {MOST_SIDE}")
        return found

    def _file_name(self, item: dict[str, Any], where: str) -> str:
        """Return an image's path, of which the last part counts; folders before it are where it once lay."""
        found = self._text(item, "file_name", where)
        parts = found.split("/")
        if (
            found.startswith("/")
            or ".." in parts
            or "\\" in found
            or not found.isprintable()
            or not Path(parts[-1]).stem
        ):
            raise self._refused(
                where, f"file_name {_short(found)}", "a relative path such as images/0001.png, without '..'"
            )
        return found

    def _refused(self, where: str, found: str, expected: str) -> UserError:
        return UserError(f"{self.file}: {where}: found {found}; expected {expected}: export the annotations again")


def _decoded(text: str) -> list[int] | None:
    """Undo COCO's compression of run lengths, or return ``None`` where it is none.

    pycocotools does so too, but does not say how long they are in all, and fills up short ones with what is in memory.

    Each length is written as its difference from the one before the last (from the fourth on), in groups of five bits,
    the lowest first, each as a character from '0' on; 32 marks that another group follows, 16 in the last a minus.
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


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    shorten = reprlib.Repr()
    shorten.maxstring, shorten.maxother, shorten.maxlevel = 80, 80, 2
    return shorten.repr(value)

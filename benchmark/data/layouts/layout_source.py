"""Opens the source of a ``--layout``: a file, or rows of standard cells."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.layouts import gds, sky130
from benchmark.data.layouts.cells import Hierarchy
from benchmark.data.specs import KNOWN, SUFFIX
from benchmark.data.synthetic.standins import Json
from benchmark.utils.errors import UserError


@dataclass(frozen=True)
class WindowPosition:
    """A cell of a hierarchy, and a window's lower left corner in it, nm."""

    hierarchy: Hierarchy
    top: int
    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """A source of windows."""

    name: str  # the dataset's, which ends in ``-syn``
    # takes a random stream and a window's height and width in nm, and returns a position for the window
    draw: Callable[[np.random.Generator, float, float], WindowPosition]
    is_one_piece: bool  # whether all windows come from the same area, so that two windows could overlap
    sha256: str  # of the source's bytes
    facts: Json  # entries of the manifest
    notes: tuple[str, ...] = ()  # sentences for the user


def open_layout(source: str, layers: str | None = None, cell: str | None = None, name: str | None = None) -> Layout:
    """Open the source of a ``--layout``.

    Args:
        source: ``sky130``, or the path of a GDS or OASIS file.
        layers: as for :func:`benchmark.data.layouts.gds.parse_layers`; ``sky130`` has default layers.
        cell: of a file, the cell to show.
        name: of the dataset; by default the file's stem, or ``sky130``, followed by ``-syn``.

    Raises:
        UserError: as :func:`benchmark.data.layouts.gds.read`; the name of another dataset, or a name that no folder
            should have; missing ``layers``, or a ``cell`` of ``sky130``.
    """
    if source == sky130.NAME:
        if cell is not None:
            raise UserError(
                f"--cell {cell!r}: {sky130.NAME} is made of all its cells; expected a file: leave the flag out"
            )
        name = name or sky130.NAME + SUFFIX
        _check_name(name, allowed=sky130.NAME)
        chosen = gds.parse_layers(layers or sky130.LAYERS)
        rows = sky130.read(chosen)

        def in_rows(rng: np.random.Generator, height: float, width: float) -> WindowPosition:
            return WindowPosition(*rows.draw(rng, height, width), 0.0, 0.0)

        file_name = f"{sky130.LIBRARY} of the package {sky130.NAME}"
        return Layout(name, in_rows, False, rows.sha256, _facts(file_name, rows.sha256, "rows", chosen))
    file = Path(source)
    name = name or file.name.partition(".")[0] + SUFFIX
    _check_name(name)
    if not file.is_file():
        kind = "a folder or device" if file.exists() else "no such file"
        raise UserError(f"--layout {source}: {kind}; expected a GDS or OASIS file: correct the path")
    if not layers:
        raise UserError(f"--layout {source}: no --layers; {gds.EXPECTED_LAYERS}: add the flag")
    chosen = gds.parse_layers(layers)
    chip = gds.read(file, chosen, cell)
    left, bottom, right, top = chip.hierarchy.boxes[chip.top].tolist()

    def in_chip(rng: np.random.Generator, height: float, width: float) -> WindowPosition:
        if width > right - left or height > top - bottom:
            raise UserError(
                f"--layout {source}: a window of {width / 1000:g}x{height / 1000:g} µm is larger than the layout of "
                f"{(right - left) / 1000:g}x{(top - bottom) / 1000:g} µm; expected windows within it: lower "
                "--nm-per-pixel, --height or --width"
            )
        # Whole picometres, so that the manifest's decimals say it exactly.
        x = round(float(rng.uniform(left, right - width)), 3)
        y = round(float(rng.uniform(bottom, top - height)), 3)
        return WindowPosition(chip.hierarchy, chip.top, x, y)

    facts = _facts(file.name, chip.sha256, chip.hierarchy.cells[chip.top].name, chosen)
    return Layout(name, in_chip, True, chip.sha256, facts, chip.notes)


def _facts(file: str, sha256: str, cell: str, layers: gds.Layers) -> Json:
    roles = {gds.show_layers([layer]): role for layer, role in layers.items()}
    return {"file": file, "sha256": sha256, "cell": cell, "layers": roles}


def _check_name(name: str, allowed: str | None = None) -> None:
    base = name.removesuffix(SUFFIX)
    if base.casefold() in {*KNOWN, sky130.NAME} - {allowed}:  # some disks ignore the case
        raise UserError(
            f"--layout: the dataset would be called {name!r}, which is another's name; expected a name of its own: "
            f"give the folder by --out, such as --out data/my-{base}{SUFFIX}"
        )
    if not name.endswith(SUFFIX) or not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", base):
        raise UserError(
            f"--layout: the dataset would be called {name!r}; expected letters, digits and . _ - and the ending "
            f"{SUFFIX}, which marks drawn images: rename the file, or give the folder by --out, such as --out "
            "data/mychip-syn"
        )

"""What ``--layout`` names: a file, or rows of standard cells, from which windows are drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.layouts import gds, sky130
from benchmark.data.layouts.cells import Hierarchy
from benchmark.data.specs import KNOWN, SUFFIX
from benchmark.utils.errors import UserError

Json = dict[str, Any]  # JSON's own types


@dataclass(frozen=True)
class WindowPosition:
    """A window's place: a cell of a hierarchy, and the window's lower left corner in it, nm."""

    hierarchy: Hierarchy
    top: int
    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """Where windows come from.

    Attributes:
        name: the dataset's, which ends in ``-syn``.
        draw: takes a random stream and a window's height and width in nm, and returns a place for it.
        is_one_piece: whether all windows come from the same area, so that two could show the same.
        sha256: of the source's bytes.
        facts: for the manifest: where it comes from.
        notes: what a user should know about how it was read.
    """

    name: str
    draw: Callable[[np.random.Generator, float, float], WindowPosition]
    is_one_piece: bool
    sha256: str
    facts: Json
    notes: tuple[str, ...] = ()


def open_layout(what: str, layers: str | None = None, cell: str | None = None, name: str | None = None) -> Layout:
    """Open what ``--layout`` names.

    Args:
        what: ``sky130``, or the path of a GDS or OASIS file.
        layers: as for :func:`benchmark.data.layouts.gds.parse_layers`; ``sky130`` has its own by default.
        cell: of a file, the cell to show.
        name: of the dataset; by default the file's stem, or ``sky130``, followed by ``-syn``.

    Raises:
        UserError: as :func:`benchmark.data.layouts.gds.read`; or a name that belongs to another dataset or that no
            artefact could carry; or ``layers`` or ``cell`` where it is missing or makes no sense.
    """
    if what == sky130.NAME:
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

        facts = {"file": f"{sky130.LIBRARY} of the package {sky130.NAME}", "sha256": rows.sha256, "cell": "rows"}
        return Layout(name, in_rows, False, rows.sha256, facts | _layer_facts(chosen))
    file = Path(what)
    name = name or file.name.partition(".")[0] + SUFFIX
    _check_name(name)
    if not layers:
        raise UserError(f"--layout {what}: no --layers; {gds.EXPECTED_LAYERS}: add the flag")
    chosen = gds.parse_layers(layers)
    chip = gds.read(file, chosen, cell)
    left, bottom, right, top = chip.hierarchy.boxes[chip.top].tolist()

    def in_chip(rng: np.random.Generator, height: float, width: float) -> WindowPosition:
        if width > right - left or height > top - bottom:
            raise UserError(
                f"--layout {what}: a window of {width / 1000:g}x{height / 1000:g} µm is larger than the layout of "
                f"{(right - left) / 1000:g}x{(top - bottom) / 1000:g} µm; expected windows within it: lower "
                "--nm-per-pixel, --height or --width"
            )
        # Whole picometres, so that the manifest's decimals say it exactly.
        x, y = (
            round(float(rng.uniform(low, high)), 3) for low, high in ((left, right - width), (bottom, top - height))
        )
        return WindowPosition(chip.hierarchy, chip.top, x, y)

    facts = {"file": file.name, "sha256": chip.sha256, "cell": chip.hierarchy.cells[chip.top].name}
    return Layout(name, in_chip, True, chip.sha256, facts | _layer_facts(chosen), chip.notes)


def _layer_facts(layers: gds.Layers) -> Json:
    return {"layers": {gds.show_layers([layer]): role for layer, role in layers.items()}}


def _check_name(name: str, allowed: str | None = None) -> None:
    base = name.removesuffix(SUFFIX)
    # Some disks do not tell upper from lower case.
    taken = {*KNOWN, sky130.NAME} - {allowed}
    if base.casefold() in taken:
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

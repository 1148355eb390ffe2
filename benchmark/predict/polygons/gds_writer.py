"""Writes polygons as GDSII or OASIS files that lie upright over their image.

The file has one cell, named after the image, with one layer. The image's lower left corner is (0, 0), x goes to the
right and y up. A fifth of a pixel is a whole number of database units (1 nm or a fraction), so every point is exact.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmark.predict.polygons.outlines import Integers
from benchmark.predict.polygons.pieces import FIFTHS
from benchmark.utils.errors import UserError, require
from benchmark.utils.files import replacing

FORMATS = ("gds", "oas")
#: A GDSII record of 64 KiB holds these points of 8 bytes, and the first point again at the end.
MOST_POINTS = 8190
MOST_NUMBER = 2**15 - 1  # of layers and data types, which are signed integers of two bytes in GDSII
FARTHEST = 2**31 - 1  # coordinates have four bytes
MOST_DECIMALS = 4  # of a pixel pitch; more would only make the database unit small
EPOCH = datetime.datetime(1970, 1, 1)  # equal predictions give equal files

Layer = tuple[int, int]


@dataclass(frozen=True)
class Layouts:
    """The settings of layout files.

    Attributes:
        formats: ``gds``, ``oas`` or both.
        track: layer and data type of tracks.
        via: layer and data type of vias.
        tolerance: of outlines, pixels; 0 keeps them exact.
    """

    formats: tuple[str, ...]
    nm_per_pixel: float
    track: Layer = (1, 0)
    via: Layer = (2, 0)
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no layout file can hold."""
        for name in self.formats:
            require("gdstk", flag=f"--polygons {name}", extra="layouts")
        if not (0 < self.nm_per_pixel <= 1e6 and Fraction(repr(self.nm_per_pixel)) * 10**MOST_DECIMALS % 1 == 0):
            raise UserError(
                f"--nm-per-pixel {self.nm_per_pixel}: expected nanometres above 0, at most a million, and with at most "
                f"{MOST_DECIMALS} decimals, such as 10 or 3.25"
            )
        if not 0 <= self.tolerance < float("inf"):
            raise UserError(
                f"--tolerance {self.tolerance}: expected pixels, 0 for exact outlines, such as 1 for smooth ones"
            )

    @property
    def per_nm(self) -> int:
        """Database units in a nanometre."""
        return Fraction(Fraction(repr(self.nm_per_pixel)), FIFTHS).denominator

    @property
    def per_fifth(self) -> int:
        """Database units in a fifth of a pixel."""
        return int(Fraction(repr(self.nm_per_pixel)) * self.per_nm / FIFTHS)

    def fits(self, shape: tuple[int, int]) -> bool:
        """Tell whether four bytes hold the coordinates of an image of this height and width."""
        return max(shape) * FIFTHS * self.per_fifth <= FARTHEST

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a manifest holds them."""
        return asdict(self) | {name: list(getattr(self, name)) for name in ("formats", "track", "via")}


def read_layer_map(text: str) -> dict[str, Layer]:
    """Read ``--layer-map``: ``track=68/20,via=67/44``, or one of them."""
    layers: dict[str, Layer] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(track|via)\s*=\s*([0-9]{1,5})\s*/\s*([0-9]{1,5})\s*", part)
        if match is None or match[1] in layers or max(layer := (int(match[2]), int(match[3]))) > MOST_NUMBER:
            raise UserError(
                f"--layer-map {text}: found {part!r}; expected track=LAYER/DATATYPE, via=LAYER/DATATYPE or both, with "
                f"numbers up to {MOST_NUMBER}, such as track=68/20,via=67/44"
            )
        layers[match[1]] = layer
    return layers


def write(
    path: Path, paths: Sequence[Integers], shape: tuple[int, int], layouts: Layouts, layer: Layer, name: str
) -> None:
    """Write a GDSII or OASIS file, by the ending of its path.

    Paths are closed, ``(n, 2)`` fifths of a pixel with y downwards, without holes, of at most ``MOST_POINTS``; the
    shape is the height and width of the image. Characters of ``name`` that GDSII forbids in a cell's name become ``_``.
    """
    import gdstk

    nanometre = 1e-9
    library = gdstk.Library("predicted", unit=1000 * nanometre, precision=nanometre / layouts.per_nm)
    cell = library.new_cell(re.sub(r"[^A-Za-z0-9_?$]", "_", name))
    micrometres = float(Fraction(layouts.per_fifth, 1000 * layouts.per_nm))
    for outline in paths:
        x, y = outline.T
        points = (x + 1j * (shape[0] * FIFTHS - y)) * micrometres
        cell.add(gdstk.Polygon(points.tolist(), layer=layer[0], datatype=layer[1]))
    with replacing(path) as temporary:
        if path.suffix == ".gds":
            library.write_gds(temporary, max_points=MOST_POINTS, timestamp=EPOCH)
        else:
            library.write_oas(temporary)

"""Writes polygons as GDSII or OASIS files that lie upright over their image.

One cell, named after the image, has them in one layer. The image's lower left corner is (0, 0), x goes to the right and
y up. A fifth of a pixel is a whole number of database units, which are 1 nm or the next smaller ones that divide it: so
every point is exact.
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
#: That a GDSII record of 64 KiB holds: 8 bytes each, and the first one once more at the end.
MOST_POINTS = 8190
MOST_NUMBER = 2**15 - 1  # of layers and data types, which are signed integers of two bytes in GDSII
FARTHEST = 2**31 - 1  # coordinates have four bytes
#: More digits than a pixel pitch is ever known to would only make the database unit small.
MOST_DECIMALS = 4
EPOCH = datetime.datetime(1970, 1, 1)  # a file's date would be its only byte that is not of the prediction

Layer = tuple[int, int]


@dataclass(frozen=True)
class Layouts:
    """How layout files are written.

    Attributes:
        formats: ``gds``, ``oas`` or both.
        nm_per_pixel: pitch of the image's pixels, nm.
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
        """Refuse values that no file could be written with."""
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
        """Tell whether the coordinates of an image of this height and width have four bytes."""
        return max(shape) * FIFTHS * self.per_fifth <= FARTHEST

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest holds."""
        return asdict(self) | {name: list(getattr(self, name)) for name in ("formats", "track", "via")}


def read_layer_map(text: str) -> dict[str, Layer]:
    """Read ``--layer-map``: ``track=68/20,via=67/44``, or one of them.

    Raises:
        UserError: anything else.
    """
    found: dict[str, Layer] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(track|via)\s*=\s*([0-9]{1,5})\s*/\s*([0-9]{1,5})\s*", part)
        if match is None or match[1] in found or max(layer := (int(match[2]), int(match[3]))) > MOST_NUMBER:
            raise UserError(
                f"--layer-map {text}: found {part!r}; expected track=LAYER/DATATYPE, via=LAYER/DATATYPE or both, with "
                f"numbers up to {MOST_NUMBER}, such as track=68/20,via=67/44"
            )
        found[match[1]] = layer
    return found


def write(
    path: Path, paths: Sequence[Integers], shape: tuple[int, int], layouts: Layouts, layer: Layer, name: str
) -> None:
    """Write a file, whose ending says which of the two formats.

    Args:
        path: of the file.
        paths: closed, ``(n, 2)`` fifths of a pixel with y downwards, without holes, of at most ``MOST_POINTS``.
        shape: height and width of the image, which must fit.
        layouts: how.
        layer: that the paths belong to.
        name: of the image; in the cell's name, what GDSII does not allow there becomes ``_``.

    Raises:
        UserError: it cannot be written.
    """
    import gdstk

    nanometre = 1e-9
    library = gdstk.Library("predicted", unit=1000 * nanometre, precision=nanometre / layouts.per_nm)
    cell = library.new_cell(re.sub(r"[^A-Za-z0-9_?$]", "_", name))
    micrometres = float(Fraction(layouts.per_fifth, 1000 * layouts.per_nm))
    for one in paths:
        x, y = one.T
        points = (x + 1j * (shape[0] * FIFTHS - y)) * micrometres
        cell.add(gdstk.Polygon(points.tolist(), layer=layer[0], datatype=layer[1]))
    with replacing(path) as temporary:
        if path.suffix == ".gds":
            library.write_gds(temporary, max_points=MOST_POINTS, timestamp=EPOCH)
        else:
            library.write_oas(temporary)

"""Writes polygons as GDSII or OASIS files that lie upright over their image.

The file has one cell, named after the image, with a layer for each of the prediction. The image's lower left corner is
(0, 0), x goes to the right and y up. A fifth of a pixel is a whole number of database units (1 nm or a fraction), so
every point is exact.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
#: Layer and data type by default.
NUMBERS: Mapping[str, Layer] = {"track": (1, 0), "via": (2, 0)}


@dataclass(frozen=True)
class Layouts:
    """The settings of layout files.

    Attributes:
        formats: ``gds``, ``oas`` or both.
        numbers: layer and data type of each layer of the prediction.
        tolerance: of outlines, pixels; 0 keeps them exact.
    """

    formats: tuple[str, ...]
    nm_per_pixel: float
    numbers: tuple[tuple[str, Layer], ...] = tuple(NUMBERS.items())
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

    def number(self, layer: str) -> Layer:
        """Return the layer and data type of a layer of the prediction."""
        return dict(self.numbers)[layer]

    def fits(self, shape: tuple[int, int]) -> bool:
        """Tell whether four bytes hold the coordinates of an image of this height and width."""
        return max(shape) * FIFTHS * self.per_fifth <= FARTHEST

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a manifest holds them."""
        numbers = {name: list(layer) for name, layer in self.numbers}
        return {
            "formats": list(self.formats),
            "nm_per_pixel": self.nm_per_pixel,
            **numbers,
            "tolerance": self.tolerance,
        }


def numbered(layers: Sequence[str], given: Mapping[str, Layer]) -> dict[str, Layer]:
    """Number the layers of a prediction: as given, tracks 1/0 and vias 2/0 by default, others by the next free ones.

    Example:
        >>> numbered(["m1", "m2", "via"], {"m2": (68, 20)})
        {'m1': (1, 0), 'm2': (68, 20), 'via': (2, 0)}

    Raises:
        UserError: two layers have one number.
    """
    known = {**NUMBERS, **given}
    taken = {known[layer] for layer in layers if layer in known}
    free = ((number, 0) for number in itertools.count(1) if (number, 0) not in taken)
    numbers = {layer: known[layer] if layer in known else next(free) for layer in layers}
    for layer, number in numbers.items():
        if same := [other for other in layers if other != layer and numbers[other] == number]:
            raise UserError(
                f"--layer-map: {layer} and {same[0]} are both {number[0]}/{number[1]}; expected another number for "
                f"each: change one, or add {same[0]}=LAYER/DATATYPE"
            )
    return numbers


def read_layer_map(text: str, known: Sequence[str] = tuple(NUMBERS)) -> dict[str, Layer]:
    """Read ``--layer-map``: ``track=68/20,via=67/44``, or some of the known layers.

    Raises:
        UserError: names the part that has another form, an unknown layer or a layer's second number.
    """
    layers: dict[str, Layer] = {}
    names = "|".join(map(re.escape, known))
    for part in text.split(","):
        match = re.fullmatch(rf"\s*({names})\s*=\s*([0-9]{{1,5}})\s*/\s*([0-9]{{1,5}})\s*", part)
        if match is None or match[1] in layers or max(layer := (int(match[2]), int(match[3]))) > MOST_NUMBER:
            raise UserError(
                f"--layer-map {text}: found {part!r}; expected {'=LAYER/DATATYPE, '.join(known)}=LAYER/DATATYPE or "
                f"some of them, with numbers up to {MOST_NUMBER}, such as {known[0]}=68/20"
            )
        layers[match[1]] = layer
    return layers


def write(
    path: Path, paths: Mapping[Layer, Sequence[Integers]], shape: tuple[int, int], layouts: Layouts, name: str
) -> None:
    """Write a GDSII or OASIS file, by the ending of its path.

    The paths of each layer are closed, ``(n, 2)`` fifths of a pixel with y downwards, without holes, of at most
    ``MOST_POINTS``; the shape is the height and width of the image. Characters of ``name`` that GDSII forbids in a
    cell's name become ``_``.
    """
    import gdstk

    nanometre = 1e-9
    library = gdstk.Library("predicted", unit=1000 * nanometre, precision=nanometre / layouts.per_nm)
    cell = library.new_cell(re.sub(r"[^A-Za-z0-9_?$]", "_", name))
    micrometres = float(Fraction(layouts.per_fifth, 1000 * layouts.per_nm))
    for layer, outlines in paths.items():
        for outline in outlines:
            x, y = outline.T
            points = (x + 1j * (shape[0] * FIFTHS - y)) * micrometres
            cell.add(gdstk.Polygon(points.tolist(), layer=layer[0], datatype=layer[1]))
    with replacing(path) as temporary:
        if path.suffix == ".gds":
            library.write_gds(temporary, max_points=MOST_POINTS, timestamp=EPOCH)
        else:
            library.write_oas(temporary)

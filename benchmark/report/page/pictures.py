"""Embeds panels in the page as small pictures beside their texts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmark.data.check.contact_sheet import fit
from benchmark.data.formats.images import UInt8Array
from benchmark.report.plots.panels import RANKS
from benchmark.report.plots.sheet import CELL, Sheet, SheetPicture, part_side

#: Bytes from which on a picture is stored as WebP if that is smaller.
LARGE = 4096
QUALITY = 80  # of WebP, above which masks' edges gain nothing that shows


@dataclass(frozen=True)
class PanelCell:
    """One result in the page.

    Attributes:
        picture: its texts.
        whole: the picture as a data URI.
        part: its enlarged part as a data URI.
    """

    picture: SheetPicture
    whole: str
    part: str


@dataclass(frozen=True)
class Panel:
    """A panel in the page.

    Attributes:
        sheet: its texts.
        cells: its results.
        frame: left, top, width and height of the enlarged part in percent of the whole picture.
        legend: (meaning, CSS colour).
    """

    sheet: Sheet
    cells: tuple[PanelCell, ...]
    frame: tuple[float, float, float, float]
    legend: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, sheet: Sheet) -> Panel:
        """Encode the pictures of a panel."""
        height, width = sheet.pictures[0].pixels.shape[:2]
        side, (top, left) = part_side((height, width)), sheet.corner
        cells = (
            PanelCell(picture, _whole(picture.pixels), _uri(picture.pixels[top : top + side, left : left + side]))
            for picture in sheet.pictures
        )
        frame = (100 * left / width, 100 * top / height, 100 * side / width, 100 * side / height)
        legend = tuple((meaning, "#" + bytes(colour).hex()) for meaning, colour in sheet.legend)
        return cls(sheet, tuple(cells), frame, legend)

    @property
    def size(self) -> int:
        """Characters of all pictures."""
        return sum(len(cell.whole) + len(cell.part) for cell in self.cells)


def embed(sheets: Sequence[Sheet], room: int) -> tuple[list[Panel], list[str]]:
    """Encode panels: those of the hardest images first, as long as there is room.

    Args:
        sheets: in the datasets' order.
        room: characters that the pictures of all panels may take.

    Returns:
        The panels, the hardest images of all datasets first, and the stems of those that are left out.
    """
    panels, left_out = [], []
    for sheet in sorted(sheets, key=lambda sheet: RANKS.index(sheet.rank)):
        panel = Panel.of(sheet)
        if panel.size <= room:
            room -= panel.size
            panels.append(panel)
        else:
            left_out.append(sheet.stem)
    return panels, left_out


def _whole(pixels: UInt8Array) -> str:
    """Encode a picture; one that is larger than a cell of a panel's file is reduced to it."""
    return _uri(np.asarray(fit(Image.fromarray(pixels), CELL)) if max(pixels.shape) > CELL else pixels)


def _uri(pixels: UInt8Array) -> str:
    image, contents = Image.fromarray(pixels), dict[str, bytes]()
    for kind, options in (("png", {"optimize": True}), ("webp", {"quality": QUALITY})):
        if kind == "png" or len(contents["png"]) > LARGE:
            file = io.BytesIO()
            image.save(file, kind, **options)
            contents[kind] = file.getvalue()
    kind = min(contents, key=lambda kind: len(contents[kind]))
    return f"data:image/{kind};base64,{base64.b64encode(contents[kind]).decode('ascii')}"

"""Cuts images into tiles and measures the labelled share of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.config.protocol import Protocol
from benchmark.data.specs import SUFFIX
from benchmark.data.splits import Tile
from benchmark.utils.words import counted

BoolMask = NDArray[np.bool_]


def windows_of(shape: tuple[int, int], tile: int, *, partial: bool) -> list[tuple[int, int, int, int]]:
    """Return (row, column, top, left) of an image's tiles in row order.

    The rest at the right and below that fills no tile is left out or, with ``partial``, covered by a last tile that is
    moved inwards and overlaps its neighbour.
    """
    starts = []
    for side in shape:
        whole = list(range(0, side - tile + 1, tile))
        starts.append([*whole, side - tile] if partial and side % tile else whole)
    return [(row, column, top, left) for row, top in enumerate(starts[0]) for column, left in enumerate(starts[1])]


def tiles_of(name: str, group: str, given: str | None, corners: Sequence[tuple[int, int, int, int]]) -> list[Tile]:
    """Describe an image's tiles; an image of one tile keeps its name."""
    return [
        Tile(name if len(corners) == 1 else f"{name}_r{row}_c{column}", group, given, "", row, column)
        for row, column, _, _ in corners
    ]


def labelled_share(counted: BoolMask, size: int) -> float:
    """Return the share of pixels that count: of a tile ``(T, T)`` or of its centred input, whichever has fewer."""
    margin = (len(counted) - size) // 2
    return float(min(counted.mean(), counted[margin : margin + size, margin : margin + size].mean()))


def cut_by_smallest(tile: int, expected: int, shapes: Sequence[tuple[int, int]]) -> str:
    """Say that the smallest image sets the tiles of all others; empty if it does not."""
    cut = sum(min(shape) > tile for shape in shapes)
    if tile == expected or not cut:
        return ""
    sides = f"tiles are {tile}x{tile} and not {expected}x{expected}"
    return f"{sides}, as the smallest image is; so are the tiles of {counted(cut, 'larger image')}"


def smaller_input(dataset: str, protocol: Protocol, side: int) -> str:
    """Say which setting makes the input fit images of a side; all networks accept multiples of 32."""
    fitting = side // 32 * 32
    if fitting == 0:
        return "bring images of at least 32x32"
    base = dataset.removesuffix(SUFFIX)
    own = base in protocol.input.size_by_dataset
    return f"use --set input.size{f'_by_dataset.{base}' if own else ''}={fitting}"

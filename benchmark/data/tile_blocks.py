"""Joins neighbouring tiles of a frame, for training crops and whole tested blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.data.formats.images import UInt8Array
from benchmark.data.packs import IGNORED, Pack
from benchmark.data.splits import Tile

Place = tuple[str, int, int]  # frame, row and column of a tile
Grid = Sequence[Sequence[int | None]]  # a pack's tiles by row and column; ``None`` where a pack has none


@dataclass(frozen=True)
class TileBlock:
    """All tested tiles of a frame, and those between them, as one image."""

    tile: Tile  # name, frame and first row and column
    grid: Grid


def place_of(tile: Tile) -> Place:
    """Return a tile's frame, as its file or drawing is called, and its place there."""
    return tile.name.removesuffix(f"_r{tile.row}_c{tile.column}"), tile.row, tile.column


def places_of(tiles: Sequence[Tile], indices: Sequence[int]) -> dict[Place, int]:
    """Return the tiles of some indices by their places."""
    return {place_of(tiles[index]): index for index in indices}


def blocks_of(tiles: Sequence[Tile], indices: Sequence[int]) -> list[TileBlock]:
    """Return a block for each frame of some tiles: their rectangle, ordered by the frames' first tiles.

    A tile of the rectangle that is in no part of a division, since few of its pixels are labelled, belongs to the block
    too: what is labelled there counts, and no net is cut.
    """
    everywhere = places_of(tiles, range(len(tiles)))
    by_frame: dict[str, list[int]] = {}
    for index in indices:
        by_frame.setdefault(place_of(tiles[index])[0], []).append(index)
    blocks = []
    for frame, members in by_frame.items():
        rows, columns = ([getattr(tiles[index], axis) for index in members] for axis in ("row", "column"))
        top, bottom, left, right = min(rows), max(rows), min(columns), max(columns)
        grid = [
            [everywhere.get((frame, row, column)) for column in range(left, right + 1)]
            for row in range(top, bottom + 1)
        ]
        first = tiles[members[0]]
        name = first.name if len(members) == 1 else f"{frame}_r{top}-{bottom}_c{left}-{right}"
        blocks.append(TileBlock(Tile(name, first.group, first.given, "", top, left), grid))
    return blocks


def join(pack: Pack, grid: Grid) -> tuple[UInt8Array, UInt8Array]:
    """Join tiles to an image ``(H, W, C)`` and masks ``(H, W, L)``; missing tiles are black and ignored."""
    side = pack.images.shape[1]
    shape = (len(grid) * side, len(grid[0]) * side)
    image = np.zeros((*shape, pack.images.shape[-1]), np.uint8)
    masks = np.full((*shape, len(pack.layers)), IGNORED, np.uint8)
    for row, indices in enumerate(grid):
        for column, index in enumerate(indices):
            if index is not None:
                window = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
                image[window], masks[window] = pack.images[index], pack.masks[index]
    return image, masks


def with_neighbours(tile: Tile, places: Mapping[Place, int]) -> Grid:
    """Return a tile with those right of and below it that are among some places: four, two or the tile alone."""
    frame, row, column = place_of(tile)
    here, right, below, across = (
        places.get((frame, row + down, column + beside)) for down, beside in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    if None not in (right, below, across):
        return [[here, right], [below, across]]
    if right is not None:
        return [[here, right]]
    return [[here], [below]] if below is not None else [[here]]

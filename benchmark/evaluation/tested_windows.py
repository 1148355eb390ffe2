"""Gives what a test predicts and counts at once: a window or a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.data.formats.images import UInt8Array
from benchmark.data.packs import Pack
from benchmark.data.tile_blocks import TileBlock, blocks_of, join
from benchmark.evaluation.counts import window_side


def tested_blocks(pack: Pack, indices: Sequence[int], protocol: Protocol) -> list[TileBlock]:
    """Return the blocks of some tiles if the protocol tests blocks, else each tile as a block of its own."""
    if protocol.evaluation.window == "block":
        return blocks_of(pack.tiles, indices)
    return [TileBlock(pack.tiles[index], [[index]]) for index in indices]


def block_shape(pack: Pack, block: TileBlock, protocol: Protocol) -> tuple[int, int]:
    """Return the height and the width of a tested block or window, pixels."""
    whole = protocol.evaluation.window == "block"
    side = pack.images.shape[1] if whole else window_side(pack, protocol)
    return side * len(block.grid), side * len(block.grid[0])


def read_block(pack: Pack, block: TileBlock, protocol: Protocol) -> tuple[UInt8Array, UInt8Array]:
    """Return the image ``(H, W, C)`` and the masks ``(L, H, W)`` of a tested block or window."""
    height, width = block_shape(pack, block, protocol)
    image, masks = join(pack, block.grid)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    window = np.s_[top : top + height, left : left + width]
    return image[window], np.moveaxis(masks[window], -1, 0)

"""Places tiles on an image and weights their overlaps.

A pixel near a tile's edge lacks the context that the network saw in training, unless the edge is the image's own. So of
each overlap a third is cut off at either tile's edge, and the third between is blended by Gaussian windows. A network
without global operations whose receptive field reaches no farther than that third gives what it would give for the
whole image: tiles begin at multiples of what its input must divide by, so that its strides fall on the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmark.utils.errors import UserError

CUT = 3  # the share of an overlap that is cut off at either edge is one in so many
SIGMAS = 4  # standard deviations from a window's middle to its end, as in nnU-Net (Isensee et al., 2021): 1/8 of a tile


@dataclass(frozen=True)
class TileAxis:
    """The tiles along one side of an image.

    Attributes:
        size: of the image, pixels.
        tile: side of the tiles along this axis.
        overlap: the least that neighbours share; rounded up so that tiles begin at multiples.
        multiple: what the network's input must divide by.
    """

    size: int
    tile: int
    overlap: int
    multiple: int = 1

    def __post_init__(self) -> None:
        """Refuse tiles that a network cannot take, or that get nowhere."""
        if self.tile < 1 or self.tile % self.multiple:
            fitting = max(round(self.tile / self.multiple), 1) * self.multiple
            raise UserError(
                f"--tile {self.tile}: the network takes sides that divide by {self.multiple}; use --tile {fitting}"
            )
        if not 0 <= self.overlap <= self.tile - self.multiple:
            raise UserError(
                f"--overlap {self.overlap}: expected 0 to {self.tile - self.multiple} pixels with tiles of {self.tile}"
            )

    @property
    def stride(self) -> int:
        """From one tile to the next."""
        return (self.tile - self.overlap) // self.multiple * self.multiple

    @property
    def shared(self) -> int:
        """What neighbours really share."""
        return self.tile - self.stride

    @property
    def padded(self) -> int:
        """The size after reflection at the end: no more than fills a tile, or the network needs."""
        return max(-(-self.size // self.multiple) * self.multiple, self.tile)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where tiles begin; the last one is moved back to end where the padded image does."""
        last = self.padded - self.tile
        return (*range(0, last, self.stride), last)

    @cached_property
    def weights(self) -> tuple[NDArray[np.float32], ...]:
        """For each tile, ``(tile,)``: how much its pixels count; at every pixel of the image these sum to 1."""
        cut = self.shared // CUT
        distance = np.abs(np.arange(self.tile) - (self.tile - 1) / 2)
        window = np.exp(-0.5 * (distance * 2 * SIGMAS / (self.tile - 2 * cut)) ** 2)
        windows = []
        total = np.zeros(self.padded)
        for start in self.starts:
            kept = window.copy()
            if start > 0:
                kept[:cut] = 0
            if start + self.tile < self.padded:
                kept[self.tile - cut :] = 0
            total[start : start + self.tile] += kept
            windows.append(kept)
        return tuple(
            (kept / total[start : start + self.tile]).astype(np.float32)
            for start, kept in zip(self.starts, windows, strict=True)
        )


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image: every one of ``rows`` with every one of ``columns``; a pixel's weight is the product."""

    rows: TileAxis
    columns: TileAxis

    @classmethod
    def of(cls, shape: Sequence[int], tile: int, overlap: int, multiple: int) -> TileGrid:
        """Lay square tiles over an image of a height and width."""
        rows, columns = (TileAxis(side, tile, overlap, multiple) for side in shape)
        return cls(rows, columns)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)

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

    Image size, tile and least overlap are in pixels; the overlap is rounded up so that tiles begin at multiples of
    ``multiple``, the divisor of the sides of the network's inputs.
    """

    size: int
    tile: int
    overlap: int
    multiple: int = 1

    def __post_init__(self) -> None:
        """Refuse tiles that the network cannot take, and overlaps without progress."""
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
        """The actual overlap of neighbours."""
        return self.tile - self.stride

    @property
    def padded(self) -> int:
        """The size after reflection at the end: the least that fills a tile and that the network takes."""
        return max(-(-self.size // self.multiple) * self.multiple, self.tile)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixels of the tiles; the last tile is moved back to the end of the padded image."""
        last = self.padded - self.tile
        return (*range(0, last, self.stride), last)

    @cached_property
    def weights(self) -> tuple[NDArray[np.float32], ...]:
        """The weights ``(tile,)`` of each tile's pixels; they sum to 1 at every pixel of the image."""
        cut = self.shared // CUT
        distance = np.abs(np.arange(self.tile) - (self.tile - 1) / 2)
        window = np.exp(-0.5 * (distance * 2 * SIGMAS / (self.tile - 2 * cut)) ** 2)
        windows = []
        total = np.zeros(self.padded)
        for start in self.starts:
            windows.append(window.copy())
            if start > 0:
                windows[-1][:cut] = 0
            if start + self.tile < self.padded:
                windows[-1][self.tile - cut :] = 0
            total[start : start + self.tile] += windows[-1]
        sums = [total[start : start + self.tile] for start in self.starts]
        return tuple((part / whole).astype(np.float32) for part, whole in zip(windows, sums, strict=True))


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image: all pairs of ``rows`` and ``columns``; a pixel's weight is the product of both weights."""

    rows: TileAxis
    columns: TileAxis

    @classmethod
    def of(cls, shape: Sequence[int], tile: int, overlap: int, multiple: int) -> TileGrid:
        """Lay square tiles over an image of a height and width."""
        rows, columns = (TileAxis(side, tile, overlap, multiple) for side in shape)
        return cls(rows, columns)

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

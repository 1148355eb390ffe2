"""Draws a prediction on its image, row by row and small enough to open."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.check.contact_sheet import OUTLINE, RIM
from benchmark.data.formats.images import UInt8Array, to_channels

MOST_SIDE = 4096  # pixels of the longer side; larger images are shrunk by a whole factor
TINT = 0.2  # of the outline's colour within the prediction


class Overlay:
    """Collects an image of a height, width and channels, and its mask, averaged over squares of ``factor`` pixels."""

    def __init__(self, shape: tuple[int, int], channels: int) -> None:
        self.shape = shape
        self.factor = -(-max(shape) // MOST_SIDE)
        height, width = (-(-side // self.factor) for side in shape)
        dtype = np.uint8 if self.factor == 1 else np.uint32
        self._image = np.zeros((height, width, channels), dtype)
        self._mask = np.zeros((height, width, 1), dtype)

    def add(self, top: int, image: UInt8Array, mask: NDArray[np.bool_]) -> None:
        """Add rows ``(n, W, C)`` and ``(n, W)`` that begin at a row of the image."""
        starts = np.arange(0, self.shape[1], self.factor)
        rows = np.arange(top, top + len(image)) // self.factor
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        for sums, pixels in ((self._image, image), (self._mask, mask[..., None])):
            if self.factor == 1:
                sums[top : top + len(pixels)] = pixels
            else:
                across = np.add.reduceat(pixels, starts, axis=1, dtype=np.uint32)
                sums[rows[firsts]] += np.add.reduceat(across, firsts, axis=0)

    def picture(self) -> UInt8Array:
        """Return ``(h, w, 3)``: the prediction tinted and outlined in yellow, with a dark rim outside."""
        image, mask = self._image, self._mask[..., 0] > 0
        if self.factor > 1:
            heights, widths = (np.minimum(self.factor, side - np.arange(0, side, self.factor)) for side in self.shape)
            count = np.multiply.outer(heights, widths).astype(np.uint32)
            image = ((self._image + count[..., None] // 2) // count[..., None]).astype(np.uint8)
            mask = 2 * self._mask[..., 0] >= count
        pixels = np.array(to_channels(image, 3))
        for channel, level in enumerate(OUTLINE):
            tinted = np.rint((1 - TINT) * np.arange(256) + TINT * level).astype(np.uint8)
            pixels[..., channel] = np.where(mask, tinted[pixels[..., channel]], pixels[..., channel])
        pixels[ndimage.binary_dilation(mask) & ~mask] = RIM
        pixels[mask & ~ndimage.binary_erosion(mask)] = OUTLINE
        return pixels

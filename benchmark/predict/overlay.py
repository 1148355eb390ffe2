"""Draws a prediction on its image, row by row and small enough to open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from benchmark.config.targets import is_via
from benchmark.data.check.contact_sheet import FONT, OUTLINE, RIM
from benchmark.data.formats.images import UInt8Array, to_channels

MOST_SIDE = 4096  # pixels of the longer side; larger images are shrunk by a whole factor
TINT = 0.2  # of the outline's colour within the prediction
#: One a layer, by turns: Okabe and Ito's colours that stand out from gray and, without the first, from yellow.
COLOURS = (OUTLINE, (230, 60, 40), (86, 180, 233), (204, 121, 167), (0, 190, 130))
LEGEND = 20  # height of the strip with the layers' names, pixels


class Overlay:
    """Collects an image of a height, width and channels, and its masks, averaged over squares of ``factor`` pixels.

    ``layers`` are the names of several; a single layer has no legend.
    """

    def __init__(self, shape: tuple[int, int], channels: int, layers: Sequence[str] = ()) -> None:
        self.shape, self.layers = shape, tuple(layers)
        self.factor = -(-max(shape) // MOST_SIDE)
        height, width = (-(-side // self.factor) for side in shape)
        dtype = np.uint8 if self.factor == 1 else np.uint32
        self._image = np.zeros((height, width, channels), dtype)
        self._masks = np.zeros((height, width, max(1, len(layers))), dtype)

    def add(self, top: int, image: UInt8Array, masks: NDArray[np.bool_]) -> None:
        """Add rows ``(n, W, C)`` and those of each layer's mask, ``(L, n, W)``, that begin at a row of the image."""
        starts = np.arange(0, self.shape[1], self.factor)
        rows = np.arange(top, top + len(image)) // self.factor
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        for sums, pixels in ((self._image, image), (self._masks, np.moveaxis(masks, 0, -1))):
            if self.factor == 1:
                sums[top : top + len(pixels)] = pixels
            else:
                across = np.add.reduceat(pixels, starts, axis=1, dtype=np.uint32)
                sums[rows[firsts]] += np.add.reduceat(across, firsts, axis=0)

    def picture(self) -> UInt8Array:
        """Return ``(h, w, 3)``: each layer tinted and outlined in its colour with a dark rim, vias above all others.

        A strip below the image names the colours of several layers.
        """
        image, masks = self._image, self._masks > 0
        if self.factor > 1:
            heights, widths = (np.minimum(self.factor, side - np.arange(0, side, self.factor)) for side in self.shape)
            count = np.multiply.outer(heights, widths).astype(np.uint32)[..., None]
            image = ((self._image + count // 2) // count).astype(np.uint8)
            masks = 2 * self._masks >= count
        pixels = np.array(to_channels(image, 3))
        for index in sorted(range(masks.shape[2]), key=lambda index: bool(self.layers) and is_via(self.layers[index])):
            _draw(pixels, masks[..., index], COLOURS[index % len(COLOURS)])
        return np.concatenate([pixels, self._legend()]) if self.layers else pixels

    def colours(self) -> dict[str, str]:
        """Return the colour of each of several layers, as ``#rrggbb``."""
        return {
            layer: "#{:02x}{:02x}{:02x}".format(*COLOURS[index % len(COLOURS)])
            for index, layer in enumerate(self.layers)
        }

    def _legend(self) -> UInt8Array:
        strip = Image.new("RGB", (self._image.shape[1], LEGEND), RIM)
        pen, font, left = ImageDraw.Draw(strip), ImageFont.truetype(FONT, LEGEND * 3 // 5), LEGEND // 4
        for layer, colour in self.colours().items():
            pen.rectangle([left, LEGEND // 4, left + LEGEND // 2, LEGEND * 3 // 4], fill=colour)
            pen.text((left + LEGEND * 3 // 4, LEGEND // 2), layer, (255, 255, 255), font, anchor="lm")
            left += int(LEGEND * 3 // 2 + pen.textlength(layer, font))
        return np.asarray(strip)


def _draw(pixels: UInt8Array, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Tint and outline a mask ``(h, w)`` on pixels ``(h, w, 3)``."""
    for channel, level in enumerate(colour):
        tinted = np.rint((1 - TINT) * np.arange(256) + TINT * level).astype(np.uint8)
        pixels[..., channel] = np.where(mask, tinted[pixels[..., channel]], pixels[..., channel])
    pixels[ndimage.binary_dilation(mask) & ~mask] = RIM
    pixels[mask & ~ndimage.binary_erosion(mask)] = colour

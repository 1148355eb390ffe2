"""Draws a dataset's contact sheet: a few images with the outlines of their masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from benchmark.data import packs, synthetic
from benchmark.data.datasets import Source
from benchmark.data.formats.images import UInt8Array, read_image, sized, to_channels
from benchmark.data.tiling import BoolMask
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)
# Yellow of the Okabe-Ito palette, which every kind of colour vision tells from grays and greens.
OUTLINE = (240, 228, 66)
FURTHER = (86, 180, 233)  # the palette's sky blue, for the second and further layers
RIM = (0, 0, 0)  # around the outline, which would be lost on bright metal otherwise
HATCH_PERIOD, HATCH_WIDTH = 12, 2  # of the diagonal lines over ignored pixels, black beside white; pixels along a row
# A fourfold shrunk track of HY5SYN is still 5 pixels wide and shows between its outlines. Texts grow with the cells,
# since a large sheet is looked at from afar first.
LEAST_CELL_PX, MOST_CELL_PX, MOST_SHRINKING = 320, 1024, 4
GAP, NAME_PX, TITLE_PX = 12, 13, 20  # at the least cell
FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))  # has more scripts than Pillow's own


class SheetImage(NamedTuple):
    """One image of the sheet."""

    name: str  # shown below it
    image: UInt8Array  # ``(H, W, 1|3)`` uint8
    mask: BoolMask  # ``(H, W)`` bool, true on the foreground of the first layer
    ignore: BoolMask | None  # ``(H, W)`` bool, true where pixels count nowhere; ``None`` for nowhere
    further: BoolMask | None = None  # ``(H, W)`` bool, true on the foreground of any further layer

    @property
    def share(self) -> float:
        """Foreground over counted pixels, 0 without any."""
        counted = self.mask if self.ignore is None else self.mask[~self.ignore]
        return float(counted.mean()) if counted.size else 0.0


def choose(n: int, count: int) -> list[int]:
    """Return at most ``count`` of the indices below ``n``, evenly apart, the first and the last among them."""
    return [int(index) for index in np.linspace(0, n - 1, min(n, count)).round()]


def read_samples(source: Source, count: int) -> list[SheetImage]:
    """Read evenly chosen images of a dataset, or generate those of a stand-in.

    Raises:
        UserError: a file cannot be read.
    """
    if source.synthetic:
        return [_generated(source, index) for index in choose(source.count, count)]
    levels = packs.levels_of(source)
    samples = []
    for index in choose(len(source.pairs), count):
        pair = source.pairs[index]
        image = read_image(pair.image, 3, levels)
        labels = packs.read_masks(pair, source.target, image.shape[:2])
        ignored = np.logical_and.reduce([ignored for _, ignored in labels])
        masks = [label.mask for label, _ in labels]
        samples.append(SheetImage(pair.name, image, masks[0], ignored if ignored.any() else None, _union(masks[1:])))
    return samples


def _generated(source: Source, index: int) -> SheetImage:
    height, width = source.shape
    sample = synthetic.generate(source.base, index, height=height, width=width, seed=source.seed)
    first, *further = (sample.mask(layer) for layer in source.layers)
    return SheetImage(f"image{index:04d}", to_channels(sample.image, 3), first, None, _union(further))


def _union(masks: Sequence[BoolMask]) -> BoolMask | None:
    return np.logical_or.reduce(masks) if masks else None


def contact_sheet(
    title: str,
    samples: Sequence[SheetImage],
    *,
    total: int,
    columns: int = 4,
    cell_px: int | None = None,
    crops: bool = False,
) -> Image.Image:
    """Draw images in a grid, each whole, with its mask outlined and its ignored pixels hatched.

    Large images are shrunk by area average, small ones enlarged by a whole factor; outlines are drawn afterwards and
    so are one pixel wide at any size. The name and the share of foreground stand below each image. The sheet is as wide
    as its head at least.

    Args:
        title: of the sheet: the dataset's name.
        samples: the images.
        total: number of images of the dataset.
        columns: images beside each other, at most.
        cell_px: side of the square that an image fits into; by default a quarter of the longest image's, from 320 to
            1024 pixels.
        crops: show a part of each shrunk image beside it, at full size.

    Raises:
        UserError: no image.
    """
    if not samples:
        raise UserError(f"{title}: no image to show; expected at least one")
    if cell_px is None:
        longest = max(max(sample.image.shape[:2]) for sample in samples)
        cell_px = min(max(longest // MOST_SHRINKING, LEAST_CELL_PX), MOST_CELL_PX)
    grown = max(cell_px, LEAST_CELL_PX)
    gap, name_px, title_px = (length * grown // LEAST_CELL_PX for length in (GAP, NAME_PX, TITLE_PX))
    small, large = (ImageFont.truetype(FONT, size) for size in (name_px, title_px))
    facts = _facts(samples, total)
    if crops:
        samples = [part for sample in samples for part in (sample, *_crop(sample, cell_px))]
    cells = [_cell(sample, cell_px) for sample in samples]
    columns = min(columns, len(cells))
    height = max(cell.height for cell in cells)
    top, step = title_px + name_px + 3 * gap, height + name_px + 2 * gap
    width = max(columns * (cell_px + gap) - gap, math.ceil(max(large.getlength(title), small.getlength(facts))))
    sheet = Image.new("RGB", (width + 2 * gap, top + -(-len(cells) // columns) * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), title, INK, large)
    draw.text((gap, gap + title_px + gap // 2), facts, FAINT, small)
    for index, (sample, cell) in enumerate(zip(samples, cells, strict=True)):
        left, bottom = gap + index % columns * (cell_px + gap), top + index // columns * step + height
        # On the line of names, so that names stay beside each other below images of different heights.
        sheet.paste(cell, (left + (cell_px - cell.width) // 2, bottom - cell.height))
        share = f"{sample.share:.1%}"
        room = cell_px - small.getlength(share) - gap
        draw.text((left, bottom + gap // 2), shorten(sample.name, small, room), INK, small)
        draw.text((left + cell_px, bottom + gap // 2), share, FAINT, small, anchor="ra")
    return sheet


def _crop(sample: SheetImage, side: int) -> Iterator[SheetImage]:
    """Yield the part ``(side, side)`` with the most outline of an image that is larger."""
    height, width = sample.mask.shape
    if max(height, width) <= side:
        return
    blocks = sample.mask & ~ndimage.binary_erosion(sample.mask)
    step = max(side // 2, 1)
    for axis, extent in enumerate((height, width)):
        blocks = np.add.reduceat(blocks, np.arange(0, extent, step), axis=axis, dtype=np.int64)
    # Each sum is of a block and its neighbours at the right and below.
    sums = ndimage.uniform_filter(blocks.astype(float), 2, mode="constant", origin=-1)
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    top, left = (max(min(int(at) * step, extent - side), 0) for at, extent in ((row, height), (column, width)))
    part = np.s_[top : top + side, left : left + side]
    ignore = None if sample.ignore is None else sample.ignore[part]
    further = None if sample.further is None else sample.further[part]
    yield SheetImage(f"{sample.name}, from {left},{top}", sample.image[part], sample.mask[part], ignore, further)


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return a text, cut in the middle where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = text[: -(-length // 2)] + "..." + text[len(text) - length // 2 :]
        if font.getlength(cut) <= width:
            return cut
    return "..."


def _facts(samples: Sequence[SheetImage], total: int) -> str:
    sizes = list(dict.fromkeys(sized(sample.image.shape) for sample in samples))
    shares = [sample.share for sample in samples]
    images = f"{len(samples)} of {total} images" if len(samples) < total else counted(total, "image")
    spread = f", {min(shares):.1%} to {max(shares):.1%}" if len(shares) > 1 else ""
    size = ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")
    return f"{images}; {size} px; foreground {np.mean(shares):.1%} of the pixels shown{spread}"


def _cell(sample: SheetImage, cell_px: int) -> Image.Image:
    """Fit an image into a square and draw its mask and its ignored pixels onto it."""
    pixels = np.asarray(fit(Image.fromarray(to_channels(sample.image, 3)), cell_px)).copy()
    if sample.ignore is not None:
        hidden = _fit_mask(sample.ignore, cell_px)
        phase = np.indices(hidden.shape).sum(axis=0) % HATCH_PERIOD
        pixels[hidden & (phase < HATCH_WIDTH)] = RIM
        pixels[hidden & (phase >= HATCH_WIDTH) & (phase < 2 * HATCH_WIDTH)] = PAPER
    for mask, colour in ((sample.mask, OUTLINE), (sample.further, FURTHER)):
        if mask is not None:
            inside = _fit_mask(mask, cell_px)
            pixels[ndimage.binary_dilation(inside) & ~inside] = RIM
            # Closed along the image's border, so that a mask of the whole image differs from an empty one.
            pixels[inside & ~ndimage.binary_erosion(inside)] = colour
    return Image.fromarray(pixels)


def _fit_mask(mask: BoolMask, cell_px: int) -> BoolMask:
    return np.asarray(fit(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), cell_px)) >= 128


def fit(picture: Image.Image, cell_px: int) -> Image.Image:
    """Shrink by area average, or enlarge by repeating pixels, so that the longer side fits the cell."""
    scale = cell_px / max(picture.size)
    if scale >= 1:
        return picture.resize((picture.width * int(scale), picture.height * int(scale)), Image.Resampling.NEAREST)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.resize(size, Image.Resampling.BOX)

"""A contact sheet of a dataset: a few of its images with the outlines of their masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from benchmark.data import packs, synthetic
from benchmark.data.datasets import Source
from benchmark.data.formats.all_formats import read_label
from benchmark.data.formats.images import UInt8Array, read_image, sized, to_channels
from benchmark.data.formats.masks import read_ignore
from benchmark.utils.errors import UserError

BoolMask = NDArray[np.bool_]

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)
# Yellow of the Okabe-Ito palette, told apart from grays and greens by every kind of colour vision.
OUTLINE = (240, 228, 66)
RIM = (0, 0, 0)  # around the outline, which would be lost on bright metal otherwise
HATCH_PERIOD, HATCH_WIDTH = 12, 2  # of the diagonal lines over ignored pixels, black beside white; pixels along a row
# A fourfold shrunk track of HY5SYN is still 5 pixels wide and shows between its outlines. Texts grow with the cells,
# since a large sheet is looked at from afar first.
LEAST_CELL_PX, MOST_CELL_PX, MOST_SHRINKING = 320, 1024, 4
GAP, NAME_PX, TITLE_PX = 12, 13, 20  # at the least cell
FONT = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))  # has more scripts than Pillow's own


class SheetImage(NamedTuple):
    """One image to show.

    Attributes:
        name: shown below it.
        image: ``(H, W, 1|3)`` uint8.
        mask: ``(H, W)`` bool, true on the foreground.
        ignore: ``(H, W)`` bool, true where pixels count nowhere; ``None`` for nowhere.
    """

    name: str
    image: UInt8Array
    mask: BoolMask
    ignore: BoolMask | None


def choose(n: int, count: int) -> list[int]:
    """Return at most ``count`` of the indices below ``n``, evenly apart, the first and the last among them."""
    return [int(index) for index in np.linspace(0, n - 1, min(n, count)).round()]


def read_samples(source: Source, count: int) -> list[SheetImage]:
    """Read evenly chosen images of a dataset, or generate those of a stand-in.

    Raises:
        UserError: a file that cannot be read.
    """
    if source.synthetic:
        return [_generated(source, index) for index in choose(source.count, count)]
    levels = packs.levels_of(source)
    samples = []
    for index in choose(len(source.pairs), count):
        pair = source.pairs[index]
        image = read_image(pair.image, 3, levels)
        shape = (image.shape[0], image.shape[1])
        ignore = None if pair.ignore is None else read_ignore(pair.ignore, shape)
        label = read_label(pair.label, source.target, shape, pair.legend)
        if label.ignored is not None:
            ignore = label.ignored if ignore is None else ignore | label.ignored
        samples.append(SheetImage(pair.name, image, label.mask, ignore))
    return samples


def _generated(source: Source, index: int) -> SheetImage:
    height, width = source.shape
    made = synthetic.generate(source.base, index, height=height, width=width, seed=source.seed)
    return SheetImage(f"image{index:04d}", to_channels(made.image, 3), made.mask(source.target), None)


def contact_sheet(
    title: str,
    samples: Sequence[tuple[str, UInt8Array, BoolMask, BoolMask | None]],
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
        samples: name, image ``(H, W, 1|3)`` uint8, mask ``(H, W)`` bool and ignored pixels ``(H, W)`` bool or ``None``.
        total: how many images the dataset has.
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
        longest = max(max(image.shape[:2]) for _, image, _, _ in samples)
        cell_px = min(max(longest // MOST_SHRINKING, LEAST_CELL_PX), MOST_CELL_PX)
    gap, name_px, title_px = (
        length * max(cell_px, LEAST_CELL_PX) // LEAST_CELL_PX for length in (GAP, NAME_PX, TITLE_PX)
    )
    small, large = (ImageFont.truetype(FONT, size) for size in (name_px, title_px))
    facts = _facts(samples, total)
    if crops:
        samples = [part for sample in samples for part in (sample, *_crop(SheetImage(*sample), cell_px))]
    cells = [_cell(image, mask, ignore, cell_px) for _, image, mask, ignore in samples]
    columns = min(columns, len(cells))
    height = max(cell.height for cell in cells)
    top, step = title_px + name_px + 3 * gap, height + name_px + 2 * gap
    width = max(columns * (cell_px + gap) - gap, math.ceil(max(large.getlength(title), small.getlength(facts))))
    sheet = Image.new("RGB", (width + 2 * gap, top + -(-len(cells) // columns) * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), title, INK, large)
    draw.text((gap, gap + title_px + gap // 2), facts, FAINT, small)
    for index, ((name, _, mask, ignore), cell) in enumerate(zip(samples, cells, strict=True)):
        left, bottom = gap + index % columns * (cell_px + gap), top + index // columns * step + height
        # On the line of names, so that names stay beside each other below images of different heights.
        sheet.paste(cell, (left + (cell_px - cell.width) // 2, bottom - cell.height))
        share = f"{_share(mask, ignore):.1%}"
        room = cell_px - small.getlength(share) - gap
        draw.text((left, bottom + gap // 2), shorten(name, small, room), INK, small)
        draw.text((left + cell_px, bottom + gap // 2), share, FAINT, small, anchor="ra")
    return sheet


def _crop(sample: SheetImage, side: int) -> Iterator[SheetImage]:
    """Give the part ``(side, side)`` of an image that does not fit there which shows the most outline."""
    height, width = sample.mask.shape
    if max(height, width) <= side:
        return
    outline = sample.mask & ~ndimage.binary_erosion(sample.mask)
    step = max(side // 2, 1)
    blocks = outline
    for axis in (0, 1):
        blocks = np.add.reduceat(blocks, np.arange(0, outline.shape[axis], step), axis=axis, dtype=np.int64)
    # Each sum is that of a block and its neighbours at the right and below.
    sums = ndimage.uniform_filter(blocks.astype(float), 2, mode="constant", origin=-1)
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    top, left = (max(min(int(at) * step, extent - side), 0) for at, extent in ((row, height), (column, width)))
    part = np.s_[top : top + side, left : left + side]
    ignore = None if sample.ignore is None else sample.ignore[part]
    yield SheetImage(f"{sample.name}, from {left},{top}", sample.image[part], sample.mask[part], ignore)


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return a text, cut in the middle where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        cut = text[: -(-kept // 2)] + "..." + text[len(text) - kept // 2 :]
        if font.getlength(cut) <= width:
            return cut
    return "..."


def _facts(samples: Sequence[tuple[str, UInt8Array, BoolMask, BoolMask | None]], total: int) -> str:
    sizes = list(dict.fromkeys(sized(image.shape) for _, image, _, _ in samples))
    shares = [_share(mask, ignore) for _, _, mask, ignore in samples]
    shown = f"{len(samples)} of {total} images" if len(samples) < total else f"{total} image{'s' * (total > 1)}"
    spread = f", {min(shares):.1%} to {max(shares):.1%}" if len(shares) > 1 else ""
    size = ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")
    return f"{shown}; {size} px; foreground {np.mean(shares):.1%} of the pixels shown{spread}"


def _share(mask: BoolMask, ignore: BoolMask | None) -> float:
    counted = mask if ignore is None else mask[~ignore]
    return float(counted.mean()) if counted.size else 0.0


def _cell(image: UInt8Array, mask: BoolMask, ignore: BoolMask | None, cell_px: int) -> Image.Image:
    """Fit an image into a square and draw its mask and its ignored pixels onto it."""
    pixels = np.asarray(fit(Image.fromarray(to_channels(image, 3)), cell_px)).copy()
    inside = _fit_mask(mask, cell_px)
    if ignore is not None:
        hidden = _fit_mask(ignore, cell_px)
        phase = np.add.outer(np.arange(hidden.shape[0]), np.arange(hidden.shape[1])) % HATCH_PERIOD
        pixels[hidden & (phase < HATCH_WIDTH)] = RIM
        pixels[hidden & (phase >= HATCH_WIDTH) & (phase < 2 * HATCH_WIDTH)] = PAPER
    # Closed along the image's border, so that a mask of the whole image can be told from an empty one.
    line = inside & ~ndimage.binary_erosion(inside)
    rim = ndimage.binary_dilation(inside) & ~inside
    pixels[rim] = RIM
    pixels[line] = OUTLINE
    return Image.fromarray(pixels)


def _fit_mask(mask: BoolMask, cell_px: int) -> BoolMask:
    shrunk = np.asarray(fit(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), cell_px))
    fitted: BoolMask = shrunk >= 128
    return fitted


def fit(picture: Image.Image, cell_px: int) -> Image.Image:
    """Shrink by area average, or enlarge by repeating pixels, so that the longer side fits the cell."""
    scale = cell_px / max(picture.size)
    if scale >= 1:
        whole = int(scale)
        return picture.resize((picture.width * whole, picture.height * whole), Image.Resampling.NEAREST)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.resize(size, Image.Resampling.BOX)

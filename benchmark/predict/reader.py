"""Reads an image in strips of rows, so that it may exceed the memory.

TIFF of gray or RGB, 8 or 16 bit, uncompressed or in compressed strips or tiles that tifffile decodes, is read part by
part. Everything else (PNG, JPEG, BMP, palettes, alpha) is decoded whole, since its decoders know no other way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmark.data.formats.images import (
    Depth,
    Levels,
    Picture,
    Pixels,
    UInt8Array,
    decode,
    is_tiff,
    levels_of_counts,
    read_depth,
    read_size,
    refuse_truncated,
    refusing,
    to_8_bit,
    to_channels,
)
from benchmark.utils.errors import UserError

STREAMED_COLOURS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
LEVEL_ROWS = 256  # that are counted at a time


class BrokenImageError(UserError):
    """An image that cannot be read, which is no reason to leave out the others."""


@dataclass(eq=False)
class ImageReader:
    """An open image.

    Attributes:
        shape: height and width.
        depth: bits per channel.
        streamed: whether it is read part by part.
        levels: how 16 bits become 8; ``None`` for 8 bit.
        transparent: whether any pixel is transparent; its stored colour is read.
    """

    path: Path
    shape: tuple[int, int]
    depth: Depth
    streamed: bool
    _rows: _Parts | _Whole
    levels: Levels | None = None
    transparent: bool = False

    def read(self, top: int, bottom: int, channels: int) -> UInt8Array:
        """Return rows ``(bottom - top, W, channels)`` uint8, equal to :func:`benchmark.data.formats.images.read_image`.

        Raises:
            BrokenImageError: the pixels cannot be decoded.
        """
        with _broken(self.path), refusing(self.path):
            return to_channels(to_8_bit(self.path, self._rows.read(top, bottom), self.levels), channels)

    def percentiles(self) -> Levels:
        """Return the 0.1 % and 99.9 % percentiles of a 16-bit image, all channels together; reads it once.

        Raises:
            BrokenImageError: the pixels cannot be decoded.
        """
        counts = np.zeros(2**16, np.int64)
        with _broken(self.path), refusing(self.path):
            for top in range(0, self.shape[0], LEVEL_ROWS):
                pixels = self._rows.read(top, min(top + LEVEL_ROWS, self.shape[0])).pixels
                counts += np.bincount(pixels.reshape(-1), minlength=2**16)
        return levels_of_counts(counts)


@contextlib.contextmanager
def open_source(image: Path | Pixels, levels: Levels | None = None) -> Iterator[ImageReader]:
    """Open a PNG, JPEG, BMP, TIFF or BigTIFF; 16 bits become 8 by ``levels``, by default the image's own percentiles.

    Args:
        image: a file, or pixels ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16.
        levels: the values of 16 bits that become 0 and 255.

    Raises:
        BrokenImageError: a file that :func:`benchmark.data.formats.images.decode` refuses, or other pixels.
    """
    with contextlib.ExitStack() as stack:
        source = _open_file(image, stack) if isinstance(image, Path) else _of_array(image)
        if source.depth == 16:
            source.levels = levels or source.percentiles()
        yield source


def _open_file(path: Path, stack: contextlib.ExitStack) -> ImageReader:
    with _broken(path):
        shape, depth = read_size(path), read_depth(path)
        parts = _parts(path, stack)
        rows = parts or _Whole(decode(path))
        transparent = isinstance(rows, _Whole) and rows.picture.alpha is not None
        return ImageReader(path, shape, depth, parts is not None, rows, transparent=transparent)


def _of_array(pixels: Pixels) -> ImageReader:
    depths: dict[str, Depth] = {"bool": 8, "uint8": 8, "uint16": 16}
    depth = depths.get(pixels.dtype.name)
    if depth is None or 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise BrokenImageError(
            f"image: an array {pixels.shape} of {pixels.dtype}; expected (H, W) or (H, W, 3) of uint8 or uint16: "
            "scale the values and convert them with astype"
        )
    return ImageReader(Path("image"), (pixels.shape[0], pixels.shape[1]), depth, False, _Whole(Picture(pixels)))


@contextlib.contextmanager
def _broken(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise BrokenImageError(
            f"{path}: does not fit into memory when decoded whole; save it as TIFF with tiles or strips"
        ) from error
    except UserError as error:
        raise BrokenImageError(str(error)) from error


@dataclass(frozen=True, eq=False)
class _Whole:
    picture: Picture

    def read(self, top: int, bottom: int) -> Picture:
        return Picture(self.picture.pixels[top:bottom], self.picture.palette)


def _parts(path: Path, stack: contextlib.ExitStack) -> _Parts | None:
    """Open a TIFF that can be read part by part; decode its first part as a test."""
    if not is_tiff(path):
        return None
    with refusing(path):
        file = tifffile.TiffFile(path)
        stack.callback(file.close)
        page = file.pages.first
        plain = page.planarconfig == tifffile.PLANARCONFIG.CONTIG or page.samplesperpixel == 1
        usual = page.bitspersample in (8, 16) and page.samplesperpixel in (1, 3)
        if not (plain and usual and page.photometric in STREAMED_COLOURS):
            return None
        refuse_truncated(page)
        parts = _Parts(page)
        try:
            parts.read(0, 1)
        except Exception:  # a compression that only Pillow knows, or neither; imagecodecs has an error for each
            return None
    return parts


class _Parts:
    """The strips or tiles of a TIFF; those of the rows read last stay decoded."""

    def __init__(self, page: tifffile.TiffPage) -> None:
        self.page = page
        self.height, self.width = page.imagelength, page.imagewidth
        self.across = -(-self.width // page.tilewidth) if page.is_tiled else 1
        self.rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        self.inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        self.decoded: dict[int, NDArray[Any]] = {}

    def read(self, top: int, bottom: int) -> Picture:
        if self.page.is_contiguous:
            pixels = self._stored(top, bottom)
        else:
            first, last = top // self.rows, (bottom - 1) // self.rows
            self.decoded = {row: part for row, part in self.decoded.items() if first <= row <= last}
            for row in range(first, last + 1):
                if row not in self.decoded:
                    self.decoded[row] = self._decode(row)
            joined = np.concatenate([self.decoded[row] for row in range(first, last + 1)])
            pixels = joined[top - first * self.rows : bottom - first * self.rows]
        return Picture(np.iinfo(pixels.dtype).max - pixels if self.inverted else pixels)

    def _stored(self, top: int, bottom: int) -> NDArray[Any]:
        """Read rows that lie in the file as they are; mapping it would count every page read as the process's own."""
        dtype = np.dtype(f"{self.page.parent.byteorder}u{self.page.bitspersample // 8}")
        shape = (bottom - top, self.width, self.page.samplesperpixel)
        row_bytes = self.width * self.page.samplesperpixel * dtype.itemsize
        handle = self.page.parent.filehandle
        handle.seek(self.page.dataoffsets[0] + top * row_bytes)
        pixels = np.frombuffer(handle.read((bottom - top) * row_bytes), dtype).reshape(shape)
        return _squeezed(pixels.astype(dtype.newbyteorder("="), copy=False))

    def _decode(self, row: int) -> NDArray[Any]:
        parts = []
        for index in range(row * self.across, (row + 1) * self.across):
            handle = self.page.parent.filehandle
            handle.seek(self.page.dataoffsets[index])
            # The first look at `decode` and `jpegtables` reads tags, and so moves the file.
            content = handle.read(self.page.databytecounts[index])
            segment, _, shape = self.page.decode(content, index, jpegtables=self.page.jpegtables)
            if segment is None:
                raise OSError("image file is truncated")
            parts.append(_squeezed(segment[0, : shape[1], : shape[2]]))
        return np.concatenate(parts, axis=1)[: self.height - row * self.rows, : self.width]


def _squeezed(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels

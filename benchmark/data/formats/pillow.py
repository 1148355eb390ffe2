"""Opens image files with Pillow, without its process-wide limits and formats."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

TIFF_MAGIC = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})  # the latter two are BigTIFF's
# By the first bytes of a file. Pillow knows forty more formats, some of which start other programs.
READERS: Mapping[bytes, Callable[[Path], ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,  # type: ignore[dict-item]  # takes a path as its classes do
    b"BM": BmpImagePlugin.BmpImageFile,
    **dict.fromkeys(TIFF_MAGIC, TiffImagePlugin.TiffImageFile),
}
# Gray of fewer than 8 bits is spread over 0..255 when it is decoded, the transparent gray beside it is not.
SPREAD = {"L;2": 85, "L;4": 17}


def open_image(path: Path) -> ImageFile.ImageFile:
    """Open a PNG, JPEG, BMP or TIFF of any size without decoding its pixels.

    ``Image.open`` refuses large stitched frames by a limit for the whole process, notebooks included, so this calls the
    formats' readers. The caller limits the size.

    Raises:
        UnidentifiedImageError: another format.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
    for magic, reader in READERS.items():
        if start.startswith(magic):
            try:
                return reader(path)
            except (SyntaxError, IndexError, TypeError, struct.error) as error:  # what Image.open takes for no image
                raise UnidentifiedImageError(str(error)) from error
    raise UnidentifiedImageError(f"begins with {start!r}")


def read_form(path: Path) -> str:
    """Return an image's format and mode, such as ``PNG L``, or its suffix where Pillow cannot read it."""
    try:
        with open_image(path) as file:
            return f"{file.format} {file.mode}"
    except Exception:  # Pillow raises errors of many kinds; some of these files tifffile can read
        return path.suffix[1:].upper()


def keyed_alpha(file: ImageFile.ImageFile, raw_mode: str, pixels: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return the alpha ``(H, W)`` of a PNG's transparent colour or palette entries (tRNS), if it has any.

    Args:
        file: open, of a mode without a channel for alpha.
        raw_mode: Pillow's name of how its pixels are stored.
        pixels: as decoded; indices if there is a palette.
    """
    key = file.info.get("transparency")
    if key is None:
        return None
    if file.mode == "P":
        table = np.full(256, 255, np.uint8)
        if isinstance(key, bytes):
            table[: len(key)] = np.frombuffer(key, np.uint8)[:256]
        else:
            table[key] = 0
        by_entry: NDArray[np.uint8] = table[pixels]
        return by_entry
    if file.mode == "1":
        clear = pixels == bool(key)
    elif pixels.ndim == 3:
        clear = (pixels == np.array(key)).all(axis=-1)
    else:
        clear = pixels == key * SPREAD.get(raw_mode, 1)
    return np.where(clear, np.uint8(0), np.uint8(255))


def with_low_bytes(path: Path, high: NDArray[np.uint8], raw_mode: str) -> NDArray[np.uint16]:
    """Complete a PNG of 16-bit colour, of which Pillow decodes the high bytes only.

    The raw mode decides which byte of each value Pillow's decoder takes; with the other byte order it takes the low
    byte. Gray with alpha is read as the four bytes of a pixel.
    """
    with open_image(path) as file:
        gray = raw_mode == "LA;16B"
        file.tile = [(*file.tile[0][:3], "RGBA" if gray else raw_mode.removesuffix("B") + "L")]  # type: ignore[list-item]
        low: NDArray[np.uint8] = np.asarray(file)
    if gray:
        high, low = high[..., [0, 3]], low[..., [1, 3]]
    return high * np.uint16(256) + low

"""Reading one image or one mask from a file, or refusing it by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from benchmark.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, what PIL's "L" uses
# How Pillow's raw modes say 16 bits per channel, with the byte order ("RGB;16B"); "BGR;16" is a packed 5-6-5 bitmap.
SIXTEEN_BIT = re.compile(";16[BLN]")

UInt8Array = NDArray[np.uint8]


# Stitched microscope frames exceed what Pillow takes for an attack (179 million pixels); the files are the user's own.
Image.MAX_IMAGE_PIXELS = None


def _decode(path: Path) -> Image.Image:
    """Return the loaded picture of a file with one 8-bit or 1-bit frame."""
    try:
        with Image.open(path) as file:
            if file.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                raise UserError(
                    f"{path}: pixel format {file.mode!r}; expected 8-bit gray, palette or RGB(A): convert it to 8 bit"
                )
            # Pillow decodes 16-bit colour as 8-bit "RGB" by dropping the low byte, which turns 12-bit data black.
            if any(SIXTEEN_BIT.search(str(tile[3])) for tile in file.tile):
                raise UserError(f"{path}: 16 bits per channel; expected 8: convert it to 8 bit")
            frames = getattr(file, "n_frames", 1)
            if frames > 1:
                raise UserError(f"{path}: {frames} frames; expected one image per file: save them one by one")
            file.load()
            return file
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_size(path: Path) -> tuple[int, int]:
    """Read an image's height and width from its header, without decoding a pixel.

    Raises:
        UserError: no image, or it cannot be read.
    """
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_image(path: Path, channels: int) -> UInt8Array:
    """Read an image as ``(H, W, channels)`` uint8; RGB becomes gray by BT.601 luma, alpha is dropped.

    Raises:
        UserError: unreadable file, several frames, or pixels other than 8-bit gray, palette or RGB(A).
    """
    picture = _decode(path)
    # A palette is read through RGBA, since its transparency may be given in a form that RGB cannot take.
    target = {"1": "L", "LA": "L", "P": "RGBA"}.get(picture.mode, picture.mode)
    return to_channels(np.asarray(picture.convert(target)), channels)


def to_channels(pixels: UInt8Array, channels: int) -> UInt8Array:
    """Convert ``(H, W)`` or ``(H, W, 3|4)`` uint8 pixels to ``(H, W, channels)``."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    pixels = pixels[..., :3]
    if pixels.shape[-1] == channels:
        return np.ascontiguousarray(pixels)
    if channels == 1:
        gray: UInt8Array = np.rint(pixels.astype(np.float32) @ LUMA).astype(np.uint8)
        return gray[..., None]
    return np.repeat(pixels, channels, axis=-1)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a binary mask ``(H, W)``: 1-bit, or one channel, gray RGB(A) or a palette with values {0, 1} or {0, 255}.

    A palette counts by its colours where they are such grays (a black entry is background wherever it stands in the
    palette), otherwise by its indices, which is how annotation tools number their classes.

    Raises:
        UserError: unreadable file or any other set of values; names them.
    """
    picture = _decode(path)
    colours = to_channels(np.asarray(picture.convert("RGBA")), 3)
    gray = bool((colours == colours[..., :1]).all())
    if picture.mode == "P" and not (gray and _binary(_values(colours[..., 0]))):
        pixels = np.asarray(picture)
    elif gray:
        pixels = colours[..., 0]
    else:
        raise UserError(f"{path}: a coloured mask; expected one channel with values {{0, 1}} or {{0, 255}}")
    values = _values(pixels)
    if not _binary(values):
        shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        raise UserError(f"{path}: mask values {{{shown}}}; expected {{0, 1}} or {{0, 255}}: threshold the mask first")
    return pixels > 0


def _values(pixels: UInt8Array) -> list[int]:
    return np.flatnonzero(np.bincount(pixels.reshape(-1), minlength=256)).tolist()


def _binary(values: list[int]) -> bool:
    return set(values) <= {0, 1} or set(values) <= {0, 255}


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable image ({error}); replace the file or remove it from the folder")

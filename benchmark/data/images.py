"""Reading one image or one mask from a file, or refusing it by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from benchmark.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, what PIL's "L" uses

UInt8Array = NDArray[np.uint8]


def _decode(path: Path) -> tuple[UInt8Array, str]:
    """Return the pixels of an 8-bit or 1-bit file and PIL's mode for them."""
    try:
        with Image.open(path) as file:
            mode = file.mode
            if mode == "1":
                return np.asarray(file.convert("L")), mode
            if mode not in ("L", "LA", "P", "RGB", "RGBA"):
                raise UserError(
                    f"{path}: pixel format {mode!r}; expected 8-bit gray, palette or RGB(A): convert it to 8 bit"
                )
            return np.asarray(file), mode
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: not a readable image ({error}); replace the file or remove it from the folder"
        ) from error


def read_image(path: Path, channels: int) -> UInt8Array:
    """Read an image as ``(H, W, channels)`` uint8; RGB becomes gray by BT.601 luma, alpha is dropped.

    Raises:
        UserError: unreadable file or a pixel format other than 8-bit gray, palette or RGB(A).
    """
    pixels, mode = _decode(path)
    if mode == "P":
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
    if mode == "LA":
        pixels = pixels[..., 0]
    return to_channels(pixels, channels)


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
    """Read a binary mask ``(H, W)``: 1-bit, {0, 1}, {0, 255}, or a palette or gray-valued RGB of those values.

    Raises:
        UserError: unreadable file or any other set of values; names them.
    """
    pixels, mode = _decode(path)
    if mode in ("RGB", "RGBA", "LA"):
        colours = pixels[..., :1] if mode == "LA" else pixels[..., :3]
        if not (colours == colours[..., :1]).all():
            raise UserError(f"{path}: a coloured mask; expected one channel with values {{0, 1}} or {{0, 255}}")
        pixels = colours[..., 0]
    values = np.flatnonzero(np.bincount(pixels.reshape(-1), minlength=256)).tolist()
    if not (set(values) <= {0, 1} or set(values) <= {0, 255}):
        shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        raise UserError(f"{path}: mask values {{{shown}}}; expected {{0, 1}} or {{0, 255}}: threshold the mask first")
    return pixels > 0

"""Reads the pixels of an image file, or refuses the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, UnidentifiedImageError

from benchmark.data.check.contrast import Squeeze, quantiles, squeeze
from benchmark.data.formats.pillow import TIFF_MAGIC, keyed_alpha, open_image, with_low_bytes
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, what PIL's "L" uses

MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"})
TIFF_BITS = frozenset({1, 2, 4, 8, 16})
ALPHA = frozenset({tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA})
BUILT_IN_OR_NOT = frozenset({"lerc", "lzma", "webp", "zstd"})  # Pillow's libtiff; imagecodecs decodes these, too
# Samples per pixel, with and without alpha, by the colours of a TIFF.
TIFF_SAMPLES = {"MINISWHITE": (1, 2), "MINISBLACK": (1, 2), "PALETTE": (1,), "RGB": (3, 4), "YCBCR": (3,)}

# A short header may promise any size. Below the first limit a picture decodes into 256 MB at most. Above it, the file
# must be large enough: DEFLATE gives at most 1032 bytes for one (zlib's technical details), which is 8256 pixels of
# 1 bit; the limit is twice that. Only fax and Zstandard code a blank page more tightly. Above the last limit a picture
# takes 4 to 16 GB and is no single frame any more.
SMALL_PIXELS = 2**26
PIXELS_PER_BYTE = 2**14
MOST_PIXELS = 2**32

PERCENTILES = (0.001, 0.999)  # a thousandth of the pixels each may be dust or specular
#: The note on a 16-bit image that is mapped alone.
OWN_LEVELS = (
    "16 bits mapped between the image's own 0.1 % and 99.9 % percentiles; training maps a whole dataset at once"
)
LEVEL_FILES = 64  # enough for a histogram of a dataset that was imaged under one setting

UInt8Array = NDArray[np.uint8]
Pixels = NDArray[np.bool_ | np.uint8 | np.uint16]
Depth = Literal[8, 16]


@dataclass(frozen=True)
class Levels:
    """The gray values of a 16-bit dataset that become 0 and 255, and how far they squeeze the contrast.

    Raises:
        ValueError: not two finite ascending values.
    """

    low: float
    high: float
    squeeze: Squeeze | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse levels that can map no value."""
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(f"expected two finite values, the lower first, found {self.low} and {self.high}")


@dataclass(frozen=True, eq=False)
class Picture:
    """A file's pixels as stored, with alpha separate."""

    pixels: Pixels  # ``(H, W)`` bool, uint8 or uint16, or ``(H, W, 3)`` uint8 or uint16
    palette: UInt8Array | None = None  # ``(256, 3)`` uint8, colours to which ``pixels`` are indices
    lossy: bool = False  # whether the file is a JPEG
    white_is_zero: bool = False  # whether the file is a TIFF that stores white as 0; ``pixels`` are already inverted
    alpha: NDArray[np.uint8 | np.uint16] | None = None  # ``(H, W)``, 0 where transparent; ``None`` if all are opaque

    @property
    def colours(self) -> Pixels:
        """The pixels as viewers show them, with the palette's colours."""
        return self.pixels if self.palette is None else self.palette[self.pixels]


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int]
    depth: Depth
    reader: Literal["pillow", "pillow by bytes", "tifffile"] = "pillow"
    white_is_zero: bool = False


def read_size(path: Path) -> tuple[int, int]:
    """Read an image's height and width from its header.

    Raises:
        UserError: no image, an unreadable one, or a header that :func:`decode` refuses.
    """
    return _header(path).shape


def sized(shape: Sequence[int]) -> str:
    """Return the text of an array's height and width, width first as viewers do: ``640x480``."""
    return f"{shape[1]}x{shape[0]}"


def read_depth(path: Path) -> Depth:
    """Read from an image's header whether it has 16 bits per channel; 1 to 8 bits are decoded to 8.

    Raises:
        UserError: as for :func:`read_size`.
    """
    return _header(path).depth


def read_image(path: Path, channels: int, levels: Levels | None = None) -> UInt8Array:
    """Read an image as ``(H, W, channels)`` uint8; RGB becomes gray by BT.601 luma, alpha is dropped.

    Args:
        path: PNG, JPEG, BMP, TIFF or BigTIFF of 8 or 16 bits per channel.
        channels: 1 or 3.
        levels: map 16-bit values to 8 bit, before the luma; without effect on 8-bit files.

    Raises:
        UserError: a file that :func:`decode` refuses, or a 16-bit file without levels.
    """
    return to_channels(to_8_bit(path, decode(path), levels), channels)


def percentile_levels(paths: Sequence[Path]) -> Levels:
    """Return the 0.1 % and 99.9 % percentiles of a dataset's 16-bit values, all channels together.

    Args:
        paths: at least one image; of more than 64, only 64 are read, evenly chosen in sorted order.

    Raises:
        UserError: a file that :func:`decode` refuses, or an 8-bit file.
    """
    paths, counts = sorted(paths), np.zeros(2**16, np.int64)
    for index in np.linspace(0, len(paths) - 1, min(len(paths), LEVEL_FILES)).round().astype(int):
        path = paths[index]
        pixels = decode(path).pixels
        if pixels.dtype != np.uint16:
            raise UserError(f"{path}: 8 bits per channel beside files of 16; convert all files to one depth")
        counts += np.bincount(pixels.reshape(-1), minlength=2**16)
    return levels_of_counts(counts)


def levels_of_counts(counts: NDArray[np.int64]) -> Levels:
    """Return the 0.1 % and 99.9 % percentiles of values; ``counts``, (65536,), is how often each occurs."""
    low, high = quantiles(counts, PERCENTILES)
    if low == high:  # nearly every pixel has the same value; others lie outside the percentiles
        low, high = np.flatnonzero(counts)[[0, -1]].tolist()
    high = max(high, low + 1)
    return Levels(low, high, squeeze(counts, low, high))


def to_channels(pixels: UInt8Array, channels: int) -> UInt8Array:
    """Convert ``(H, W)`` or ``(H, W, 3|4)`` uint8 pixels to ``(H, W, channels)``."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
    if pixels.shape[-1] == channels:
        return np.ascontiguousarray(pixels)
    if channels == 1:
        gray: UInt8Array = np.rint(pixels.astype(np.float32) @ LUMA).astype(np.uint8)
        return gray[..., None]
    return np.repeat(pixels, channels, axis=-1)


def to_8_bit(path: Path, picture: Picture, levels: Levels | None) -> UInt8Array:
    """Return the pixels ``(H, W)`` or ``(H, W, 3)`` as uint8, by the palette or by the levels.

    Raises:
        UserError: 16 bits without levels.
    """
    colours = picture.colours
    if colours.dtype == np.uint16:
        if levels is None:
            raise UserError(
                f"{path}: 16 bits per channel; expected 8, or levels that say which values become black and white: "
                "add levels = [LOW, HIGH] to the dataset's TOML file, or convert the image to 8 bit"
            )
        share = (np.arange(2**16) - levels.low) / (levels.high - levels.low)
        table: UInt8Array = np.rint(share.clip(0, 1) * 255).astype(np.uint8)
        return table[colours]
    return colours * np.uint8(255) if colours.dtype == np.bool_ else colours.astype(np.uint8, copy=False)


def decode(path: Path) -> Picture:
    """Read a file's pixels as they are stored.

    Raises:
        UserError: unreadable file, several frames, pixels other than gray, palette or RGB(A) of 8 or 16 unsigned bits,
            an EXIF orientation, or a size that such a file cannot hold.
    """
    header = _header(path)
    with refusing(path):
        if header.reader == "tifffile":
            return _decode_tiff(path)
        try:
            file = open_image(path)
        except UnidentifiedImageError:
            if header.reader == "pillow" and is_tiff(path):
                return _decode_tiff(path)
            raise
        with file:
            raw_mode = str(file.tile[0][3])  # gone after loading
            try:
                file.load()
            except OSError:
                if file.info.get("compression") in BUILT_IN_OR_NOT:
                    return _decode_tiff(path)
                raise
            _refuse_turned(path, file.getexif().get(ExifTags.Base.Orientation, 1))
            stored = np.asarray(file.convert("RGB") if file.mode == "YCbCr" else file)  # an uncompressed TIFF's
            if header.reader == "pillow by bytes":
                stored = with_low_bytes(path, stored, raw_mode)
            palette = None
            if file.mode == "P":
                colours = np.array(file.getpalette("RGB"), np.uint8).reshape(-1, 3)
                palette = np.pad(colours, ((0, 256 - len(colours)), (0, 0)))
            pixels, alpha = _split(stored)
            if alpha is None:
                alpha = keyed_alpha(file, raw_mode, pixels)
        if header.depth == 16:
            pixels = pixels.astype(np.uint16)  # big-endian, or 32 bits wide in older versions of Pillow
        return Picture(pixels, palette, file.format == "JPEG", header.white_is_zero, _unless_opaque(alpha))


def _header(path: Path) -> _Header:
    with refusing(path):
        if not path.is_file():
            kind = "a folder or device" if path.exists() else "no such file"
            raise UserError(f"{path}: {kind}; expected an image file: correct the path or remove it from the folder")
        return _tiff_header(path) if is_tiff(path) else _pillow_header(path)


def _pillow_header(path: Path) -> _Header:
    with open_image(path) as file:
        _refuse_frames(path, getattr(file, "n_frames", 1))
        # Pillow decodes 16-bit colour as 8-bit "RGB" by dropping the low byte, which turns 12-bit data black; only its
        # raw mode still shows the depth. A gray PNG is "I" in versions before 11.
        deep = any(str(tile[3]).endswith(";16B") for tile in file.tile)
        if file.mode not in MODES and not (deep and file.mode == "I"):
            expected = "gray, palette or RGB(A) of 8 or 16 bit: convert it"
            raise UserError(f"{path}: pixel format {file.mode!r}; expected {expected}")
        _refuse_bomb(path, file.height, file.width)
        colour = deep and not file.mode.startswith("I")
        return _Header((file.height, file.width), 16 if deep else 8, "pillow by bytes" if colour else "pillow")


def _tiff_header(path: Path) -> _Header:
    """Read a TIFF's signs, planes, depth and colours, which Pillow does not report."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        # Programs write stacks above 4 GB behind one page, with their extent in its description.
        stack = 1 if len(file.pages) > 1 or file.is_ome else sum(series.size for series in file.series) // page.size
        _refuse_frames(path, max(len(file.pages), page.imagedepth, stack))
        photometric = _name(page.photometric)
        unsigned = page.dtype is not None and page.dtype.kind in "bu" and page.bitspersample in TIFF_BITS
        if not unsigned or page.samplesperpixel not in TIFF_SAMPLES.get(photometric, ()):
            raise UserError(
                f"{path}: {counted(page.samplesperpixel, 'channel')} of {page.dtype}, {page.bitspersample} bits each, "
                f"colours {photometric}; expected gray, palette or RGB(A) of 8 or 16 unsigned bits: convert it"
            )
        has_extra = page.samplesperpixel in (2, 4)
        if has_extra and not (page.extrasamples and ALPHA.issuperset(page.extrasamples)):
            raise UserError(
                f"{path}: {page.samplesperpixel} channels, and the file does not call the last one alpha; expected "
                "gray or RGB, perhaps with alpha: save each channel as a file of its own"
            )
        _refuse_turned(path, page.tags.valueof(274, 1))
        height, width = page.imagelength, page.imagewidth
        # A small image may be stored in one huge tile, which is decoded whole.
        _refuse_bomb(path, max(height, page.tilelength), max(width, page.tilewidth))
        if page.bitspersample != 16:
            return _Header((height, width), 8, white_is_zero=photometric == "MINISWHITE")
        # Pillow misreads all 16-bit TIFF but these.
        plain = photometric == "MINISBLACK" and page.samplesperpixel == 1
        return _Header((height, width), 16, "pillow" if plain else "tifffile")


def _decode_tiff(path: Path) -> Picture:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.photometric == tifffile.PHOTOMETRIC.YCBCR:
            raise UserError(
                f"{path}: colours YCBCR of {page.bitspersample} bits, {_name(page.compression)} compression; expected "
                "them with 8 bits as JPEG, or RGB: save it as RGB"
            )
        refuse_truncated(page)
        try:
            pixels = page.asarray(maxworkers=1)
        except (ValueError, ImportError) as error:
            if isinstance(error, ImportError) or "imagecodecs" in str(error):
                raise UserError(
                    f"{path}: {_name(page.compression)} compression of this pixel format; expected none or deflate, "
                    "which can be decoded here: save it so, or pip install imagecodecs"
                ) from error
            raise
        if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, -1)
        if page.bitspersample not in (8, 16) or pixels.shape[:2] != (page.imagelength, page.imagewidth):
            raise OSError(f"decoded to {pixels.shape} of {page.bitspersample} bits")
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        pixels, alpha = _split(pixels)
        if white_is_zero:
            pixels = np.iinfo(pixels.dtype).max - pixels
        return Picture(pixels, white_is_zero=white_is_zero, alpha=_unless_opaque(alpha))


def refuse_truncated(page: tifffile.TiffPage) -> None:
    """Raise OSError where a part of a TIFF's pixels is not in the file, which tifffile fills with zeros."""
    whole = all(
        min(offset, count) > 0 and offset + count <= page.parent.filehandle.size
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
    if not whole or not page.dataoffsets:
        raise OSError("image file is truncated")


def _split(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return colours ``(H, W)`` or ``(H, W, 3)`` and, if there is a channel for it, alpha ``(H, W)``."""
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        return (pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :3]), pixels[..., -1]
    return pixels, None


def _unless_opaque(alpha: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if alpha is None or (alpha == np.iinfo(alpha.dtype).max).all() else alpha


def _name(code: int) -> str:
    """Return the name of a TIFF tag's value, or the value itself if it is unknown."""
    return str(getattr(code, "name", code))


def is_tiff(path: Path) -> bool:
    """Tell whether a file is TIFF or BigTIFF by its first bytes; raises OSError."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_MAGIC


def _refuse_frames(path: Path, frames: int) -> None:
    if frames > 1:
        raise UserError(f"{path}: {frames} frames; expected one image per file: save them one by one")


def _refuse_turned(path: Path, orientation: object) -> None:
    if orientation in range(2, 9):
        raise UserError(
            f"{path}: EXIF orientation {orientation}, so that viewers turn what is stored; expected pixels stored "
            "upright like their mask's: save the image turned and without the tag"
        )


def _refuse_bomb(path: Path, height: int, width: int) -> None:
    size = path.stat().st_size
    if height * width > MOST_PIXELS or height * width > max(SMALL_PIXELS, PIXELS_PER_BYTE * size):
        raise UserError(
            f"{path}: the header promises {width}x{height} pixels in {size:,} bytes; expected at most {MOST_PIXELS:,} "
            f"pixels, and above {SMALL_PIXELS:,} at most {PIXELS_PER_BYTE:,} per byte: replace the file, "
            "cut it into frames, or save it as PNG"
        )


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn all errors of decoders on a broken file into UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            cause = "neither PNG, JPEG, BMP nor TIFF"
        remedy = "replace the file or remove it from the folder"
        raise UserError(f"{path}: not a readable image ({cause}); {remedy}") from error

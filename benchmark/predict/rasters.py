"""Collects maps on the disk by rows and writes PNG or TIFF files."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from benchmark.data.formats.images import UInt8Array
from benchmark.utils.errors import UserError
from benchmark.utils.files import replacing, write_atomically

MOST_PNG_PIXELS = 2**26  # larger maps are TIFFs of tiles, of which viewers can open a part
TIFF_TILE = 512
CLASSIC_TIFF_BYTES = 2**32 - 2**25  # a classic TIFF's offsets have 32 bits; 32 MB are for what is not pixels


class Scratch:
    """A map ``(H, W)`` uint8 in a temporary file, a byte per pixel, that vanishes at the end of the process.

    Raises:
        UserError: the folder cannot be written, here and in ``append``.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.folder, self.shape = folder, shape
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # lives as long as this object

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, when what is buffered cannot be written any more
            self._file.close()

    def append(self, rows: UInt8Array) -> None:
        """Add rows ``(n, W)`` below those there are."""
        with self._writing():
            self._file.seek(0, io.SEEK_END)
            self._file.write(np.ascontiguousarray(rows).data)
            self._file.flush()

    def rows(self, top: int = 0, bottom: int | None = None) -> UInt8Array:
        """Return rows ``(n, W)``, all by default."""
        height, width = self.shape
        bottom = height if bottom is None else min(bottom, height)
        self._file.seek(top * width)
        return np.frombuffer(self._file.read((bottom - top) * width), np.uint8).reshape(-1, width)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror or error}); choose another place or free the disk"
            ) from error


def write_map(path: Path, scratch: Scratch, factor: int = 1) -> Path:
    """Write a map times a factor as ``path.png``, or above 2**26 pixels as ``path.tif`` of deflated tiles.

    Returns:
        The file.
    """
    height, width = scratch.shape
    png, tiff = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.tif")
    if height * width <= MOST_PNG_PIXELS:
        content = io.BytesIO()
        Image.fromarray(scratch.rows() * np.uint8(factor)).save(content, "png")
        write_atomically(png, content.getvalue())
        return png
    with replacing(tiff) as temporary:
        tifffile.imwrite(
            temporary,
            _tiles(scratch, factor),
            shape=scratch.shape,
            dtype=np.uint8,
            tile=(TIFF_TILE, TIFF_TILE),
            compression="zlib",
            photometric="minisblack",
            bigtiff=height * width > CLASSIC_TIFF_BYTES,
            metadata=None,
        )
    return tiff


def _tiles(scratch: Scratch, factor: int) -> Iterator[UInt8Array]:
    height, width = scratch.shape
    for top in range(0, height, TIFF_TILE):
        rows = scratch.rows(top, top + TIFF_TILE) * np.uint8(factor)
        missing = (TIFF_TILE - len(rows), -width % TIFF_TILE)
        padded = np.pad(rows, ((0, missing[0]), (0, missing[1])))
        for left in range(0, width, TIFF_TILE):
            yield np.ascontiguousarray(padded[:, left : left + TIFF_TILE])

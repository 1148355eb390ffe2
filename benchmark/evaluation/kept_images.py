"""Keeps a few test images and their predictions for the panels of reports.

A report has neither data nor networks, so a study keeps the images once (``panels/<test>.npz``) and each run keeps its
predictions of them with one bit per pixel (``panels.<test>.npz``).
"""

from __future__ import annotations

import io
import math
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.config.protocol import Protocol
from benchmark.config.targets import tests_of
from benchmark.data.formats.images import UInt8Array
from benchmark.data.packs import IGNORED, Pack
from benchmark.data.tile_blocks import TileBlock
from benchmark.evaluation.tested_windows import block_shape, read_block, tested_blocks
from benchmark.records.packed_study import read_stored
from benchmark.utils import seeds
from benchmark.utils.errors import UserError

Mask = npt.NDArray[np.bool_]

MOST_PIXELS = 1 << 26  # of all images of a dataset together: 64 of 1024x1024, or 4 of 4096x4096
MOST_BYTES = 3 * MOST_PIXELS  # of an array, for RGB images; compression hardly reduces images
MOST_NAME_BYTES = 1 << 20
HEADER_BYTES = 1 << 10  # more than numpy writes for three axes


@dataclass(frozen=True, eq=False)
class Images:
    """The kept images of one test dataset.

    Attributes:
        names: of the images, in the order of the draw.
        images: ``(n, H, W, 1|3)`` uint8.
        masks: ``(n, H, W)`` uint8, as in a pack: 0 background, 1 foreground, :data:`~benchmark.data.packs.IGNORED`.
    """

    names: tuple[str, ...]
    images: UInt8Array
    masks: UInt8Array


@dataclass(frozen=True, eq=False)
class Predictions:
    """One run's predictions of the kept images.

    Attributes:
        names: of the images.
        bits: ``(n, H, ceil(W / 8))`` uint8, eight pixels of a row each.
        width: ``W``.
    """

    names: tuple[str, ...]
    bits: UInt8Array
    width: int

    def of(self, name: str) -> Mask:
        """Return the prediction of an image, ``(H, W)``."""
        return np.unpackbits(self.bits[self.names.index(name)], axis=-1, count=self.width).astype(np.bool_)


def candidates(pack: Pack, indices: Sequence[int], protocol: Protocol) -> tuple[TileBlock, ...]:
    """Choose the test images or blocks for panels by a hash of their names, independent of any network.

    One array holds all of them, so blocks of another shape than the first are left out.

    Args:
        pack: the dataset.
        indices: the test images, of all folds if there are any.
        protocol: the largest number, the seed and what is tested at once.

    Returns:
        They come in the order of the draw; a smaller number of panels keeps the first of them.
    """
    seed = seeds.derive(protocol.seed, "panels", pack.dataset)
    blocks = tested_blocks(pack, indices, protocol) if protocol.report.panels else []
    drawn = sorted(blocks, key=lambda block: seeds.derive(seed, block.tile.name))
    shapes = [block_shape(pack, block, protocol) for block in drawn]
    alike = [block for block, shape in zip(drawn, shapes, strict=True) if shape == shapes[0]]
    most = MOST_PIXELS // math.prod(shapes[0]) if shapes else 0
    return tuple(alike[: min(protocol.report.panels, most)])


def pack_images(pack: Pack, indices: Sequence[int], protocol: Protocol) -> dict[str, bytes]:
    """Return the content of a study's file of candidates for each test; nothing without candidates."""
    chosen = candidates(pack, indices, protocol)
    if not chosen:
        return {}
    images, masks = map(np.stack, zip(*(read_block(pack, block, protocol) for block in chosen), strict=True))
    names, tests = np.array([block.tile.name for block in chosen]), tests_of(pack.dataset, "+".join(pack.layers))
    return {test: _npz(names=names, images=images, masks=masks[:, index]) for index, test in enumerate(tests)}


class Keeper:
    """Packs a network's predictions of the candidates that it is tested on; of folds, it is tested on one."""

    def __init__(self, pack: Pack, indices: Sequence[int], protocol: Protocol) -> None:
        self._pack, self._width = pack, 0
        self._bits: dict[str, UInt8Array | None] = {
            block.tile.name: None for block in candidates(pack, indices, protocol)
        }

    def __call__(self, name: str, prediction: Mask) -> None:
        """Keep the ``(L, H, W)`` prediction of an image or block if it is a candidate."""
        if name in self._bits:
            self._bits[name], self._width = np.packbits(prediction, axis=-1), prediction.shape[-1]

    def content(self) -> dict[str, bytes]:
        """Return the content of a run's file for each test; nothing without candidates."""
        kept = {name: packed for name, packed in self._bits.items() if packed is not None}
        if not kept:
            return {}
        names, layers = np.array(list(kept)), np.stack(list(kept.values()), axis=1)
        width, tests = np.array([self._width]), tests_of(self._pack.dataset, "+".join(self._pack.layers))
        return {test: _npz(names=names, bits=bits, width=width) for test, bits in zip(tests, layers, strict=True)}


def read_images(file: Path) -> Images:
    """Read a study's file.

    Raises:
        UserError: the file cannot be read or has another content.
    """
    names, images, masks = _read(file, names=("U", 1), images=("u", 4), masks=("u", 3))
    if images.shape[:3] != masks.shape or len(names) != len(masks) or images.shape[3] not in (1, 3):
        raise _broken(file, f"{len(names)} names, images {images.shape} and masks {masks.shape} do not go together")
    if masks.size > MOST_PIXELS:
        raise _broken(file, f"masks {masks.shape} have more than {MOST_PIXELS} pixels")
    if masks.max() > IGNORED:
        raise _broken(file, f"a mask with the value {masks.max()}")
    return Images(_unique(file, names), images, masks)


def read_predictions(file: Path) -> Predictions:
    """Read a run's file.

    Raises:
        UserError: the file cannot be read or has another content.
    """
    names, bits, widths = _read(file, names=("U", 1), bits=("u", 3), width=("i", 1))
    width = widths.tolist()
    if len(names) != len(bits) or len(width) != 1 or not 0 < width[0] <= 8 * bits.shape[2] < width[0] + 8:
        raise _broken(file, f"{len(names)} names, bits {bits.shape} and the width {width} do not go together")
    if bits.shape[0] * bits.shape[1] * width[0] > MOST_PIXELS:
        raise _broken(file, f"bits {bits.shape} of more than {MOST_PIXELS} pixels")
    return Predictions(_unique(file, names), bits, width[0])


def _npz(**arrays: npt.NDArray[Any]) -> bytes:
    """Compress arrays; numpy dates all members 1980, so equal arrays give equal bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


def _read(file: Path, **forms: tuple[str, int]) -> list[npt.NDArray[Any]]:
    """Read arrays of known kinds and numbers of axes from a file that others may have written."""
    faults = (OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
    try:
        with zipfile.ZipFile(io.BytesIO(read_stored(file, 2 * MOST_BYTES))) as archive:
            return [_array(archive, name, *form) for name, form in forms.items()]
    except faults as error:
        raise _broken(file, str(error)) from error


def _array(archive: zipfile.ZipFile, name: str, kind: str, axes: int) -> npt.NDArray[Any]:
    member = archive.getinfo(f"{name}.npy")
    most = (MOST_NAME_BYTES if kind == "U" else MOST_BYTES) + HEADER_BYTES
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.file_size > most:
        raise ValueError(
            f"{name}: {member.file_size} bytes, compression {member.compress_type}; expected {most} at most"
        )
    # zipfile returns at most ``file_size`` bytes and checks their sum.
    array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
    if array.dtype.kind != kind or (kind == "u" and array.itemsize != 1) or array.ndim != axes or not array.size:
        raise ValueError(f"{name}: an array of {array.dtype} with the shape {array.shape}")
    return array


def _unique(file: Path, names: npt.NDArray[np.str_]) -> tuple[str, ...]:
    # numpy raises a SystemError for numbers beyond the last code point.
    if names.dtype.itemsize == 0 or names.view(f"{names.dtype.byteorder}u4").max() > sys.maxunicode:
        raise _broken(file, "names that are no text")
    if len(np.unique(names)) < len(names):
        raise _broken(file, "an image comes twice")
    return tuple(names.tolist())


def _broken(file: Path, reason: str) -> UserError:
    return UserError(
        f"{file}: cannot be read ({reason}); restore it, or move its folder away and run the same command again"
    )

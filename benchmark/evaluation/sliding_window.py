"""Predicts overlapping tiles of an image and blends them into rows of probabilities."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.data.formats.images import UInt8Array
from benchmark.devices.device_errors import ran_out_of_memory
from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.evaluation.ensemble import probabilities_of
from benchmark.evaluation.tiles import TileGrid
from benchmark.utils.errors import UserError
from benchmark.utils.threads import in_order

Probabilities = NDArray[np.float32]
#: Maps tiles ``(N, H, W, C)`` uint8 to probabilities ``(N, L, H, W)``.
Forward = Callable[[UInt8Array], Probabilities]


class Rows(Protocol):
    """An image that gives its rows, such as an ``ImageReader``."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, top: int, bottom: int, channels: int) -> UInt8Array:
        """Return rows ``(bottom - top, W, channels)`` uint8."""


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """An image ``(H, W, C)`` in memory, read like a file."""

    array: UInt8Array

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.array.shape[0], self.array.shape[1]

    def read(self, top: int, bottom: int, channels: int) -> UInt8Array:
        """Return rows ``(bottom - top, W, C)``; its channels are those of the array."""
        return self.array[top:bottom]


def probabilities(
    network: nn.Module,
    source: Rows,
    grid: TileGrid,
    *,
    channels: int,
    batch: int,
    device: torch.device,
    layers: int = 1,
    progress: Callable[[int], None] = lambda tiles: None,
) -> Iterator[tuple[UInt8Array, Probabilities]]:
    """Predict an image from top to bottom by a network or an ensemble in eval mode on ``device``.

    The memory is two rows of tiles as wide as the image, whatever its height, and the pixels of the next row, which a
    thread reads meanwhile. A GPU's float32 convolutions may keep only TF32's ten bits
    (:func:`benchmark.devices.precision.float32_precision`). ``layers`` counts the network's logits; ``progress``
    receives the number of new tiles.

    Yields:
        Rows of the image ``(n, W, channels)`` uint8 and each layer's probabilities ``(L, n, W)`` in [0, 1].

    Raises:
        BrokenImageError: the image cannot be decoded.
        UserError: not enough memory on the device.
    """

    def forward(tiles: UInt8Array) -> Probabilities:
        return _forward(network, tiles, device)

    yield from blended_rows(forward, source, grid, channels=channels, batch=batch, layers=layers, progress=progress)


def blended_rows(
    forward: Forward,
    source: Rows,
    grid: TileGrid,
    *,
    channels: int,
    batch: int,
    layers: int = 1,
    progress: Callable[[int], None] = lambda tiles: None,
) -> Iterator[tuple[UInt8Array, Probabilities]]:
    """Yield rows of an image ``(n, W, channels)`` and of its layers' probabilities ``(L, n, W)``, from top to bottom.

    Arguments are those of :func:`probabilities`; ``forward`` predicts ``layers`` layers.
    """
    height, width = source.shape
    rows = grid.rows
    blended = np.zeros((layers, rows.tile, width), np.float32)

    def read(start: int) -> UInt8Array:
        return source.read(start, min(start + rows.tile, height), channels)

    with contextlib.closing(in_order(read, rows.starts, workers=1, held=1)) as images:
        following = (*rows.starts[1:], rows.padded)
        for start, weights, end, image in zip(rows.starts, rows.weights, following, images, strict=True):
            with keeping_freed_memory():  # only here: writing masks and polygons shall return its memory
                row = _row(forward, image, grid, batch, layers, progress)
            row *= weights[:, None]
            blended += row
            done = min(end, height) - start
            yield image[:done], blended[:, :done].copy()
            blended[:, : rows.tile - done] = blended[:, done:]
            blended[:, rows.tile - done :] = 0


def _row(
    forward: Forward, image: UInt8Array, grid: TileGrid, batch: int, layers: int, progress: Callable[[int], None]
) -> Probabilities:
    """Return the probabilities ``(L, tile, W)`` of one row of tiles, blended across."""
    columns = grid.columns
    missing = (grid.rows.tile - len(image), columns.padded - image.shape[1])
    # Reflects repeatedly where an image is smaller than its padding.
    padded = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), "reflect")
    blended = np.zeros((layers, grid.rows.tile, columns.padded), np.float32)
    tiles = list(zip(columns.starts, columns.weights, strict=True))
    for first in range(0, len(tiles), batch):
        chosen = tiles[first : first + batch]
        stack = np.stack([padded[:, start : start + columns.tile] for start, _ in chosen])
        for (start, weights), tile in zip(chosen, forward(stack), strict=True):
            blended[..., start : start + columns.tile] += weights * tile
        progress(len(chosen))
    return blended[..., : image.shape[1]]


def _forward(network: nn.Module, tiles: UInt8Array, device: torch.device) -> Probabilities:
    """Map tiles ``(N, H, W, C)`` to probabilities ``(N, L, H, W)``; pixels are scaled as in training."""
    try:
        with torch.inference_mode():
            images = torch.from_numpy(tiles).to(device).permute(0, 3, 1, 2).float().div_(255)
            foreground: Probabilities = probabilities_of(network, images).cpu().numpy()
            return foreground
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise UserError(
            f"--batch {len(tiles)}: not enough memory on {device} for so many tiles of {tiles.shape[1]}; use a smaller "
            "--batch, --tile, or --device cpu"
        ) from error

"""Chooses the side of tiles, and how many of them a forward takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.data.formats.images import Levels, Pixels, UInt8Array, read_size
from benchmark.devices.device_errors import ran_out_of_memory
from benchmark.devices.process_memory import fits_into_memory, high_water_mark, restart_high_water_mark
from benchmark.efficiency.allocated import AllocatedPeak
from benchmark.evaluation.sliding_window import ArrayRows, probabilities
from benchmark.evaluation.tiles import TileAxis, TileGrid
from benchmark.predict.reader import BrokenImageError, open_source
from benchmark.utils.errors import UserError

OVERLAP = 4  # the default overlap is the tile's side divided by this

#: Pixels. On a busy CPU, tiles of 1024 took 1.1 to 3 times as long as tiles of 384 (EDANet, ContextNet, ESNet).
MOST_SIDE = 512
LEAST_BATCH = 4  # tiles of a forward
#: The least foreground IoU of masks by larger tiles and by those of the training's size. A study on crops of 96 px lost
#: 0.1 (EDANet) to 20 (EAL-ICNet) points of its own IoU with tiles of twice that side, and up to 57 with larger ones.
LEAST_AGREEMENT = 0.98


@dataclass(frozen=True)
class TileChoice:
    """The side of tiles in pixels and, for the user, its reason."""

    side: int
    reason: str


@dataclass(frozen=True, eq=False)
class TileTrial:
    """Tries larger tiles than the training's on a part of an image.

    Attributes:
        network: in eval mode on ``device``.
        trained: side of the training's inputs, pixels.
        multiple: divisor of the sides of the network's inputs.
        batch: tiles of a forward; ``None`` for :func:`tiles_per_forward`.
        levels: the values of 16-bit images that become black and white.
        layers: number of the network's logits.
    """

    network: nn.Module
    trained: int
    multiple: int
    channels: int
    threshold: float
    device: torch.device
    batch: int | None = None
    levels: Levels | None = None
    layers: int = 1

    def choose(self, images: Sequence[Path | Pixels]) -> TileChoice:
        """Return the largest side that predicts as the training's does and that memory and all images allow.

        Sides are doubled until :data:`MOST_SIDE`, since a network that was trained on small crops may fail on larger
        ones: it saw zeros beyond an edge near every pixel, and global operations saw no more than a crop.
        """
        shorter = [min(shape) for shape in _shapes(images)]
        smallest = -(-min(shorter, default=0) // self.multiple) * self.multiple
        limit = min(MOST_SIDE // self.multiple * self.multiple, smallest)
        side = self.trained
        sample = _sample(images, self.levels, limit, self.channels) if limit > side else None
        if sample is None:
            return TileChoice(side, "as in training")
        used = 0
        while side < limit:
            larger = min(2 * side, limit)
            try:
                if used and not self._fits(used * larger**2 // side**2 * max(self._batch(larger), LEAST_BATCH)):
                    return self._stopped(side, f"tiles of {larger} px might not fit into memory")
                part = ArrayRows(sample[:larger, :larger])
                expected = self._mask(part, self.trained)
                mask, used = self._measured_mask(part, larger)
            except Exception as error:  # a user's network may raise anything at a size it was not made for
                lacking = ran_out_of_memory(error.__cause__ or error)
                failure = "do not fit into memory" if lacking else f"fail ({type(error).__name__})"
                return self._stopped(side, f"tiles of {larger} px {failure}")
            if not self._fits(used * self._batch(larger)):
                return self._stopped(side, f"tiles of {larger} px would not fit into memory")
            agreement = _agreement(expected, mask)
            if agreement is None or agreement < LEAST_AGREEMENT:
                difference = "nothing is predicted" if agreement is None else _in_words(agreement)
                return self._stopped(
                    side,
                    f"with tiles of {larger} px, {difference} in a sample; --tile {larger} takes them all the same",
                )
            side = larger
        return TileChoice(side, "the images are no larger" if side == smallest else "larger ones are no faster")

    def keep(self, side: int, images: Sequence[Path], out: Path) -> TileChoice:
        """Return the side of a folder's predictions, and say what speaks against it for new images."""
        small = [image for image in images for shape in _shapes([image]) if min(shape) <= side - self.multiple]
        doubt = ""
        if side > self.trained and small:
            more = f" and {len(small) - 1} more are" if len(small) > 1 else " is"
            doubt = f"{small[0].name}{more} smaller and filled up by reflection"
        elif side > self.trained and (sample := _sample(images, self.levels, side, self.channels)) is not None:
            part = ArrayRows(sample)
            agreement = _agreement(self._mask(part, self.trained), self._mask(part, side))
            if agreement is not None and agreement < LEAST_AGREEMENT:
                doubt = f"{_in_words(agreement)} in a sample from tiles of the training's {self.trained} px"
        remedy = f", though {doubt}; name another --out for tiles that fit" if doubt else ""
        return TileChoice(side, f"as for the predictions in {out}{remedy}")

    def _stopped(self, side: int, reason: str) -> TileChoice:
        return TileChoice(side, f"{'as in training; ' if side == self.trained else ''}{reason}")

    def _batch(self, side: int) -> int:
        return self.batch or tiles_per_forward(side)

    def _fits(self, needed_bytes: int) -> bool:
        return fits_into_memory(needed_bytes, self.device)

    def _measured_mask(self, part: ArrayRows, side: int) -> tuple[NDArray[np.bool_], int]:
        """Return the mask of one tile, and the bytes that it took on the device."""
        if self.device.type == "cuda":
            peak = AllocatedPeak(self.device)
            mask = self._mask(part, side)
            return mask, max(peak.bytes(), 0)
        before = restart_high_water_mark()
        mask = self._mask(part, side)
        return mask, max(high_water_mark() - before, 0)

    def _mask(self, part: ArrayRows, side: int) -> NDArray[np.bool_]:
        grid = TileGrid.of(part.shape, side, side // OVERLAP, self.multiple)
        rows = probabilities(
            *(self.network, part, grid),
            channels=self.channels,
            batch=self._batch(side),
            device=self.device,
            layers=self.layers,
        )
        return np.concatenate([values for _, values in rows], axis=1) >= self.threshold


def tiles_per_forward(side: int) -> int:
    """Return the default batch: at least four tiles, and small ones up to the pixels of four tiles of 256.

    On a CPU, ContextNet's forwards of 16 tiles of 96 px took three quarters of the processor time of those of 4.
    """
    return max(LEAST_BATCH, LEAST_BATCH * 256**2 // side**2)


def largest_stack(images: Sequence[Path | Pixels], side: int, overlap: int, multiple: int, batch: int) -> int:
    """Return the most tiles that a forward takes: ``batch``, or those of the widest image's rows if they are fewer."""
    widest = max((width for _, width in _shapes(images)), default=side)
    return min(batch, len(TileAxis(widest, side, overlap, multiple).starts))


def _agreement(expected: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float | None:
    """Return the least foreground IoU of any layer of masks ``(L, H, W)``, ``None`` without foreground."""
    both, either = (masks.sum(axis=(1, 2)) for masks in (expected & mask, expected | mask))
    return min((int(part) / int(whole) for part, whole in zip(both, either, strict=True) if whole), default=None)


def _in_words(agreement: float) -> str:
    return f"foreground differs by {100 * (1 - agreement):.1f} %"


def _shapes(images: Sequence[Path | Pixels]) -> Iterator[tuple[int, int]]:
    for image in images:
        with contextlib.suppress(UserError):  # a broken image is reported when it is predicted
            yield read_size(image) if isinstance(image, Path) else (image.shape[0], image.shape[1])


def _sample(images: Sequence[Path | Pixels], levels: Levels | None, side: int, channels: int) -> UInt8Array | None:
    """Return a square of the first readable image, the one with the most contrast at its middle height."""
    for image in images:
        with contextlib.suppress(BrokenImageError), open_source(image, levels) as source:
            height, width = source.shape
            top = max(height - side, 0) // 2
            strip = source.read(top, min(top + side, height), channels)
            lefts = {max(width - side, 0) * part // 4 for part in range(5)}
            return max((strip[:, left : left + side] for left in sorted(lefts)), key=lambda part: float(part.std()))
    return None

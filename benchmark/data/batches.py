"""Gathers batches from packs; seeds give their order, crops, flips and conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmark.config.protocol import Protocol
from benchmark.data import photometric, tile_blocks
from benchmark.data.packs import IGNORED, Pack
from benchmark.data.tiling import BoolMask
from benchmark.utils import seeds
from benchmark.utils.threads import in_order


@dataclass(frozen=True)
class Batch:
    """Images and masks of one size, on the device."""

    images: Tensor  # ``(N, C, S, S)`` float32 in [0, 1]
    masks: Tensor  # ``(N, L, S, S)`` float32 in {0, 1}
    counted: Tensor | None = None  # ``(N, L, S, S)`` float32, 0 on ignored pixels and else 1; ``None`` for all 1

    def part(self, start: int, stop: int) -> Batch:
        """Return the images from one position up to another."""
        chosen = slice(start, stop)
        return Batch(self.images[chosen], self.masks[chosen], None if self.counted is None else self.counted[chosen])


class TrainingBatches:
    """The training images of a run, in an order that depends on (base seed, datasets, repeat) and never on the model.

    Each image of all datasets comes once per epoch, cropped to the smallest input. Every epoch has its own random
    generator, so that an epoch can be repeated without the earlier ones.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Pack, Sequence[int]]],
        size: int,
        protocol: Protocol,
        repeat: int,
        device: torch.device,
    ) -> None:
        self.protocol, self.size, self.device = protocol, size, device
        self.images = [(pack, index) for pack, indices in parts for index in indices]
        self.batch = protocol.training.batch
        names = [pack.dataset for pack, _ in parts]
        self.micro_batch = min(map(protocol.training.micro_batch_for, names))
        self.has_ignored = any(pack.has_ignored for pack, _ in parts)
        self.layers = parts[0][0].layers
        blocks = protocol.training.crops == "block"
        self.places = {pack.dataset: tile_blocks.places_of(pack.tiles, indices) for pack, indices in parts if blocks}
        self.seed = seeds.derive(protocol.seed, "order", "+".join(names), repeat)

    def __len__(self) -> int:
        """Return the number of batches of an epoch; the last one may be smaller."""
        return -(-len(self.images) // self.batch)

    def epoch(self, number: int, purpose: str = "train") -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0; another purpose gives an independent order and crops."""
        rng = np.random.default_rng(seeds.derive(self.seed, purpose, number))
        order = rng.permutation(len(self.images))
        settings = self.protocol.photometric
        conditions = np.random.default_rng(seeds.derive(self.seed, "photometric", purpose, number))
        parts = [order[start : start + self.batch] for start in range(0, len(order), self.batch)]

        def gather(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._gather([self.images[position] for position in part], rng)

        # A GPU idles while its process gathers, so a thread gathers two batches ahead (unmeasured on a GPU). It does
        # not touch the GPU: a wait in another thread would look like one of the step that is checked for a capture.
        # On a CPU, another thread would take time from the run's own threads.
        gathered = in_order(gather, parts, workers=1, held=2) if self.device.type == "cuda" else map(gather, parts)
        for images, masks in gathered:
            batch = to_device(images, masks, self.device, ignored=self.has_ignored)
            if settings.is_on:
                batch = replace(batch, images=photometric.change(batch.images, settings, conditions))
            yield batch

    def _gather(self, chosen: Sequence[tuple[Pack, int]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels ``(N, S, S, C)`` and masks ``(N, L, S, S)`` of crops, uint8."""
        size, channels = self.size, chosen[0][0].images.shape[-1]
        images = np.empty((len(chosen), size, size, channels), np.uint8)
        masks = np.empty((len(chosen), len(self.layers), size, size), np.uint8)
        for slot, (pack, index) in enumerate(chosen):
            tile_image, tile_mask, ends = self._surroundings(pack, index)
            top, left = rng.integers(0, ends, size=2, endpoint=True)
            if pack.has_ignored:
                least = self.protocol.split.min_labelled
                top, left = labelled_corner((tile_mask != IGNORED).any(-1), size, top, left, least)
            window = np.s_[top : top + size, left : left + size]
            image, mask = tile_image[window], tile_mask[window]
            if self.protocol.training.augmentation == "flips_turns":
                turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
                image, mask = np.rot90(image, turns), np.rot90(mask, turns)
                if mirrored:
                    image, mask = image[:, ::-1], mask[:, ::-1]
            images[slot], masks[slot] = image, np.moveaxis(mask, -1, 0)
        return images, masks

    def _surroundings(self, pack: Pack, index: int) -> tuple[np.ndarray, np.ndarray, int | tuple[int, int]]:
        """Return the pixels ``(H, W, C)`` and masks ``(H, W, L)`` that crops of a tile come from, and the last corner.

        Crops of blocks begin in the tile, so that those of all tiles cover the block evenly.
        """
        side = pack.images.shape[1]
        if self.protocol.training.crops == "tile":
            return pack.images[index], pack.masks[index], side - self.size
        image, mask = tile_blocks.join(pack, tile_blocks.with_neighbours(pack.tiles[index], self.places[pack.dataset]))
        down, right = (min(side - 1, length - self.size) for length in mask.shape[:2])
        return image, mask, (down, right)


def labelled_corner(counted: BoolMask, size: int, top: int, left: int, least: float) -> tuple[int, int]:
    """Return the corner of a crop in which enough pixels count: the drawn corner or, if it has too few, another.

    The other corner follows from the drawn one without another draw, so that crops of fully labelled tiles stay the
    same; over all corners with too few, the others come equally often. If no crop has enough, the fullest is taken.

    Args:
        counted: ``(H, W)``, true on pixels that count.
        size: side of the crop, pixels.
        top: the drawn corner's row.
        left: the drawn corner's column.
        least: share of the crop's pixels that must count, from 0 to 1.
    """
    if np.count_nonzero(counted[top : top + size, left : left + size]) >= least * size**2:
        return top, left
    sums = np.pad(counted.cumsum(0, np.int32).cumsum(1, np.int32), ((1, 0), (1, 0)))
    counts = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    enough = (counts >= min(least * size**2, counts.max())).reshape(-1)
    corners = np.flatnonzero(enough)
    drawn = top * counts.shape[1] + left
    if enough[drawn]:
        return top, left
    rank, others = np.count_nonzero(~enough[:drawn]), enough.size - corners.size
    row, column = divmod(int(corners[rank * corners.size // others]), counts.shape[1])
    return row, column


def labelled_windows(pack: Pack, indices: Sequence[int], size: int, least: float) -> Sequence[int]:
    """Return the images whose centred ``size x size`` window holds enough pixels that count; all if none does.

    A division ensures this for the dataset's own input, but several datasets are validated at the smallest of theirs.
    """
    if not pack.has_ignored or size == pack.images.shape[1]:
        return indices
    enough = [index for index in indices if (pack.centre([index], size)[1] != IGNORED).any(1).mean() >= least]
    return enough or indices


def evaluation_batches(
    pack: Pack, indices: Sequence[int], size: int, batch: int, device: torch.device
) -> Iterator[Batch]:
    """Yield images in the given order, each cut to its centred ``size x size`` window."""
    for start in range(0, len(indices), batch):
        yield to_device(*pack.centre(indices[start : start + batch], size), device, ignored=pack.has_ignored)


def to_device(images: np.ndarray, masks: np.ndarray, device: torch.device, *, ignored: bool) -> Batch:
    """Move uint8 pixels to the device and convert them to float32 there: a quarter of the bytes to copy."""
    pixels, truth = torch.from_numpy(images), torch.from_numpy(masks)
    if device.type == "cuda":
        pixels, truth = (t.pin_memory().to(device, non_blocking=True) for t in (pixels, truth))
    scaled = pixels.permute(0, 3, 1, 2).float().div_(255)
    if not ignored:
        return Batch(scaled, truth.float())
    return Batch(scaled, (truth == 1).float(), (truth != IGNORED).float())

"""Reading a whole dataset folder, broken or not, into what a check of it needs: looks, tiles and the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.data import packs
from benchmark.data.check.pair_check import Header, PairFacts, look, read_header
from benchmark.data.formats.images import Levels, UInt8Array, percentile_levels
from benchmark.data.pairs import PLAIN, Scan, scan
from benchmark.data.specs import DatasetSpec, Target
from benchmark.data.splits import PARTS, Division, Tile, divide_under
from benchmark.data.tiling import tiles_of, windows_of
from benchmark.utils.errors import UserError
from benchmark.utils.threads import in_order


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset folder and how it is read.

    Attributes:
        name: the dataset's, ``-syn`` included; decides input size and split.
        root: the folder.
        target: what counts as foreground where masks tell tracks from vias.
        spec: what else says how it is read.
    """

    name: str
    root: Path
    target: Target = "track"
    spec: DatasetSpec = PLAIN


@dataclass(frozen=True)
class Survey:
    """All that was found in a dataset's folder; pixels are gone.

    Attributes:
        subject: the folder.
        scan: its files.
        looks: one per pair.
        levels: how 16 bits became 8; ``None`` where all images have 8.
        size: side of the input.
        tile: side of the tiles.
        tiles: of all images that can be read and are large enough, look-alikes marked; labels do not matter.
        owners: the tiles' images, as indices into ``looks``.
        thumbnails: ``(n, 32, 32)`` uint8, of the tiles.
        division: the split; ``None`` where none can be made.
        shortage: why not.
    """

    subject: DatasetFolder
    scan: Scan
    looks: tuple[PairFacts, ...]
    levels: Levels | None
    size: int
    tile: int
    tiles: tuple[Tile, ...]
    owners: tuple[int, ...]
    thumbnails: UInt8Array
    division: Division | None
    shortage: str

    @cached_property
    def parts(self) -> list[str | None]:
        """The part of each tile, ``None`` where it is in none."""
        parts: list[str | None] = [None] * len(self.tiles)
        for part in PARTS if self.division is not None else ():
            for index in getattr(self.division, part):
                parts[index] = part
        return parts


def survey(subject: DatasetFolder, protocol: Protocol, progress: packs.Progress | None = None) -> Survey:
    """Read every pair of a dataset's folder and divide its tiles as a study under the protocol would.

    Files without a partner are listed and not read.

    Args:
        subject: the folder.
        protocol: gives input size, tiles, channels, split and seed.
        progress: called with (pairs done, pairs in all).
    """
    name, settings = subject.name, protocol.input
    found = scan(subject.root, subject.spec)
    headers = list(in_order(lambda pair: read_header(pair.image), found.pairs))
    size, channels = settings.size_for(name), settings.channels_for(name)
    fitting = [min(header.shape) for header in headers if header.shape and min(header.shape) >= size]
    tile = min([settings.tile_for(name), *fitting])
    levels = _levels(subject, [pair.image for pair in found.pairs], headers)

    def one(index: int) -> PairFacts:
        return look(
            *(found.pairs[index], headers[index], subject.target, channels, levels, tile, size),
            partial=settings.partial_tiles,
        )

    looks: list[PairFacts] = []
    tiles: list[Tile] = []
    owners: list[int] = []
    for index, seen in enumerate(in_order(one, range(len(headers)))):
        looks.append(seen)
        if seen.thumbnails and seen.header.shape:
            pair, places = found.pairs[index], windows_of(seen.header.shape, tile, partial=settings.partial_tiles)
            cut = tiles_of(pair.name, pair.group, pair.split, places)
            shares = seen.labelled or [1.0] * len(cut)
            tiles += [replace(tile, labelled=share) for tile, share in zip(cut, shares, strict=True)]
            owners += [index] * len(places)
        if progress is not None:
            progress(index + 1, len(headers))
    small = [thumbnail for seen in looks for thumbnail in seen.thumbnails]
    division, shortage = None, "no image can be used"
    if tiles:
        tiles = packs.clustered(tiles, small)
        try:
            division, shortage = divide_under(name, tiles, protocol), ""
        except UserError as error:
            shortage = str(error)
    return Survey(
        subject,
        found,
        tuple(looks),
        levels,
        size,
        tile,
        tuple(tiles),
        tuple(owners),
        np.stack(small) if small else np.zeros((0, 32, 32), np.uint8),
        division,
        shortage,
    )


def _levels(subject: DatasetFolder, images: Sequence[Path], headers: Sequence[Header]) -> Levels | None:
    deep = [image for image, header in zip(images, headers, strict=True) if header.depth == 16]
    if not deep:
        return None
    if subject.spec.levels is not None:
        return Levels(*subject.spec.levels)
    try:
        return percentile_levels(deep)
    except UserError:
        return Levels(0, 65535)  # one of the files is broken, which its own look tells; the others are still seen

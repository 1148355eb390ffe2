"""Reads a whole dataset folder, broken or not: pairs, tiles and the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.config.targets import Target
from benchmark.data import duplicates, packs
from benchmark.data.check.pair_check import Header, PairCheck, check_pair, read_header
from benchmark.data.formats.images import Levels, UInt8Array, percentile_levels
from benchmark.data.pairs import PLAIN, Scan, scan
from benchmark.data.specs import DatasetSpec
from benchmark.data.splits import PARTS, Division, Tile, divide_under
from benchmark.data.tiling import tiles_of, windows_of
from benchmark.utils.errors import UserError
from benchmark.utils.threads import in_order


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset folder and how it is read."""

    name: str  # the dataset's, ``-syn`` included; decides input size and split
    root: Path  # the folder
    target: Target = "track"  # what counts as foreground where masks tell tracks from vias
    spec: DatasetSpec = PLAIN  # the other settings of how it is read


@dataclass(frozen=True)
class Survey:
    """The content of a dataset's folder without its pixels."""

    folder: DatasetFolder
    scan: Scan  # its files
    checks: tuple[PairCheck, ...]  # one per pair
    levels: Levels | None  # how 16 bits became 8; ``None`` where all images have 8
    size: int  # side of the input
    tile: int  # side of the tiles
    tiles: tuple[Tile, ...]  # of all readable and large images, look-alikes marked; labels do not matter
    owners: tuple[int, ...]  # the tiles' images, as indices into ``checks``
    thumbnails: UInt8Array  # ``(n, 32, 32)`` uint8, of the tiles
    divisions: tuple[Division, ...]  # the split, of each fold if there are folds; none where none can be made
    shortage: str  # why there is no division

    @cached_property
    def parts(self) -> list[tuple[str | None, ...]]:
        """The part of each tile in each division, ``None`` where it is in none."""
        part_of = [{index: part for part in PARTS for index in getattr(division, part)} for division in self.divisions]
        return [tuple(parts.get(index) for parts in part_of) for index in range(len(self.tiles))]


def survey_folder(folder: DatasetFolder, protocol: Protocol, progress: packs.Progress | None = None) -> Survey:
    """Read every pair of a dataset's folder and divide its tiles as a study under the protocol would.

    Files without a partner are listed and not read.

    Args:
        folder: the dataset's folder.
        protocol: gives input size, tiles, channels, split and seed.
        progress: called with (pairs done, pairs in all).
    """
    name, settings = folder.name, protocol.input
    files = scan(folder.root, folder.spec)
    headers = list(in_order(lambda pair: read_header(pair.image), files.pairs))
    size, channels, partial = settings.size_for(name), settings.channels_for(name), settings.partial_tiles
    fitting = [min(header.shape) for header in headers if header.shape and min(header.shape) >= size]
    side = min([settings.tile_for(name), *fitting])
    levels = _levels(folder, [pair.image for pair in files.pairs], headers)

    def check(index: int) -> PairCheck:
        return check_pair(files.pairs[index], headers[index], folder.target, channels, levels, side, size, partial)

    checks: list[PairCheck] = []
    tiles: list[Tile] = []
    owners: list[int] = []
    for index, checked in enumerate(in_order(check, range(len(headers)))):
        checks.append(checked)
        if checked.thumbnails and checked.header.shape:
            pair = files.pairs[index]
            cut = tiles_of(pair.name, pair.group, pair.split, windows_of(checked.header.shape, side, partial=partial))
            shares = checked.labelled or [1.0] * len(cut)
            tiles += [replace(tile, labelled=share) for tile, share in zip(cut, shares, strict=True)]
            owners += [index] * len(cut)
        if progress is not None:
            progress(index + 1, len(headers))
    small = [thumbnail for checked in checks for thumbnail in checked.thumbnails]
    thumbnails = np.stack(small) if small else np.zeros((0, duplicates.SIDE, duplicates.SIDE), np.uint8)
    divisions, shortage = tuple[Division, ...](), "no image can be used"
    if tiles:
        tiles = duplicates.clustered(tiles, small)
        try:
            divisions, shortage = divide_under(name, tiles, protocol), ""
        except UserError as error:
            shortage = str(error)
    return Survey(
        *(folder, files, tuple(checks), levels, size, side),
        *(tuple(tiles), tuple(owners), thumbnails, divisions, shortage),
    )


def _levels(folder: DatasetFolder, images: Sequence[Path], headers: Sequence[Header]) -> Levels | None:
    deep = [image for image, header in zip(images, headers, strict=True) if header.depth == 16]
    if not deep:
        return None
    if folder.spec.levels is not None:
        return Levels(*folder.spec.levels)
    try:
        return percentile_levels(deep)
    except UserError:
        return Levels(0, 65535)  # a file is broken, which its own check reports; the others are still checked

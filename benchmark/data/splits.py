"""Divides a dataset into train, validation and test images, also by folds."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeVar

from benchmark.config.protocol import Protocol, Split
from benchmark.data.split_advice import ways
from benchmark.utils import seeds
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

PARTS = ("train", "val", "test")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Tile:
    """The properties of an image that a division depends on."""

    name: str  # unique in the dataset
    group: str  # the source frame
    given: str | None  # the owner's part (``train``, ``val``, ``test``), ``None`` where the owner gives no division
    cluster: str = ""  # a name that images that look alike share; empty for an image that looks like no other
    row: int = 0  # position in the frame's grid, from 0 at the top
    column: int = 0  # position in the frame's grid, from 0 at the left
    labelled: float = 1.0  # share of pixels that count, of the tile or of its centred input, whichever has fewer


@dataclass(frozen=True)
class Division:
    """Indices into a dataset's images, ascending.

    In no part are images between blocks, beyond the counts, or with too few labelled pixels.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def lists(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the sorted names of each part."""
        return {part: sorted(names[index] for index in getattr(self, part)) for part in PARTS}

    def digest(self, names: Sequence[str]) -> str:
        """Return a hash of which image is in which part, independent of the images' order."""
        return hashlib.sha256(json.dumps(self.lists(names), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Leakage:
    """Numbers of validation and of test images that a network has in part seen in training."""

    groups: tuple[int, int]  # images of a frame that is also trained on
    clusters: tuple[int, int]  # images that look like a training image or equal it
    neighbours: tuple[int, int]  # images that touch a training image, also by a corner


def divide_under(dataset: str, tiles: Sequence[Tile], protocol: Protocol) -> tuple[Division, ...]:
    """Divide a dataset's images as a study under a protocol does; see :func:`divide`."""
    return divide(dataset, tiles, protocol.split, split_seed(dataset, protocol), partial=protocol.input.partial_tiles)


def split_seed(dataset: str, protocol: Protocol) -> int:
    """Return the seed of a dataset's division."""
    return seeds.derive(protocol.seed, "split", dataset)


def divide(
    dataset: str, tiles: Sequence[Tile], settings: Split, seed: int, *, partial: bool = False
) -> tuple[Division, ...]:
    """Divide images as their owner did, or else at random by image, by group, or by blocks of each frame.

    An owner's division is kept whole, look-alikes included; counts then thin each of its parts. The draw sorts units
    by a hash of (seed, unit's name): adding, reordering or moving files leaves the order of all other units as it was.
    Near-duplicates that are to stay together become one unit, called by the smallest of their names. Blocks are whole
    stripes of a frame with gaps between them; there, a training image that looks like a validation or test image is
    left out instead, and so is a validation image that looks like a test image. If each image is a frame of its own,
    whole images are drawn. Images with fewer labelled pixels than ``split.min_labelled`` are left out before the draw.

    Folds are sections of the draw with about as many images each; an added file moves the few units beside their ends.
    The units that follow a fold in the draw, from the first again after the last, are its validation.

    Args:
        dataset: named in errors.
        tiles: the images, with unique names; for blocks each with its place in the frame.
        settings: unit, shares or counts, near-duplicates, least labelled share.
        seed: from :func:`split_seed`.
        partial: whether tiles overlap, so that no blocks can be cut.

    Returns:
        One division for all repeats or, with folds, one for each fold: every image in a part is in one test.

    Raises:
        UserError: too few images, groups or stripes for the parts, or folds beside an owner's division; names settings
            that help.
    """
    try:
        return attempt(dataset, tiles, settings, seed)
    except UserError as error:
        left_out = unlabelled(tiles, settings)
        more = "label more" if left_out else "bring more images, or cut smaller tiles: input.size and input.tile"
        helping = ways(lambda changed: attempt(dataset, tiles, changed, seed), settings, partial=partial)
        message = f"{error}; {left_out}" if left_out else str(error)
        raise UserError(f"{message}: {f'use {helping}' if helping else more}") from error


def attempt(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> tuple[Division, ...]:
    """Divide as :func:`divide` does, but with errors that name no settings that help."""
    labelled = [index for index, tile in enumerate(tiles) if tile.labelled >= settings.min_labelled]
    usable = [tiles[index] for index in labelled]
    if emptied := {tile.given for tile in tiles} - {tile.given for tile in usable}:
        part = f"{next(iter(emptied))}/" if emptied != {None} else "the dataset"
        raise UserError(f"{dataset}: {part} has no image left")
    divided = _fold(dataset, usable, settings, seed) if settings.folds else [_divide(dataset, usable, settings, seed)]
    return tuple(
        Division(**{part: tuple(labelled[index] for index in getattr(division, part)) for part in PARTS})
        for division in divided
    )


def count_unlabelled(tiles: Sequence[Tile], settings: Split) -> int:
    """Return how many images a division leaves out because too few of their pixels are labelled."""
    return sum(tile.labelled < settings.min_labelled for tile in tiles)


def unlabelled(tiles: Sequence[Tile], settings: Split) -> str:
    """Say how many images a division leaves out because too few of their pixels are labelled; empty for none."""
    count = count_unlabelled(tiles, settings)
    if not count:
        return ""
    return (
        f"{count} of {counted(len(tiles), 'tile')} left out, since less than {settings.min_labelled:.3g} of their "
        "pixels, or of their centred input's, are labelled (split.min_labelled)"
    )


def _divide(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> Division:
    bases = _bases(tiles, settings)
    given = [tile.given for tile in tiles]
    if all(part is not None for part in given):
        return _thin(dataset, "{}/ holds", _collect(given), bases, settings.counts, seed)
    if settings.unit == "block" and len({tile.group for tile in tiles}) < len(tiles):
        parts = _by_blocks(dataset, tiles, settings, seed)
        return _thin(dataset, "the {} stripes hold", _collect(parts), bases, settings.counts, seed)
    drawn, subject = _drawn(tiles, bases, settings, seed)
    if settings.counts is not None:
        if division := _by_counts(drawn, settings.counts):
            return division
        images = counted(len(tiles), "image")
        where = "" if subject == images else f" in {subject}"
        raise UserError(f"{dataset}: {images}{where} cannot fill split.counts {settings.counts}")
    # At least one unit for every share above 0: 8:1:1 of nine frames still has a test.
    test, val = (max(round(share * len(drawn)), 1) if share else 0 for share in (settings.test, settings.validation))
    if test + val >= len(drawn):
        raise UserError(f"{dataset}: {subject} cannot be split into train, validation and test")
    return _of_units(train=drawn[test + val :], val=drawn[test : test + val], test=drawn[:test])


def _fold(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> list[Division]:
    """Divide once for each fold."""
    assert settings.folds is not None
    if any(tile.given for tile in tiles):
        raise UserError(f"{dataset}: comes in train/, val/ and test/, which are kept as they are and are no folds")
    drawn, subject = _drawn(tiles, _bases(tiles, settings), settings, seed)
    # Beside each fold, one unit is left to train on and, unless nothing is validated, another.
    least = 2 if settings.folds == 2 and settings.validation else 1
    if len(drawn) < least * settings.folds:
        raise UserError(
            f"{dataset}: found {subject} but split.folds={settings.folds} needs {least * settings.folds} at least"
        )
    divided = []
    for start, end in pairwise(_ends_of_folds([len(unit) for unit in drawn], settings.folds, least)):
        others = [*drawn[end:], *drawn[:start]]
        val = max(round(settings.validation * len(others)), 1) if settings.validation else 0
        if val == len(others):
            raise UserError(
                f"{dataset}: split.validation={settings.validation} of the {counted(val, 'unit')} beside a fold leaves "
                "none to train on; lower it"
            )
        divided.append(_of_units(train=others[val:], val=others[:val], test=drawn[start:end]))
    return divided


def _ends_of_folds(sizes: Sequence[int], folds: int, least: int) -> list[int]:
    """Return where each fold of the units begins and the last ends: with ``least`` units, and about as many images."""
    # A unit belongs to the fold in which its middle lies; all lengths are doubled and times the number of folds.
    middles = [folds * (2 * end - size) for end, size in zip(accumulate(sizes), sizes, strict=True)]
    ends = [0]
    for fold in range(1, folds):
        end = bisect_left(middles, 2 * fold * sum(sizes))
        ends.append(min(max(end, ends[-1] + least), len(sizes) - least * (folds - fold)))
    return [*ends, len(sizes)]


def _bases(tiles: Sequence[Tile], settings: Split) -> list[str]:
    """Return what each image is drawn with, before look-alikes are joined."""
    return [tile.group if settings.unit == "group" else tile.name for tile in tiles]


def _drawn(tiles: Sequence[Tile], bases: Sequence[str], settings: Split, seed: int) -> tuple[list[list[int]], str]:
    """Return the units in the order of their draw, as indices of their images, and their number in words."""
    units = _indices_by(_joined(tiles, bases) if settings.near_duplicates == "together" else bases)
    drawn = [units[unit] for unit in sorted(units, key=lambda unit: _draw(seed, unit))]
    known = counted(len(set(bases)), settings.unit)
    joined = f"{counted(len(drawn), 'unit')}, left of {known} after near-duplicates were joined,"
    return drawn, known if len(drawn) == len(set(bases)) else joined


def _of_units(**parts: Iterable[Sequence[int]]) -> Division:
    return Division(**{part: tuple(sorted(index for unit in units for index in unit)) for part, units in parts.items()})


def look_alikes(tiles: Sequence[Tile], *divided: Division) -> tuple[list[list[int]], list[list[int]]]:
    """Return the sets of images that look alike, as indices, and those that lie in several parts of any division."""
    sets = _indices_by(tile.cluster for tile in tiles)
    sets.pop("", None)
    parts = [{index: name for name in PARTS for index in getattr(division, name)} for division in divided]
    across = [
        indices
        for indices in sets.values()
        if any(len({part.get(index) for index in indices} - {None}) > 1 for part in parts)
    ]
    return list(sets.values()), across


def leakage(tiles: Sequence[Tile], *divided: Division) -> Leakage:
    """Count the validation and test images that share a frame, a look or an edge with a training image.

    Over several divisions the numbers are sums.

    Edges count in frames whose positions in the grid are unique; in other frames several files share a group, and
    their positions to each other are unknown.
    """
    positions = Counter((tile.group, tile.row, tile.column) for tile in tiles)
    scattered = {group for (group, _, _), count in positions.items() if count > 1}
    groups, clusters, neighbours = Counter[str](), Counter[str](), Counter[str]()
    for division in divided:
        train = [tiles[index] for index in division.train]
        trained_groups = {tile.group for tile in train}
        trained_clusters = {tile.cluster for tile in train} - {""}
        around = {
            (tile.group, tile.row + down, tile.column + right)
            for tile in train
            if tile.group not in scattered
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        }
        for part in ("val", "test"):
            for tile in (tiles[index] for index in getattr(division, part)):
                groups[part] += tile.group in trained_groups
                clusters[part] += tile.cluster in trained_clusters
                neighbours[part] += (tile.group, tile.row, tile.column) in around
    return Leakage(*((count["val"], count["test"]) for count in (groups, clusters, neighbours)))


def _indices_by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """Return the positions of each key, keys in order of their first."""
    positions: dict[Key, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        positions[key].append(index)
    return positions


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def _joined(tiles: Sequence[Tile], bases: Sequence[str]) -> list[str]:
    """Return each image's unit where clusters join: the smallest name that any chain of look-alikes leads to."""
    above = {base: base for base in bases}

    def smallest(name: str) -> str:
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    first: dict[str, str] = {}
    for tile, base in zip(tiles, bases, strict=True):
        if tile.cluster:
            ends = smallest(first.setdefault(tile.cluster, base)), smallest(base)
            above[max(ends)] = min(ends)
    return [smallest(base) for base in bases]


def _by_counts(units: Sequence[Sequence[int]], counts: tuple[int, int, int]) -> Division | None:
    """Fill test, validation and training in turn with whole units, the last cut to the count; ``None`` if too few."""
    filled: dict[str, tuple[int, ...]] = {}
    remaining = iter(units)
    for part, count in zip(PARTS[::-1], counts[::-1], strict=True):
        indices: list[int] = []
        while len(indices) < count:
            if (unit := next(remaining, None)) is None:
                return None
            indices += unit
        filled[part] = tuple(sorted(indices[:count]))
    return Division(**filled)


def _stripes(tiles: Sequence[Tile], frame: Sequence[int]) -> list[list[int]]:
    """Return a frame's columns if it has more columns than rows, else its rows; none if positions repeat."""
    positions = [(tiles[index].row, tiles[index].column) for index in frame]
    if len(set(positions)) < len(positions):
        return []
    rows, columns = (len(set(axis)) for axis in zip(*positions, strict=True))
    stripes = _indices_by(position[columns > rows] for position in positions)
    return [[frame[index] for index in stripes[stripe]] for stripe in sorted(stripes)]


def _by_blocks(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> list[str | None]:
    """Cut every frame into test | gap | validation | gap | train, from an end that is drawn per frame."""
    shares = {"test": settings.test, "val": settings.validation}
    if settings.counts is not None:
        shares = {part: settings.counts[PARTS.index(part)] / sum(settings.counts) for part in shares}
    needed = 1 + 2 * sum(share > 0 for share in shares.values())  # to train on, and one with a gap for each other part
    stripes = {name: _stripes(tiles, frame) for name, frame in _indices_by(tile.group for tile in tiles).items()}
    short = sorted(name for name in stripes if len(stripes[name]) < needed)
    if short:
        reason = f"has {len(stripes[short[0]])}" if stripes[short[0]] else "consists of several files, which have none"
        more = f" (and {len(short) - 1} more such)" if len(short) > 1 else ""
        raise UserError(
            f"{dataset}: split.unit=block needs {needed} stripes of tiles in each frame, gaps included; "
            f"frame {short[0]!r} {reason}{more}; a smaller input.size makes more of them"
        )
    parts: list[str | None] = [None] * len(tiles)
    for name, ordered in stripes.items():
        backwards = _draw(seed, f"block\0{name}")[0] % 2
        for stripe, part in zip(ordered[::-1] if backwards else ordered, _blocks(len(ordered), shares), strict=True):
            for index in stripe:
                parts[index] = part
    if settings.near_duplicates == "together":
        _leave_out_look_alikes(dataset, tiles, parts)
    return parts


def _blocks(count: int, shares: Mapping[str, float]) -> list[str | None]:
    """Return the part of each stripe of a frame, ``None`` for gaps; shares are of the stripes without the gaps."""
    held_out = [part for part, share in shares.items() if share]
    left = usable = count - len(held_out)
    parts: list[str | None] = []
    for later, part in zip(range(len(held_out), 0, -1), held_out, strict=True):
        # At least one stripe, and one left for each later part.
        size = min(max(round(shares[part] * usable), 1), left - later)
        left -= size
        parts += [part] * size + [None]
    return parts + ["train"] * left


def _leave_out_look_alikes(dataset: str, tiles: Sequence[Tile], parts: list[str | None]) -> None:
    """Remove validation images that look like a test image, and training images that look like either."""
    kept: set[str] = set()
    for part in ("test", "val", "train"):
        indices = [index for index, other in enumerate(parts) if other == part]
        similar = [index for index in indices if tiles[index].cluster in kept]
        if indices and len(similar) == len(indices):
            raise UserError(
                f"{dataset}: all {len(indices)} {part} images look like images of another part, and "
                "split.near_duplicates=together leaves them out"
            )
        for index in similar:
            parts[index] = None
        kept |= {tiles[index].cluster for index in indices} - {""}


def _thin(
    dataset: str, holds: str, division: Division, bases: Sequence[str], counts: tuple[int, int, int] | None, seed: int
) -> Division:
    """Keep the images of each part that come first in the draw; all without counts, or if they are only tested on."""
    if counts is None or not division.train:
        return division
    kept = {}
    for part, count in zip(PARTS, counts, strict=True):
        indices: tuple[int, ...] = getattr(division, part)
        if len(indices) < count:
            raise UserError(
                f"{dataset}: {holds.format(part)} {counted(len(indices), 'image')}, but split.counts {counts} asks "
                f"for {count}"
            )
        kept[part] = tuple(sorted(sorted(indices, key=lambda index: (_draw(seed, bases[index]), index))[:count]))
    return Division(**kept)


def _collect(parts: Sequence[str | None]) -> Division:
    return Division(**{part: tuple(i for i, p in enumerate(parts) if p == part) for part in PARTS})

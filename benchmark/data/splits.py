"""Dividing a dataset into train, validation and test images, from a seed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.config.protocol import Protocol, Split
from benchmark.data.split_advice import ways
from benchmark.utils import seeds
from benchmark.utils.errors import UserError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Tile:
    """One image of a dataset, as far as a division looks at it.

    Attributes:
        name: unique in the dataset.
        group: the source frame.
        given: the owner's part (``train``, ``val``, ``test``), ``None`` where the owner gives no division.
        cluster: what images that look alike share; empty where it looks like no other.
        row: place in the frame's grid, from 0 at the top.
        column: place in the frame's grid, from 0 at the left.
        labelled: share of pixels that count, of the tile or of its centred input, whichever has fewer.
    """

    name: str
    group: str
    given: str | None
    cluster: str = ""
    row: int = 0
    column: int = 0
    labelled: float = 1.0


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
    """How many validation and test images a network has in part seen in training.

    Attributes:
        val_groups: validation images of a frame that is also trained on.
        test_groups: the same of the test.
        val_clusters: validation images that look like, or equal, one that is trained on.
        test_clusters: the same of the test.
        val_neighbours: validation images that touch, also by a corner, one that is trained on.
        test_neighbours: the same of the test.
    """

    val_groups: int
    test_groups: int
    val_clusters: int
    test_clusters: int
    val_neighbours: int
    test_neighbours: int


def divide_under(dataset: str, tiles: Sequence[Tile], protocol: Protocol) -> Division:
    """Divide a dataset's images as :func:`divide` does, as a study under a protocol would."""
    return divide(dataset, tiles, protocol.split, split_seed(dataset, protocol), partial=protocol.input.partial_tiles)


def split_seed(dataset: str, protocol: Protocol) -> int:
    """Return the seed of a dataset's division."""
    return seeds.derive(protocol.seed, "split", dataset)


def divide(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int, *, partial: bool = False) -> Division:
    """Divide images as their owner did, or else at random by image, by group, or by blocks of each frame.

    An owner's division is kept whole, look-alikes included; counts then thin each of its parts. The draw sorts units
    by a hash of (seed, unit's name): adding, reordering or moving files leaves the order of all other units as it was.
    Near-duplicates that are to stay together make one unit of theirs, called by the smallest of their names. Blocks
    are whole stripes of a frame with gaps between them, so there a look-alike of a validation or test image is left
    out of the parts before it (test, validation, train) instead. Images with fewer labelled pixels than
    ``split.min_labelled`` are left out before anything is drawn.

    Args:
        dataset: named in errors.
        tiles: the images, by unique name; for blocks each with its place in the frame.
        settings: unit, shares or counts, near-duplicates, least labelled share.
        seed: depends on the base seed and the dataset alone.
        partial: whether tiles overlap, so that no blocks can be cut.

    Raises:
        UserError: too few images, groups or stripes for the parts that are asked for; names settings that help.
    """
    try:
        return attempt(dataset, tiles, settings, seed)
    except UserError as error:
        left_out = unlabelled(tiles, settings)
        more = "label more" if left_out else "bring more images, or cut smaller tiles: input.size and input.tile"
        found = ways(lambda changed: attempt(dataset, tiles, changed, seed), settings, partial=partial)
        told = f"{error}; {left_out}" if left_out else str(error)
        raise UserError(f"{told}: {f'use {found}' if found else more}") from error


def attempt(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> Division:
    """Divide as :func:`divide` does, whose errors name no settings that help."""
    kept = [index for index, tile in enumerate(tiles) if tile.labelled >= settings.min_labelled]
    left = [tiles[index] for index in kept]
    if emptied := {tile.given for tile in tiles} - {tile.given for tile in left}:
        part = f"{next(iter(emptied))}/" if emptied != {None} else "the dataset"
        raise UserError(f"{dataset}: {part} has no image left")
    division = _divide(dataset, left, settings, seed)
    return Division(**{part: tuple(kept[index] for index in getattr(division, part)) for part in PARTS})


def count_unlabelled(tiles: Sequence[Tile], settings: Split) -> int:
    """Return how many images a division leaves out for want of labelled pixels."""
    return sum(tile.labelled < settings.min_labelled for tile in tiles)


def unlabelled(tiles: Sequence[Tile], settings: Split) -> str:
    """Say how many images a division leaves out for want of labelled pixels; empty for none."""
    count = count_unlabelled(tiles, settings)
    if not count:
        return ""
    return (
        f"{count} of {len(tiles)} tiles are left out, since less than {settings.min_labelled:.3g} of their pixels, "
        "or of their centred input's, are labelled (split.min_labelled)"
    )


def _divide(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> Division:
    bases = [tile.group if settings.unit == "group" else tile.name for tile in tiles]
    given = [tile.given for tile in tiles]
    if all(part is not None for part in given):
        return _thin(dataset, "{}/ holds", _collect(given), bases, settings.counts, seed)
    if settings.unit == "block":
        parts = _by_blocks(dataset, tiles, settings, seed)
        return _thin(dataset, "the {} stripes hold", _collect(parts), bases, settings.counts, seed)
    units: dict[str, list[int]] = defaultdict(list)
    for index, unit in enumerate(_joined(tiles, bases) if settings.near_duplicates == "together" else bases):
        units[unit].append(index)
    order = sorted(units, key=lambda unit: _draw(seed, unit))
    drawn = [units[unit] for unit in order]
    if settings.counts is not None:
        return _by_counts(dataset, tiles, drawn, len(set(bases)), settings, settings.counts)
    wanted = {"test": settings.test, "val": settings.validation}
    # At least one unit wherever a share is asked for: 8:1:1 of nine frames still has a test.
    sizes = {part: max(round(share * len(drawn)), 1) if share else 0 for part, share in wanted.items()}
    if sum(sizes.values()) >= len(drawn):
        subject = _units(settings, len(drawn), len(set(bases)))
        raise UserError(f"{dataset}: {subject} cannot be split into train, validation and test")
    parts = [None] * len(tiles)
    for position, unit_indices in enumerate(drawn):
        part = "test" if position < sizes["test"] else "val" if position < sizes["test"] + sizes["val"] else "train"
        for index in unit_indices:
            parts[index] = part
    return _collect(parts)


def look_alikes(tiles: Sequence[Tile], division: Division) -> tuple[list[list[int]], list[list[int]]]:
    """Return the sets of images that look alike, as indices, and those of them that lie in several parts."""
    sets: dict[str, list[int]] = defaultdict(list)
    for index, tile in enumerate(tiles):
        if tile.cluster:
            sets[tile.cluster].append(index)
    part = {index: name for name in PARTS for index in getattr(division, name)}
    across = [indices for indices in sets.values() if len({part.get(index) for index in indices} - {None}) > 1]
    return list(sets.values()), across


def leakage(tiles: Sequence[Tile], division: Division) -> Leakage:
    """Count the validation and test images that share a frame, a look or an edge with a training image.

    Edges are looked for in frames whose places in the grid are unique; elsewhere several files share a group, and how
    they lie to each other is unknown.
    """
    positions = Counter((tile.group, tile.row, tile.column) for tile in tiles)
    scattered = {group for (group, _, _), count in positions.items() if count > 1}
    train = [tiles[index] for index in division.train]
    groups = {tile.group for tile in train}
    clusters = {tile.cluster for tile in train} - {""}
    around = {
        (tile.group, tile.row + down, tile.column + right)
        for tile in train
        if tile.group not in scattered
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    val, test = ([tiles[index] for index in part] for part in (division.val, division.test))
    return Leakage(
        *(sum(tile.group in groups for tile in part) for part in (val, test)),
        *(sum(tile.cluster in clusters for tile in part) for part in (val, test)),
        *(sum((tile.group, tile.row, tile.column) in around for tile in part) for part in (val, test)),
    )


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


def _units(settings: Split, units: int, bases: int) -> str:
    """Say of too few units how many there are."""
    if units == bases:
        return f"{units} {settings.unit}(s)"
    return f"{units} unit(s), left of {bases} {settings.unit}(s) after near-duplicates were joined,"


def _by_counts(
    dataset: str,
    tiles: Sequence[Tile],
    units: list[list[int]],
    bases: int,
    settings: Split,
    counts: tuple[int, int, int],
) -> Division:
    """Fill the test, then validation, then training with whole units, cutting the last unit of a part to its count."""
    train, val, test = counts
    filled: list[tuple[int, ...]] = []
    remaining = iter(units)
    for count in (test, val, train):
        part: list[int] = []
        while len(part) < count:
            unit = next(remaining, None)
            if unit is None:
                subject = _units(settings, len(units), bases)
                raise UserError(f"{dataset}: {len(tiles)} images in {subject} cannot fill split.counts {counts}")
            part += unit
        filled.append(tuple(sorted(part[:count])))
    return Division(train=filled[2], val=filled[1], test=filled[0])


def _shares(settings: Split) -> dict[str, float]:
    """Return the shares of test and validation, in the order in which blocks lie."""
    if settings.counts is None:
        return {"test": settings.test, "val": settings.validation}
    return {part: settings.counts[PARTS.index(part)] / sum(settings.counts) for part in ("test", "val")}


def _stripes_needed(settings: Split) -> int:
    """Return the least number of stripes: one to train on, and one with a gap for each other part."""
    return 1 + 2 * sum(share > 0 for share in _shares(settings).values())


def _frames(tiles: Sequence[Tile]) -> dict[str, list[int]]:
    frames: dict[str, list[int]] = defaultdict(list)
    for index, tile in enumerate(tiles):
        frames[tile.group].append(index)
    return frames


def _stripes(tiles: Sequence[Tile], frame: Sequence[int]) -> list[list[int]]:
    """Return a frame's columns where it has more columns than rows, else its rows; none where places repeat."""
    places = [(tiles[index].row, tiles[index].column) for index in frame]
    if len(set(places)) < len(places):
        return []
    rows, columns = (len({place[axis] for place in places}) for axis in (0, 1))
    stripes: dict[int, list[int]] = defaultdict(list)
    for index, place in zip(frame, places, strict=True):
        stripes[place[1 if columns > rows else 0]].append(index)
    return [stripes[place] for place in sorted(stripes)]


def _by_blocks(dataset: str, tiles: Sequence[Tile], settings: Split, seed: int) -> list[str | None]:
    """Cut every frame into test | gap | validation | gap | train, from an end that is drawn per frame."""
    shares, needed = _shares(settings), _stripes_needed(settings)
    frames = _frames(tiles)
    stripes = {name: _stripes(tiles, frame) for name, frame in frames.items()}
    short = sorted(name for name in stripes if len(stripes[name]) < needed)
    if short:
        found = f"has {len(stripes[short[0]])}" if stripes[short[0]] else "consists of several files, which have none"
        more = f" (and {len(short) - 1} more such)" if len(short) > 1 else ""
        raise UserError(
            f"{dataset}: split.unit=block needs {needed} stripes of tiles in each frame, gaps included; "
            f"frame {short[0]!r} {found}{more}"
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
    """Return the part of each of a frame's stripes, ``None`` for gaps; shares are of the stripes that are no gap."""
    asked = [part for part, share in shares.items() if share]
    left = usable = count - len(asked)
    parts: list[str | None] = []
    for later, part in zip(range(len(asked), 0, -1), asked, strict=True):
        # At least one stripe here, and one left for each part to come.
        size = min(max(round(shares[part] * usable), 1), left - later)
        left -= size
        parts += [part] * size + [None]
    return parts + ["train"] * left


def _leave_out_look_alikes(dataset: str, tiles: Sequence[Tile], parts: list[str | None]) -> None:
    """Take out of validation what looks like a test image, and out of training what looks like either."""
    kept: set[str] = set()
    for part in ("test", "val", "train"):
        indices = [index for index, found in enumerate(parts) if found == part]
        look_alikes = [index for index in indices if tiles[index].cluster in kept]
        if indices and len(look_alikes) == len(indices):
            raise UserError(
                f"{dataset}: all {len(indices)} {part} images look like images of another part, and "
                "split.near_duplicates=together leaves them out"
            )
        for index in look_alikes:
            parts[index] = None
        kept |= {tiles[index].cluster for index in indices} - {""}


def _thin(
    dataset: str,
    holds: str,
    division: Division,
    bases: Sequence[str],
    counts: tuple[int, int, int] | None,
    seed: int,
) -> Division:
    """Keep of each part the images that come first in the draw; all of them without counts."""
    if counts is None:
        return division
    kept = {}
    for part, count in zip(PARTS, counts, strict=True):
        indices: tuple[int, ...] = getattr(division, part)
        if len(indices) < count:
            raise UserError(
                f"{dataset}: {holds.format(part)} {len(indices)} images, but split.counts {counts} asks for {count}"
            )
        kept[part] = tuple(sorted(sorted(indices, key=lambda index: (_draw(seed, bases[index]), index))[:count]))
    return Division(**kept)


def _collect(parts: Sequence[str | None]) -> Division:
    return Division(**{part: tuple(i for i, p in enumerate(parts) if p == part) for part in PARTS})

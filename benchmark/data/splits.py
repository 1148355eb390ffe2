"""Dividing a dataset into train, validation and test images, from a seed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.errors import UserError
from benchmark.protocol import Split

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Division:
    """Indices into a dataset's images, ascending."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def digest(self, names: Sequence[str]) -> str:
        """Return a hash of which image is in which part, independent of the images' order."""
        lists = {part: sorted(names[index] for index in getattr(self, part)) for part in PARTS}
        return hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()[:16]


def divide(
    dataset: str, names: Sequence[str], groups: Sequence[str], given: Sequence[str | None], settings: Split, seed: int
) -> Division:
    """Divide images as their owner did, or else at random by image or by group.

    An owner's division is kept whole; counts then thin each of its parts. The draw sorts units by a hash of (seed,
    unit's name): adding, reordering or moving files leaves the order of all other units as it was.

    Args:
        dataset: named in errors.
        names: unique names of the images.
        groups: the source frame of each image.
        given: the owner's part of each image (``train``, ``val``, ``test``), all ``None`` where there is none.
        settings: unit, shares or counts.
        seed: depends on the base seed and the dataset alone.

    Raises:
        UserError: too few images or groups for the parts that are asked for.
    """
    units: dict[str, list[int]] = defaultdict(list)
    for index, (name, group) in enumerate(zip(names, groups, strict=True)):
        units[group if settings.unit == "group" else name].append(index)
    order = sorted(units, key=lambda unit: hashlib.sha256(f"{seed}\0{unit}".encode()).digest())
    if all(part is not None for part in given):
        division = _collect(given)
        if settings.counts is None:
            return division
        rank = {index: place for place, unit in enumerate(order) for index in units[unit]}
        return _thin(dataset, division, rank, settings.counts)
    if settings.counts is not None:
        return _by_counts(dataset, [units[unit] for unit in order], settings.unit, settings.counts)
    wanted = {"test": settings.test, "val": settings.validation}
    # At least one unit wherever a share is asked for: 8:1:1 of nine frames still has a test.
    sizes = {part: max(round(share * len(order)), 1) if share else 0 for part, share in wanted.items()}
    if sum(sizes.values()) >= len(order):
        remedy = ", or use --set split.unit=image where tiles of one frame may part" if settings.unit == "group" else ""
        raise UserError(
            f"{dataset}: {len(order)} {settings.unit}(s) cannot be split into train, validation and test; "
            f"bring more{remedy}"
        )
    parts: list[str | None] = [None] * len(names)
    for position, unit in enumerate(order):
        part = "test" if position < sizes["test"] else "val" if position < sizes["test"] + sizes["val"] else "train"
        for index in units[unit]:
            parts[index] = part
    return _collect(parts)


def _thin(dataset: str, division: Division, rank: dict[int, int], counts: tuple[int, int, int]) -> Division:
    """Keep of each of the owner's parts the images that come first in the draw."""
    kept = {}
    for part, count in zip(PARTS, counts, strict=True):
        indices: tuple[int, ...] = getattr(division, part)
        if len(indices) < count:
            raise UserError(
                f"{dataset}: {part}/ holds {len(indices)} images, but split.counts {counts} asks for {count}; "
                "lower it by --set split.counts=[a,b,c]"
            )
        kept[part] = tuple(sorted(sorted(indices, key=lambda index: (rank[index], index))[:count]))
    return Division(**kept)


def _by_counts(dataset: str, units: list[list[int]], unit_name: str, counts: tuple[int, int, int]) -> Division:
    """Fill the test, then validation, then training with whole units, cutting the last unit of a part to its count."""
    train, val, test = counts
    filled: list[tuple[int, ...]] = []
    remaining = iter(units)
    for count in (test, val, train):
        part: list[int] = []
        while len(part) < count:
            unit = next(remaining, None)
            if unit is None:
                raise UserError(
                    f"{dataset}: {sum(map(len, units))} images in {len(units)} {unit_name}(s) "
                    f"cannot fill split.counts {counts}; "
                    "lower it by --set split.counts=[a,b,c]"
                    + (", or use --set split.unit=image" if unit_name == "group" else "")
                )
            part += unit
        filled.append(tuple(sorted(part[:count])))
    return Division(train=filled[2], val=filled[1], test=filled[0])


def _collect(parts: Sequence[str | None]) -> Division:
    return Division(**{part: tuple(i for i, p in enumerate(parts) if p == part) for part in PARTS})

"""Tiles, divisions and settings for the tests of splits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from benchmark.config.protocol import Split
from benchmark.data import splits
from benchmark.data.splits import Division, Tile

IMAGE = Split(unit="image")
GROUP = Split(unit="group")
BLOCK = Split(unit="block")


def images(
    names: Sequence[str], groups: Sequence[str] | None = None, owner: Sequence[str | None] | None = None
) -> list[Tile]:
    return [
        Tile(name, group, part)
        for name, group, part in zip(names, groups or names, owner or [None] * len(names), strict=True)
    ]


def divide(dataset: str, tiles: Sequence[Tile], how: Split, seed: int, *, partial: bool = False) -> Division:
    (division,) = splits.divide(dataset, tiles, how, seed, partial=partial)
    return division


def split(names: Sequence[str], how: Split, groups: Sequence[str] | None = None, seed: int = 0) -> Division:
    return divide("omc", images(names, groups), how, seed)


def parts(division: Division, names: Sequence[str]) -> dict[str, str]:
    return {names[i]: part for part in ("train", "val", "test") for i in getattr(division, part)}


def frames(count: int, tiles: int) -> tuple[list[str], list[str]]:
    names = [f"frame{f}_r0_c{t}" for f in range(count) for t in range(tiles)]
    return names, [name.partition("_")[0] for name in names]


def grid(frame: str, rows: int, columns: int) -> list[Tile]:
    return [Tile(f"{frame}_r{r}_c{c}", frame, None, "", r, c) for r in range(rows) for c in range(columns)]


def shuffled(tiles: Sequence[Tile], seed: int) -> list[Tile]:
    return random.Random(seed).sample(tiles, len(tiles))


NAMES = [f"image{i:03d}" for i in range(100)]
TOGETHER = {unit: Split(unit=unit, near_duplicates="together") for unit in ("image", "group", "block")}


def alike(tiles: Sequence[Tile], *clusters: Sequence[str]) -> list[Tile]:
    cluster_of = {name: members[0] for members in clusters for name in members}
    return [replace(tile, cluster=cluster_of.get(tile.name, "")) for tile in tiles]

"""Packs of small dataset folders for the tests of the data layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import Pack, Progress, open_pack

SMALL = ("input.size=32", "input.tile=64", "split.counts=[2,1,1]", "data.standin_images=4")


def settings(*overrides: str) -> Protocol:
    return load_protocol("quick", [*SMALL, *overrides])


def find(root: Path, protocol: Protocol, name: str = "omc") -> Source:
    (result,) = resolve(name, root / "data", protocol, HashCache(root / "hashes.json"))
    return result


def build(root: Path, *overrides: str, name: str = "omc", progress: Progress | None = None) -> Pack:
    protocol = settings(*overrides)
    return open_pack(find(root, protocol, name), protocol, root / "cache", progress)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file)

"""From a name on the command line to a source of images: the user's folder where there is one, or else a stand-in."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark import seeds
from benchmark.data.folders import HashCache, Pair, find_pairs, fingerprint
from benchmark.data.synthetic import VERSION as SYNTHETIC_VERSION
from benchmark.errors import UserError, did_you_mean
from benchmark.protocol import Protocol

SUFFIX = "-syn"
FRAME = (3536, 4096)  # height and width of a HY5SYN frame (Rothaug et al., ASHES 2023)

Target = Literal["metal", "track", "via"]


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset that the harness knows by name."""

    name: str
    display: str
    target: Target
    about: str


DATASETS = {
    entry.name: entry
    for entry in (
        DatasetEntry("omc", "OMC", "track", "optical microscope, circuit tracks; private"),
        DatasetEntry("miic", "MIIC", "track", "SEM, metal layer; doi:10.21979/N9/WBLTFI, track masks not published"),
        DatasetEntry("hy5syn", "HY5SYN", "metal", "SEM, metal 1 and 2 at 128 nm; doi:10.17617/3.HY5SYN, CC BY 4.0"),
        DatasetEntry("omv", "OMV", "via", "optical microscope, vias; private, taken from OMC"),
    )
}


@dataclass(frozen=True)
class Source:
    """Where a run's images come from.

    Attributes:
        name: what every artefact calls it; ends in ``-syn`` for a stand-in.
        target: what counts as foreground.
        fingerprint: hash of the content (folder) or of everything the generator depends on (stand-in).
        pairs: the user's files; empty for a stand-in.
        count: images that a stand-in has (frames for a tiled one).
        shape: height and width of a stand-in's images before they are cut into tiles.
        seed: the generator's.
    """

    name: str
    target: Target
    fingerprint: str
    pairs: tuple[Pair, ...] = ()
    count: int = 0
    shape: tuple[int, int] = (0, 0)
    seed: int = 0

    @property
    def base(self) -> str:
        """The dataset's name without the mark of a stand-in."""
        return self.name.removesuffix(SUFFIX)

    @property
    def synthetic(self) -> bool:
        """Whether the images are generated."""
        return not self.pairs


def resolve(
    names: str | Iterable[str], data_root: Path, protocol: Protocol, hashes: HashCache, *, real_only: bool = False
) -> list[Source]:
    """Find the source of every dataset that ``--datasets`` names.

    ``data_root/<name>/`` is used where it exists, and is an error where it is broken; a known dataset that is absent is
    replaced by its stand-in, called ``<name>-syn``, unless ``real_only``.

    Args:
        names: comma-separated names, ``all``, wildcards; ``omc-syn`` asks for a stand-in where real data exist; any
            other folder of ``data_root`` is a dataset of the user's.
        data_root: the folder of datasets.
        protocol: gives targets, sizes and the stand-ins' extent.
        hashes: remembers the content of files.
        real_only: refuse stand-ins.

    Raises:
        UserError: unknown or broken dataset.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    own = _own(data_root)
    known = [*DATASETS, *(name + SUFFIX for name in DATASETS), *(name for name in own if name not in DATASETS)]
    if not wanted:
        raise UserError(f"--datasets is empty; expected names out of {', '.join(known)}")
    chosen: dict[str, None] = {}
    for pattern in wanted:
        matches = (
            list(DATASETS) if pattern == "all" else [pattern] if pattern in known else fnmatch.filter(known, pattern)
        )
        if not matches:
            raise UserError(
                f"unknown dataset {pattern!r}{did_you_mean(pattern, known)} (known: {', '.join(known)}); "
                f"own data: a folder {data_root / pattern} with image/ and label/"
            )
        chosen |= dict.fromkeys(matches)
    sources = {
        source.name: source for source in (_resolve(name, data_root, protocol, hashes, real_only) for name in chosen)
    }
    return list(sources.values())


def _own(data_root: Path) -> list[str]:
    """Return the names of the folders of a data root, which need not exist."""
    try:
        return sorted(path.name for path in data_root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"--data-root {data_root}: cannot be listed ({error.strerror}); name a readable folder"
        ) from error


def _resolve(name: str, data_root: Path, protocol: Protocol, hashes: HashCache, real_only: bool) -> Source:
    entry = DATASETS.get(name.removesuffix(SUFFIX))
    target: Target = entry.target if entry else "track"
    if entry and entry.name == "hy5syn":
        target = protocol.data.hy5syn_target
    # A link whose target is not mounted is broken data, not absent data.
    if os.path.lexists(data_root / name):
        pairs = find_pairs(data_root / name)
        return Source(name, target, fingerprint(pairs, hashes), pairs=tuple(pairs))
    if real_only:
        raise UserError(
            f"--real-only: no folder {data_root / name}; add the data, choose --data-root, or drop the flag"
        )
    assert entry is not None  # unknown names exist only as folders
    return standin(entry, target, protocol)


def standin(entry: DatasetEntry, target: Target, protocol: Protocol) -> Source:
    """Return the synthetic source that replaces a dataset under a protocol."""
    tile = protocol.input.tile_for(entry.name)
    # At the authors' tile size HY5SYN comes in frames, so that tiles of one frame can leak as they do in reality.
    shape = FRAME if entry.name == "hy5syn" and tile == 1024 else (tile, tile)
    count = protocol.data.standin_count(entry.name)
    seed = seeds.derive(protocol.seed, "standin", entry.name)
    identity = json.dumps([SYNTHETIC_VERSION, entry.name, target, count, shape, seed])
    return Source(
        entry.name + SUFFIX,
        target,
        hashlib.sha256(identity.encode()).hexdigest()[:16],
        count=count,
        shape=shape,
        seed=seed,
    )

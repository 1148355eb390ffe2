"""From a name on the command line to a source of images: the user's folder where there is one, or else a stand-in."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config.protocol import Protocol
from benchmark.data import specs
from benchmark.data.fingerprint import HashCache, fingerprint
from benchmark.data.pairs import Pair, find_pairs
from benchmark.data.specs import KNOWN, SUFFIX, DatasetSpec, Target
from benchmark.data.synthetic import STANDINS
from benchmark.utils import seeds
from benchmark.utils.errors import UserError, did_you_mean

FRAME = (3536, 4096)  # height and width of a HY5SYN frame (Rothaug et al., ASHES 2023)


@dataclass(frozen=True)
class Source:
    """Where a run's images come from.

    Attributes:
        name: what every artefact calls it; ends in ``-syn`` for a stand-in.
        target: what counts as foreground.
        fingerprint: hash of the content and how it is read (folder) or of all that the generator depends on (stand-in).
        pairs: the user's files; empty for a stand-in.
        levels: values of 16-bit images that become 0 and 255; ``None`` for percentiles of the dataset.
        count: images that a stand-in has (frames for a tiled one).
        shape: height and width of a stand-in's images before they are cut into tiles.
        seed: the generator's.
    """

    name: str
    target: Target
    fingerprint: str
    pairs: tuple[Pair, ...] = ()
    levels: tuple[float, float] | None = None
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

    A dataset whose folder exists is used, and is an error where it is broken; a known dataset that is absent is
    replaced by its stand-in, called ``<name>-syn``, unless ``real_only``.

    Args:
        names: as for :func:`choose`.
        data_root: the folder of datasets.
        protocol: gives targets, sizes and the stand-ins' extent; see :func:`specs.fit` for what datasets bring.
        hashes: remembers the content of files.
        real_only: refuse stand-ins.

    Raises:
        UserError: unknown or broken dataset.
    """
    sources = {}
    for name, spec in choose(names, data_root).items():
        source = _resolve(name, spec, data_root, protocol, hashes, real_only)
        sources[source.name] = source
    return list(sources.values())


def choose(names: str | Iterable[str], data_root: Path) -> dict[str, DatasetSpec]:
    """Return what each dataset is that ``--datasets`` names, without looking into it.

    Args:
        names: comma-separated names, ``all`` (the four known ones), wildcards, or paths of TOML files. ``omc-syn`` asks
            for a stand-in where real data exist. Names are those of the known datasets, of ``data_root/<name>.toml``,
            of installed packages' entry points, and of the folders of ``data_root``, in this order of precedence:
            a TOML file, an entry point, a known dataset, a folder.
        data_root: the folder of datasets; need not exist.

    Raises:
        UserError: unknown name, or a broken TOML file or entry point.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    files, points, known = _own(data_root)[0], specs.from_entry_points(), names_of_all(data_root)
    if not wanted:
        raise UserError(f"--datasets is empty; expected names out of {', '.join(known)}")
    chosen: dict[str, DatasetSpec] = {}
    for pattern in wanted:
        if pattern.endswith(".toml"):
            spec = specs.load(Path(pattern))
            chosen[spec.name] = spec
            continue
        matches = list(KNOWN) if pattern == "all" else [pattern] if pattern in known else fnmatch.filter(known, pattern)
        if not matches:
            raise UserError(
                f"unknown dataset {pattern!r}{did_you_mean(pattern, known)} (known: {', '.join(known)}); own data: "
                f"a folder {data_root / pattern} with image/ and label/, or a TOML file"
            )
        for name in matches:
            base = name.removesuffix(SUFFIX) if name.removesuffix(SUFFIX) in KNOWN else name
            if base in files:
                chosen[name] = specs.load(files[base])
            elif base in points:
                chosen[name] = specs.load_entry_point(points[base])
            else:
                chosen[name] = KNOWN.get(base) or specs.of_folder(base)
    return chosen


def names_of_all(data_root: Path) -> list[str]:
    """Return the names of all datasets that there are, stand-ins included.

    Raises:
        UserError: the data root cannot be listed.
    """
    files, folders = _own(data_root)
    standins = (name + SUFFIX for name in KNOWN)
    return list(dict.fromkeys([*KNOWN, *standins, *specs.from_entry_points(), *files, *folders]))


def _own(data_root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the TOML files (by stem) and the folders of a data root, which need not exist."""
    try:
        entries = sorted(path for path in data_root.iterdir() if not path.name.startswith("."))
        files = {path.stem: path for path in entries if path.suffix == ".toml"}
        # A broken link is a dataset that is not mounted.
        return files, [path.name for path in entries if path.is_dir() or (path.is_symlink() and not path.exists())]
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise UserError(
            f"--data-root {data_root}: cannot be listed ({error.strerror}); name a readable folder"
        ) from error


def _resolve(
    name: str, spec: DatasetSpec, data_root: Path, protocol: Protocol, hashes: HashCache, real_only: bool
) -> Source:
    (root, reading), target = locate(name, spec, data_root), target_of(spec, protocol)
    # A link whose target is not mounted is broken data, not absent data; so is the folder that a TOML file names.
    if os.path.lexists(root) or (name == spec.name and spec.root is not None):
        pairs = find_pairs(root, reading)
        source = Source(name, target, "", pairs=tuple(pairs), levels=spec.levels)
        return replace(source, fingerprint=_content(source, hashes))
    if real_only:
        raise UserError(f"--real-only: no folder {root}; add the data, choose --data-root, or drop the flag")
    return standin(KNOWN[spec.name], target, protocol)


def locate(name: str, spec: DatasetSpec, data_root: Path) -> tuple[Path, DatasetSpec]:
    """Return the folder of a dataset, which may not exist, and how it is read."""
    if name == spec.name:
        return spec.root or data_root / name, spec
    # A stand-in, which `data synthesize` may have written as files; no pattern finds frames in its names.
    return data_root / name, spec.model_copy(update={"group": None})


def target_of(spec: DatasetSpec, protocol: Protocol) -> Target:
    """Return what counts as foreground of a dataset under a protocol."""
    return protocol.data.hy5syn_target if spec.name == "hy5syn" else spec.target


def standin(entry: DatasetSpec, target: Target, protocol: Protocol, version: int | None = None) -> Source:
    """Return the synthetic source that replaces a dataset under a protocol; by an earlier version, what it was."""
    tile = protocol.input.tile_for(entry.name)
    # At the authors' tile size HY5SYN comes in frames, so that tiles of one frame can leak as they do in reality.
    shape = FRAME if entry.name == "hy5syn" and tile == 1024 else (tile, tile)
    count = protocol.data.standin_count(entry.name)
    seed = seeds.derive(protocol.seed, "standin", entry.name)
    identity = json.dumps([version or STANDINS[entry.name].version, entry.name, target, count, shape, seed])
    return Source(
        entry.name + SUFFIX,
        target,
        hashlib.sha256(identity.encode()).hexdigest()[:16],
        count=count,
        shape=shape,
        seed=seed,
    )


def standin_version(name: str, fingerprint: str, protocol: Protocol) -> int | None:
    """Return the version of the generator that made images of this fingerprint under a protocol.

    ``None`` where they were not generated (files may be called ``omc-syn`` too), or by a newer release.
    """
    entry = KNOWN.get(name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None
    if entry is None:
        return None
    target, newest = target_of(entry, protocol), STANDINS[entry.name].version
    made = ((number, standin(entry, target, protocol, number)) for number in range(1, newest + 1))
    return next((number for number, source in made if source.fingerprint == fingerprint), None)


def _content(source: Source, hashes: HashCache) -> str:
    return fingerprint(source.pairs, hashes, (source.target, source.levels))


def refuse_changed(source: Source, remembered: Path) -> None:
    """Read all files of a dataset once more, and refuse content that is not what the plan was made for.

    Args:
        source: a folder.
        remembered: the file of content hashes; one that told something wrong is removed.

    Raises:
        UserError: files changed since, or their hashes were remembered wrongly.
    """
    if _content(source, HashCache(None)) != source.fingerprint:
        remembered.unlink(missing_ok=True)
        raise UserError(
            f"{source.name}: its files have changed since the plan was made; expected them to stay as they are while "
            "they are read: run the same command again"
        )

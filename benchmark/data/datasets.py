"""Finds the images of a named dataset: the user's folder or a stand-in."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config.protocol import Protocol
from benchmark.config.targets import Target, layers_of, tests_of
from benchmark.data import specs
from benchmark.data.fingerprint import HashCache, fingerprint
from benchmark.data.pairs import Pair, find_pairs
from benchmark.data.specs import KNOWN, PAPERS, SUFFIX, DatasetSpec
from benchmark.data.synthetic import STANDINS
from benchmark.utils import seeds
from benchmark.utils.errors import UserError, did_you_mean

FRAME = (3536, 4096)  # height and width of a HY5SYN frame (Rothaug et al., ASHES 2023)


@dataclass(frozen=True)
class Source:
    """A dataset's images: files or a generator."""

    name: str  # in every artefact; ends in ``-syn`` for a stand-in
    target: Target  # what networks mark
    fingerprint: str  # hash of the files and how they are read, or of the generator's settings
    pairs: tuple[Pair, ...] = ()  # the user's files; empty for a stand-in
    levels: tuple[float, float] | None = None  # 16-bit values that become 0 and 255; ``None`` for percentiles
    count: int = 0  # images that a stand-in has (frames for a tiled one)
    shape: tuple[int, int] = (0, 0)  # height and width of a stand-in's images before they are cut into tiles
    seed: int = 0  # the generator's

    @property
    def base(self) -> str:
        """The dataset's name without ``-syn``."""
        return self.name.removesuffix(SUFFIX)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that networks mark, in the order of their logits."""
        return layers_of(self.target)

    @property
    def tests(self) -> Mapping[str, str]:
        """The layer of each test by the test's name; see :func:`benchmark.config.targets.tests_of`."""
        return tests_of(self.name, self.target)

    @property
    def synthetic(self) -> bool:
        """Whether the images are generated."""
        return not self.pairs


def resolve(
    names: str | Iterable[str], data_root: Path, protocol: Protocol, hashes: HashCache, *, real_only: bool = False
) -> list[Source]:
    """Find the source of every dataset that ``--datasets`` names.

    An existing folder is used, and refused if it is broken; an absent known dataset is replaced by its stand-in,
    called ``<name>-syn``, unless ``real_only``.

    Args:
        names: as for :func:`choose`.
        data_root: the folder of datasets.
        protocol: gives targets, sizes and the stand-ins' number of images; see :func:`specs.fit`.
        hashes: remembers the content of files.
        real_only: refuse stand-ins.

    Raises:
        UserError: unknown or broken dataset.
    """
    sources = {}
    for name, spec in choose(names, data_root).items():
        target = target_of(spec, protocol)
        root, reading = locate(name, spec.model_copy(update={"target": target}), data_root)
        # A link whose target is not mounted is broken data, not absent data; so is the folder that a TOML file names.
        if os.path.lexists(root) or (name == spec.name and spec.root is not None and spec is not KNOWN.get(name)):
            source = Source(name, target, "", pairs=tuple(find_pairs(root, reading)), levels=spec.levels)
            source = replace(source, fingerprint=_content(source, hashes))
        elif spec.name not in STANDINS:
            copy = spec.source[0].address if spec.source else ""
            own = f"`benchmark data prepare {name} COPY` makes it from a copy of {copy}, or "
            raise UserError(
                f"{name}: no folder {root}, and nothing stands in for it; {own if copy else 'add the data, or '}"
                "choose --data-root"
            )
        elif real_only:
            raise UserError(f"--real-only: no folder {root}; add the data, choose --data-root, or drop the flag")
        else:
            source = standin(KNOWN[spec.name], target, protocol)
        sources[source.name] = source
    return list(sources.values())


def choose(names: str | Iterable[str], data_root: Path) -> dict[str, DatasetSpec]:
    """Return the description of each dataset that ``--datasets`` names, without reading its files.

    Args:
        names: comma-separated names, ``all`` (the paper's four datasets), wildcards, or paths of TOML files. No
            wildcard means ``omc_omv``, whose images are OMC's, or an open picture such as ``t84c``. ``omc-syn`` is a
            stand-in, also where real data exist. A name is looked up among TOML files ``data_root/<name>.toml``, entry
            points of installed packages, known datasets and folders of ``data_root``, in this order.
        data_root: the folder of datasets; need not exist.

    Raises:
        UserError: unknown name, a broken TOML file or entry point, or two TOML files of one name.
    """
    patterns = names.split(",") if isinstance(names, str) else list(names)
    patterns = [name.strip() for name in patterns if name.strip()]
    files, points, known = _own(data_root)[0], specs.from_entry_points(), names_of_all(data_root)
    if not patterns:
        raise UserError(f"--datasets is empty; expected names out of {', '.join(known)}")
    chosen: dict[str, DatasetSpec] = {}
    described: dict[str, tuple[str, DatasetSpec]] = {}  # name of a dataset -> its TOML file and content
    for pattern in patterns:
        if pattern.endswith(".toml"):
            spec = specs.load(Path(pattern))
            other, other_spec = described.setdefault(spec.name, (pattern, spec))
            if other_spec != spec:
                raise UserError(
                    f"--datasets: {other} and {pattern} both describe {spec.name!r}; expected a name for each dataset: "
                    "rename one of the files, or change its `name`"
                )
            chosen[spec.name] = spec
            continue
        if pattern == "all":
            matches = list(PAPERS)
        elif pattern in known:
            matches = [pattern]
        else:
            found = fnmatch.filter(known, pattern)
            matches = [name for name in found if _base(name) in PAPERS or _base(name) not in KNOWN]
        if not matches:
            raise UserError(
                f"unknown dataset {pattern!r}{did_you_mean(pattern, known)} (known: {', '.join(known)}); own data: "
                f"a folder {data_root / pattern} with image/ and label/, or a TOML file"
            )
        for name in matches:
            base = _base(name) if _base(name) in KNOWN else name
            if base in files:
                chosen[name] = specs.load(files[base])
            elif base in points:
                chosen[name] = specs.load_entry_point(points[base])
            else:
                chosen[name] = KNOWN.get(base) or specs.of_folder(base)
    return chosen


def _base(name: str) -> str:
    return name.removesuffix(SUFFIX)


def names_of_all(data_root: Path) -> list[str]:
    """Return the names of all datasets, stand-ins included.

    Raises:
        UserError: the data root cannot be listed.
    """
    files, folders = _own(data_root)
    standins = (name + SUFFIX for name in KNOWN if name in STANDINS)
    return list(dict.fromkeys([*KNOWN, *standins, *specs.from_entry_points(), *files, *folders]))


def _own(data_root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the TOML files (by stem) and the folders of a data root, which need not exist."""
    try:
        entries = sorted(path for path in data_root.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        message = f"--data-root {data_root}: cannot be listed ({error.strerror}); name a readable folder"
        raise UserError(message) from error
    files = {path.stem: path for path in entries if path.suffix == ".toml"}
    # A broken link is a dataset that is not mounted.
    return files, [path.name for path in entries if path.is_dir() or (path.is_symlink() and not path.exists())]


def locate(name: str, spec: DatasetSpec, data_root: Path) -> tuple[Path, DatasetSpec]:
    """Return the folder of a dataset, which may not exist, and its description."""
    if name == spec.name:
        below = KNOWN.get(name) and KNOWN[name].root == spec.root
        return (data_root / (spec.root or name) if below else spec.root or data_root / name), spec
    # A stand-in, which `data synthesize` may have written as files, all in its own folder; no pattern finds frames in
    # its names.
    return data_root / name, spec.model_copy(update={"group": None, "layer_labels": {}})


def target_of(spec: DatasetSpec, protocol: Protocol) -> Target:
    """Return what counts as foreground of a dataset under a protocol."""
    return protocol.data.target_for(spec.name, spec.target)


def standin(entry: DatasetSpec, target: Target, protocol: Protocol, version: int | None = None) -> Source:
    """Return the synthetic source that replaces a dataset under a protocol, also of an earlier generator's version."""
    tile = protocol.input.tile_for(entry.name)
    # At the authors' tile size HY5SYN comes in frames, so that tiles of one frame can leak as they do in reality.
    shape = FRAME if entry.name == "hy5syn" and tile == 1024 else (tile, tile)
    count = protocol.data.standin_count(entry.name)
    seed = seeds.derive(protocol.seed, "standin", entry.name)
    identity = json.dumps([version or STANDINS[entry.name].version, entry.name, target, count, shape, seed])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Source(entry.name + SUFFIX, target, digest, count=count, shape=shape, seed=seed)


def standin_version(name: str, fingerprint: str, protocol: Protocol) -> int | None:
    """Return the version of the generator that made images of this fingerprint under a protocol.

    ``None`` for files (which may be called ``omc-syn`` too) and for images of a newer release.
    """
    entry = KNOWN.get(name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None
    if entry is None or entry.name not in STANDINS:
        return None
    target, versions = target_of(entry, protocol), range(1, STANDINS[entry.name].version + 1)
    return next((v for v in versions if standin(entry, target, protocol, v).fingerprint == fingerprint), None)


def _content(source: Source, hashes: HashCache) -> str:
    return fingerprint(source.pairs, hashes, (source.target, source.levels))


def refuse_changed(source: Source, remembered: Path) -> None:
    """Read all files of a dataset once more, and refuse content that changed since the plan.

    Args:
        source: a folder.
        remembered: the file of content hashes; it is removed if it was wrong.

    Raises:
        UserError: files changed, or their remembered hashes were wrong.
    """
    if _content(source, HashCache(None)) != source.fingerprint:
        remembered.unlink(missing_ok=True)
        raise UserError(
            f"{source.name}: its files have changed since the plan was made; expected them to stay as they are while "
            "they are read: run the same command again"
        )

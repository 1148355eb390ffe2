"""Folders of images and labels as users bring them: ``image/ label/``, with or without ``train/ val/ test/``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.images import IMAGE_SUFFIXES
from benchmark.errors import UserError
from benchmark.files import write_atomically

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Pair:
    """One image with its label.

    Attributes:
        name: the image's stem, with its split folder where there is one.
        split: ``train``, ``val``, ``test``, or ``None`` where the owner gives no division.
    """

    name: str
    image: Path
    label: Path
    split: str | None


def find_pairs(root: Path) -> list[Pair]:
    """List the image/label pairs below a dataset's folder, sorted by name.

    Raises:
        UserError: no such layout, no images, an image without a label, a label without an image, duplicate stems, or
            only some of train/val/test; names the files.
    """
    given = [split for split in SPLITS if (root / split).is_dir()]
    if given and len(given) < len(SPLITS):
        missing = ", ".join(f"{split}/" for split in SPLITS if split not in given)
        raise UserError(
            f"{root}: found {', '.join(f'{s}/' for s in given)} but not {missing}; "
            "expected all of train/ val/ test/, or none"
        )
    places = [(root / split, split) for split in SPLITS] if given else [(root, None)]
    pairs = [pair for folder, split in places for pair in _pairs_in(folder, split)]
    return sorted(pairs, key=lambda pair: pair.name)


def _pairs_in(folder: Path, split: str | None) -> list[Pair]:
    images, labels = _by_stem(folder / "image"), _by_stem(folder / "label")
    if not images:
        raise UserError(
            f"{folder / 'image'}: no images; expected image/<name>.png beside label/<name>.png (or .jpg, .bmp, .tif)"
        )
    for mine, others, what, missing in ((images, labels, "image", "label"), (labels, images, "label", "image")):
        orphans = sorted(mine.keys() - others.keys())
        if orphans:
            more = f" (and {len(orphans) - 1} more such)" if len(orphans) > 1 else ""
            raise UserError(
                f"{mine[orphans[0]]}: {what} without {missing}{more}; "
                f"expected a file of the same stem in {folder / missing}: add it or remove the {what}"
            )
    prefix = f"{split}/" if split else ""
    return [Pair(prefix + stem, images[stem], labels[stem], split) for stem in images]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; expected image/ and label/, alone or inside each of train/ val/ test/"
        )
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    for path in entries:
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        other = found.setdefault(path.stem, path)
        if other != path:
            raise UserError(f"{folder}: {other.name} and {path.name} share the stem {path.stem!r}; keep one of them")
    return found


class HashCache:
    """Content hashes remembered by (path, size, mtime), so that planning over 25,000 files stays instant."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, list[str | int]] = {}
        self.changed = False
        if file.is_file():
            try:
                self.known = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError):
                self.known = {}  # a cache that cannot be read is made again

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            stat = path.stat()
            key, stamp = os.path.abspath(path), [stat.st_size, stat.st_mtime_ns]
            entry = self.known.get(key)
            if entry is None or entry[:2] != stamp:
                with path.open("rb") as file:
                    entry = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
                self.known[key], self.changed = entry, True
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        return str(entry[2])

    def save(self) -> None:
        """Write the cache back where something was added; a read-only place only costs the next plan some time."""
        if self.changed:
            try:
                write_atomically(self.file, json.dumps(self.known).encode())
            except UserError:
                return
            self.changed = False


def fingerprint(pairs: Iterable[Pair], hashes: HashCache) -> str:
    """Return a hash of names, given split and contents; independent of dates, order and the folder's place."""
    total = hashlib.sha256()
    for pair in sorted(pairs, key=lambda pair: pair.name):
        total.update(
            "\0".join((pair.name, str(pair.split), hashes.digest(pair.image), hashes.digest(pair.label))).encode()
            + b"\n"
        )
    hashes.save()
    return total.hexdigest()[:16]

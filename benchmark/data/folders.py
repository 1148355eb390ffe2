"""Folders of images and labels as users bring them: ``image/ label/``, with or without ``train/ val/ test/``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from benchmark.data.images import IMAGE_SUFFIXES
from benchmark.data.splits import PARTS
from benchmark.errors import UserError
from benchmark.files import write_atomically


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
        UserError: no such layout, no images, an image without a label, a label without an image, duplicate stems,
            only some of train/val/test, or images beside them; names the files.
    """
    found = {path.name for path in _entries(root)}
    given = [part for part in PARTS if part in found]
    if given and len(given) < len(PARTS):
        missing = ", ".join(f"{part}/" for part in PARTS if part not in given)
        raise UserError(
            f"{root}: found {', '.join(f'{s}/' for s in given)} but not {missing}; "
            "expected all of train/ val/ test/, or none"
        )
    if given and "image" in found:
        raise UserError(f"{root}: both image/ and train/ val/ test/; expected one of the two: move the other elsewhere")
    places = [(root / part, part) for part in PARTS] if given else [(root, None)]
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
    for path in _entries(folder):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        other = found.setdefault(path.stem, path)
        if other != path:
            raise UserError(f"{folder}: {other.name} and {path.name} share the stem {path.stem!r}; keep one of them")
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder}: no such folder; expected image/ and label/, alone or inside each of train/ val/ test/"
        ) from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


class HashCache:
    """Content hashes remembered by (path, size, mtime), so that planning over 25,000 files stays instant."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, tuple[int, int, str]] = {}
        self.changed = False
        # A cache that is missing, unreadable or holds something else is made again.
        with contextlib.suppress(OSError, ValidationError):
            self.known = TypeAdapter(dict[str, tuple[int, int, str]]).validate_json(file.read_bytes())

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            stat = path.stat()
            key, stamp = os.path.abspath(path), (stat.st_size, stat.st_mtime_ns)
            entry = self.known.get(key)
            if entry is None or entry[:2] != stamp:
                with path.open("rb") as file:
                    entry = (*stamp, hashlib.file_digest(file, "sha256").hexdigest())
                self.known[key], self.changed = entry, True
            return entry[2]
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error

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

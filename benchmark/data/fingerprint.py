"""Computes a hash of a dataset's files, and remembers the hashes of unchanged files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from benchmark.data.formats.all_formats import format_of
from benchmark.data.pairs import Pair
from benchmark.utils.errors import UserError
from benchmark.utils.files import Stamp, stamp, write_atomically

#: A file younger than this may change once more within one tick of its disk's clock (2 s on FAT), unseen by its times.
SETTLED_S = 2.0


class HashCache:
    """Content hashes remembered by path and time stamp, so that a plan over 25,000 files stays instant."""

    def __init__(self, file: Path | None, *, settled_s: float = SETTLED_S) -> None:
        """Read the remembered hashes.

        Args:
            file: the cache; ``None`` to read every file again.
            settled_s: the least age of a file, seconds, at which its hash is remembered.
        """
        self.file, self.settled_s = file, settled_s
        self.known: dict[str, tuple[Stamp, str]] = {}
        self.changed = False
        # A cache that is missing or cannot be read, such as an earlier release's, is made again.
        with contextlib.suppress(OSError, ValidationError):
            if file is not None:
                self.known = TypeAdapter(dict[str, tuple[Stamp, str]]).validate_json(file.read_bytes())

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            key, now = os.path.abspath(path), stamp(path)
            if (entry := self.known.get(key)) is not None and entry[0] == now:
                return entry[1]
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        if time.time() - max(now[2:]) / 1e9 > self.settled_s:
            self.known[key], self.changed = (now, digest), True
        return digest

    def save(self) -> None:
        """Write new hashes to the cache; without write access, the next plan only takes longer."""
        if self.changed and self.file is not None:
            with contextlib.suppress(UserError):
                write_atomically(self.file, json.dumps(self.known).encode())
                self.changed = False


def fingerprint(pairs: Iterable[Pair], hashes: HashCache, reading: Sequence[object] = ()) -> str:
    """Return a hash of names, given split, groups and contents, but not of dates, order and the folder's path.

    Args:
        pairs: the files.
        hashes: remembers their content.
        reading: other settings of how they are read: target, gray levels.
    """
    total = hashlib.sha256(repr(tuple(reading)).encode() if reading else b"")
    digests: dict[Path, str] = {}  # a file may hold the labels of many images
    for pair in sorted(pairs, key=lambda pair: pair.name):
        label_format = format_of(pair.label)
        files = [pair.image, label_format.file_of(pair.label), *([pair.ignore] if pair.ignore else [])]
        files += [format_of(label).file_of(label) for _, label in pair.layer_labels if label]
        digests |= {file: hashes.digest(file) for file in files if file not in digests}
        categories = sorted(pair.legend.categories) if label_format.has_categories else []
        meanings = [f"{name}={kind}" for name, kind in categories]
        meanings += [str(pair.legend.values)] if pair.legend.values else []
        meanings += [f"{layer}={'labelled' if label else 'not labelled'}" for layer, label in pair.layer_labels]
        parts = (pair.name, str(pair.split), pair.group, *(digests[file] for file in files), *meanings)
        total.update("\0".join(parts).encode() + b"\n")
    hashes.save()
    return total.hexdigest()[:16]

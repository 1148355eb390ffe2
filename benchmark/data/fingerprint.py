"""Folders of images and labels as owners ship them: ``image/ label/`` with or without a division, or HY5SYN's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from benchmark.data.formats import coco
from benchmark.data.formats.coco import Categories
from benchmark.data.formats.values import Values
from benchmark.data.pairs import Pair, scan
from benchmark.utils.errors import UserError
from benchmark.utils.files import Stamp, stamp, write_atomically


def find_pairs(
    root: Path,
    *,
    layout: str | None = None,
    group: str | None = None,
    unlabelled: Literal["refuse", "skip"] = "refuse",
    labels: Path | None = None,
    categories: Categories = (),
    values: Values | None = None,
) -> list[Pair]:
    """List the image/label pairs below a dataset's folder, sorted by name.

    A label has its image's stem, perhaps followed by ``_mask`` or ``_``; in the hy5syn layout ``sem0001`` goes with
    ``label0001``. A JSON file among the labels is a COCO file and holds those of many images. A folder ``ignore/``
    beside may hold masks of the images' stems.

    Args:
        root: holds ``image/ label/``, those inside each of ``train/ val/ test/``, or ``sems/ labels/``.
        layout: ``folders`` or ``hy5syn``; by default what the folder looks like.
        group: pattern on an image's stem whose first group names the source frame.
        unlabelled: whether an image without a label is an error or left out.
        labels: a folder of labels or a COCO file, in place of ``label/``.
        categories: what a COCO file's categories are, where their names do not tell.
        values: what the values of masks of pixels mean, where they are not the usual ones.

    Raises:
        UserError: no such layout, no pairs, an orphan, duplicate stems, only some of train/val/test, images beside
            them, or a stem that the group's pattern does not match; names the files.
    """
    found = scan(root, layout=layout, group=group, labels=labels, categories=categories, values=values)
    for fault in found.faults:
        raise UserError(fault)
    for path in found.misnamed:
        raise UserError(f"{path}: expected a name such as sem0001.png beside label0001.svg: rename or remove it")
    for path in found.doubled:
        raise UserError(f"{path}: another file has the stem {path.stem!r}; keep one of them")
    refuse_orphans(found.unpaired, "label", "image")
    refuse_orphans(found.unpaired_ignores, "ignore mask", "image")
    if unlabelled == "refuse":
        refuse_orphans(found.unlabelled, "image", "label")
    if not found.pairs:
        raise UserError(
            f"{root}: no labels for {found.images} images; expected a mask for each image that is to be used: add them"
        )
    for path in found.ungrouped:
        raise UserError(
            f"{path}: the name does not match the dataset's group pattern {group!r}; "
            "expected every image to name its frame: rename the file or correct `group`"
        )
    return found.pairs


def refuse_orphans(orphans: Sequence[Path], what: str, missing: str) -> None:
    """Name the first file that has no partner, and how many more there are.

    Raises:
        UserError: there is one.
    """
    if orphans:
        more = f" (and {len(orphans) - 1} more such)" if len(orphans) > 1 else ""
        raise UserError(
            f"{orphans[0]}: {what} without {missing}{more}; "
            f"expected a file of the same stem in the folder of {missing}s: add it or remove the {what}"
        )


#: A file younger than this may change once more within one tick of its disk's clock (2 s on FAT), unseen by its times.
SETTLED_S = 2.0


class HashCache:
    """Content hashes remembered by path and time stamp, so that a plan over 25,000 files stays instant."""

    def __init__(self, file: Path | None, *, settled_s: float = SETTLED_S) -> None:
        """Read what is remembered.

        Args:
            file: where it lies; ``None`` to read every file anew.
            settled_s: the least age of a file, seconds, at which its hash is remembered.
        """
        self.file, self.settled_s = file, settled_s
        self.known: dict[str, tuple[Stamp, str]] = {}
        self.changed = False
        # A cache that is missing, unreadable, of an earlier release or holds something else is made again.
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
        """Write the cache back where something was added; a read-only place only costs the next plan some time."""
        if self.changed and self.file is not None:
            try:
                write_atomically(self.file, json.dumps(self.known).encode())
            except UserError:
                return
            self.changed = False


def fingerprint(pairs: Iterable[Pair], hashes: HashCache, reading: Sequence[object] = ()) -> str:
    """Return a hash of names, given split, groups and contents; independent of dates, order and the folder's place.

    Args:
        pairs: the files.
        hashes: remembers their content.
        reading: what else decides how they are read: what is foreground, gray levels.
    """
    total = hashlib.sha256(repr(tuple(reading)).encode() if reading else b"")
    digests: dict[Path, str] = {}  # a COCO file is that of many images
    for pair in sorted(pairs, key=lambda pair: pair.name):
        files = [pair.image, coco.file_of(pair.label), *([pair.ignore] if pair.ignore else [])]
        digests |= {file: hashes.digest(file) for file in files if file not in digests}
        told = [f"{name}={kind}" for name, kind in sorted(pair.categories)] if coco.is_entry(pair.label) else []
        told += [str(pair.values)] if pair.values else []
        parts = (pair.name, str(pair.split), pair.group, *(digests[file] for file in files), *told)
        total.update("\0".join(parts).encode() + b"\n")
    hashes.save()
    return total.hexdigest()[:16]

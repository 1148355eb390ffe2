"""Downloads on disk for the tests, and the calls that bring them in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmark.data.prepare.prepare import Prepared, prepare_dataset
from benchmark.utils.errors import UserError

FLAT = ("image/1.png", "image/2.png", "label/1.png", "label/2.png")
DIVIDED = tuple(f"{part}/{name}" for part in ("train", "val", "test") for name in FLAT)
HY5SYN = ("sems/sem0001.png", "sems/sem0002.png", "sems/sem0003.png", "labels/label0001.svg", "labels/label0003.svg")


def write_files(root: Path, names: Iterable[str]) -> Path:
    """Write files whose content is their name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def content(names: Iterable[str]) -> dict[str, bytes]:
    return {name: name.encode() for name in names}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(folder: Path) -> str:
    entries = (
        (str(path), path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")
    )
    return hashlib.sha256(repr(sorted(entries)).encode()).hexdigest()


def assert_refused(source: Path, match: str, name: str = "mychip") -> None:
    """The message matches and nothing at all is left behind, not even a folder."""
    root = source.parent / "data"
    with pytest.raises(UserError, match=match):
        prepare_dataset(name, source, root)
    assert not root.exists()


def bring_in(source: Path, name: str = "mychip") -> Prepared:
    return prepare_dataset(name, source, source.parent / "data")

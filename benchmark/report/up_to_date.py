"""Tells whether a study's report is what a build would give now."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path

import benchmark
from benchmark.config import extension_code
from benchmark.records import method, own_networks
from benchmark.records.packed_study import PACKED
from benchmark.records.store import KINDS, UNREADABLE, Store
from benchmark.utils import extensions
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically

FOLDER, PAGE = "report", "index.html"
#: Holds the digest of a report's inputs, and the hash of each of its files.
SEAL = ".made-from.json"
#: All files that a report of one study is made from, below the study's folder. The kept choice of a table for a paper
#: counts among the report's own files.
INPUTS = (
    *(
        "*.toml",
        "asked.json",
        own_networks.FILE,
        method.FILE,
        "efficiency/*.json",
        "bench/*.json",
        "references/*.csv",
        "splits/*.json",
    ),
    *("panels/*.npz", "environment/*.txt", f"{PACKED}/*"),
    *(f"{kind}/*/*/*/*.{suffix}" for kind in KINDS for suffix in ("json", "csv", "npz")),
)
PACKAGES = ("matplotlib", "numpy", "scipy", "jinja2")  # draw and compute it


def digest_inputs(study: Path) -> str:
    """Hash a study's files, the runs that are under way, and the report's code and packages."""
    metrics = sorted(f"{name} {extension_code.identity('metrics', name)}" for name in extensions.installed("metrics"))
    digest = hashlib.sha256(f"{_code()}{''.join(metrics)}".encode())
    for folder in Store(study).claimed():
        digest.update(f"\0{folder.relative_to(study)}".encode())
    files = (file.relative_to(study) for pattern in INPUTS for file in study.glob(pattern))
    for file in sorted(file for file in files if not any(part.startswith(".") for part in file.parts)):
        try:
            content = _hash(study / file)
        except OSError as error:  # a run that is under way replaces files, and others need not be readable
            content = type(error).__name__
        digest.update(f"\0{file.as_posix()}\0{content}".encode())
    return digest.hexdigest()


def seal(study: Path, inputs: str, files: Iterable[str]) -> None:
    """Store what the report was made from; ``files`` are all of it, below its folder."""
    folder = study / FOLDER
    content = {"inputs": inputs, "files": {name: _hash(folder / name) for name in sorted(files)}}
    with contextlib.suppress(UserError):  # a folder that takes no files has a report all the same
        write_atomically(folder / SEAL, (json.dumps(content, indent=0) + "\n").encode())


def is_up_to_date(study: Path) -> bool:
    """Return whether no input has changed since the last build, and no file of the report is missing or altered."""
    folder = study / FOLDER
    with contextlib.suppress(*UNREADABLE):
        content = json.loads((folder / SEAL).read_bytes())
        files = content["files"]
        same = all(_hash(folder / name) == expected for name, expected in files.items())
        added = {file.name for file in folder.glob("[!.]*.json")} - files.keys()
        return same and not added and bool(content["inputs"] == digest_inputs(study))
    return False


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@functools.cache
def _code() -> str:
    """Hash all sources and templates of the package, and the versions of packages."""
    root = Path(benchmark.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(file for file in root.rglob("*.*") if file.suffix in (".py", ".html", ".css", ".js", ".bib")):
        digest.update(f"{file.relative_to(root).as_posix()}\0{_hash(file)}\0".encode())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return f"{digest.hexdigest()} {versions}"

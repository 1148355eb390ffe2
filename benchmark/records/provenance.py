"""Which code a number came from: this project's version, commit and sources, and every installed package."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import benchmark
from benchmark.config.own_packages import CODE

PROJECT = "eal-icnet-benchmark"
GIT_TIMEOUT_S = 10.0  # a cold network disk; a run does not wait longer to learn its commit


@functools.cache
def code() -> dict[str, str | bool | None]:
    """Return what identifies the code of this process, read once: editing a file does not change what was imported.

    ``commit`` and ``dirty`` (whether sources differ from it) are those of the project's own checkout and ``None``
    where it was installed without one; ``content`` tells two installs apart in either case.
    """
    root = Path(benchmark.__file__).resolve().parents[1]
    commit, dirty = checkout(root)
    return {"version": benchmark.__version__, "commit": commit, "dirty": dirty, "content": content_hash(root)}


def checkout(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the project's own checkout and whether its code differs from it, untracked files included.

    A virtual environment may lie within a repository of the user's, which says nothing about this code: only a work
    tree whose top is ``root`` and holds this project counts. Without git, or in time, there is no answer.
    """
    if not (root / ".git").exists() or not _is_project(root):
        return None, None
    # Git refuses repositories of other users because their settings may start programs; this one's code runs already.
    command = ["git", "-c", f"safe.directory={root.as_posix()}", "-c", "core.fsmonitor=false"]
    command += ["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *CODE]
    # In a hook of the user's, GIT_DIR and its like would lead to the user's repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**variables, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    found = re.search(rb"^# branch\.oid ([0-9a-f]+)$", done.stdout, re.MULTILINE)
    if found is None:
        return None, None  # no commit yet
    return found[1].decode(), any(not line.startswith(b"#") for line in done.stdout.splitlines())


def _is_project(root: Path) -> bool:
    try:
        return bool(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["name"] == PROJECT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def content_hash(root: Path) -> str:
    """Hash names and content of the project's own ``.py`` files; line ends do not count."""
    digest = hashlib.sha256()
    files = {path.relative_to(root).as_posix(): path for name in CODE for path in (root / name).rglob("*.py")}
    for name in sorted(files):
        content = files[name].read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@functools.cache
def packages() -> str:
    """Return every installed package as lines ``name==version``, sorted: a file that pip can install from."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        with contextlib.suppress(OSError):  # left over from a broken uninstall
            metadata = distribution.metadata
            if "Name" in metadata and "Version" in metadata:
                name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()  # one spelling, as the Simple API has it
                found.setdefault(name, metadata["Version"])  # the first on the path is the one that is imported
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found))

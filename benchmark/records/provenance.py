"""Identifies the code: the project's version, commit and sources, and installed packages."""

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
GIT_TIMEOUT_S = 10.0  # enough for a cold network disk; a run waits no longer for its commit


@functools.cache
def code() -> dict[str, str | bool | None]:
    """Return version, commit, ``dirty`` (sources differ from the commit) and hash of the code, read once per process.

    Later edits of a file do not change the imported code. ``commit`` and ``dirty`` are those of the project's own
    checkout, ``None`` without a checkout; ``content`` distinguishes two installs in both cases.
    """
    root = Path(benchmark.__file__).resolve().parents[1]
    commit, dirty = checkout(root)
    return {"version": benchmark.__version__, "commit": commit, "dirty": dirty, "content": content_hash(root)}


def checkout(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the project's own checkout and whether its code, untracked files included, differs from it.

    A virtual environment may lie in a repository of the user, which says nothing about this code: only a work tree
    counts whose top is ``root`` and which holds this project. Without git, or after a timeout, both are ``None``.
    """
    if not (root / ".git").exists() or not _is_project(root):
        return None, None
    # Git refuses repositories of other users, whose settings may start programs; the code of this one runs already.
    command = ["git", "-c", f"safe.directory={root.as_posix()}", "-c", "core.fsmonitor=false"]
    command += ["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *CODE]
    # In a git hook of the user, GIT_DIR and similar variables would lead to the user's repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        status = subprocess.run(
            command, cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    commit = re.search(rb"^# branch\.oid ([0-9a-f]+)$", status.stdout, re.MULTILINE)
    if commit is None:
        return None, None  # no commit yet
    return commit[1].decode(), any(not line.startswith(b"#") for line in status.stdout.splitlines())


def _is_project(root: Path) -> bool:
    try:
        return bool(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["name"] == PROJECT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def content_hash(root: Path) -> str:
    """Hash names and content of the project's own ``.py`` files; line endings do not count."""
    digest = hashlib.sha256()
    files = {path.relative_to(root).as_posix(): path for name in CODE for path in (root / name).rglob("*.py")}
    for name in sorted(files):
        content = files[name].read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@functools.cache
def packages() -> str:
    """Return every installed package as lines ``name==version``, sorted: a file that pip can install from."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        with contextlib.suppress(OSError):  # remains of a broken uninstall
            metadata = distribution.metadata
            if "Name" in metadata and "Version" in metadata:
                name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()  # the spelling of the Simple API
                versions.setdefault(name, metadata["Version"])  # Python imports the first on the path
    return "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))

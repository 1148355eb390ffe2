"""Identifies the code of networks: files, packages and versions, for the keys of runs."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config import network_files
from benchmark.config.network_files import NetworkFile
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from benchmark.config.registry import ModelEntry

ENTRY_POINT_GROUP = "eal_icnet_benchmark.models"


@functools.cache
def installed() -> tuple[importlib.metadata.EntryPoint, ...]:
    """Return the entry points of installed packages, cached since a look at all packages takes 20 ms."""
    return tuple(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))


def code(entry: ModelEntry) -> dict[str, Path]:
    """Return the files of a user's network and of its imports, without installed packages."""
    module = entry.target.rpartition(":")[0]
    if entry.family != "user" or not module:
        return {}
    return NetworkFile.at(Path(module)).code() if module.endswith(".py") else network_files.package_code(module)


def code_digests(entry: ModelEntry) -> dict[str, str]:
    """Return content hashes of a user's network, else its packages' versions; nothing for most built-in networks.

    Raises:
        UserError: a file cannot be read.
    """
    digests = network_files.digests(code(entry))
    digests |= {package: importlib.metadata.version(package) for package in entry.packages}
    if digests or entry.family != "user":
        return digests
    packages = [point.dist for point in installed() if (point.name, point.value) == (entry.name, entry.target)]
    return {package.name: package.version for package in packages if package is not None}


def code_digest(entry: ModelEntry) -> str | None:
    """Return a hash of :func:`code_digests` (of one file: the file's own hash), ``None`` if there are none."""
    digests = code_digests(entry)
    if len(digests) == 1 and next(iter(digests)).endswith(".py"):
        return next(iter(digests.values()))
    text = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None


def identity(entry: ModelEntry) -> str:
    """Return a network's part of a run's key: name, version and the hash of a user's code or packages' versions."""
    return "-".join(filter(None, (entry.name, f"v{entry.version}", code_digest(entry))))


def label(entry: ModelEntry) -> str:
    """Return the code of a user's network, which is to be mended, or another network's name."""
    return entry.target if entry.family == "user" else entry.name


def raised(entry: ModelEntry, call: str, error: Exception) -> str:
    """Return the message of an error that a network raised before any work; ``call`` says where."""
    line = network_files.location(error, code(entry))
    message = f"{type(error).__name__}: {error}" + (f" ({line})" if line else "")
    remedy = "correct it" if entry.family == "user" else "change the input or leave the network out"
    return f"{label(entry)}: {call} raised {message}; {remedy}: nothing has been run"


def change(entry: ModelEntry, recorded: object) -> str:
    """Return in words which files of a user's network differ from a run's record: ``", changed in blocks.py"``.

    Args:
        entry: the network as it is now.
        recorded: what :func:`unchanged_code` returned for the run; earlier releases and failed runs kept nothing.
    """
    now = code_digests(entry)
    if not isinstance(recorded, dict):
        return f" ({', '.join(now)})" if now else ""
    changed = [name for name in sorted({*now, *recorded}) if now.get(name) != recorded.get(name)]
    return f", changed in {', '.join(changed)}" if changed else ""


def unchanged_code(entry: ModelEntry, planned: str) -> dict[str, str]:
    """Return the digests of a loaded network for a run's record.

    Raises:
        UserError: its identity is not ``planned``, the identity in the run's plan.
    """
    digests = code_digests(entry)
    if identity(entry) != planned:
        raise UserError(
            f"{entry.target}: it, or a file that it imports ({', '.join(digests)}), has changed since this run was "
            "planned; run the same command again"
        )
    return digests

"""Keeps the code's place and the shown names of a study's own networks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from benchmark.config import registry
from benchmark.config.registry import ModelEntry
from benchmark.records.packed_study import model_folders
from benchmark.records.schema import Frozen, fault
from benchmark.utils.errors import UserError
from benchmark.utils.files import TooLargeError, read_limited, write_atomically

FILE = "networks.json"
FILE_BYTES = 1 << 20


class StudyNetwork(Frozen):
    """A user's network; a ``target`` that is a file is relative to the study's folder."""

    target: str
    display: str = ""
    group: str = ""
    citation: str = ""


_NETWORKS = TypeAdapter(dict[str, StudyNetwork])


def keep_networks(folder: Path, entries: Iterable[ModelEntry]) -> None:
    """Add the users' networks among some models to a study's file of them."""
    kept = _read(folder)
    networks = kept | {
        entry.name: StudyNetwork(
            target=_portable(entry.target, folder),
            display=entry.display,
            group=entry.group,
            citation=entry.citation,
        )
        for entry in entries
        if entry.family == "user"
    }
    if networks != kept:
        write_atomically(folder / FILE, _NETWORKS.dump_json(networks, indent=1) + b"\n")


def read_networks(folder: Path) -> dict[str, ModelEntry]:
    """Return the users' networks of a study, whose code need not be there.

    Raises:
        UserError: the file of networks cannot be read.
    """
    return {
        name: registry.user_entry(
            name, _moved(kept.target, folder, Path()), kept.display, group=kept.group, citation=kept.citation
        )
        for name, kept in _read(folder).items()
    }


def select_networks(folder: Path, patterns: str) -> list[ModelEntry]:
    """Resolve ``--models`` for a study, whose own networks need their names alone.

    Raises:
        UserError: as :func:`benchmark.config.registry.select`, or the code of a network of the study is not known, not
            there, or part of the study's folder.
    """
    kept = read_networks(folder)
    names = sorted({path.name for path in model_folders(folder)} - kept.keys())
    ran = [name for name in names if registry.find(name) is None]
    known = [entry for name in names if (entry := registry.find(name))]
    also = [*kept.values(), *known, *(registry.user_entry(name, name) for name in ran)]
    entries = registry.select(patterns, also)
    for entry in entries:
        flag, remedy = (
            f"--models {entry.name}",
            "expected the network that was trained: name it as path/to/file.py:Class",
        )
        if entry.name in ran and entry.target == entry.name:
            raise UserError(f"{flag}: {folder} does not say where this network's code lies; {remedy}")
        file = Path(entry.target.rpartition(":")[0])
        if entry != kept.get(entry.name):
            continue
        if file.suffix != ".py":  # installed packages register their networks, so they need no such entry
            raise UserError(f"{flag}: {folder / FILE} names {entry.target}, which no installed package has; {remedy}")
        if not file.is_file():
            raise UserError(f"{flag}: no file {file}, where the study's network was; {remedy}")
        if file.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{flag}: {file} is part of the study, of which nothing is run as code; {remedy}")
    return entries


def _read(folder: Path) -> dict[str, StudyNetwork]:
    file = folder / FILE
    try:
        return _NETWORKS.validate_json(read_limited(file, FILE_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValidationError, TooLargeError) as error:
        raise UserError(
            f"{file}: cannot be read ({fault(error)}); delete it and name your networks by their files"
        ) from error


def _portable(target: str, folder: Path) -> str:
    """Return a target for a study's folder; of a file outside of the working folder it keeps the name alone."""
    file, _, network_class = target.rpartition(":")
    if file.endswith(".py") and not Path(file).resolve().is_relative_to(Path.cwd()):
        return f"{Path(file).name}:{network_class}"  # its path may tell who works where
    return _moved(target, Path(), folder)


def _moved(target: str, start: Path, end: Path) -> str:
    """Return a target whose file is relative to one folder as relative to another; others stay as they are."""
    file, _, network_class = target.rpartition(":")
    if not file.endswith(".py"):
        return target
    try:
        moved = os.path.relpath(start / file, end)
    except ValueError:  # on another drive
        moved = os.path.abspath(start / file)
    return f"{Path(moved).as_posix()}:{network_class}"

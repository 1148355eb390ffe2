"""Writes files all or nothing, and reads files that others may have written."""

from __future__ import annotations

import contextlib
import os
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.utils.errors import UserError

#: The most that a TOML file of settings may hold, bytes; real ones have about a thousand.
TOML_BYTES = 1 << 20


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file that replaces ``path`` once it is complete (fsync and rename).

    A reader sees the old content or the new, never a part. An incomplete file is removed.

    Raises:
        UserError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place or free the disk"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # nothing is left where the rename was reached
            temporary.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as :func:`replacing` does; a read-only file that already has this content is fine.

    Raises:
        UserError: the place cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except UserError:
        with contextlib.suppress(OSError):
            if path.read_bytes() == content:
                return
        raise


def modified_ns(path: Path) -> int:
    """Return when a file was last written, in nanoseconds by its disk's clock; 0 without a file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


#: Facts that change when a file's content does, known without reading it; see :func:`stamp`.
Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp:
    """Return a file's inode, size and its times of last write and last change, both in nanoseconds.

    Size and time of the last write are not enough: masks of one format have one size, and copying tools restore the
    time. No tool sets the time of the last change, and a file that is renamed over another keeps its own inode.

    Raises:
        OSError: as ``stat`` does.
    """
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def no_folder(path: Path) -> str:
    """Say why a path is no folder."""
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    return "a file, not a folder" if path.exists() else "no such folder"


def check_folder(flag: str, folder: Path) -> None:
    """Refuse a folder that cannot be written to, before any work; it need not exist.

    Args:
        flag: names the folder in the message.
        folder: existing or not.

    Raises:
        UserError: the place is a file or is read-only.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "cannot be written to" if existing.is_dir() else "is a file"
        raise UserError(f"{flag} {folder}: {existing} {reason}; expected a folder to write to: name another place")


class TooLargeError(UserError):
    """A file is larger than files of its kind are."""


def read_limited(path: Path, limit: int) -> bytes:
    """Return a file's content of at most ``limit`` bytes, so that a foreign file cannot fill the memory.

    Raises:
        TooLargeError: the file is larger.
        OSError: the file cannot be opened or read.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(
            f"{path}: larger than {limit >> 20} MiB, which no file of its kind is; look where it is from"
        )
    return content


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """Read a TOML file, which errors call ``where``.

    Raises:
        UserError: unreadable, too large, or no TOML.
    """
    try:
        return tomllib.loads(read_limited(path, TOML_BYTES).decode("utf-8-sig"))  # Notepad writes a mark first
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: cannot be read ({error}); expected a TOML text file") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(
            f"{where}: not valid TOML ({error}); expected lines such as size = 512: correct the file"
        ) from error


def toml_value(text: str) -> Any:
    """Read a value as TOML, or else as a plain string, so that a command line needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

"""Writing files so that a crash leaves the old content or the new, and reading files that others may have written."""

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
    """Give the name of a file to write, and put that file in place of ``path`` when it is complete (fsync and rename).

    A reader sees the old content or the new, never a part; nothing is left of a file that was not completed.

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
    """Replace a file as :func:`replacing` does; a read-only place that holds the content already is as good.

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
    """Return when a file was last written, in nanoseconds by its disk's clock; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


#: Facts that change when a file's content does, known without reading it; see :func:`stamp`.
Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp:
    """Return a file's inode, size and its times of last write and last change, both in nanoseconds.

    Copying tools restore the time of the last write, and masks of one format have one size; no tool sets the time of
    the last change, and a file that was renamed into the place of another has a number of its own.

    Raises:
        OSError: as ``stat`` does.
    """
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def no_folder(path: Path) -> str:
    """Say why a path is no folder."""
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    return "a file, not a folder" if path.exists() else "no such folder"


def check_folder(flag: str, folder: Path) -> None:
    """Refuse a folder before any work where nothing could be written; it need not exist.

    Args:
        flag: by which a user names the place.
        folder: the place.

    Raises:
        UserError: the place is a file or is read-only.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there.is_dir() else "is a file"
        raise UserError(f"{flag} {folder}: {there} {what}; expected a folder to write to: name another place")


class TooLargeError(UserError):
    """A file that holds more than one of its kind can."""


def read_limited(path: Path, limit: int) -> bytes:
    """Return a file's content, but never read more than a limit: a file from elsewhere must not fill the memory.

    Args:
        path: the file.
        limit: bytes.

    Raises:
        TooLargeError: there is more.
        OSError: as opening and reading does.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(
            f"{path}: larger than {limit >> 20} MiB, which no file of its kind is; look where it is from"
        )
    return content


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        where: what errors call it.

    Raises:
        UserError: unreadable, too large, or no TOML.
    """
    try:
        return tomllib.loads(read_limited(path, TOML_BYTES).decode("utf-8-sig"))  # Notepad writes a mark first
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: cannot be read ({error}); expected a TOML text file") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not valid TOML ({error})") from error


def toml_value(text: str) -> Any:
    """Read a value as TOML would; what is no TOML is a plain string, so quotes are not needed on the command line."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

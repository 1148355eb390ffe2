"""Writes a worker's output to its run's log and quotes the last lines."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

#: Lines that a record quotes.
LINES = 20
#: Bytes that are read from a log's end for them.
TAIL_BYTES = 16_384

_HOMES = r"(?:[A-Za-z]:)?[/\\](?:home|Users)[/\\]"
#: Replacements of absolute paths, in this order: a quoted path may have spaces, and a home folder names its user.
_PATHS = (
    (re.compile(r"\bfile:/+(?=/)|\bfile:(?=/)"), ""),
    (re.compile(rf"""(?<=['"]){_HOMES}[^/\\"'\n]+(?=['"])"""), "~"),
    (re.compile(r"""(?<=['"])(?:[A-Za-z]:)?[/\\](?:[^/\\"'\n]+[/\\])+"""), ""),
    (re.compile(rf"""(?<![\w:/.]){_HOMES}[^\s/\\"'<>|:]+(?![^\s"'<>|:])"""), "~"),
    # From a slash (or drive) on: a path's folders. The first look-behind leaves web addresses and fractions alone.
    (re.compile(r"""(?<![\w:/.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\"'<>|:]+[/\\])+"""), ""),
)


def quiet_image_readers() -> None:
    """Silence remarks of Pillow and tifffile on odd metadata, which do not change the pixels.

    Called by this program's own processes only: a notebook keeps its warnings.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


@contextlib.contextmanager
def to_file(file: Path | None) -> Iterator[None]:
    """Append the output of this process and its libraries to a file; ``None`` changes nothing.

    The descriptors themselves are redirected, so that messages of C libraries arrive too, and the stack that
    ``faulthandler`` prints in a crash.
    """
    if file is None:
        yield
        return
    copies: list[int] = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab", opener=_unlinked) as log:
            sys.stdout.flush()
            sys.stderr.flush()
            copies = [os.dup(1), os.dup(2)]
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    except OSError:
        pass  # a disk that takes no log; the run itself will say so
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        for descriptor, copy in zip((1, 2), copies, strict=False):
            os.dup2(copy, descriptor)
            os.close(copy)


def tail(file: Path | None) -> str:
    """Return a log's last lines without folders; empty without a log."""
    if file is None:
        return ""
    try:
        with open(file, "rb", opener=_unlinked) as log:
            log.seek(max(log.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return quoted(text)


def quoted(text: str) -> str:
    """Return a text's last lines with paths cut to their files' names: records hold no absolute path."""
    return without_folders("\n".join(text.splitlines()[-LINES:]))


@functools.lru_cache(maxsize=512)  # environments of ten thousand runs share their values
def without_folders(text: str) -> str:
    """Cut absolute paths to their files' names, so that no user or folder is named."""
    for pattern, replacement in _PATHS:
        text = pattern.sub(replacement, text)
    return text


def _unlinked(path: str, flags: int) -> int:
    """Open a file, but no symbolic link, through which a foreign study could reach other files.

    Raises:
        OSError: the file is a link (systems without ``O_NOFOLLOW`` open it).
    """
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

"""A run's log: where a worker's output goes, and how its last lines are quoted."""

from __future__ import annotations

import contextlib
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
#: What absolute paths become, in this order: a quoted one may have spaces, and a home folder is called after its user.
_PATHS = (
    (re.compile(r"\bfile:/+(?=/)|\bfile:(?=/)"), ""),
    (re.compile(rf"""(?<=['"]){_HOMES}[^/\\"'\n]+(?=['"])"""), "~"),
    (re.compile(r"""(?<=['"])(?:[A-Za-z]:)?[/\\](?:[^/\\"'\n]+[/\\])+"""), ""),
    (re.compile(rf"""(?<![\w:/.]){_HOMES}[^\s/\\"'<>|:]+(?![^\s"'<>|:])"""), "~"),
    # From a slash (or drive) on: a path's folders. The first look-behind leaves web addresses and fractions alone.
    (re.compile(r"""(?<![\w:/.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\"'<>|:]+[/\\])+"""), ""),
)


def quiet_image_readers() -> None:
    """Keep comments of Pillow and tifffile on odd metadata off a terminal: they concern nobody who gets the pixels.

    For a process of this program alone; in a notebook that imports it, warnings are the notebook's.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


@contextlib.contextmanager
def to_file(file: Path | None) -> Iterator[None]:
    """Append what this process and its libraries print to a file; ``None`` leaves all as it is.

    The descriptors themselves are redirected, so that messages of C libraries arrive too, and the stack that
    ``faulthandler`` prints in a crash.
    """
    if file is None:
        yield
        return
    kept: list[int] = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab", opener=_unlinked) as log:
            sys.stdout.flush()
            sys.stderr.flush()
            kept = [os.dup(1), os.dup(2)]
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
        for descriptor, copy in zip((1, 2), kept, strict=False):
            os.dup2(copy, descriptor)
            os.close(copy)


def tail(file: Path | None) -> str:
    """Return a log's last lines, without folders; nothing where there is no log."""
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


def without_folders(text: str) -> str:
    """Cut absolute paths to their files' names, which leaves nothing of users and their folders."""
    for pattern, instead in _PATHS:
        text = pattern.sub(instead, text)
    return text


def _unlinked(path: str, flags: int) -> int:
    """Open a file that is no symbolic link: a study from elsewhere must not have this one write to, or quote, another.

    Raises:
        OSError: it is one (systems without ``O_NOFOLLOW`` cannot tell).
    """
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

"""What a member of an archive may be called, and how messages quote its name."""

from __future__ import annotations

import re
import reprlib
import unicodedata

MAX_DEPTH = 32
MAX_PART, MAX_PATH = 255, 1024  # bytes of one name, which is what file systems take, and of a whole path


def problem_of(name: str, parts: list[str], path: str) -> str | None:
    """Tell why a name is refused; ``None`` for one that no disk minds.

    Args:
        name: as the archive has it.
        parts: its folders and itself.
        path: where it would go.
    """
    if name.startswith("/"):
        return "an absolute path"
    if ".." in parts:
        return "goes up by '..'"
    if "\\" in name:
        return "a backslash, which separates folders on some systems"
    if any(re.match("[A-Za-z]:", part) for part in parts):
        return "a drive letter"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "control characters, or bytes that are no UTF-8"
    if len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return f"longer than {MAX_PATH} bytes, or than {MAX_PART} between two slashes"
    if path.count("/") >= MAX_DEPTH:
        return f"in more than {MAX_DEPTH - 1} folders"
    return None


def quoted(name: str) -> str:
    """Return a name in quotes, shortened."""
    shorten = reprlib.Repr()
    shorten.maxstring = 200
    return shorten.repr(name)

"""Checks and compares names of models, datasets and files."""

from __future__ import annotations

import re
import unicodedata

#: Letters, digits and underscores of any script, dots and hyphens; no separator, and no dot or hyphen in front.
PLAIN = r"^\w[\w.-]*$"


def is_plain(name: str) -> bool:
    """Tell whether a name is one that records accept."""
    return re.fullmatch(PLAIN.strip("^$"), name) is not None


def comparable(name: str) -> str:
    """Return a name in Unicode form NFC, for comparison: macOS separates accents from letters."""
    return unicodedata.normalize("NFC", name)

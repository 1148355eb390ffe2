"""Checks and compares names of models, datasets, studies and files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

#: Letters, digits and underscores of any script, dots and hyphens; no separator, and no dot or hyphen in front.
PLAIN = r"^\w[\w.-]*$"


def is_plain(name: str) -> bool:
    """Tell whether a name is one that records accept."""
    return re.fullmatch(PLAIN.strip("^$"), name) is not None


def comparable(name: str) -> str:
    """Return a name in Unicode form NFC, for comparison: macOS separates accents from letters."""
    return unicodedata.normalize("NFC", name)


def distinct_names(folders: Sequence[Path], *, numbered: bool = False) -> list[str]:
    """Return a name for each of several different folders: its own, after as many parents as tell it from the others.

    ``numbered`` tells folders of one name apart by a number, for a text that must not show paths.

    Example:
        >>> distinct_names([Path("/a/quick"), Path("/b/quick"), Path("/b/full")])
        ['a/quick', 'b/quick', 'full']
    """
    paths = [folder.resolve().parts for folder in folders]
    names = [path[-1] for path in paths]
    if numbered:
        order = sorted(range(len(paths)), key=lambda index: paths[index])
        totals, seen = Counter(names), Counter[str]()
        for index in order:
            name = names[index]
            seen[name] += 1
            names[index] = f"{name} ({seen[name]})" if totals[name] > 1 else name
        return names
    for depth in range(2, max(map(len, paths), default=0) + 1):
        totals = Counter(names)
        names = ["/".join(path[-depth:]) if totals[name] > 1 else name for path, name in zip(paths, names, strict=True)]
    return names

"""From what stands on the command line to the images that are meant: files, folders and wildcards."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from benchmark.data.images import IMAGE_SUFFIXES
from benchmark.errors import UserError


def expand(arguments: Iterable[str]) -> list[Path]:
    """Return the images, each once, in the arguments' order; a folder's and a wildcard's in the order of their names.

    Raises:
        UserError: what matches nothing, a folder without images, or two images of one stem, whose results would have
            one name.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            matches = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
        elif path.exists() or not glob.has_magic(argument):
            matches = [path]
        else:
            matches = sorted(
                match
                for match in map(Path, glob.glob(argument, recursive=True))
                if match.suffix.lower() in IMAGE_SUFFIXES
            )
        if not matches or not matches[0].exists():
            raise UserError(
                f"{argument}: no image; expected a file, a folder or a wildcard of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        for match in matches:
            found.setdefault(match.resolve(), match)
    stems: dict[str, Path] = {}
    for path in found.values():
        other = stems.setdefault(path.stem, path)
        if other is not path:
            raise UserError(
                f"{path}: {other} has the same stem, and so would its results; rename one or use another --out for it"
            )
    return list(found.values())

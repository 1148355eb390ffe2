"""Expands files, folders and wildcards of a command line into images."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmark.data.formats.images import IMAGE_SUFFIXES
from benchmark.utils.errors import UserError
from benchmark.utils.names import comparable
from benchmark.utils.words import counted


def expand(arguments: Iterable[str], note: Callable[[str], object]) -> list[Path]:
    """Return the images, each once, in the arguments' order; a folder's and a wildcard's in the order of their names.

    Hidden files are left out of folders; ``note`` receives a line about folders inside a folder, which are left out.

    Raises:
        UserError: an argument without images, or two images of one stem, whose results would have one name.
    """
    images: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if argument and path.is_dir():
            children = sorted(child for child in path.iterdir() if not child.name.startswith("."))
            matches = [child for child in children if child.suffix.lower() in IMAGE_SUFFIXES]
            if folders := [child.name for child in children if child.is_dir() and child not in matches]:
                note(
                    f"{path}: {counted(len(folders), 'folder')} not searched, such as {folders[0]}; "
                    f"'{path}/**/*' names all"
                )
        elif argument and (path.exists() or not glob.has_magic(argument)):
            matches = [path]
        else:
            paths = map(Path, glob.glob(argument, recursive=True))
            matches = sorted(match for match in paths if match.suffix.lower() in IMAGE_SUFFIXES)
        if not matches or not matches[0].exists():
            raise UserError(
                f"{argument or repr(argument)}: no image; expected a file, a folder or a wildcard of "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        for match in matches:
            images.setdefault(match.resolve(), match)
    stems: dict[str, Path] = {}
    for path in images.values():
        other = stems.setdefault(comparable(path.stem), path)
        if other is not path:
            raise UserError(
                f"{path}: {other} has the same stem, and so would its results; rename one or use another --out for it"
            )
    return list(images.values())

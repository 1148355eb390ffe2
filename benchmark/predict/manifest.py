"""What is finished in a folder of predictions: one small JSON file per image, written after its other files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.files import read_limited, write_atomically
from benchmark.predict.settings import Settings

FOLDER = "manifest"
BYTES = 1 << 20  # of a manifest, which has about a thousand


def path_of(out: Path, stem: str) -> Path:
    """Return where an image's manifest is."""
    return out / FOLDER / f"{stem}.json"


def check(out: Path, settings: Settings) -> None:
    """Refuse a folder that holds predictions made otherwise, since nobody could tell them apart later.

    Raises:
        UserError: names the settings that differ.
    """
    wanted = settings.to_json()
    for path in sorted((out / FOLDER).glob("*.json")):
        found = _read(path).get("settings", {})
        differing = [
            f"{name} {found.get(name)!r} there, {wanted.get(name)!r} now"
            for name in dict.fromkeys((*wanted, *found))
            if found.get(name) != wanted.get(name)
        ]
        if differing:
            raise UserError(
                f"--out {out}: holds predictions that were made otherwise ({'; '.join(differing)}); "
                "name another folder, or remove this one"
            )


def digest(image: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        OSError: as reading does.
    """
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_finished(out: Path, stem: str, content: str) -> bool:
    """Tell whether an image of this content has all its files."""
    path = path_of(out, stem)
    if not path.is_file():
        return False
    found = _read(path)
    files = found.get("files", [])
    return found.get("image", {}).get("sha256") == content and all((out / str(file)).is_file() for file in files)


def write(out: Path, stem: str, settings: Settings, facts: dict[str, Any], files: Iterable[Path]) -> None:
    """Declare an image finished.

    Raises:
        UserError: it cannot be written.
    """
    content = facts | {
        "settings": settings.to_json(),
        "files": [file.relative_to(out).as_posix() for file in files],
    }
    write_atomically(path_of(out, stem), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_limited(path, BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it, and its image is predicted again") from error
    expected = {"settings": dict, "image": dict, "files": list}
    if not isinstance(found, dict) or any(
        name in found and not isinstance(found[name], expected[name]) for name in expected
    ):
        raise UserError(f"{path}: no manifest; remove it, and its image is predicted again")
    return found

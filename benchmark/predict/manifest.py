"""Records the finished predictions of a folder, one JSON file per image.

A manifest without a list of files is written before all other files: so a folder names its images even after an
interrupted call, and results of another image are neither used nor replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.predict.reader import BrokenImageError
from benchmark.predict.settings import PredictSettings
from benchmark.utils.errors import UserError
from benchmark.utils.files import read_limited, write_atomically

FOLDER = "manifest"
#: Every file that an image can leave beside its manifest: folders and endings; ``mask_via`` is a folder of a layer.
KINDS = {
    "mask": (".png", ".tif"),
    "probability": (".png", ".tif"),
    "overlay": (".png",),
    "polygons": (".svg", ".gds", ".oas"),
    "vias": (".csv",),
    "netlist": (".csv", ".json"),
}
BYTES = 1 << 20  # of a manifest, which has about a thousand


def path_of(out: Path, stem: str) -> Path:
    """Return the path of an image's manifest."""
    return out / FOLDER / f"{stem}.json"


def check(out: Path, settings: PredictSettings, checked: set[Path]) -> None:
    """Refuse a folder of predictions under other settings, since nobody could tell them apart later.

    ``checked`` holds manifests that need not be read again; the others are added.

    Raises:
        UserError: names the settings that differ.
    """
    expected = settings.to_json()
    for path in sorted(set((out / FOLDER).glob("*.json")) - checked):
        checked.add(path)
        stored = _read(path).get("settings", {})
        if differing := list(_differences(stored, expected)):
            raise UserError(
                f"--out {out}: holds predictions that were made otherwise ({'; '.join(differing)}); "
                "name another folder, or remove this one"
            )


def tile_of(out: Path) -> int | None:
    """Return the side of the tiles of a folder's predictions; ``None`` where there are none."""
    first = min((out / FOLDER).glob("*.json"), default=None)
    tile = _read(first).get("settings", {}).get("tile") if first else None
    return tile if isinstance(tile, int) and tile > 0 else None


def digest(image: Path) -> str:
    """Return the sha256 of an image file.

    Raises:
        BrokenImageError: the file cannot be read.
    """
    try:
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BrokenImageError(f"{image}: cannot be read ({error.strerror or error}); correct the path") from error


def outputs_of(out: Path, stem: str) -> list[Path]:
    """Return an image's files beside its manifest."""
    folders = ((folder, endings) for kind, endings in KINDS.items() for folder in (out / kind, *out.glob(f"{kind}_*")))
    possible = (folder / f"{stem}{ending}" for folder, endings in folders for ending in endings)
    return [path for path in possible if path.is_file()]


def is_known(out: Path, stem: str) -> bool:
    """Tell whether the folder has a manifest or files of an image."""
    return path_of(out, stem).is_file() or bool(outputs_of(out, stem))


def is_finished(out: Path, image: Path, content: str) -> bool:
    """Tell whether the image with the digest ``content`` has all its files.

    Raises:
        UserError: the folder has files of another image of this stem, or files without a manifest.
    """
    path, files = path_of(out, image.stem), outputs_of(out, image.stem)
    remedy = f"name another --out for it, or remove what is of that name there ({out / '*' / image.stem}.*)"
    if not path.is_file():
        if files:
            raise UserError(f"{image}: --out {out} has {files[0]}, and no {path} that tells what it is of; {remedy}")
        return False
    stored = _read(path)
    if stored.get("image", {}).get("sha256") != content:
        raise UserError(
            f"{image}: --out {out} has results of another image of that name, or of this one before it changed "
            f"({path}); {remedy}"
        )
    return "files" in stored and all((out / str(file)).is_file() for file in stored["files"])


def begin(out: Path, image: Path, content: str, settings: PredictSettings, checked: set[Path]) -> None:
    """Declare the image with the digest ``content`` unfinished, and remove its files of an earlier call.

    Raises:
        UserError: another process has begun with other settings, or with another image of that name; files cannot be
            written or removed.
    """
    is_finished(out, image, content)  # refuses
    path = path_of(out, image.stem)
    _write(out, image.stem, {"image": {"file": image.name, "sha256": content}, "settings": settings.to_json()})
    try:  # only now: of two processes that begin at once, the later one to write sees the other
        check(out, settings, checked)
    except UserError:
        path.unlink(missing_ok=True)
        raise
    for path in outputs_of(out, image.stem):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be removed ({error.strerror or error}); name another --out") from error


def write(out: Path, stem: str, settings: PredictSettings, facts: dict[str, Any], files: Iterable[Path]) -> None:
    """Declare an image finished."""
    listed = [file.relative_to(out).as_posix() for file in files]
    _write(out, stem, facts | {"settings": settings.to_json(), "files": listed})


def _differences(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*expected, *stored)):
        there, now = stored.get(name), expected.get(name)
        if isinstance(there, dict) and isinstance(now, dict):
            yield from _differences(there, now)
        elif there != now:
            yield f"{name.replace('_', ' ')} {_in_words(there)} there, {_in_words(now)} now"


def _in_words(value: object) -> str:
    """Return a setting's value as a user would say it: ``formats gds and oas, tolerance 1``."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, list):
        return (" and " if all(isinstance(part, str) for part in value) else "/").join(map(_in_words, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _write(out: Path, stem: str, content: dict[str, Any]) -> None:
    write_atomically(path_of(out, stem), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_limited(path, BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it, and its image is predicted again") from error
    expected = {"settings": dict, "image": dict, "files": list}
    if not isinstance(content, dict) or any(
        not isinstance(content.get(name, kind()), kind) for name, kind in expected.items()
    ):
        raise UserError(f"{path}: no manifest; remove it, and its image is predicted again")
    return content

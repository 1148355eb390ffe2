"""Records the finished predictions of a folder, one JSON file per image.

Before any of these, it is written without their list: so a folder tells which images it is of even where a call was
interrupted, and no other image's results are taken for its own or replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.predict.settings import PredictSettings
from benchmark.utils.errors import UserError
from benchmark.utils.files import read_limited, write_atomically

FOLDER = "manifest"
#: Every file that an image can leave beside its manifest: folders and endings.
KINDS = {
    "mask": (".png", ".tif"),
    "probability": (".png", ".tif"),
    "overlay": (".png",),
    "polygons": (".svg", ".gds", ".oas"),
    "vias": (".csv",),
}
BYTES = 1 << 20  # of a manifest, which has about a thousand


def path_of(out: Path, stem: str) -> Path:
    """Return where an image's manifest is."""
    return out / FOLDER / f"{stem}.json"


def check(out: Path, settings: PredictSettings, checked: set[Path]) -> None:
    """Refuse a folder that holds predictions made otherwise, since nobody could tell them apart later.

    Args:
        out: folder of the results.
        settings: of this call.
        checked: manifests that need not be read again; the others are added.

    Raises:
        UserError: names the settings that differ.
    """
    wanted = settings.to_json()
    for path in sorted(set((out / FOLDER).glob("*.json")) - checked):
        checked.add(path)
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


def outputs_of(out: Path, stem: str) -> list[Path]:
    """Return the files there are for an image, beside its manifest."""
    possible = (out / kind / f"{stem}{suffix}" for kind, suffixes in KINDS.items() for suffix in suffixes)
    return [path for path in possible if path.is_file()]


def is_known(out: Path, stem: str) -> bool:
    """Tell whether there is anything for an image."""
    return path_of(out, stem).is_file() or bool(outputs_of(out, stem))


def is_finished(out: Path, image: Path, content: str) -> bool:
    """Tell whether an image has all its files.

    Args:
        out: folder of the results.
        image: the file.
        content: its :func:`digest`.

    Raises:
        UserError: the files there are those of another image, or of nobody knows what.
    """
    path, there = path_of(out, image.stem), outputs_of(out, image.stem)
    remedy = f"name another --out for it, or remove what is of that name there ({out / '*' / image.stem}.*)"
    if not path.is_file():
        if there:
            raise UserError(f"{image}: --out {out} has {there[0]}, and no {path} that tells what it is of; {remedy}")
        return False
    found = _read(path)
    if found.get("image", {}).get("sha256") != content:
        raise UserError(
            f"{image}: --out {out} has results of another image of that name, or of this one before it changed "
            f"({path}); {remedy}"
        )
    return "files" in found and all((out / str(file)).is_file() for file in found["files"])


def begin(out: Path, image: Path, content: str, settings: PredictSettings, checked: set[Path]) -> None:
    """Declare an image unfinished, and remove the files that an earlier call left of it.

    Args:
        out: folder of the results.
        image: the file.
        content: its :func:`digest`.
        settings: of this call.
        checked: see :func:`check`, which is asked once more.

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
    """Declare an image finished.

    Raises:
        UserError: it cannot be written.
    """
    listed = [file.relative_to(out).as_posix() for file in files]
    _write(out, stem, facts | {"settings": settings.to_json(), "files": listed})


def _write(out: Path, stem: str, content: dict[str, Any]) -> None:
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

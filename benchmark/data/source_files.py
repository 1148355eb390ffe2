"""Describes files of public repositories and reads them from a user's own copy."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmark.utils.errors import UserError
from benchmark.utils.files import read_limited

MOST_BYTES = 1 << 30  # of one file; a stitched scan as JPEG has some 100 MB


class SourceFile(BaseModel):
    """One file of a public source: documented, checked when it is prepared, and never downloaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(description="of the repository or page")
    file: str = Field(description="path in the repository, or name of the download")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file's bytes")
    commit: str | None = Field(None, pattern=r"^[0-9a-f]{7,64}$", description="of the repository; may lie in the past")
    licence: str = Field("", description="under which the file may be used")
    to: str | None = Field(None, description="path below the dataset's folder, such as image/scan.jpg")

    @field_validator("file", "to")
    @classmethod
    def _stays_below(cls, path: str | None) -> str | None:
        if path is not None and (not path or "\\" in path or PurePosixPath(path).is_absolute() or ".." in path):
            raise ValueError(f"found {path!r}; expected a path such as image/scan.jpg that leads out of no folder")
        return path

    @property
    def version(self) -> str:
        """The file as git and users name it."""
        return f"{self.commit[:12]}:{self.file}" if self.commit else self.file

    def is_at(self, path: Path) -> bool:
        """Return whether a path holds this file's content."""
        return path.is_file() and _sha256(_read(path)) == self.sha256


def read_sources(files: Sequence[SourceFile], source: Path) -> dict[str, bytes]:
    """Return the content of each file by its path, from a git clone or a folder.

    In a clone, a file's version of its commit is read, also if the work tree has another one. In a folder, files have
    their paths in the repository or lie side by side.

    Raises:
        UserError: no folder; or files that are missing or have another content, all in one message.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no folder; expected a git clone of {files[0].address}, or a folder of its files")
    contents: dict[str, bytes] = {}
    problems = []
    for file in files:
        candidates = [*_from_clone(file, source), *_from_folder(file, source)]
        right = next((content for content in candidates if _sha256(content) == file.sha256), None)
        if right is not None:
            contents[file.file] = right
        elif candidates:
            problems.append(
                f"{file.version} has another content (SHA-256 {_sha256(candidates[0])[:16]}, expected "
                f"{file.sha256[:16]})"
            )
        else:
            problems.append(f"{file.version} is missing")
    if problems:
        address = files[0].address
        command = f"; `git show COMMIT:FILE > {source / 'NAME'}` in such a clone takes one file from its history"
        raise UserError(
            f"{source}: {'; '.join(problems)}. Expected a clone of {address} with its history, or a folder with these "
            f"files{command if any(file.commit for file in files) else ''}"
        )
    return contents


def _from_clone(file: SourceFile, source: Path) -> list[bytes]:
    """Return a file's version of its commit; nothing if the folder is no clone or lacks it."""
    if file.commit is None or not ((source / ".git").exists() or (source / "objects").is_dir()):
        return []
    command = ["git", "-C", str(source), "cat-file", "blob", f"{file.commit}:{file.file}"]
    try:
        # A partial clone would otherwise ask its server for what it lacks.
        done = subprocess.run(command, capture_output=True, check=False, env=_offline())
    except OSError:  # no git program: files of a work tree are read as of any folder
        return []
    return [done.stdout] if done.returncode == 0 else []


def _offline() -> dict[str, str]:
    return {**os.environ, "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}


def _from_folder(file: SourceFile, source: Path) -> list[bytes]:
    paths = dict.fromkeys((source / file.file, source / PurePosixPath(file.file).name))
    return [_read(path) for path in paths if path.is_file()]


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _z80(name: str, sha256: str, commit: str = "1b378b45c8f0a88501ba593cc480dc5159149a8d") -> SourceFile:
    return SourceFile(
        address="https://github.com/emu-russia/SEGAChips",
        file=f"T84C/imgstore/{name}.jpg",
        sha256=sha256,
        commit=commit,
        licence="CC0 1.0",
    )


_DRAWN = _z80("regblock_diff_poly", "30ad477c5f7ae876766e08d042bccfb989ca76eebc1eba3c68e721ef60adbea7")
#: Metal, contacts, poly and diffusion over the photograph; later versions of this file have other colours.
_OVERLAY = _z80(
    "regblock_modules",
    "42b82cc0b52ab1e6aa3da31beb6f439281a53799455694d8d8d4365816019bed",
    "e4697480ce2ab940f33f09cf4f1151fcc8420e39",
)
T84C = (
    _z80("regblock_m1_img", "3faaae01fa9a3f4b0522672d736aba422c63540b185148ca08a18f6b49c9b454"),
    _OVERLAY,
    _DRAWN,
)
T84C_POLY = (_z80("regblock_poly_img", "d3134b01cd9df7f33b8c68465c4a802c7dda7e4334fe76956a9b1f7347874b0e"), _DRAWN)
DIE_54HC32 = tuple(
    SourceFile(
        address="https://github.com/alexsantee/IC_image_segmentation",
        file=file,
        sha256=sha256,
        commit=commit,
        licence="MIT",
    )
    for file, sha256, commit in (
        (
            "54HC32_RCA_8825_die_120nmpp_4xsmaller.jpg",
            "ea933b6c62e237c467a8bfecbf6ef2a313b9ae0e1a971a77147e289b85b3f644",
            "5fbeea7939507fbd3fb2026d8539129e9a24071b",
        ),
        (
            "manual_segmentation/54HC32_metal.gif",
            "0f1121f57c5f9d14b3781b791b3858fa8c0688bd5450ac562df0507c24b25618",
            "2940af1badf6709e5d9b8d05afa4ad63c818c4f6",
        ),
    )
)

"""Reads a study's files from its folders or from its packed form."""

from __future__ import annotations

import csv
import functools
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from benchmark.utils.errors import UserError
from benchmark.utils.files import Stamp, TooLargeError, read_limited, stamp

#: Raised when the packed form changes. It continues the numbers of records, which keep those they were written with.
PACKED_SCHEMA = 4
#: Folder of the packed files, and the file that every packed study has.
PACKED, RECORDS = "packed", "records.json"
IMAGES, HISTORIES, PANELS = "images", "histories", "panels.zip"
#: Pattern of a study's files -> pattern of the packed files that hold them. All other files stay where they are.
HOLDERS = {
    **dict.fromkeys(
        (
            *("runs/*/*/*/record.json", "stress/*/*/*/*.json", "ensembles/*/*/*/*.json"),
            *("efficiency/*.json", "bench/*.json", "splits/*.json"),
        ),
        RECORDS,
    ),
    **dict.fromkeys(
        ("runs/*/*/*/images.*.csv", "stress/*/*/*/*.csv", "ensembles/*/*/*/*.csv", "references/*.csv"), f"{IMAGES}*.csv"
    ),
    "runs/*/*/*/history.csv": f"{HISTORIES}*.csv",
    **dict.fromkeys(("runs/*/*/*/panels.*.npz", "panels/*.npz"), PANELS),
}
#: The most that a packed file may hold, bytes; counts of a hundred thousand images and a hundred runs have less.
PACKED_BYTES = 4 << 30

# Path of a packed file; its parts have no separator, quote or comma, and no dot in front.
_NAME = re.compile(r"\w[\w.+@-]*(?:/\w[\w.+@-]*)*")
# A group for each pattern above: a study has tens of thousands of files, so one match decides for each.
_PATTERNS = re.compile("|".join(f"({re.escape(pattern).replace(re.escape('*'), '[^/]*')})" for pattern in HOLDERS))
_DEPTHS = sorted({pattern.count("/") + 1 for pattern in HOLDERS})
_HEAD = re.compile(r'\{"schema": (\d+), "files": \{\n')
_ENTRY = re.compile(r'"([^"\n]+)": (\{\n.*?\n\})(,?)\n', re.DOTALL)
_END = "}}\n"


def is_packed(study: Path) -> bool:
    """Return whether a study is packed; a few files may lie in its folders beside that."""
    return (study / PACKED / RECORDS).is_file()


def has_runs(study: Path) -> bool:
    """Return whether a study has begun trainings, as far as its folders tell."""
    return (study / "runs").is_dir() or is_packed(study)


def read_stored(file: Path, limit: int) -> bytes:
    """Return the content of a study's file of at most ``limit`` bytes; a file in its folder replaces a packed one.

    Raises:
        TooLargeError: the content is larger.
        UserError: the packed form cannot be read.
        OSError: there is no such file, or it cannot be read.
    """
    try:
        return read_limited(file, limit)
    except (FileNotFoundError, NotADirectoryError):
        content = _packed_content(file)
        if content is None:
            raise
    if len(content) > limit:
        raise TooLargeError(f"{file}: packed, and larger than {limit >> 20} MiB, which no file of its kind is")
    return content


def is_stored(file: Path) -> bool:
    """Return whether a study has a file, in its folder or packed."""
    return file.is_file() or _packed_content(file) is not None


def stored_files(study: Path, pattern: str) -> list[Path]:
    """Return the paths of a study's files of a pattern, such as ``splits/[!.]*.json``, in order, packed ones too."""
    suffix = PurePosixPath(pattern).suffix
    holders = dict.fromkeys(holder for files, holder in HOLDERS.items() if PurePosixPath(files).suffix == suffix)
    names = (name for holder in holders for name in packed_files(study, holder))
    return sorted({*study.glob(pattern), *(study / name for name in names if _fits(name, pattern))})


def model_folders(study: Path, pattern: str = "[!.]*/[!.]*") -> list[Path]:
    """Return the folders ``runs/<training set>/<model>`` of a study, packed ones too."""
    folders = (path for path in (study / "runs").glob(pattern) if path.is_dir())
    packed = (file.parents[1] for file in stored_files(study, f"runs/{pattern}/*/record.json"))
    return sorted({*folders, *packed})


def holder_of(name: str) -> str | None:
    """Return the pattern of the packed files that hold a file, named below its study's folder; ``None`` for others."""
    match = _PATTERNS.fullmatch(name) if _NAME.fullmatch(name) else None
    return tuple(HOLDERS.values())[match.lastindex - 1] if match and match.lastindex else None


def packed_files(study: Path, holder: str) -> dict[str, bytes]:
    """Return the content of a study's packed files by their names below its folder.

    Args:
        study: its folder.
        holder: pattern of the packed files, a value of ``HOLDERS``.

    Raises:
        UserError: the packed form cannot be read, or is of a newer release.
    """
    contents: dict[str, bytes] = {}
    for file in _holding(study, holder):
        contents |= _read(file, stamp(file))
    return contents


def parse(name: str, content: bytes) -> dict[str, bytes]:
    """Return the files in a packed file; ``name`` is that of the packed file.

    Raises:
        ValueError: it is none.
        UserError: a newer release packed it.
    """
    parsers = {".json": _parse_records, ".csv": _parse_rows, ".zip": _parse_zip}
    files = parsers[PurePosixPath(name).suffix](content)
    for file in files:
        holder = holder_of(file)
        if holder is None or not fnmatchcase(name, holder):
            raise ValueError(f"{file!r} does not belong there")
    return files


def _packed_content(file: Path) -> bytes | None:
    for depth in _DEPTHS:  # <study>/runs/<train>/<model>/<repeat>/record.json
        name = "/".join(file.parts[-depth:])
        holder = holder_of(name) if len(file.parts) >= depth else None
        if holder is not None and is_packed(study := file.parents[depth - 1]):
            found = (_read(packed, stamp(packed)).get(name) for packed in _holding(study, holder))
            return next((content for content in found if content is not None), None)
    return None


def _holding(study: Path, holder: str) -> list[Path]:
    """Return the packed files of a pattern, in order; none of a study that is not packed."""
    packed = study / PACKED
    try:
        return [packed / name for name in sorted(os.listdir(packed)) if fnmatchcase(name, holder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _fits(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


@functools.lru_cache(maxsize=16)
def _read(file: Path, _: Stamp) -> Mapping[str, bytes]:
    """Read a packed file once, as long as it stays unchanged."""
    try:
        return parse(file.name, read_limited(file, PACKED_BYTES))
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file}: not a file of a packed study ({error}); restore it, for instance from version control"
        ) from error


def _parse_records(content: bytes) -> dict[str, bytes]:
    text = content.decode()
    head = _HEAD.match(text)
    if head is None:
        raise ValueError("no schema and files in front")
    if int(head[1]) > PACKED_SCHEMA:
        raise UserError(
            f"packed study of schema {head[1]}, made by a newer release; this one reads up to {PACKED_SCHEMA}: "
            "update it"
        )
    files: dict[str, bytes] = {}
    position = head.end()
    while entry := _ENTRY.match(text, position):
        files[entry[1]] = f"{entry[2]}\n".encode()
        position = entry.end()
    if text[position:] != _END:
        raise ValueError(f"unexpected text in line {text.count(chr(10), 0, position) + 1}")
    return files


def rows_of(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield each row of a CSV file as cells and as the text that it has in the file."""
    lines = list(io.StringIO(text, newline=""))
    reader, start = csv.reader(lines, strict=True), 0
    for cells in reader:
        yield cells, "".join(lines[start : reader.line_num])
        start = reader.line_num


def _parse_rows(content: bytes) -> dict[str, bytes]:
    (first, *_), header = next(rows := rows_of(content.decode()), ([""], ""))
    if first != "file":
        raise ValueError("the first column is not 'file'")
    texts: dict[str, list[str]] = {}
    for (name, *_), row in rows:
        texts.setdefault(name, [header.removeprefix("file,")]).append(row.removeprefix(f"{name},"))
    return {name: "".join(text).encode() for name, text in texts.items()}


def _parse_zip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(f"{packed[0]!r} is compressed")
        return {member.filename: archive.read(member) for member in members}

"""Packs a finished study into a few files and unpacks it again."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmark.records import claims
from benchmark.records.packed_study import (
    HISTORIES,
    HOLDERS,
    IMAGES,
    PACKED,
    PACKED_BYTES,
    PACKED_SCHEMA,
    PANELS,
    RECORDS,
    holder_of,
    is_packed,
    packed_files,
    parse,
    rows_of,
)
from benchmark.records.store import Store
from benchmark.utils.errors import UserError
from benchmark.utils.files import read_limited, write_atomically

EARLIEST = (1980, 1, 1, 0, 0, 0)  # a file's time in a zip file, so that equal files give equal bytes


def pack_study(study: Path) -> int:
    """Put a finished study's records, counts, histories and kept images into one file each, in ``packed/``.

    Every file comes back byte for byte from :func:`unpack_study`. The files in the folders are removed after the packed
    ones are on disk and compared, so an interrupted call loses nothing, and the next one completes it.

    Returns:
        The number of files that were packed; 0 if the study was packed before.

    Raises:
        UserError: no study, an unfinished one, or a file that would not come back as it is.
    """
    store = Store(study)
    with _claimed(study):
        _refuse_unfinished(store)
        loose = _loose_files(study)
        contents = _packed(study) | {name: read_limited(file, PACKED_BYTES) for name, file in loose.items()}
        if not loose:
            return 0
        packed = _pack(study, contents)
        for name, content in packed.items():
            write_atomically(study / PACKED / name, content)
        for file in (study / PACKED).glob("[!.]*"):
            if file.name not in packed:
                file.unlink()
        if _packed(study) != contents:
            raise UserError(f"{study / PACKED}: holds something else than was written; nothing was removed: try again")
        _remove(study, loose.values())
    return len(loose)


def unpack_study(study: Path) -> int:
    """Put the files of a packed study into its folders again and remove ``packed/``.

    Returns:
        The number of files that were written; 0 for a study that is not packed.

    Raises:
        UserError: the packed form cannot be read, or a place cannot be written.
    """
    with _claimed(study):
        missing = {name: content for name, content in _packed(study).items() if not (study / name).exists()}
        for name, content in missing.items():
            write_atomically(study / name, content)
        # The records last: without them, the study does not count as packed.
        _remove(study, sorted((study / PACKED).glob("[!.]*"), key=lambda file: file.name == RECORDS))
    return len(missing)


@contextlib.contextmanager
def _claimed(study: Path) -> Iterator[None]:
    """Claim the study's folder, as a run does while it prepares the study."""
    if not study.is_dir() or not (is_packed(study) or _loose_files(study)):
        raise UserError(f"{study}: no study there; expected a folder that `benchmark run` made")
    if (claim := claims.acquire(study)) is None:
        raise UserError(f"{study}: another process is at work in this study; wait for it or stop it")
    with claim:
        yield


def _refuse_unfinished(store: Store) -> None:
    records, broken = store.survey()
    reasons = store.unfinished() or [broken.reason for broken in broken]
    reasons += [f"{record.label} was interrupted" for _, record in records if record.status == "interrupted"]
    if reasons:
        raise UserError(
            f"{store.folder}: unfinished ({reasons[0]}); expected a finished study: complete it by the same "
            "`benchmark run`, then pack it"
        )


def _loose_files(study: Path) -> dict[str, Path]:
    """Return the files in a study's folders that are packed, by their names below the study."""
    files = {file.relative_to(study).as_posix(): file for pattern in HOLDERS for file in study.glob(pattern)}
    return {name: file for name, file in sorted(files.items()) if holder_of(name) is not None}


def _packed(study: Path) -> dict[str, bytes]:
    return {name: content for holder in set(HOLDERS.values()) for name, content in packed_files(study, holder).items()}


def _pack(study: Path, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the packed files, which give back these contents."""
    faults = (ValueError, csv.Error, UserError)
    with contextlib.suppress(*faults):
        packed = _packed_forms(contents)
        if _parsed(packed) == contents:
            return packed
    for name, content in contents.items():
        with contextlib.suppress(*faults):
            if _parsed(_packed_forms({name: content})) == {name: content}:
                continue
        raise UserError(
            f"{study / name}: would not come back byte for byte; expected a file as this project writes it: restore "
            "it, or move its folder away"
        )
    raise AssertionError("files that can be packed alone can be packed together")


def _parsed(packed: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        name: content
        for file, packed_content in packed.items()
        for name, content in parse(file, packed_content).items()
    }


def _packed_forms(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    groups: dict[str, dict[str, bytes]] = {holder: {} for holder in HOLDERS.values()}
    for name, content in sorted(contents.items()):
        groups[str(holder_of(name))][name] = content
    forms = {RECORDS: _records(groups[RECORDS])}
    for stem in (IMAGES, HISTORIES):
        forms |= _tables(stem, groups[f"{stem}*.csv"])
    return forms | ({PANELS: _archive(groups[PANELS])} if groups[PANELS] else {})


def _records(files: Mapping[str, bytes]) -> bytes:
    """Return one JSON file whose entries keep the text of the files."""
    entries = []
    for name, content in files.items():
        text = content.decode()
        json.loads(text)  # raises a ValueError: a broken file would break all others
        entries.append(f'"{name}": {text.removesuffix(chr(10))}')
    listed = ",\n".join(entries) + "\n" * bool(entries)
    return f'{{"schema": {PACKED_SCHEMA}, "files": {{\n{listed}}}}}\n'.encode()


def _tables(stem: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a table of all rows for each set of columns, the file of a row in front; most studies have one table."""
    tables: dict[str, list[str]] = {}
    for name, content in files.items():
        text = content.decode()
        if not text.endswith("\n"):
            raise ValueError("the next file's rows would continue its last one")
        (_, header), *rows = rows_of(text)
        tables.setdefault(header, []).extend(f"{name},{row}" for _, row in rows)
    names = (f"{stem}.csv" if number == 1 else f"{stem}.{number}.csv" for number in range(1, len(tables) + 1))
    return {
        name: "".join((f"file,{header}", *rows)).encode()
        for name, (header, rows) in zip(names, tables.items(), strict=True)
    }


def _archive(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, file_content in files.items():
            archive.writestr(zipfile.ZipInfo(name, EARLIEST), file_content)
    return content.getvalue()


def _remove(study: Path, files: Iterable[Path]) -> None:
    """Remove files, and the folders in a study that are empty then."""
    folders: set[Path] = set()
    for file in files:
        try:
            file.unlink()
        except OSError as error:
            raise UserError(
                f"{file}: cannot be removed ({error.strerror}); remove it and repeat the command"
            ) from error
        folders.update(folder for folder in file.parents if folder.is_relative_to(study) and folder != study)
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()

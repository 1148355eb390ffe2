"""Copies a download's images and labels into a dataset's folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmark.data.datasets import choose, locate, names_of_all
from benchmark.data.formats.all_formats import format_of_file, label_suffixes
from benchmark.data.formats.images import IMAGE_SUFFIXES
from benchmark.data.pairs import LAYOUTS
from benchmark.data.prepare import archives
from benchmark.data.prepare.archives import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Member, filled_folder, writing
from benchmark.data.prepare.downloads import Assignment, present, recognise
from benchmark.data.prepare.from_sources import Prepared, prepare_sources
from benchmark.data.prepare.unpack import CHUNK
from benchmark.data.specs import SUFFIX
from benchmark.data.splits import PARTS
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted


def prepare_dataset(
    name: str, source: Path, data_root: Path, progress: Callable[[int, int], None] | None = None
) -> Prepared:
    """Copy a download's images and labels to ``data_root/name`` in a layout that the harness reads.

    A dataset with source files, such as t84c, is made from these alone; see :func:`from_sources.prepare_sources`.

    The source does not change. All names, sizes and the layout are checked before the first write. A crash leaves no
    incomplete file, and the next call continues after an interrupted one.

    Args:
        name: of the dataset, a plain folder name.
        source: a folder or an archive; a folder may hold several archives.
        data_root: the folder of datasets; created if it does not exist.
        progress: called with (files done, files in all).

    Raises:
        UserError: a name with other characters, a source that :func:`archives.members` or
            :func:`downloads.recognise` refuses, other content at a file's path, a disk that is full or read-only.
    """
    target = _target(name, source, data_root)
    _remove_leftovers(target)
    if name in names_of_all(data_root) and (spec := choose([name], data_root)[name]).source:
        return prepare_sources(spec, source, locate(name, spec, data_root)[0])
    with archives.members(source, target) as members:
        assignment = recognise(source, members, target)
        existing = _existing(assignment, target)
        new = (file for path, file in assignment.files.items() if path not in existing)
        archives.require_space(sum(file.size for file in new if not file.is_unpacked), target)
        _copy_all(assignment, target, existing, progress)
    names = LAYOUTS["hy5syn" if assignment.layout == "hy5syn" else "folders"]
    images = sum(len(present(target / part / names.image, IMAGE_SUFFIXES)) for part in assignment.parts)
    labels = sum(_count_labels(target / part / names.label) for part in assignment.parts)
    notes = _notes(assignment, source, target, images, labels)
    copied = len(assignment.files) - len(existing)
    return Prepared(target, assignment.layout, images, labels, copied, len(existing), notes)


def _count_labels(folder: Path) -> int:
    files = [folder / name for name in present(folder, label_suffixes(many=True))]
    return sum(len(label_format.entries(file) or ()) for file in files if (label_format := format_of_file(file)))


def _target(name: str, source: Path, data_root: Path) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(
            f"dataset name {name!r}: expected a plain name of letters, digits and . _ - that starts with a letter or "
            "digit, such as mychip"
        )
    if name.endswith(SUFFIX):
        raise UserError(f"dataset name {name!r}: names that end in {SUFFIX} are those of stand-ins; choose another")
    target = data_root / name
    try:
        if target.is_symlink():
            raise UserError(
                f"{target}: a link to {os.readlink(target)}; remove the link, or give the folder that its target lies "
                "in as --data-root"
            )
        if target.exists() and not target.is_dir():
            raise UserError(f"{target}: a file where a folder is to go; move it elsewhere")
        folder, real = target.resolve(), source.resolve()
        overlap = source.is_dir() and (folder.is_relative_to(real) or real.is_relative_to(folder))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{source}, {target}: cannot be read ({error}); choose other folders") from error
    if overlap:
        raise UserError(
            f"{source}: holds {target}, or lies in it; expected a download elsewhere: move one of the two, or choose "
            "another --data-root"
        )
    return target


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files and folders of calls that were killed; a living call needs its own."""
    for path in target.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"):
        owner = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
        if owner.isdecimal() and int(owner) != os.getpid() and psutil.pid_exists(int(owner)):
            continue
        with writing(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _existing(assignment: Assignment, target: Path) -> set[str]:
    """Return the assigned files that exist with the right size; refuse everything else at their paths."""
    tops, parts = {path.partition("/")[0] for path in assignment.files}, assignment.parts
    own = {"sems"} if assignment.layout == "hy5syn" else {"image"} if parts == ("",) else set(parts)
    for other in ("image", "sems", *PARTS):
        if other not in own and os.path.lexists(target / other):
            raise UserError(
                f"{target}: holds {other}/ already, beside which {', '.join(sorted(tops))} cannot be read; choose "
                "another dataset name, or move that folder elsewhere"
            )
    for folder in {*((target / path).parent for path in assignment.files), *(target / top for top in tops)}:
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise UserError(f"{folder}: a link or a file where a folder is to go; move it elsewhere")
    existing = set()
    for path, member in assignment.files.items():
        file = target / path
        try:
            size = file.lstat().st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
        if file.is_symlink() or not file.is_file() or size != member.size:
            raise _different(file, member)
        existing.add(path)
    return existing


def _copy_all(
    assignment: Assignment, target: Path, existing: set[str], progress: Callable[[int, int], None] | None
) -> None:
    with contextlib.ExitStack() as folders:
        for done, (path, member) in enumerate(assignment.files.items(), 1):
            file = target / path
            if path in existing:
                _require_same(member, file)
            else:
                if not file.parent.exists():
                    folders.enter_context(filled_folder(file.parent))
                if member.is_unpacked:
                    _move(member.file, file)
                else:
                    _copy(
                        member,
                        file,
                        target / f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}",
                    )
            if progress:
                progress(done, len(assignment.files))


def _copy(member: Member, target: Path, temporary: Path) -> None:
    """Write a member under another name first, so that a crash leaves no incomplete file."""
    try:
        with writing(target), temporary.open("xb") as file:
            for chunk in member.chunks():
                file.write(chunk)
        _move(temporary, target)
    finally:
        with contextlib.suppress(OSError):  # after the rename there is no temporary file
            temporary.unlink()


def _move(file: Path, target: Path) -> None:
    """Rename a file once the disk holds its content."""
    with writing(target):
        with file.open("r+b") as content:  # Windows flushes only what may be written
            os.fsync(content.fileno())
        os.replace(file, target)


def _require_same(member: Member, path: Path) -> None:
    try:
        with path.open("rb", buffering=CHUNK) as file:
            same = all(file.read(len(chunk)) == chunk for chunk in member.chunks())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not same:
        raise _different(path, member)


def _different(path: Path, member: Member) -> UserError:
    return UserError(
        f"{path}: exists with other content than {member.where}; nothing is overwritten: move it elsewhere, or choose "
        "another dataset name"
    )


def _notes(assignment: Assignment, source: Path, target: Path, images: int, labels: int) -> tuple[str, ...]:
    notes, counts = [], f"{counted(images, 'image')}, {counted(labels, 'label')}"
    if assignment.layout == "miic" and labels < images:
        notes.append(
            f"{counts}: MIIC's track masks were never published, and the masks that it ships "
            f"mark defects; put the masks of tracks beside as {target / 'label'}/<stem>.png"
        )
    elif labels < images:
        notes.append(counts)
    if assignment.repeated:
        notes.append(
            f"{counted(assignment.repeated, 'image')} of Inpainting_* left out: images of the same names are there "
            "already"
        )
    if assignment.left_out:
        notes.append(
            f"{counted(len(assignment.left_out), 'file')} of {source} left out, such as {assignment.left_out[0]!r}"
        )
    return tuple(notes)

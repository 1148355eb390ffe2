"""Copies a download's images and labels into a dataset's folder."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.formats.all_formats import format_of_file, label_suffixes
from benchmark.data.formats.images import IMAGE_SUFFIXES
from benchmark.data.pairs import LAYOUTS
from benchmark.data.prepare import archives
from benchmark.data.prepare.archives import Member
from benchmark.data.prepare.downloads import Assignment, Layout, present, recognise
from benchmark.data.prepare.unpack import CHUNK
from benchmark.data.specs import SUFFIX
from benchmark.data.splits import PARTS
from benchmark.utils.errors import UserError

TEMPORARY = ".prepare-{}.tmp"


@dataclass(frozen=True)
class Prepared:
    """Result of a call.

    Attributes:
        folder: the dataset's folder.
        layout: of the source.
        images: images in the folder now.
        labels: labels in the folder now.
        copied: files that this call wrote.
        skipped: files of the source that were there already, byte for byte.
        notes: sentences that the user should read.
    """

    folder: Path
    layout: Layout
    images: int
    labels: int
    copied: int
    skipped: int
    notes: tuple[str, ...]


def prepare(name: str, source: Path, data_root: Path, progress: Callable[[int, int], None] | None = None) -> Prepared:
    """Copy a download's images and labels to ``data_root/name`` in a layout that the harness reads.

    The source stays as it is. Names, sizes and layout of everything are checked before anything is written. Files are
    written whole or not at all, and a call that was interrupted goes on when it is made again.

    Args:
        name: of the dataset, a plain folder name.
        source: a folder or an archive; a folder may hold several archives.
        data_root: the folder of datasets; made where it does not exist.
        progress: called with files done and files in all.

    Raises:
        UserError: a name that is no plain one, a source that :func:`archives.members` or :func:`downloads.recognise`
            refuses, other content where a file is to go, a place that cannot be written or lacks the room.
    """
    target = _target(name, source, data_root)
    with archives.members(source) as members:
        plan = recognise(source, members, target)
        there = _already_there(plan, target)
        archives.require_space(sum(file.size for path, file in plan.files.items() if path not in there), target)
        _copy_all(plan, target, there, progress)
    names = LAYOUTS["hy5syn" if plan.layout == "hy5syn" else "folders"]
    images = sum(len(present(target / part / names.image, IMAGE_SUFFIXES)) for part in plan.parts)
    labels = sum(_count_labels(target / part / names.label) for part in plan.parts)
    notes = _notes(plan, source, target, images, labels)
    return Prepared(target, plan.layout, images, labels, len(plan.files) - len(there), len(there), notes)


def _count_labels(folder: Path) -> int:
    files = [folder / name for name in present(folder, label_suffixes(many=True))]
    return sum(len(known.entries(file) or ()) for file in files if (known := format_of_file(file)))


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
        place, real = target.resolve(), source.resolve()
        overlap = source.is_dir() and (place.is_relative_to(real) or real.is_relative_to(place))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{source}, {target}: cannot be looked at ({error}); choose other places") from error
    if overlap:
        raise UserError(
            f"{source}: holds {target}, or lies in it; expected a download elsewhere: move one of the two, or choose "
            "another --data-root"
        )
    return target


def _already_there(plan: Assignment, target: Path) -> set[str]:
    """Return which of the planned files exist with the right size, and refuse whatever else is in their way."""
    tops = {path.partition("/")[0] for path in plan.files}
    mine = {"sems"} if plan.layout == "hy5syn" else {"image"} if plan.parts == ("",) else set(plan.parts)
    for other in ("image", "sems", *PARTS):
        if other not in mine and os.path.lexists(target / other):
            raise UserError(
                f"{target}: holds {other}/ already, beside which {', '.join(sorted(tops))} cannot be read; choose "
                "another dataset name, or move that folder elsewhere"
            )
    for folder in {target, *((target / path).parent for path in plan.files), *(target / top for top in tops)}:
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise UserError(f"{folder}: a link or a file where a folder is to go; move it elsewhere")
    there = set()
    for path, member in plan.files.items():
        place = target / path
        try:
            size = place.lstat().st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{place}: cannot be looked at ({error.strerror}); check its permissions") from error
        if place.is_symlink() or not place.is_file() or size != member.size:
            raise _other(place, member)
        there.add(path)
    return there


def _copy_all(plan: Assignment, target: Path, there: set[str], progress: Callable[[int, int], None] | None) -> None:
    made: list[Path] = []
    try:
        for stale in target.glob(TEMPORARY.format("*")):
            with _writing(stale):
                stale.unlink()
        for done, (path, member) in enumerate(plan.files.items(), 1):
            if path in there:
                _require_same(member, target / path)
            else:
                _make_folder((target / path).parent, made)
                _copy(member, target / path, target / TEMPORARY.format(uuid.uuid4().hex[:8]))
            if progress:
                progress(done, len(plan.files))
    finally:
        for folder in reversed(made):  # those that hold nothing yet, where something went wrong
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        with _writing(place):
            place.mkdir()
        made.append(place)


def _copy(member: Member, place: Path, temporary: Path) -> None:
    """Write a member under another name first, so that a crash leaves the file whole or not at all."""
    try:
        with _writing(place):
            with temporary.open("xb") as file:
                for chunk in member.chunks():
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
    finally:
        with contextlib.suppress(OSError):  # nothing is left where the rename was reached
            temporary.unlink()


def _require_same(member: Member, place: Path) -> None:
    try:
        with place.open("rb", buffering=CHUNK) as file:
            same = all(file.read(len(chunk)) == chunk for chunk in member.chunks())
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror}); check its permissions") from error
    if not same:
        raise _other(place, member)


def _other(place: Path, member: Member) -> UserError:
    return UserError(
        f"{place}: exists with other content than {member.where}; nothing is overwritten: move it elsewhere, or choose "
        "another dataset name"
    )


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place}: cannot be written ({error.strerror or error}); choose another --data-root or free the disk"
        ) from error


def _notes(plan: Assignment, source: Path, target: Path, images: int, labels: int) -> tuple[str, ...]:
    notes = []
    if plan.layout == "miic" and labels < images:
        notes.append(
            f"{images} images, {labels} labels: MIIC's track masks were never published, and the masks that it ships "
            f"mark defects; put the masks of tracks beside as {target / 'label'}/<stem>.png"
        )
    elif labels < images:
        notes.append(f"{images} images, {labels} labels")
    if plan.repeated:
        notes.append(f"{plan.repeated} images of Inpainting_* left out: images of the same names are there already")
    if plan.left_out:
        notes.append(f"{len(plan.left_out)} files of {source} left out, such as {plan.left_out[0]!r}")
    return tuple(notes)

"""Lists and reads the files of a folder or an archive, and refuses harmful ones."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import reprlib
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.prepare import unpack
from benchmark.data.prepare.unpack import ArchiveEntry
from benchmark.utils.errors import UserError

RESERVE = 1 << 28  # bytes of the disk that stay free
MAX_DEPTH = 32
MAX_PART, MAX_PATH = 255, 1024  # bytes of one name, which is what file systems take, and of a whole path
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # beside whatever starts with a dot
IN_FOLDER = "rename or remove it, or name a folder that holds the dataset alone"


@dataclass(frozen=True)
class Member:
    """A file of a source.

    Attributes:
        path: relative POSIX path, free of ``..`` and of anything else that leads out of a folder. Inside an archive of
            a folder, the archive's own path comes first, as if it were a folder.
        size: bytes, as the directory or header says; :meth:`chunks` makes sure of it.
        where: how messages name it.
        file: its content, which is there while the source is open.
    """

    path: str
    size: int
    where: str
    file: Path

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most ``CHUNK`` bytes, never more in all than ``size``.

        Raises:
            UserError: unreadable, or of another length than announced.
        """
        left = self.size
        with _reading(self.where), self.file.open("rb") as file:
            while chunk := file.read(min(unpack.CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        if left:
            length = "more" if left < 0 else f"{self.size - left}"
            raise UserError(f"{self.where}: announced as {self.size} bytes, found {length}; download or copy it again")


@contextlib.contextmanager
def members(source: Path) -> Iterator[list[Member]]:
    """List the files of a folder, a zip, a tar (plain, gzip, bzip2, xz), a RAR or a 7z, which the content tells apart.

    Hidden files and what desktops leave behind are left out. In a folder, links are followed as long as they stay
    inside, and archives count as folders of their members; archives in archives stay closed. Archives are unpacked into
    a temporary folder, which exists as long as the source is open.

    Raises:
        UserError: unreadable, damaged, encrypted or unknown source; a name that is absolute, goes up, is too long, too
            deep or not portable, or occurs twice (upper and lower case being the same); a link that leaves a folder or
            loops, any link in an archive, a device; too many members; more content than an honest archive holds.
    """
    with contextlib.ExitStack() as stack:
        listing = _Listing(stack)
        with _reading(str(source)):
            is_folder, root = source.is_dir(), source.resolve()
        if is_folder:
            listing.add_folder(root, source, "", (root,))
        else:
            listing.add_archive(source, "")
        yield listing.members


def require_space(size: int, place: Path, remedy: str = "choose another --data-root") -> None:
    """Refuse to put more on a disk than it has room for.

    Args:
        size: bytes.
        place: path on that disk; need not exist.
        remedy: what else helps than to make room.

    Raises:
        UserError: less than ``size`` and a reserve are free.
    """
    with _reading(str(place)):
        free = shutil.disk_usage(next(path for path in (place, *place.absolute().parents) if path.is_dir())).free
    if size > free - RESERVE:
        raise UserError(
            f"{place}: needs {size / 1e9:.3g} GB and a reserve of {RESERVE / 1e9:.2g} GB, but {free / 1e9:.3g} GB are "
            f"free; make room or {remedy}"
        )


class _Listing:
    """Collects members and refuses those that no dataset needs."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.members: list[Member] = []
        self.stack = stack  # removes what was unpacked
        self.count = 0
        self.files: dict[str, str] = {}  # path as a case-insensitive disk sees it -> path as it is
        self.folders: set[str] = set()

    def add_folder(self, root: Path, folder: Path, prefix: str, chain: tuple[Path, ...]) -> None:
        """Add what lies below a folder; ``chain`` holds the real paths from the root down to it."""
        with _reading(str(folder)), os.scandir(chain[-1]) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        for entry in entries:
            where, real = str(folder / entry.name), Path(chain[-1], entry.name)
            path = self._admit(folder, prefix, entry.name, IN_FOLDER)
            if path is None:
                continue
            if entry.is_symlink():
                real = _followed(where, Path(entry.path), root)
            if entry.is_dir():
                if real in chain:
                    raise UserError(f"{where}: a link to a folder that it lies in; {IN_FOLDER}")
                self.add_folder(root, folder / entry.name, f"{path}/", (*chain, real))
            elif not entry.is_file():
                raise UserError(f"{where}: neither file nor folder (a device, pipe or socket); {IN_FOLDER}")
            elif not os.access(real, os.R_OK):
                raise UserError(f"{where}: cannot be read (Permission denied); check its permissions")
            elif unpack.LATER_VOLUME.fullmatch(entry.name):
                continue  # the first volume leads to it
            elif unpack.ARCHIVE_SUFFIX.search(entry.name):
                self.add_archive(folder / entry.name, f"{path}/")
            else:
                with _reading(where):
                    size = entry.stat().st_size
                self._add(Member(path, size, where, real), IN_FOLDER)

    def add_archive(self, archive: Path, prefix: str) -> None:
        """Unpack an archive into a temporary folder, and add its members; no entry is written before it is checked."""
        with _reading(str(archive)):
            folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))).resolve()
            packed, entries = unpack.entries_of(archive, folder, self.stack)
            steps = self._checked(archive, prefix, folder, packed, entries)
            # A tar has no index: its entries are checked and unpacked in turn.
            for member, extract in list(steps) if isinstance(entries, list) else steps:
                with _reading(member.where):
                    extract()

    def _checked(
        self, archive: Path, prefix: str, folder: Path, packed: int, entries: Iterable[ArchiveEntry]
    ) -> Iterator[tuple[Member, Callable[[], object]]]:
        """Add the members of an archive, and yield each with what unpacks it."""
        total = 0
        for entry in entries:
            path = self._admit(archive, prefix, entry.name, unpack.REMEDY)
            where = f"{archive}: {_quoted(entry.name)}"
            total += entry.size
            if entry.packed is not None and entry.size > max(unpack.RATIO_FROM, unpack.MAX_RATIO * entry.packed):
                raise unpack.bomb(where, entry.size, entry.packed)
            if total > unpack.RATIO_FROM + unpack.MAX_RATIO * packed:
                raise unpack.bomb(str(archive), total, packed)
            if entry.size < 0 or (path and entry.extract and entry.problem):
                raise UserError(f"{where}: {entry.problem}")
            if path is None or entry.extract is None:
                continue
            required = total if isinstance(entries, list) else entry.size
            require_space(required, folder, "set TMPDIR to a folder on a larger disk")
            member = Member(path, entry.size, where, Path(folder, path.removeprefix(prefix)))
            self._add(member, unpack.REMEDY)
            yield member, entry.extract

    def _admit(self, archive: Path, prefix: str, name: str, remedy: str) -> str | None:
        """Return the path of an entry, or ``None`` for one to leave out; refuse it by its name alone."""
        self.count += 1
        if self.count > unpack.MAX_MEMBERS:
            raise UserError(f"{archive}: more than {unpack.MAX_MEMBERS} files and folders; name a part of it")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        path = prefix + "/".join(parts)
        if problem := _problem(name, parts, path):
            raise UserError(f"{archive}: {_quoted(name)}: {problem}; {remedy}")
        hidden = any(part.startswith(".") or part.casefold() in JUNK for part in parts)
        return None if hidden or not parts else path

    def _add(self, member: Member, remedy: str) -> None:
        key = unicodedata.normalize("NFC", member.path).casefold()
        folders = [key[:end] for end, mark in enumerate(key) if mark == "/"]
        if key in self.files:
            other = _quoted(self.files[key])
            raise UserError(f"{member.where}: there is also {other}, the same name to some disks; {remedy}")
        if key in self.folders or any(folder in self.files for folder in folders):
            raise UserError(f"{member.where}: its name is a file's and a folder's at once; {remedy}")
        self.files[key] = member.path
        self.folders.update(folders)
        self.members.append(member)


def _problem(name: str, parts: list[str], path: str) -> str | None:
    """Tell why a name is refused; ``None`` for one that no disk minds."""
    if name.startswith("/"):
        return "an absolute path"
    if ".." in parts:
        return "goes up by '..'"
    if "\\" in name:
        return "a backslash, which separates folders on some systems"
    if any(re.match("[A-Za-z]:", part) for part in parts):
        return "a drive letter"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "control characters, or bytes that are no UTF-8"
    if len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return f"longer than {MAX_PATH} bytes, or than {MAX_PART} between two slashes"
    if path.count("/") >= MAX_DEPTH:
        return f"in more than {MAX_DEPTH - 1} folders"
    return None


def _quoted(name: str) -> str:
    shorten = reprlib.Repr()
    shorten.maxstring = 200
    return shorten.repr(name)


def _followed(where: str, link: Path, root: Path) -> Path:
    try:
        real = Path(os.path.realpath(link, strict=True))
    except OSError as error:
        raise UserError(f"{where}: a link that leads nowhere ({error.strerror}); {IN_FOLDER}") from error
    if not real.is_relative_to(root):
        raise UserError(f"{where}: a link that leaves {root}; put the files themselves there, or remove it")
    return real


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn whatever reading raises into one message."""
    try:
        yield
    except UserError:
        raise
    # Parsers meet damaged bytes with struct.error, zlib.error, KeyError, RecursionError and others, none documented.
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            message = f"{where}: {tempfile.gettempdir()} is full; make room, or set TMPDIR to a folder on a larger disk"
        elif isinstance(error, OSError) and error.errno is not None:
            message = f"{where}: cannot be read ({error.strerror}); expected a readable file or folder"
        else:
            message = (
                f"{where}: damaged or incomplete ({_quoted(str(error) or type(error).__name__)}); download it again"
            )
        raise UserError(message) from error

"""Lists and reads the files of folders and archives, and refuses harmful files."""

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
MAX_PART, MAX_PATH = 255, 1024  # bytes of a name (the limit of file systems) and of a whole path
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # names with a first dot are left out too
#: Names of files and folders that exist during a call; hidden, so that no reader takes them for data.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".prepare-", ".tmp"
IN_FOLDER = "rename or remove it, or name a folder that holds the dataset alone"


@dataclass(frozen=True)
class Member:
    """A file of a source."""

    # relative POSIX path without ``..`` and other ways out of a folder. An archive inside of a folder counts as a
    # folder: its own path comes first.
    path: str
    size: int  # bytes, by the directory or header; :meth:`chunks` checks it
    where: str  # name in messages
    file: Path  # the content; exists while the source is open
    is_unpacked: bool = False  # whether the file is a temporary file of an archive, which may be moved

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most ``CHUNK`` bytes, at most ``size`` bytes in all.

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
            raise self.other_length("more" if left < 0 else f"{self.size - left}")

    def other_length(self, length: str) -> UserError:
        """Return the error for content of another length than announced."""
        return UserError(f"{self.where}: announced as {self.size} bytes, found {length}; download or copy it again")


@contextlib.contextmanager
def members(source: Path, target: Path) -> Iterator[list[Member]]:
    """List the files of a folder, a zip, a tar (plain, gzip, bzip2, xz), a RAR or a 7z.

    The content tells the format. Hidden files and the files of desktops are left out. In a folder, links are followed
    if they stay inside, and archives count as folders of their members; archives in archives stay closed. Archives are
    unpacked into a temporary folder of the target, which exists while the source is open.

    Args:
        source: a folder or an archive.
        target: the folder that members are for; it need not exist.

    Raises:
        UserError: unreadable, damaged, encrypted or unknown source; a name that is absolute, goes up, is too long, too
            deep or not portable, or occurs twice (ignoring case); a link that leaves a folder or loops, any link in an
            archive, a device; too many members; more content than an honest archive holds.
    """
    with contextlib.ExitStack() as stack:
        listing = _Listing(stack, target)
        with _reading(str(source)):
            is_folder, root = source.is_dir(), source.resolve()
        if is_folder:
            listing.add_folder(root, source, "", (root,))
        else:
            listing.add_archive(source, "")
        yield listing.members


def require_space(size: int, path: Path) -> None:
    """Raise a UserError if ``size`` bytes and a reserve are not free on the disk of a path, which need not exist."""
    with _reading(str(path)):
        free = shutil.disk_usage(next(part for part in (path, *path.absolute().parents) if part.is_dir())).free
    if size > free - RESERVE:
        raise UserError(
            f"{path}: needs {size / 1e9:.3g} GB and a reserve of {RESERVE / 1e9:.2g} GB, but {free / 1e9:.3g} GB are "
            "free; make room or choose another --data-root"
        )


@contextlib.contextmanager
def filled_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; those that were created and are empty at the end are removed again.

    Raises:
        UserError: the folder cannot be created.
    """
    with writing(folder):
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the disk into UserErrors."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another --data-root or free the disk"
        ) from error


class _Listing:
    """Collects members and refuses those that no dataset needs."""

    def __init__(self, stack: contextlib.ExitStack, target: Path) -> None:
        self.members: list[Member] = []
        self.stack = stack  # removes the unpacked files
        self.target = target
        self.count = 0
        self.files: dict[str, str] = {}  # path as a case-insensitive disk sees it -> path as it is
        self.folders: set[str] = set()

    def add_folder(self, root: Path, folder: Path, prefix: str, chain: tuple[Path, ...]) -> None:
        """Add the files below a folder; ``chain`` holds the real paths from the root down to it."""
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
        """Unpack an archive into a temporary folder, and add its members; checks come before writes."""
        with _reading(str(archive)):
            folder = self._temporary_folder()
            packed, entries = unpack.entries_of(archive, folder, self.stack)
            steps = self._checked(archive, prefix, folder, packed, entries)
            mode = _mode_of_new_files()
            # A tar has no index: its entries are checked and unpacked in turn.
            for member, extract in list(steps) if isinstance(entries, list) else steps:
                with _reading(member.where):
                    extract()
                    member.file.chmod(mode)  # RAR and 7z keep permissions of the owner's machine
                    size = member.file.stat().st_size
                if size != member.size:
                    raise member.other_length(str(size))

    def _temporary_folder(self) -> Path:
        """Create a folder in the target, so that files move from the one to the other without a copy."""
        self.stack.enter_context(filled_folder(self.target))
        with writing(self.target):
            folder = tempfile.TemporaryDirectory(
                prefix=f"{TEMPORARY_PREFIX}{os.getpid()}-", suffix=TEMPORARY_SUFFIX, dir=self.target
            )
        return Path(self.stack.enter_context(folder)).resolve()

    def _checked(
        self, archive: Path, prefix: str, folder: Path, packed: int, entries: Iterable[ArchiveEntry]
    ) -> Iterator[tuple[Member, Callable[[], object]]]:
        """Add the members of an archive, and yield each with the function that unpacks it."""
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
            require_space(required, self.target)
            member = Member(path, entry.size, where, Path(folder, path.removeprefix(prefix)), is_unpacked=True)
            self._add(member, unpack.REMEDY)
            yield member, entry.extract

    def _admit(self, archive: Path, prefix: str, name: str, remedy: str) -> str | None:
        """Return the path of an entry, or ``None`` if it is left out; refuse a harmful name."""
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


def _problem(name: str, parts: list[str], path: str) -> str:
    """Return the reason to refuse a name, or ``""``."""
    longest = max((len(part.encode(errors="replace")) for part in parts), default=0)
    is_too_long = longest > MAX_PART or len(path.encode(errors="replace")) > MAX_PATH
    is_text = not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    return unpack.first_problem(
        (name.startswith("/"), "an absolute path"),
        (".." in parts, "goes up by '..'"),
        ("\\" in name, "a backslash, which separates folders on some systems"),
        (any(re.match("[A-Za-z]:", part) for part in parts), "a drive letter"),
        (not is_text, "control characters, or bytes that are no UTF-8"),
        (is_too_long, f"longer than {MAX_PATH} bytes, or than {MAX_PART} between two slashes"),
        (path.count("/") >= MAX_DEPTH, f"in more than {MAX_DEPTH - 1} folders"),
    )


def _mode_of_new_files() -> int:
    mask = os.umask(0o077)  # the only way to read it is to set it
    os.umask(mask)
    return 0o666 & ~mask


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
    """Turn every error of reading into a UserError."""
    try:
        yield
    except UserError:
        raise
    # On damaged bytes parsers raise struct.error, zlib.error, KeyError, RecursionError and other undocumented errors.
    except Exception as error:
        problem = f"damaged or incomplete ({_quoted(str(error) or type(error).__name__)}); download it again"
        if isinstance(error, OSError) and error.errno is not None:
            problem = f"cannot be read ({error.strerror}); expected a readable file or folder"
            if error.errno == errno.ENOSPC:
                problem = "the disk is full; make room or choose another --data-root"
        raise UserError(f"{where}: {problem}") from error

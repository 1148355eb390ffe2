"""The files inside a folder or an archive, listed and read; what could do harm is refused."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from benchmark.data.prepare import foreign
from benchmark.data.prepare.member_names import problem_of, quoted
from benchmark.utils.errors import UserError

CHUNK = 1 << 16  # bytes per read; also the longest header of a tar, where a name and its attributes need a few hundred
MAX_MEMBERS = 1_000_000  # forty times the files of the largest known dataset
MAX_INDEX = 160 * MAX_MEMBERS  # bytes of a zip's directory: 46 and a name of a hundred per member
# Images and masks reach 50:1; deflate ends at 1032:1 and the other methods much higher. Small files do no harm.
MAX_RATIO, RATIO_FROM = 200, 1 << 20
RESERVE = 1 << 28  # bytes of the disk that stay free

JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # beside whatever starts with a dot
ARCHIVE_SUFFIX = re.compile(r"\.(zip|tar|tar\.(gz|bz2|xz|zst)|tgz|tbz2?|txz|rar|7z)$", re.IGNORECASE)
OPENERS: Mapping[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
FOREIGN = {b"Rar!\x1a\x07": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"\x28\xb5\x2f\xfd": "Zstandard"}

IN_FOLDER = "rename or remove it, or name a folder that holds the dataset alone"
IN_ARCHIVE = "get the archive from its owner again, or look into it, unpack what you trust and name that folder instead"


@dataclass(frozen=True)
class Member:
    """A file of a source.

    Attributes:
        path: relative POSIX path, free of ``..`` and of anything else that leads out of a folder. Inside an archive of
            a folder, the archive's own path comes first, as if it were a folder.
        size: bytes, as the directory or header says; :meth:`chunks` makes sure of it.
        where: how messages name it.
        open: opens the content, unchecked; works while the source is open.
    """

    path: str
    size: int
    where: str
    open: Callable[[], io.BufferedIOBase]

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of at most ``CHUNK`` bytes, never more in all than ``size``.

        Members of a compressed tar are read fastest in the order in which they are listed.

        Raises:
            UserError: damaged, unreadable, or of another length than announced.
        """
        left = self.size
        with _reading(self.where), self.open() as file:
            while chunk := file.read(min(CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        if left:
            found = "more" if left < 0 else f"{self.size - left}"
            raise UserError(f"{self.where}: announced as {self.size} bytes, found {found}; download or copy it again")


@contextlib.contextmanager
def members(source: Path) -> Iterator[list[Member]]:
    """List the files of a folder, a zip, a tar (plain, gzip, bzip2, xz), a RAR or a 7z, which the content tells apart.

    Hidden files and what desktops leave behind are left out. In a folder, links are followed as long as they stay
    inside, and archives count as folders of their members; archives in archives stay closed. Zips and tars are read as
    they are; RARs and 7zs are unpacked into a temporary folder by a program of the system, as long as the source is
    open.

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
        self.stack = stack  # closes the archives
        self.count = 0
        self.files: dict[str, str] = {}  # path as a case-insensitive disk sees it -> path as it is
        self.folders: set[str] = set()

    def add_folder(
        self, root: Path, folder: Path, prefix: str, chain: tuple[Path, ...], *, is_unpacked: bool = False
    ) -> None:
        """Add what lies below a folder; ``chain`` holds the real paths from the root down to it.

        What was unpacked lies elsewhere than ``folder``, by which messages call it, and its archives stay closed.
        """
        with _reading(str(folder)), os.scandir(chain[-1]) as found:
            entries = sorted(found, key=lambda entry: entry.name)
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
                self.add_folder(root, folder / entry.name, f"{path}/", (*chain, real), is_unpacked=is_unpacked)
            elif not entry.is_file():
                raise UserError(f"{where}: neither file nor folder (a device, pipe or socket); {IN_FOLDER}")
            elif not os.access(real, os.R_OK):
                raise UserError(f"{where}: cannot be read (Permission denied); check its permissions")
            elif ARCHIVE_SUFFIX.search(entry.name) and not is_unpacked:
                if foreign.is_later_volume(real):
                    continue  # the first one holds it
                self.add_archive(folder / entry.name, f"{path}/")
            else:
                with _reading(where):
                    size = entry.stat().st_size
                self._add(path, size, where, partial(_of_folder, real), IN_FOLDER)

    def add_archive(self, archive: Path, prefix: str) -> None:
        """Add the members of an archive, which stays open until the listing's stack is closed."""
        with _reading(str(archive)):
            with archive.open("rb") as file:
                head = file.read(tarfile.BLOCKSIZE)
            if head.startswith((b"PK\3\4", b"PK\5\6")):  # a member, or the end of an empty directory
                self._add_zip(archive, prefix)
                return
            opener = next((OPENERS[magic] for magic in OPENERS if head.startswith(magic)), None)
            if opener is not None:
                with opener(archive) as file:
                    head = file.read(tarfile.BLOCKSIZE)
            if head[257:262] == b"ustar":
                self._add_tar(archive, prefix, opener)
                return
        kind = next((FOREIGN[magic] for magic in FOREIGN if head.startswith(magic)), None)
        if opener is None and kind in ("RAR", "7z"):
            self._add_foreign(archive, prefix, kind)
            return
        raise UserError(
            f"{archive}: a {kind} archive, which is not read; unpack it, move it elsewhere and name the folder"
            if kind and opener is None
            else f"{archive}: neither a folder nor a whole zip or tar (.tar .tar.gz .tar.bz2 .tar.xz) by its content; "
            "download it again, or unpack it, move it elsewhere and name the folder"
        )

    def _add_foreign(self, archive: Path, prefix: str, kind: str) -> None:
        if foreign.is_later_volume(archive):
            raise UserError(
                f"{archive}: one of several volumes; expected the first, which leads to the others: name it"
            )
        with _reading(str(archive)):
            packed = foreign.packed_size(archive)
            place = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))).resolve()
        most = RATIO_FROM + MAX_RATIO * packed

        def check(entries: Sequence[foreign.Entry]) -> None:
            before = self.count
            for entry in entries:
                if self._admit(archive, prefix, entry.name, IN_ARCHIVE) is not None and entry.problem:
                    raise UserError(f"{archive}: {quoted(entry.name)}: {entry.problem}")
            self.count = before  # what is unpacked is counted again
            total = sum(entry.size for entry in entries)
            if total > most:
                raise _bomb(str(archive), total, packed)
            require_space(total, place, "set TMPDIR to a folder on a larger one")

        unpacked = foreign.unpack(archive, kind, place, most, check)
        if unpacked.is_dir():
            self.add_folder(unpacked, archive, prefix, (unpacked,), is_unpacked=True)
        else:
            self._add_tar(archive, prefix, lambda _: unpacked.open("rb"))

    def _add_zip(self, archive: Path, prefix: str) -> None:
        stream = _Bounded(self.stack.enter_context(archive.open("rb")), archive, MAX_INDEX, None)
        file = self.stack.enter_context(zipfile.ZipFile(cast("IO[bytes]", stream)))
        total, packed = 0, archive.stat().st_size
        for info in file.infolist():
            # `filename` ends at a NUL and has this system's separators replaced; the other is what the archive says.
            path = self._admit(archive, prefix, info.orig_filename, IN_ARCHIVE)
            where = f"{archive}: {quoted(info.orig_filename)}"
            total += info.file_size
            if info.file_size > max(RATIO_FROM, MAX_RATIO * info.compress_size):
                raise _bomb(where, info.file_size, info.compress_size)
            # Members that overlap pass the check above one by one.
            if total > RATIO_FROM + MAX_RATIO * packed:
                raise _bomb(str(archive), total, packed)
            if path is None or info.orig_filename.endswith("/"):
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                what = "a symbolic link" if kind == stat.S_IFLNK else "a device, pipe or other special file"
                raise UserError(f"{where}: {what}; {IN_ARCHIVE}")
            if info.flag_bits & 1:
                raise UserError(f"{where}: encrypted; unpack the archive with its password and name the folder")
            # Of the other methods, zipfile unpacks whatever 4 kB hold at once: gigabytes in the case of bzip2.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(
                    f"{where}: compression method {info.compress_type}, expected stored or deflated; unpack the "
                    "archive and name the folder"
                )
            self._add(path, info.file_size, where, partial(_of_zip, file, info), IN_ARCHIVE)

    def _add_tar(self, archive: Path, prefix: str, opener: Callable[[Path], io.BufferedIOBase] | None) -> None:
        furthest = RATIO_FROM + MAX_RATIO * archive.stat().st_size if opener else None
        content = self.stack.enter_context(opener(archive) if opener else archive.open("rb"))
        stream = _Bounded(content, archive, CHUNK, furthest)
        file = self.stack.enter_context(tarfile.TarFile(fileobj=cast("IO[bytes]", stream)))
        for info in file:
            path = self._admit(archive, prefix, info.name, IN_ARCHIVE)
            where = f"{archive}: {quoted(info.name)}"
            if info.size < 0:
                raise UserError(f"{where}: a size of {info.size} bytes; {IN_ARCHIVE}")
            if path is None or info.isdir():
                continue
            if not info.isreg() or info.issparse():
                links = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link"}
                raise UserError(
                    f"{where}: {links.get(info.type, 'a device, pipe or other special file')}; {IN_ARCHIVE}"
                )
            self._add(path, info.size, where, partial(_of_tar, file, info), IN_ARCHIVE)
        # tarfile takes a damaged header, and a file that ends too early, for the end of the archive.
        stream.seek(file.offset)
        rest = stream.read(tarfile.BLOCKSIZE)
        whole = len(rest) == tarfile.BLOCKSIZE
        while rest and not any(rest):  # up to the end, where a compressed file has its checksum
            rest = stream.read(CHUNK)
        if rest or not whole:
            raise UserError(f"{archive}: damaged or cut off at byte {file.offset} of its tar; download it again")

    def _admit(self, archive: Path, prefix: str, name: str, remedy: str) -> str | None:
        """Return the path of an entry, or ``None`` for one to leave out; refuse it by its name alone."""
        self.count += 1
        if self.count > MAX_MEMBERS:
            raise UserError(f"{archive}: more than {MAX_MEMBERS} files and folders; name a part of it")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        path = prefix + "/".join(parts)
        if problem := problem_of(name, parts, path):
            raise UserError(f"{archive}: {quoted(name)}: {problem}; {remedy}")
        hidden = any(part.startswith(".") or part.casefold() in JUNK for part in parts)
        return None if hidden or not parts else path

    def _add(self, path: str, size: int, where: str, opened: Callable[[], io.BufferedIOBase], remedy: str) -> None:
        key = unicodedata.normalize("NFC", path).casefold()
        folders = [key[:end] for end, mark in enumerate(key) if mark == "/"]
        if key in self.files:
            raise UserError(f"{where}: there is also {quoted(self.files[key])}, the same name to some disks; {remedy}")
        if key in self.folders or any(folder in self.files for folder in folders):
            raise UserError(f"{where}: its name is a file's and a folder's at once; {remedy}")
        self.files[key] = path
        self.folders.update(folders)
        self.members.append(Member(path, size, where, opened))


class _Bounded(io.BufferedIOBase):
    """A file that gives neither more at once nor more in all than an honest archive needs."""

    def __init__(self, file: io.BufferedIOBase, archive: Path, longest: int, furthest: int | None) -> None:
        self.file, self.archive, self.longest, self.furthest = file, archive, longest, furthest

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position, bytes."""
        return self.file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, but not beyond what the size of the file makes plausible: getting there means to unpack it all."""
        if whence == os.SEEK_SET:
            self._limit(offset)
        return self.file.seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece, which a hostile header can ask to be of any length."""
        data = self.file.read(self.longest + 1 if size is None or size < 0 else min(size, self.longest + 1))
        if len(data) > self.longest:
            raise UserError(f"{self.archive}: a header of more than {self.longest} bytes; {IN_ARCHIVE}")
        if self.furthest is not None:
            self._limit(self.file.tell())
        return data

    def _limit(self, position: int) -> None:
        if self.furthest is not None and position > self.furthest:
            raise _bomb(str(self.archive), position, self.archive.stat().st_size)


def _of_folder(path: Path) -> io.BufferedIOBase:
    return path.open("rb")


def _of_zip(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> io.BufferedIOBase:
    return cast("io.BufferedIOBase", file.open(info))


def _of_tar(file: tarfile.TarFile, info: tarfile.TarInfo) -> io.BufferedIOBase:
    return cast("io.BufferedIOBase", file.extractfile(info))  # `None` for links and folders alone


def _followed(where: str, link: Path, root: Path) -> Path:
    try:
        real = Path(os.path.realpath(link, strict=True))
    except OSError as error:
        raise UserError(f"{where}: a link that leads nowhere ({error.strerror}); {IN_FOLDER}") from error
    if not real.is_relative_to(root):
        raise UserError(f"{where}: a link that leaves {root}; put the files themselves there, or remove it")
    return real


def _bomb(where: str, unpacked: int, packed: int) -> UserError:
    return UserError(
        f"{where}: {unpacked} bytes out of {packed}, more than {MAX_RATIO}:1 as in an attack on the disk; {IN_ARCHIVE}"
    )


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn whatever reading raises into one message."""
    try:
        yield
    except UserError:
        raise
    # Parsers meet damaged bytes with struct.error, zlib.error, KeyError, RecursionError and others, none documented.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            message = f"{where}: cannot be read ({error.strerror}); expected a readable file or folder"
        else:
            message = (
                f"{where}: damaged or incomplete ({quoted(str(error) or type(error).__name__)}); download it again"
            )
        raise UserError(message) from error

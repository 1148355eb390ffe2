"""Reads zip, tar, RAR and 7z archives entry by entry."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import os
import re
import stat
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from benchmark.utils.errors import UserError, require

if TYPE_CHECKING:
    import rarfile

CHUNK = 1 << 16  # bytes per read; also the longest header of a tar, which needs a few hundred
MAX_MEMBERS = 1_000_000  # forty times the files of the largest known dataset
MAX_INDEX = 160 * MAX_MEMBERS  # bytes of a zip's directory: 46 and a name of a hundred per member
# Images and masks reach 50:1; deflate ends at 1032:1 and the other methods much higher. Small files do no harm.
MAX_RATIO, RATIO_FROM = 200, 1 << 20

ARCHIVE_SUFFIX = re.compile(r"\.(zip|tar|tar\.(gz|bz2|xz|zst)|tgz|tbz2?|txz|rar|7z)$", re.IGNORECASE)
LATER_VOLUME = re.compile(r".+\.part0*([2-9]|1\d+|[2-9]\d+)\.rar", re.IGNORECASE)  # the first volume leads to it
OPENERS: Mapping[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
RAR, SEVEN_ZIP, ZSTANDARD = b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x28\xb5\x2f\xfd"

REMEDY = "get the archive from its owner again, or look into it, unpack what you trust and name that folder instead"
LINK, SPECIAL = f"a symbolic link; {REMEDY}", f"a device, pipe or other special file; {REMEDY}"
HARD_LINK = f"a hard link or a copy of another entry; {REMEDY}"
ENCRYPTED = "encrypted; unpack the archive with its password and name the folder"
PROGRAMS = "apt install unar (or unrar; brew install unar)"


@dataclass(frozen=True)
class ArchiveEntry:
    """An entry of an archive, not unpacked yet."""

    name: str  # by the archive
    size: int  # unpacked bytes, by the archive; ``extract`` never writes more
    # unpacks it to its name below the folder, in some formats with all other entries; ``None`` for folders
    extract: Callable[[], object] | None
    problem: str = ""  # reason to refuse it, or ``""``
    packed: int | None = None  # packed bytes, in formats that pack each entry separately


def entries_of(
    archive: Path, folder: Path, stack: contextlib.ExitStack
) -> tuple[int, list[ArchiveEntry] | Iterator[ArchiveEntry]]:
    """Open an archive; its content tells its format.

    Args:
        archive: the file; the first of several volumes.
        folder: an empty folder for the unpacked entries.
        stack: closes the archive.

    Returns:
        Bytes of the archive with all its volumes, and its entries. A tar has no list of entries: unpack each before you
        take the next; the iterator's end checks that the tar is whole.

    Raises:
        UserError: an unknown format, a missing library or program.
        Exception: any error of a reader on damaged bytes.
    """
    with archive.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    size = archive.stat().st_size
    if head.startswith((b"PK\3\4", b"PK\5\6")):  # a member, or the end of an empty directory
        return size, _zip_entries(archive, folder, stack)
    if head.startswith(RAR):
        return _rar_entries(archive, folder)
    if head.startswith(SEVEN_ZIP):
        require("py7zr", flag=f"{archive}: a 7z archive", extra="archives")
        return size, _seven_zip_entries(archive, folder, stack)
    if head.startswith(ZSTANDARD):
        raise UserError(
            f"{archive}: a Zstandard archive, which is not read; unpack it, move it elsewhere and name the folder"
        )
    opener = next((OPENERS[magic] for magic in OPENERS if head.startswith(magic)), None)
    if opener is not None:
        with opener(archive) as stream:
            head = stream.read(tarfile.BLOCKSIZE)
    if head[257:262] == b"ustar":
        return size, _tar_entries(archive, folder, stack, opener)
    raise UserError(
        f"{archive}: neither a folder nor a whole zip or tar (.tar .tar.gz .tar.bz2 .tar.xz) by its content; "
        "download it again, or unpack it, move it elsewhere and name the folder"
    )


def bomb(where: str, unpacked: int, packed: int) -> UserError:
    """Return the error for content that no honest archive holds; sizes in bytes."""
    return UserError(
        f"{where}: {unpacked} bytes out of {packed}, more than {MAX_RATIO}:1 as in an attack on the disk; {REMEDY}"
    )


def first_problem(*checks: tuple[object, str]) -> str:
    """Return the text of the first check that is true, or ``""``."""
    return next((problem for is_present, problem in checks if is_present), "")


def _zip_entries(archive: Path, folder: Path, stack: contextlib.ExitStack) -> list[ArchiveEntry]:
    stream = _Bounded(stack.enter_context(archive.open("rb")), archive, MAX_INDEX)
    file = stack.enter_context(zipfile.ZipFile(cast("IO[bytes]", stream)))
    entries = []
    for info in file.infolist():
        # Readers shorten `filename` at a NUL, or replace it by an extra field; `orig_filename` is in the directory.
        name = info.filename = info.orig_filename
        kind = stat.S_IFMT(info.external_attr >> 16)
        # With other methods, zipfile unpacks all of 4 kB at once, which bzip2 can turn into gigabytes.
        is_safe = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        method = f"compression method {info.compress_type}, expected stored or deflated"
        problem = first_problem(
            *((kind == stat.S_IFLNK, LINK), (kind not in (0, stat.S_IFREG), SPECIAL), (info.flag_bits & 1, ENCRYPTED)),
            (not is_safe, f"{method}; unpack the archive and name the folder"),
        )
        extract = None if name.endswith("/") else partial(file.extract, info, folder)
        entries.append(ArchiveEntry(name, info.file_size, extract, problem, info.compress_size))
    return entries


def _tar_entries(
    archive: Path, folder: Path, stack: contextlib.ExitStack, opener: Callable[[Path], io.BufferedIOBase] | None
) -> Iterator[ArchiveEntry]:
    content = stack.enter_context(opener(archive) if opener else archive.open("rb"))
    stream = _Bounded(content, archive, CHUNK, packed=archive.stat().st_size if opener else None)
    file = stack.enter_context(tarfile.TarFile(fileobj=cast("IO[bytes]", stream)))
    for info in file:
        problem = first_problem(
            (info.size < 0, f"a size of {info.size} bytes; {REMEDY}"),
            *((info.issym(), LINK), (info.islnk(), HARD_LINK), (not info.isreg() or info.issparse(), SPECIAL)),
        )
        extract = partial(file.extract, info, folder, set_attrs=False, filter="data")
        yield ArchiveEntry(info.name, info.size, None if info.isdir() else extract, problem)
    # tarfile takes a damaged header, and a file that ends too early, for the end of the archive.
    stream.seek(file.offset)
    rest = stream.read(tarfile.BLOCKSIZE)
    whole = len(rest) == tarfile.BLOCKSIZE
    while rest and not any(rest):  # up to the end, where a compressed file has its checksum
        rest = stream.read(CHUNK)
    if rest or not whole:
        raise UserError(f"{archive}: damaged or cut off at byte {file.offset} of its tar; download it again")


def _rar_entries(archive: Path, folder: Path) -> tuple[int, list[ArchiveEntry]]:
    require("rarfile", flag=f"{archive}: a RAR archive", extra="archives")
    import rarfile

    with _refusals(archive, "RAR"):
        file = rarfile.RarFile(archive.absolute(), errors="strict")  # a relative path could begin with a dash
    if file.needs_password() and not file.infolist():
        raise UserError(f"{archive}: {ENCRYPTED}")

    @functools.cache
    def extract(info: rarfile.RarInfo | None) -> None:
        with _refusals(archive, "RAR"):
            if info is None:
                _extract_solid(file, folder)
            else:
                file.extract(info, folder)

    entries = []
    for info in file.infolist():
        is_link = not (info.is_file() or info.is_dir())
        problem = first_problem((info.needs_password(), ENCRYPTED), (is_link, LINK), (info.file_redir, HARD_LINK))
        # A file of a solid archive is unpacked with all files before it, so all are unpacked together, once.
        step = partial(extract, None if file.is_solid() else info)
        entries.append(ArchiveEntry(info.filename, info.file_size, None if info.is_dir() else step, problem))
    return sum(os.path.getsize(volume) for volume in file.volumelist()), entries


def _extract_solid(file: rarfile.RarFile, folder: Path) -> None:
    """Unpack all files of a RAR from the output of a program, in which they follow each other."""
    import rarfile

    command = rarfile.tool_setup().open_cmdline(None, file.filename)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tool:
        assert tool.stdout is not None
        for info in file.infolist():
            if not info.is_file():
                continue
            file_path = folder / info.filename
            file_path.parent.mkdir(parents=True, exist_ok=True)
            left, checksum = info.file_size, 0
            with file_path.open("wb") as unpacked:
                while left and (piece := tool.stdout.read(min(CHUNK, left))):
                    left, checksum = left - len(piece), zlib.crc32(piece, checksum)
                    unpacked.write(piece)
            if left or info.CRC not in (None, checksum):
                raise rarfile.BadRarFile(f"{info.filename}: too short, or of another checksum")


@contextlib.contextmanager
def _refusals(archive: Path, kind: str) -> Iterator[None]:
    """Turn the errors of rarfile and py7zr into UserErrors; errors of the disk pass."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # damaged bytes raise undocumented errors
        cause = type(error).__name__
        program = f", install another program ({PROGRAMS})" if kind == "RAR" else ""
        folder = "unpack it, move it elsewhere and name the folder"
        unreadable = f"a {kind} archive that cannot be read ({cause}: {error}); download it again{program}, or {folder}"
        refusal = {
            "PasswordRequired": ENCRYPTED,
            "NeedFirstVolume": "one of several volumes; expected the first, which leads to the others: name it",
            "RarCannotExec": "a RAR archive, and no program that reads it; expected unrar, unar, 7z, 7zz or bsdtar: "
            f"{PROGRAMS}, or {folder}",
            "UnsupportedCompressionMethodError": "a 7z archive with a compression that py7zr does not read, such as "
            "BCJ2; unpack it with the program 7z (apt install 7zip; brew install sevenzip), move it elsewhere and name "
            "the folder",
        }.get(cause, unreadable)
        raise UserError(f"{archive}: {refusal}") from error


def _seven_zip_entries(archive: Path, folder: Path, stack: contextlib.ExitStack) -> list[ArchiveEntry]:
    import py7zr

    with _refusals(archive, "7z"):
        file = stack.enter_context(py7zr.SevenZipFile(stack.enter_context(archive.open("rb"))))
    entries: list[ArchiveEntry] = []
    names: set[str] = set()

    @functools.cache
    def extract() -> None:
        with _refusals(archive, "7z"):
            file.extract(folder, names)  # together, since files of a block are unpacked one after the other

    for info in file.files:
        is_link = info.is_symlink or info.is_junction
        problem = first_problem((is_link, LINK), (info.is_socket, SPECIAL), (file.needs_password(), ENCRYPTED))
        if not (problem or info.is_directory):
            names.add(info.filename)
        entries.append(ArchiveEntry(info.filename, info.uncompressed, None if info.is_directory else extract, problem))
    return entries


class _Bounded:
    """A file that limits the bytes of a read, and of all reads, to the needs of an honest archive."""

    def __init__(self, file: IO[bytes] | io.BufferedIOBase, archive: Path, longest: int, packed: int | None = None):
        self.file, self.archive, self.longest, self.packed = file, archive, longest, packed
        self.tell, self.seekable = file.tell, file.seekable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, but not beyond the plausible size of the archive, since everything before is unpacked."""
        self._limit(offset if whence == os.SEEK_SET else 0)
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        """Read a piece; a hostile header can request any length."""
        data = self.file.read(self.longest + 1 if size < 0 else min(size, self.longest + 1))
        if len(data) > self.longest:
            raise UserError(f"{self.archive}: a header of more than {self.longest} bytes; {REMEDY}")
        self._limit(self.tell())
        return data

    def _limit(self, position: int) -> None:
        if self.packed is not None and position > RATIO_FROM + MAX_RATIO * self.packed:
            raise bomb(str(self.archive), position, self.packed)

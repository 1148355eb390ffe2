"""Archives that Python cannot read, RAR and 7z: listed and unpacked into a temporary folder by a program beside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmark.utils.errors import UserError

LISTING_S = 600  # a gigabyte is listed in seconds
WATCH_S = 0.2  # between two looks at how much is there
SLACK = 1 << 20  # bytes: what is written may exceed what was announced by so much before the tool is stopped
VOLUME = re.compile(r"(.+\.part)(\d+)(\.rar)", re.IGNORECASE)
INSTALL = {
    "RAR": "apt install unar (or libarchive-tools, or unrar; brew install unar)",
    "7z": "apt install 7zip (or libarchive-tools; brew install sevenzip)",
}


@dataclass(frozen=True)
class Entry:
    """What a tool says of a member.

    Attributes:
        name: as the archive has it; folders end in a slash.
        size: bytes, unpacked.
        problem: why it is refused: a link, or encrypted.
    """

    name: str
    size: int
    problem: str = ""


@dataclass(frozen=True)
class Tool:
    """A program that unpacks archives.

    Attributes:
        listing: words behind which the archive's path comes; the first is the program.
        unpacking: the same, before the archive's path and after it; ``{place}`` is the folder to unpack into.
        read: makes entries of what the first command prints.
        kinds: what it reads.
    """

    listing: tuple[str, ...]
    unpacking: tuple[tuple[str, ...], tuple[str, ...]]
    read: Callable[[str], Iterator[Entry]]
    kinds: tuple[str, ...] = ("RAR", "7z")


def unpack(archive: Path, kind: str, place: Path, most: int, check: Callable[[Sequence[Entry]], None]) -> Path:
    """Unpack an archive with the first tool that can.

    Args:
        archive: the file; the first of several volumes.
        kind: ``RAR`` or ``7z``.
        place: an empty folder.
        most: bytes that it may hold unpacked.
        check: refuses what is listed, before anything is unpacked.

    Returns:
        A folder with the members, or a tar of them, of which nothing but names is known and that holds at most ``most``
        bytes.

    Raises:
        UserError: no tool is there, or none that is can read the archive; what ``check`` raises; more content than
            ``most`` or than was listed.
    """
    archive = archive.absolute()  # a relative path could begin with a dash
    failures = {}
    for name, tool in TOOLS.items():
        if kind not in tool.kinds or shutil.which(name) is None or shutil.which(tool.listing[0]) is None:
            continue
        folder = place / name
        folder.mkdir()
        try:
            entries = _listed(tool.listing, archive, tool.read)
            check(entries)
            before, after = ([word.replace("{place}", str(folder)) for word in words] for words in tool.unpacking)
            announced = min(sum(entry.size for entry in entries) + SLACK, most)
            _watched([*before, str(archive), *after], folder, announced, archive)
        except _Failed as error:
            failures[name] = str(error)
            shutil.rmtree(folder, ignore_errors=True)
            continue
        return folder
    # The last, since it cannot read what is spread over several files, and does not notice all damage.
    if shutil.which("bsdtar") and not VOLUME.fullmatch(archive.name):
        try:
            check(_listed(("bsdtar", "-tf"), archive, _names))
            return _as_tar(archive, place / "content.tar", most)
        except _Failed as error:
            failures["bsdtar"] = str(error)
    if not failures:
        known = ", ".join(["bsdtar", *(name for name, tool in TOOLS.items() if kind in tool.kinds)])
        raise UserError(
            f"{archive}: a {kind} archive, and no program that reads it; expected one of {known}: {INSTALL[kind]}, or "
            "unpack it, move it elsewhere and name the folder"
        )
    said = "; ".join(f"{name}: {message}" for name, message in failures.items())
    raise UserError(
        f"{archive}: a {kind} archive that cannot be read ({said}); download it again, install another program "
        f"({INSTALL[kind]}), or unpack it, move it elsewhere and name the folder"
    )


def is_later_volume(archive: Path) -> bool:
    """Tell whether a RAR is one of several, and not the first."""
    match = VOLUME.fullmatch(archive.name)
    return match is not None and int(match[2]) > 1


def packed_size(archive: Path) -> int:
    """Return the bytes of an archive and of the volumes that follow it."""
    match = VOLUME.fullmatch(archive.name)
    if match is None:
        return archive.stat().st_size
    siblings = ((path, VOLUME.fullmatch(path.name)) for path in archive.parent.iterdir())
    return sum(path.stat().st_size for path, other in siblings if other and other[1] == match[1])


class _Failed(Exception):
    """A tool could not read an archive; another one may."""


def _listed(words: Sequence[str], archive: Path, read: Callable[[str], Iterator[Entry]]) -> list[Entry]:
    text = _run([*words, str(archive)])
    try:
        entries = list(read(text))
    except (ValueError, KeyError, TypeError) as error:
        raise _Failed(f"an unknown list ({str(error)[:100]})") from error
    if not entries:
        raise _Failed("lists nothing")
    return entries


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=LISTING_S, env=_environment()
        )
    except subprocess.TimeoutExpired as error:
        raise _Failed(f"no list after {LISTING_S} s") from error
    except OSError as error:
        raise _Failed(f"cannot be started ({error.strerror})") from error
    if done.returncode:
        raise _Failed(_last_line(done.stderr or done.stdout, done.returncode))
    return done.stdout.decode("utf-8", "surrogateescape")


def _watched(words: Sequence[str], folder: Path, most: int, archive: Path) -> None:
    """Run a tool and stop it when it writes more than it may."""
    with _started(words, subprocess.DEVNULL) as (process, errors):
        while process.poll() is None:
            _limit(_written(folder), most, archive)
            time.sleep(WATCH_S)
        _limit(_written(folder), most, archive)
        _require_success(process, errors)


def _as_tar(archive: Path, file: Path, most: int) -> Path:
    """Have bsdtar turn an archive into a tar, which nothing has unpacked yet."""
    with (
        _started(["bsdtar", "-cf", "-", "--format=pax", f"@{archive}"], subprocess.PIPE) as (process, errors),
        file.open("xb") as tar,
    ):
        assert process.stdout is not None
        while chunk := process.stdout.read(1 << 16):
            tar.write(chunk)
            _limit(tar.tell(), most, archive)
        process.wait()
        _require_success(process, errors)
    return file


@contextlib.contextmanager
def _started(words: Sequence[str], output: int) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run a tool beside this process; it ends with the block at the latest."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=_environment()
            )
        except OSError as error:
            raise _Failed(f"cannot be started ({error.strerror})") from error
        with process:
            try:
                yield process, errors
            finally:
                process.kill()


def _require_success(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    if process.returncode:
        errors.seek(0)
        raise _Failed(_last_line(errors.read(1 << 20), process.returncode))


def _limit(written: int, most: int, archive: Path) -> None:
    if written > most:
        raise UserError(
            f"{archive}: unpacks to more than {most:,} bytes, more than it announces or an honest archive holds; get "
            "it from its owner again, or look into it, unpack what you trust and name that folder instead"
        )


def _written(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # some tools rename what they have written
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _last_line(output: bytes, code: int) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"exit code {code}"


def _lsar(text: str) -> Iterator[Entry]:
    """Read what ``lsar -json`` prints."""
    # Binary fields hold control characters.
    for item in json.loads(text, strict=False)["lsarContents"]:
        name = str(item["XADFileName"]) + ("/" if item.get("XADIsDirectory") else "")
        problem = _problem(item.get("XADIsLink"), item.get("XADIsEncrypted"))
        yield Entry(name, int(item.get("XADFileSize", 0)), problem)


def _names(text: str) -> Iterator[Entry]:
    """Read what ``bsdtar -tf`` prints: a name per line; sizes and links show in the tar that it makes."""
    yield from (Entry(line, 0) for line in text.splitlines())


def _seven_zip(text: str) -> Iterator[Entry]:
    """Read what ``7z l -slt -ba`` prints: lines of ``Key = value``, an empty line behind each member."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = _fields(block, " = ")
        if "Path" in fields:
            attributes = fields.get("Attributes", "").split()
            is_link = bool(fields.get("Symbolic Link") or fields.get("Hard Link")) or any(
                a[0] == "l" for a in attributes
            )
            is_folder = fields.get("Folder") == "+" or any(a[0] == "D" for a in attributes)
            name = fields["Path"] + ("/" if is_folder else "")
            yield Entry(name, int(fields.get("Size") or 0), _problem(is_link, fields.get("Encrypted") == "+"))


def _unrar(text: str) -> Iterator[Entry]:
    """Read what ``unrar vt`` prints: lines of ``Key: value``, an empty line behind each member."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = _fields(block, ": ")
        if "Name" in fields:
            kind = fields.get("Type", "File")
            name = fields["Name"] + ("/" if kind == "Directory" else "")
            is_encrypted = "encrypted" in fields.get("Flags", "")
            yield Entry(name, int(fields.get("Size") or 0), _problem(kind not in ("File", "Directory"), is_encrypted))


def _fields(block: str, mark: str) -> dict[str, str]:
    return {key.strip(): value for key, found, value in (line.partition(mark) for line in block.split("\n")) if found}


def _problem(is_link: object, is_encrypted: object) -> str:
    if is_encrypted:
        return "encrypted; unpack the archive with its password and name the folder"
    return (
        "a link, a device or another special file; unpack what you trust and name that folder instead"
        if is_link
        else ""
    )


_SEVEN = ("l", "-slt", "-ba", "-p-", "--"), ("x", "-y", "-bd", "-p-", "-o{place}", "--")
# In the order in which they are tried.
TOOLS: Mapping[str, Tool] = {
    "unar": Tool(
        ("lsar", "-json"),
        (("unar", "-quiet", "-no-directory", "-force-skip", "-output-directory", "{place}"), ()), _lsar,
        kinds=("RAR",),  # it misreads names of some 7z
    ),
    "unrar": Tool(
        ("unrar", "vt", "-p-", "-c-", "--"), (("unrar", "x", "-p-", "-c-", "-o-", "-idq", "--"), ("{place}/",)), _unrar,
        kinds=("RAR",),
    ),
    **{name: Tool((name, *_SEVEN[0]), ((name, *_SEVEN[1]), ()), _seven_zip) for name in ("7zz", "7z")},
}  # fmt: skip

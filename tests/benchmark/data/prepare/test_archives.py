"""Archives and folders: whole ones are read, harmful and damaged ones are refused."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmark.data.prepare import archives, unpack
from benchmark.utils.errors import UserError
from tests.benchmark.data.prepare.archive_makers import FILES, assert_source_refused, read, tarred, zipped


@pytest.mark.parametrize(
    "content",
    [
        zipped(FILES),
        zipped(FILES, compression=zipfile.ZIP_DEFLATED),
        *(tarred(FILES, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")),
        *(tarred(FILES, format=fmt) for fmt in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)),
        tarred({f"./{name}": content for name, content in FILES.items()}),
    ],
)
def test_archive_is_recognised_by_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "download.bin").write_bytes(content)
    assert read(tmp_path / "download.bin") == FILES
    assert os.listdir(tmp_path) == ["download.bin"]


def test_folder_is_read_with_its_archives_without_nested_archives(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").write_bytes(b"x")
    (tmp_path / "a" / "one.zip").write_bytes(zipped({"y.png": b"y", "inner.zip": b"not looked at"}))
    (tmp_path / "a" / "two.tgz").write_bytes(tarred({"y.png": b"z"}, "w:gz"))
    assert read(tmp_path) == {
        "a/b/x.png": b"x",
        "a/one.zip/y.png": b"y",
        "a/one.zip/inner.zip": b"not looked at",
        "a/two.tgz/y.png": b"z",
    }


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_desktop_files_are_left_out(tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes]) -> None:
    junk = ("__MACOSX/image/._1.png", "image/.hidden", ".git/config", "image/Thumbs.db", ".DS_Store")
    (tmp_path / "a").write_bytes(pack(dict.fromkeys((*junk, "image/1.png"), b"")))
    assert read(tmp_path / "a") == {"image/1.png": b""}


NAMES = {
    "/etc/passwd": "an absolute path",
    "//host/share": "an absolute path",
    "a/../../b.png": r"goes up by '\.\.'",
    "..": r"goes up by '\.\.'",
    ".hidden/../../b.png": r"goes up by '\.\.'",
    "a\\..\\b.png": "a backslash",
    "C:/b.png": "a drive letter",
    "a/c:b.png": "a drive letter",
    "a\nb.png": "control characters",
    "a\x7fb.png": "control characters",
    "a" * 256: "longer than",
    "/".join(["a" * 200] * 6): "longer than",
    "/".join("a" * 40): "in more than 31 folders",
}


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(("name", "match"), NAMES.items(), ids=range(len(NAMES)))
def test_unsafe_name_is_refused(
    tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes], name: str, match: str
) -> None:
    (tmp_path / "evil.bin").write_bytes(pack({"fine.png": b"", name: b""}))
    assert_source_refused(tmp_path / "evil.bin", match)


def test_nul_in_name_does_not_hide_the_rest(tmp_path: Path) -> None:
    (tmp_path / "evil.zip").write_bytes(zipped({"a.png?.exe": b""}).replace(b"a.png?", b"a.png\0"))
    assert_source_refused(tmp_path / "evil.zip", r"a\.png\\x00\.exe.*control characters")
    (tmp_path / "evil.tar").write_bytes(tarred({"fine": b""}, pax_headers={"path": "a.png\0.exe"}, mode="w"))
    assert_source_refused(tmp_path / "evil.tar", r"a\.png\\x00\.exe.*control characters")


def test_extra_field_does_not_rename_an_entry(tmp_path: Path) -> None:
    """Of Info-ZIP: version, checksum of the name in the directory, another name."""
    info = zipfile.ZipInfo("image/1.png")
    other = b"image/2.png"
    info.extra = struct.pack("<HHBL", 0x7075, 5 + len(other), 1, zlib.crc32(b"image/1.png")) + other
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, b"one")
    assert read(tmp_path / "a.zip") == {"image/1.png": b"one"}


def test_name_with_invalid_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.tar").write_bytes(tarred({"a\udcff.png": b""}))
    assert_source_refused(tmp_path / "evil.tar", "no UTF-8")


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ("a/b.png", "a/B.PNG", "there is also 'a/b.png'"),
        ("a/b.png", "./a//b.png", "there is also"),
        ("\u00e9.png", "e\u0301.png", "there is also"),
        ("a", "A/b.png", "a file's and a folder's at once"),
        ("a/b.png", "A", "a file's and a folder's at once"),
    ],
)
def test_name_that_occurs_twice_is_refused(
    tmp_path: Path, pack: Callable[[Mapping[str, bytes]], bytes], first: str, second: str, match: str
) -> None:
    (tmp_path / "a.bin").write_bytes(pack({first: b"1", second: b"2"}))
    assert_source_refused(tmp_path / "a.bin", match)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_identical_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.png", b"1")
        file.writestr("a.png", b"2")
    assert_source_refused(tmp_path / "a.zip", r"there is also 'a\.png'")


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (tarfile.SYMTYPE, "'x': a symbolic link"),
        (tarfile.LNKTYPE, "'x': a hard link"),
        *((kind, "'x': a device, pipe") for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V")),
        (tarfile.GNUTYPE_SPARSE, "'x': a device, pipe|damaged"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, match: str) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({"x": b""}, type=kind, linkname="/etc/passwd"))
    assert_source_refused(tmp_path / "a.tar", match)


@pytest.mark.parametrize(
    ("mode", "match"), [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "a device")]
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, mode: int, match: str) -> None:
    info = zipfile.ZipInfo("x")
    info.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    assert_source_refused(tmp_path / "a.zip", f"'x': {match}")


def test_zip_bombs_are_refused_before_they_are_read(tmp_path: Path) -> None:
    zeros = bytes(8 << 20)
    (tmp_path / "bomb.zip").write_bytes(zipped({"x": zeros}, compression=zipfile.ZIP_DEFLATED))
    assert_source_refused(tmp_path / "bomb.zip", "'x': 8388608 bytes out of .* more than 200:1")
    (tmp_path / "bomb.tgz").write_bytes(tarred({"x": zeros}, "w:gz"))
    assert_source_refused(tmp_path / "bomb.tgz", "bytes out of .* more than 200:1")


def test_bomb_behind_the_end_of_a_tar_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "bomb.tar.bz2").write_bytes(bz2.compress(tarred({"x": b"x"}) + bytes(8 << 20)))
    assert_source_refused(tmp_path / "bomb.tar.bz2", "more than 200:1")


def test_huge_header_is_not_held_in_memory(tmp_path: Path) -> None:
    huge = tarred({"x": b""}, pax_headers={"comment": "x" * 1_000_000})
    (tmp_path / "a.tar").write_bytes(huge)
    assert_source_refused(tmp_path / "a.tar", "a header of more than 65536 bytes")


def test_overlapping_members_count_as_a_bomb(tmp_path: Path) -> None:
    """Each one is honest for itself; together they are a thousand times what the archive holds."""
    content = zipped({f"{number:04d}": b"" for number in range(1000)})
    inflated = bytearray(content)
    place = content.index(b"PK\1\2")
    while inflated[place : place + 4] == b"PK\1\2":
        struct.pack_into("<II", inflated, place + 20, 1 << 20, 1 << 20)
        place += 46 + 4
    (tmp_path / "a.zip").write_bytes(inflated)
    assert_source_refused(tmp_path / "a.zip", "more than 200:1")


@pytest.mark.parametrize("announced", [10, 5000])
def test_wrong_size_is_found_while_reading(tmp_path: Path, announced: int) -> None:
    """Of 1,000 bytes; the sum of what was cut off matches, so that no checksum helps."""
    content = bytearray(zipped({"x": b"a" * 1000}, compression=zipfile.ZIP_DEFLATED))
    place = content.index(b"PK\1\2")
    struct.pack_into("<I", content, place + 24, announced)
    (tmp_path / "a.zip").write_bytes(content)
    assert_source_refused(tmp_path / "a.zip", "'x'.*(damaged|announced as 5000 bytes, found 1000)")


def test_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"12345")
    with archives.members(tmp_path, tmp_path / "target") as (member,):
        (tmp_path / "x.png").write_bytes(b"123456")
        given: list[bytes] = []
        with pytest.raises(UserError, match=r"x\.png: announced as 5 bytes, found more"):
            given.extend(member.chunks())
        assert not given
        (tmp_path / "x.png").write_bytes(b"1234")
        with pytest.raises(UserError, match=r"x\.png: announced as 5 bytes, found 4"):
            list(member.chunks())


def test_encrypted_and_exotic_zips_are_refused_with_the_remedy(tmp_path: Path) -> None:
    content = bytearray(zipped({"x": b"abc"}))
    place = content.index(b"PK\1\2")
    content[6] |= 1
    content[place + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert_source_refused(tmp_path / "a.zip", "'x': encrypted; unpack the archive with its password")
    (tmp_path / "a.zip").write_bytes(zipped({"x": bytes(1000)}, compression=zipfile.ZIP_BZIP2))
    assert_source_refused(tmp_path / "a.zip", "'x': compression method 12, expected stored or deflated")


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"Rar!\x1a\x07\x01\x00cut off", "a RAR archive.*unpack it"),
        (b"7z\xbc\xaf\x27\x1c\x00", "a 7z archive that cannot be read.*unpack it"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard archive.*unpack it"),
        (b"<html>not found</html>", "neither a folder nor a whole zip or tar"),
        (b"", "neither a folder nor a whole zip or tar"),
        (gzip.compress(b"no tar", mtime=0), "neither a folder nor a whole zip or tar"),
    ],
)
def test_other_formats_are_refused_with_the_remedy(tmp_path: Path, head: bytes, match: str) -> None:
    (tmp_path / "a.zip").write_bytes(head)
    assert_source_refused(tmp_path / "a.zip", match)
    with pytest.raises(UserError, match=match):  # also beside other files
        read(tmp_path)


def test_missing_source_is_a_user_error(tmp_path: Path) -> None:
    assert_source_refused(tmp_path / "nothing", r"nothing: cannot be read \(No such file")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 3)
    (tmp_path / "a.zip").write_bytes(zipped({str(number): b"" for number in range(4)}))
    assert_source_refused(tmp_path / "a.zip", "more than 3 files and folders")
    (tmp_path / "a.zip").write_bytes(zipped({str(number): b"" for number in range(3)}))
    assert len(read(tmp_path / "a.zip")) == 3
    with pytest.raises(UserError, match="more than 3 files"):  # the folder's own file and those inside
        read(tmp_path)


def test_disk_reserve_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = archives.RESERVE + 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, free))  # type: ignore[attr-defined]
    archives.require_space(1000, tmp_path / "not" / "there")
    with pytest.raises(UserError, match=r"there: needs .* make room or choose another --data-root"):
        archives.require_space(1001, tmp_path / "not" / "there")


def test_links_inside_a_folder_are_followed_and_others_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "image").mkdir(parents=True)
    (source / "image" / "1.png").write_bytes(b"1")
    (source / "2.png").symlink_to(source / "image" / "1.png")
    (source / "again").symlink_to("image")
    assert read(source) == dict.fromkeys(("image/1.png", "2.png", "again/1.png"), b"1")
    (tmp_path / "outside").write_bytes(b"secret")
    for goal, match in (
        ("../outside", "x.png: a link that leaves"),
        ("/etc/hostname", "x.png: a link that leaves|leads nowhere"),
        ("..", "x.png: a link that leaves"),
        (".", "x.png: a link to a folder that it lies in"),
        ("gone", "x.png: a link that leads nowhere"),
        ("x.png", "x.png: a link that leads nowhere"),
    ):
        (source / "x.png").symlink_to(goal)
        assert_source_refused(source, match)
        (source / "x.png").unlink()
    (source / "image" / "up").symlink_to("..")
    assert_source_refused(source, "up: a link to a folder that it lies in")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_in_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    assert_source_refused(tmp_path, r"x\.png: neither file nor folder")


@pytest.mark.parametrize("what", ["x.png", "sub"])
def test_unreadable_file_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / what).chmod(0)
    try:
        if os.access(tmp_path / what, os.R_OK):
            pytest.skip("this user (root) may read everything")
        assert_source_refused(tmp_path, rf"{what}.*cannot be read \(Permission denied\)")
    finally:
        (tmp_path / what).chmod(0o755)


def test_deep_chain_of_headers_does_not_exhaust_the_stack(tmp_path: Path) -> None:
    header = tarred({"x": b""}, pax_headers={"comment": "x"})[:1024]
    (tmp_path / "a.tar").write_bytes(header * 2000)
    assert_source_refused(tmp_path / "a.tar", "damaged or incomplete")


def test_negative_size_is_refused_without_a_loop(tmp_path: Path) -> None:
    """In a process of its own, for a reader that loops would hang the tests."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, b"V"):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, -512
        (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + tarred({"y": b""}))
        call = """if True:
            import pathlib, sys
            from benchmark.data.prepare import archives
            archives.members(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1] + ".target")).__enter__()"""
        command = [sys.executable, "-c", call, str(tmp_path / "a.tar")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr.splitlines()[-1].startswith("benchmark.utils.errors.UserError"), done.stderr
        assert ("'x': a size of -512 bytes" in done.stderr) == (kind in (tarfile.REGTYPE, b"V"))

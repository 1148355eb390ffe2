"""RAR and 7z: read whole, refused for the same reasons as a zip, and unpacked nowhere else."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import py7zr
import pytest
import rarfile

from benchmark.data.prepare import archives, unpack
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import make_folder
from tests.benchmark.data.prepare.archive_makers import tarred, zipped

FILES = {"image/0001.png": b"an image" * 300, "label/0001.png": b"a label", "image/empty.png": b"", "ü/ß.png": b"u"}
PLAIN = [{"id": py7zr.FILTER_COPY}]
STORED, COMPRESSED = 0, 3 << 7
SOLID, VOLUME, VOLUME_NUMBER = 4, 1, 2


def vint(number: int) -> bytes:
    """A number in RAR's fashion: seven bits a byte, the lowest first."""
    groups = [number & 127]
    while number := number >> 7:
        groups[-1] |= 128
        groups.append(number & 127)
    return bytes(groups)


def record(*fields: bytes) -> bytes:
    """A length and what follows."""
    body = b"".join(fields)
    return vint(len(body)) + body


def block(*fields: bytes) -> bytes:
    """A header: checksum, length, fields."""
    body = record(*fields)
    return struct.pack("<I", zlib.crc32(body)) + body


def rar(
    files: Mapping[str, bytes],
    announced: int | None = None,
    method: int = STORED,
    flags: int = 0,
    extra: bytes = b"",
    volume: int | None = None,
    is_last: bool = True,
    mode: int = 0o100644,
) -> bytes:
    """A RAR 5 archive of stored files.

    Args:
        files: contents by their names.
        announced: what headers say of each file's size unpacked.
        method: what headers say of its compression; the content is stored all the same.
        flags: of the archive.
        extra: record of each file, such as a link's.
        volume: number of this volume, from 0.
        is_last: whether no volume follows.
        mode: type and permissions of each file.
    """
    number = b"" if volume is None else vint(volume) if volume else b""
    flags |= 0 if volume is None else VOLUME | (VOLUME_NUMBER if volume else 0)
    content = b"Rar!\x1a\x07\x01\x00" + block(vint(1), vint(0), vint(flags), number)
    for name, data in files.items():
        size = len(data) if announced is None else announced
        lengths = vint(len(extra)) if extra else b""
        content += block(
            *(vint(2), vint(3 if extra else 2), lengths, vint(len(data)), vint(4), vint(size), vint(mode)),
            *(struct.pack("<I", zlib.crc32(data)), vint(method), vint(1), record(name.encode()), extra),
        )
        content += data
    return content + block(vint(5), vint(0), vint(0 if is_last else 1))


def seven_zip(files: Mapping[str, bytes], **options: object) -> bytes:
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", **options) as file:
        file.set_encoded_header_mode(bool(options.get("header_encryption")))
        for name, content in files.items():
            file.writestr(content, name)
    return buffer.getvalue()


def renamed(content: bytes, old: str, new: str) -> bytes:
    """A 7z with another name of the same length, and checksums that agree."""
    return replaced(content, old.encode("utf-16-le"), new.encode("utf-16-le"))


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    """A 7z with other bytes of the same length, and checksums that agree."""
    assert len(old) == len(new)
    assert old in content
    head, rest = content[:32], content[32:].replace(old, new)
    start, size = struct.unpack_from("<QQ", head, 12)
    place = head[12:28] + struct.pack("<I", zlib.crc32(rest[start : start + size]))
    return head[:8] + struct.pack("<I", zlib.crc32(place)) + place + rest


def read(source: Path) -> dict[str, bytes]:
    with archives.members(source, source.parent / "target") as members:
        return {member.path: b"".join(member.chunks()) for member in members}


@pytest.fixture(autouse=True)
def forget_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make rarfile search for a program again."""
    monkeypatch.setattr(rarfile, "CURRENT_SETUP", None)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the only programs on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def fake_unrar(folder: Path, script: str) -> None:
    """A program that runs a few lines of Python where it is asked for a content, and notes each such call."""
    file = folder / "unrar"
    start = (
        f"#!{sys.executable}\nimport sys\nif sys.argv[1] != 'p':\n    sys.exit()\nopen({str(folder / 'calls')!r}, 'a')"
    )
    file.write_text(f"{start}.write('x')\nout = sys.stdout.buffer\n{script}", "utf-8")
    file.chmod(0o755)


@pytest.mark.parametrize("name", ["a.rar", "-{place} a.rar"])
def test_rar_is_read_and_leaves_no_files(name: str, tmp_path: Path, programs: Path) -> None:
    (tmp_path / name).write_bytes(rar(FILES))
    assert read(tmp_path / name) == FILES
    assert not (tmp_path / "target").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "bin"])


@pytest.mark.parametrize("filters", [None, [{"id": py7zr.FILTER_ZSTD}], PLAIN])
def test_7z_is_read_and_leaves_no_files(filters: object, tmp_path: Path, programs: Path) -> None:
    (tmp_path / "a.7z").write_bytes(seven_zip(FILES | {".hidden/x.png": b"x"}, filters=filters))
    assert read(tmp_path / "a.7z") == FILES
    assert not (tmp_path / "target").exists()


LINK = record(vint(5), vint(1), vint(0), record(b"/etc/passwd"))
HARD_LINK, COPY = (record(vint(5), vint(kind), vint(0), record(b"a.png")) for kind in (4, 5))
PASSWORD = record(vint(1), vint(0), vint(0), bytes(1 + 16 + 16))
ONE = {"a.png": b"x"}
HOSTILE = {
    "up.rar": (rar({"../../evil.png": b"x"}), r"'\.\./\.\./evil\.png': goes up by '\.\.'"),
    "absolute.rar": (rar({"/evil.png": b"x"}), "an absolute path"),
    "backslash.rar": (rar({"a\\..\\evil.png": b"x"}), "a backslash|goes up"),
    "control.rar": (rar({"a\x07b.png": b"x"}), "control characters"),
    "twice.rar": (rar({"a/B.png": b"x", "a/b.png": b"y"}), "the same name to some disks"),
    "cut off.rar": (rar(FILES)[:200], "a RAR archive that cannot be read"),
    "damaged.rar": (rar(FILES).replace(b"an image", b"AN image", 1), r"cannot be read \(BadRarFile: Corrupt file"),
    "nothing.rar": (b"Rar!\x1a\x07\x01\x00", "a RAR archive that cannot be read"),
    "huge.rar": (rar({"a.png": b"x" * 100}, announced=10**12), "1000000000000 bytes out of .* more than 200:1"),
    "many huge.rar": (rar(dict.fromkeys("abcd", b"x" * 100), announced=400_000), "more than 200:1"),
    "link.rar": (rar(ONE, extra=LINK), r"'a\.png': a symbolic link"),
    "hard link.rar": (rar(ONE, extra=HARD_LINK), r"'a\.png': a hard link"),
    "copy.rar": (rar(ONE, extra=COPY), r"'a\.png': a hard link or a copy of another entry"),
    "password.rar": (rar(ONE, extra=PASSWORD), r"'a\.png': encrypted; unpack the archive with its password"),
    "secret.rar": (b"Rar!\x1a\x07\x01\x00" + block(vint(4), vint(0), vint(0), vint(0), bytes(17)), "encrypted; unpack"),
    "up.7z": (renamed(seven_zip({"a/../b.png": b"x"}), "a/../b.png", "../../evil"), r"goes up by '\.\.'"),
    "absolute.7z": (renamed(seven_zip({"tmpp/e.png": b"x"}), "tmpp/", "/tmp/"), "an absolute path"),
    "twice.7z": (renamed(seven_zip({"a/b.png": b"x", "a/c.png": b"y"}), "a/c.png", "a/B.png"), "the same name to some"),
    "cut off.7z": (seven_zip(FILES)[:-50], "a 7z archive that cannot be read"),
    "damaged.7z": (
        seven_zip(FILES, filters=[{"id": py7zr.FILTER_COPY}]).replace(b"an image", b"AN image", 1),
        "CrcError",
    ),
    "bomb.7z": (seven_zip({"a.png": bytes(5 << 20)}), "5242880 bytes out of .* more than 200:1"),
    "password.7z": (seven_zip(ONE, password="x"), r"'a\.png': encrypted; unpack the archive with its password"),
    "secret.7z": (seven_zip(ONE, password="x", header_encryption=True), "encrypted; unpack the archive with its"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_give_one_message_and_leave_nothing(name: str, tmp_path: Path, programs: Path) -> None:
    content, message = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "target").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "bin"])


def test_7z_with_a_compression_that_py7zr_does_not_read_names_the_program(tmp_path: Path) -> None:
    filters = [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA2, "preset": 1}]
    bcj, bcj2 = bytes.fromhex("03030103"), bytes.fromhex("0303011b")
    (tmp_path / "a.7z").write_bytes(replaced(seven_zip(FILES, filters=filters), bcj, bcj2))
    with pytest.raises(UserError, match=r"such as BCJ2; unpack it with the program 7z \(apt install 7zip"):
        read(tmp_path / "a.7z")


@pytest.mark.parametrize("name", ["a.rar", "a.7z"])
def test_owner_permissions_are_not_kept(name: str, tmp_path: Path) -> None:
    if name == "a.rar":
        (tmp_path / name).write_bytes(rar({"a.png": b"x"}, mode=0o100400))
    else:
        (tmp_path / "x.png").write_bytes(b"x")
        (tmp_path / "x.png").chmod(0o400)
        with py7zr.SevenZipFile(tmp_path / name, "w") as file:
            file.write(tmp_path / "x.png", "a.png")
    (tmp_path / "new").touch()
    with archives.members(tmp_path / name, tmp_path / "target") as (member,):
        assert member.file.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_link_in_a_7z_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w") as file:
        file.write(tmp_path / "x.png", "x.png")
    with pytest.raises(UserError, match=r"'x\.png': a symbolic link"):
        read(tmp_path / "a.7z")


MAKERS = {"a.zip": zipped, "a.tar": tarred, "a.rar": rar, "a.7z": seven_zip}


@pytest.mark.parametrize("name", MAKERS)
def test_unpacking_stops_at_the_bounds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(MAKERS[name]({f"{number}.png": b"" for number in range(4)}))
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 3)
    with pytest.raises(UserError, match=f"{name}: more than 3 files and folders"):
        read(tmp_path / name)
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 4)
    assert len(read(tmp_path / name)) == 4
    monkeypatch.setattr(archives, "RESERVE", 1 << 62)
    with pytest.raises(UserError, match=r"needs .* and a reserve of .* choose another --data-root"):
        read(tmp_path / name)
    assert not (tmp_path / "target").exists()


def test_compressed_rar_is_unpacked_by_a_program(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "a.rar").write_bytes(rar({"image/1.png": b"abc", "image/2.png": b"abc"}, method=COMPRESSED))
    fake_unrar(programs, "out.write(b'abc')")
    assert read(tmp_path / "a.rar") == {"image/1.png": b"abc", "image/2.png": b"abc"}
    assert not (tmp_path / "target").exists()


def test_solid_rar_is_unpacked_once(tmp_path: Path, programs: Path) -> None:
    files = {".hidden": b"0", "a/1.png": b"abc", "a/2.png": bytes(200_000), "b.png": b""}
    (tmp_path / "a.rar").write_bytes(rar(files, method=COMPRESSED, flags=SOLID))
    fake_unrar(programs, "out.write(b'0abc' + bytes(200_000))")
    assert read(tmp_path / "a.rar") == {name: files[name] for name in list(files)[1:]}
    assert (programs / "calls").read_text() == "x"
    fake_unrar(programs, "out.write(b'0abd' + bytes(200_000))")
    with pytest.raises(UserError, match=r"cannot be read \(BadRarFile: a/1\.png: too short, or of another checksum"):
        read(tmp_path / "a.rar")
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(not shutil.which("unar"), reason="unar is not installed")
def test_solid_rar_is_read_by_a_real_program(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(rar(FILES, flags=SOLID))
    assert read(tmp_path / "a.rar") == FILES


@pytest.mark.parametrize("flags", [0, SOLID])
def test_endless_program_is_stopped(flags: int, tmp_path: Path, programs: Path) -> None:
    (tmp_path / "a.rar").write_bytes(rar({"a.png": b"abc"}, method=COMPRESSED, flags=flags))
    fake_unrar(programs, "while True:\n    out.write(bytes(1 << 16))")
    with pytest.raises(UserError, match=r"checksum|CRC"):
        read(tmp_path / "a.rar")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("flags", [0, SOLID])
def test_program_that_fails_is_named_with_the_remedy(flags: int, tmp_path: Path, programs: Path) -> None:
    (tmp_path / "a.rar").write_bytes(rar({"a.png": b"abc"}, method=COMPRESSED, flags=flags))
    fake_unrar(programs, "sys.exit(3)")
    with pytest.raises(UserError, match=r"a RAR archive that cannot be read .*download it again, .*apt install unar"):
        read(tmp_path / "a.rar")


@pytest.mark.parametrize("flags", [0, SOLID])
def test_missing_program_is_named_with_install_command(flags: int, tmp_path: Path, programs: Path) -> None:
    (tmp_path / "a.rar").write_bytes(rar(FILES, method=COMPRESSED, flags=flags))
    with pytest.raises(UserError, match=r"a RAR archive, and no program that reads it; expected .* apt install unar"):
        read(tmp_path / "a.rar")


@pytest.mark.parametrize(("name", "package"), [("a.rar", "rarfile"), ("a.7z", "py7zr")])
def test_missing_library_is_named_with_its_extra(
    name: str, package: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(rar(FILES) if name == "a.rar" else seven_zip(FILES))
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else installed(name))
    code, _, err = call("data", "prepare", "mychip", name)
    assert code == 2
    assert f"{package} is not installed; pip install -e '.[archives]'" in err.replace("\n", " ")
    assert not (tmp_path / "data").exists()


def test_later_volumes_are_read_with_the_first(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    parts = [tmp_path / "d" / f"a.part{number:02d}.rar" for number in (1, 2, 3)]
    names = ("image/1.png", "image/2.png", "image/3.png")
    for number, (part, name) in enumerate(zip(parts, names, strict=True)):
        part.write_bytes(rar({name: bytes(1000)}, volume=number, is_last=number == 2))
    assert read(tmp_path / "d") == {f"a.part01.rar/{name}": bytes(1000) for name in names}
    assert read(parts[0]) == dict.fromkeys(names, bytes(1000))
    with pytest.raises(UserError, match="one of several volumes; expected the first"):
        read(parts[1])
    parts[1].unlink()
    with pytest.raises(UserError, match="Cannot open next volume"):
        read(parts[0])


@pytest.mark.parametrize(("name", "make"), [("a.rar", rar), ("a.7z", seven_zip)])
def test_nested_archives_are_not_unpacked(name: str, make: object, tmp_path: Path) -> None:
    inner = {"a/inner.zip": b"not looked at", "a/b.png": b"x"}
    (tmp_path / name).write_bytes(make(inner))  # type: ignore[operator]
    assert read(tmp_path / name) == inner


@pytest.mark.parametrize(("name", "make"), [("download.rar", rar), ("download.7z", seven_zip)])
def test_dataset_is_brought_in(name: str, make: object, call: Call, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "shipped", ["a", "b"])
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}
    (tmp_path / name).write_bytes(make(files))  # type: ignore[operator]
    code, out, err = call("data", "prepare", "mychip", name)
    assert code == 0, err
    assert "2 images, 2 labels; 4 files copied" in out
    for path, content in files.items():
        assert (tmp_path / "data/mychip" / path).read_bytes() == content


def test_miic_rars_are_recognised_by_name(call: Call, tmp_path: Path) -> None:
    (tmp_path / "miic").mkdir()
    jpeg = b"\xff\xd8 not decoded here"
    (tmp_path / "miic/Anomaly_train.rar").write_bytes(rar({"Anomaly_train/train_normal_0001.jpg": jpeg}))
    (tmp_path / "miic/Anomaly_test.rar").write_bytes(
        rar({"normal_img/test_normal_0002.jpg": jpeg, "abnormal_mask/test_abnormal_0003.jpg": jpeg})
    )
    code, out, err = call("data", "prepare", "miic", "miic")
    assert code == 0, err
    assert "data/miic: 2 images, 0 labels" in out


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("name", "content"), [("a.rar", rar(FILES)), ("a.7z", seven_zip(FILES))], ids=["rar", "7z"])
def test_damaged_archives_are_read_or_refused(seed: int, name: str, content: bytes, tmp_path: Path) -> None:
    damaged = bytearray(content)
    for step in range(3):
        damaged[8 + zlib.crc32(bytes((seed, step))) % (len(damaged) - 8)] = zlib.crc32(bytes((step, seed))) % 256
    (tmp_path / name).write_bytes(damaged)
    message, files = name, {}
    try:
        files = read(tmp_path / name)
    except UserError as error:
        message = str(error)
    assert name in message
    assert all(not os.path.isabs(path) and ".." not in path.split("/") for path in files)
    assert not (tmp_path / "target").exists()

"""RAR and 7z: read by whichever program is there, refused for the same reasons as a zip, unpacked nowhere else."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmark.data.prepare import archives, foreign
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import make_folder

FILES = {"image/0001.png": b"an image" * 300, "label/0001.png": b"a label", "image/empty.png": b"", "ü/ß.png": b"u"}
PROGRAMS = ("bsdtar", "unar", "7zz", "7z", "unrar")


def vint(number: int) -> bytes:
    """A number in RAR's fashion: seven bits a byte, the lowest first."""
    groups = [number & 127]
    while number := number >> 7:
        groups[-1] |= 128
        groups.append(number & 127)
    return bytes(groups)


def block(*fields: bytes) -> bytes:
    """A header: checksum, length, fields."""
    body = b"".join(fields)
    body = vint(len(body)) + body
    return struct.pack("<I", zlib.crc32(body)) + body


def rar(files: Mapping[str, bytes], announced: int | None = None) -> bytes:
    """A RAR 5 archive of stored files; ``announced`` is what headers say of each file's size unpacked."""
    content = b"Rar!\x1a\x07\x01\x00" + block(vint(1), vint(0), vint(0))
    for name, data in files.items():
        size = len(data) if announced is None else announced
        content += block(
            *(vint(2), vint(2), vint(len(data)), vint(4), vint(size), vint(0o100644)),
            *(struct.pack("<I", zlib.crc32(data)), vint(0), vint(1), vint(len(name.encode())), name.encode()),
        )
        content += data
    return content + block(vint(5), vint(0), vint(0))


def read(source: Path) -> dict[str, bytes]:
    with archives.members(source) as members:
        return {member.path: b"".join(member.chunks()) for member in members}


def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *programs: str) -> Path:
    """Leave some programs alone on the PATH, and return the folder that they lie in."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name in programs:
        for part in {"unar": ("unar", "lsar")}.get(name, (name,)):
            found = shutil.which(part)
            if found is None:
                pytest.skip(f"{part} is not installed")
            (folder / part).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_rar_is_read_by_any_program(
    program: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-{place} a.rar").write_bytes(rar(FILES))
    only(monkeypatch, tmp_path, program)
    try:
        assert read(tmp_path / "-{place} a.rar") == FILES
    except UserError as error:
        if program in ("bsdtar", "unar") or "Cannot open the file as archive" not in str(error):
            raise
        pytest.skip(f"{program} comes without RAR here")
    assert not list(temporary.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-{place} a.rar", "bin", "temporary"]


@pytest.mark.parametrize("program", ["bsdtar", "7zz", "7z"])
def test_a_7z_is_read_by_any_program(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = shutil.which("bsdtar")
    if maker is None:
        pytest.skip("bsdtar is not installed, which makes the archive")
    for name, content in FILES.items():
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_bytes(content)
    subprocess.run([maker, "--format=7zip", "-C", tmp_path / "a", "-cf", tmp_path / "a.7z", "."], check=True)
    only(monkeypatch, tmp_path, program)
    assert read(tmp_path / "a.7z") == FILES


HOSTILE = {
    "up": (rar({"../../evil.png": b"x"}), r"goes up by '\.\.'"),
    "absolute": (rar({"/tmp/evil.png": b"x"}), "an absolute path"),
    "backslash": (rar({"a\\..\\evil.png": b"x"}), "backslash|goes up|same name|cannot be read"),
    "control": (rar({"a\x07b.png": b"x"}), "control characters|a backslash"),
    "twice": (rar({"a/B.png": b"x", "a/b.png": b"y"}), "the same name to some disks"),
    "cut off": (rar(FILES)[:200], "cannot be read|damaged"),
    "damaged": (rar(FILES).replace(b"an image", b"AN image", 1), "cannot be read|damaged"),
    "nothing": (b"Rar!\x1a\x07\x01\x00", "cannot be read|damaged"),
    "huge": (rar({"a.png": b"x" * 100}, announced=10**12), "more than|cannot be read|damaged"),
}


@pytest.mark.parametrize("program", ["bsdtar", "unar"])
@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_archives_are_one_message_and_leave_nothing(
    program: str, content: bytes, message: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.rar").write_bytes(content)
    only(monkeypatch, tmp_path, program)
    if program == "bsdtar" and b"AN image" in content:
        pytest.skip("bsdtar 3.6 takes no notice of the checksum of a stored file, which is why it is asked last")
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "a.rar")
    assert str(tmp_path / "a.rar") in str(caught.value)
    assert not list(temporary.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rar", "bin", "temporary"]


def fake(folder: Path, name: str, script: str) -> None:
    """A program that runs a few lines of Python; ``words`` are its arguments."""
    file = folder / name
    file.write_text(f"#!{sys.executable}\nimport os, sys, time\nwords = sys.argv[1:]\n{script}", "utf-8")
    file.chmod(0o755)


SEVEN_ZIP = """
if words[0] == "l":
    print("Path = image\\nSize = 0\\nFolder = +\\nAttributes = D drwxr-xr-x\\n")
    print("Path = image/1.png\\nSize = 3\\nAttributes = A -rw-r--r--\\nEncrypted = -\\n")
else:
    (place,) = [word[2:] for word in words if word.startswith("-o")]
    os.mkdir(place + "/image")
    open(place + "/image/1.png", "w").write("abc")
"""
UNRAR = """
if words[0] == "vt":
    print("UNRAR 7.00\\n\\nArchive: a.rar\\nDetails: RAR 5\\n")
    print("        Name: image/1.png\\n        Type: File\\n        Size: 3\\n Packed size: 3\\n")
    print("        Name: image\\n        Type: Directory\\n")
else:
    assert words[0] == "x" and words[-1].endswith("/")
    os.mkdir(words[-1] + "image")
    open(words[-1] + "image/1.png", "w").write("abc")
"""


@pytest.mark.parametrize(("name", "script"), [("7z", SEVEN_ZIP), ("7zz", SEVEN_ZIP), ("unrar", UNRAR)])
def test_programs_are_called_as_they_expect(
    name: str, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    fake(only(monkeypatch, tmp_path), name, script)
    assert read(tmp_path / "a.rar") == {"image/1.png": b"abc"}


def test_a_program_that_fails_leaves_the_work_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    folder = only(monkeypatch, tmp_path)
    fake(folder, "unrar", "print('no licence', file=sys.stderr)\nsys.exit(3)")
    with pytest.raises(UserError, match=r"a RAR archive that cannot be read \(unrar: no licence\); download it again"):
        read(tmp_path / "a.rar")
    fake(folder, "7z", SEVEN_ZIP)
    assert read(tmp_path / "a.rar") == {"image/1.png": b"abc"}


LISTS = {
    "a link": ("Path = a\\nSize = 3\\nAttributes = A lrwxrwxrwx\\n", "'a': a link"),
    "encrypted": ("Path = a\\nSize = 3\\nEncrypted = +\\n", "'a': encrypted; unpack the archive with its password"),
    "a bomb": ("Path = a\\nSize = 99999999999\\n", "99999999999 bytes out of 8, more than 200:1"),
    "a traversal": ("Path = ../a\\nSize = 3\\n", r"'\.\./a': goes up by"),
    "no number": ("Path = a\\nSize = many\\n", "damaged|cannot be read"),
}


@pytest.mark.parametrize(("listed", "message"), LISTS.values(), ids=list(LISTS))
def test_what_is_listed_is_refused_before_anything_is_unpacked(
    listed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    script = f"print('{listed}') if words[0] == 'l' else open('{tmp_path}/unpacked', 'w')"
    fake(only(monkeypatch, tmp_path), "7z", script)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.rar")
    assert not (tmp_path / "unpacked").exists()


def test_a_program_that_writes_more_than_was_listed_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    script = """
if words[0] == "l":
    print("Path = a.png\\nSize = 3\\n")
else:
    (place,) = [word[2:] for word in words if word.startswith("-o")]
    with open(place + "/a.png", "wb") as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()
            time.sleep(0.02)
"""
    fake(only(monkeypatch, tmp_path), "7z", script)
    with pytest.raises(UserError, match="unpacks to more than 1,048,579 bytes"):
        read(tmp_path / "a.rar")


def test_a_link_that_a_program_unpacks_leads_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    script = """
if words[0] == "l":
    print("Path = a.png\\nSize = 3\\n")
else:
    (place,) = [word[2:] for word in words if word.startswith("-o")]
    os.symlink("/etc/passwd", place + "/a.png")
"""
    fake(only(monkeypatch, tmp_path), "7z", script)
    with pytest.raises(UserError, match=r"a\.rar/a\.png: a link that leaves"):
        read(tmp_path / "a.rar")


def test_without_a_program_the_message_says_which_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.rar").write_bytes(rar(FILES))
    only(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"a RAR archive, and no program that reads it; expected .* apt install unar"):
        read(tmp_path / "a.rar")


def test_later_volumes_belong_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 10):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / f"a.part{number:02d}.rar").write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(1000))
    fake(only(monkeypatch, tmp_path), "7z", SEVEN_ZIP)
    assert read(tmp_path / "d") == {"a.part01.rar/image/1.png": b"abc"}
    assert foreign.packed_size(tmp_path / "d" / "a.part01.rar") == 3 * 1008
    with pytest.raises(UserError, match="one of several volumes; expected the first"):
        read(tmp_path / "d" / "a.part02.rar")


def test_archives_inside_stay_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = {"a/inner.zip": b"not looked at", "a/b.png": b"x"}
    (tmp_path / "a.rar").write_bytes(rar(inner))
    for program in ("unar", "bsdtar"):
        if shutil.which(program):
            with monkeypatch.context() as patched:
                shutil.rmtree(tmp_path / "bin", ignore_errors=True)
                only(patched, tmp_path, program)
                assert read(tmp_path / "a.rar") == inner


@pytest.mark.skipif(not (shutil.which("unar") or shutil.which("bsdtar")), reason="neither unar nor bsdtar is installed")
def test_a_dataset_in_a_rar_is_brought_in(call: Call, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "shipped", ["a", "b"])
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}
    (tmp_path / "download.rar").write_bytes(rar(files))
    code, out, err = call("data", "prepare", "mychip", "download.rar")
    assert code == 0, err
    assert "2 images, 2 labels; 4 files copied" in out
    for name, content in files.items():
        assert (tmp_path / "data/mychip" / name).read_bytes() == content


@pytest.mark.skipif(not (shutil.which("unar") or shutil.which("bsdtar")), reason="neither unar nor bsdtar is installed")
def test_rars_of_miic_are_known_by_their_names(call: Call, tmp_path: Path) -> None:
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
def test_damaged_archives_are_read_or_refused(
    seed: int, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [name for name in ("unar", "bsdtar") if shutil.which(name)]
    if not programs:
        pytest.skip("neither unar nor bsdtar is installed")
    only(monkeypatch, tmp_path, programs[seed % len(programs)])
    content = bytearray(rar(FILES))
    for step in range(3):
        content[8 + zlib.crc32(bytes((seed, step))) % (len(content) - 8)] = zlib.crc32(bytes((step, seed))) % 256
    (tmp_path / "a.rar").write_bytes(content)
    try:
        found = read(tmp_path / "a.rar")
    except UserError as error:
        message = str(error)
    else:
        assert all(not os.path.isabs(name) and ".." not in name.split("/") for name in found)
        message = "a.rar"
    assert "a.rar" in message
    assert not list(temporary.iterdir())

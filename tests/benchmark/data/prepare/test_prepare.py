"""Preparing: whole files or none, nothing overwritten, nothing outside of the target."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data.prepare import archives
from benchmark.data.prepare.prepare import prepare_dataset
from benchmark.utils.errors import UserError
from tests.benchmark.data.prepare.archive_makers import tarred, zipped
from tests.benchmark.data.prepare.download_makers import (
    DIVIDED,
    FLAT,
    HY5SYN,
    assert_refused,
    bring_in,
    content,
    digest,
    tree,
    write_files,
)


def test_second_call_copies_nothing(tmp_path: Path) -> None:
    source = write_files(tmp_path / "download", DIVIDED)
    assert (bring_in(source).copied, bring_in(source).skipped) == (12, 12)
    before = digest(tmp_path)
    assert bring_in(source).copied == 0
    assert digest(tmp_path) == before


class Crash(BaseException):
    """An interruption that nothing handles."""


@pytest.mark.parametrize("pack", [zipped, lambda files: tarred(files, "w:xz")])
def test_interrupted_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    source = tmp_path / "download"
    files = {name: hashlib.shake_256(name.encode()).digest(70_000) for name in DIVIDED}
    source.write_bytes(pack(files))
    replace = os.replace

    def crashing(file: Path, target: Path) -> None:
        if target.match(DIVIDED[2]):
            raise Crash
        replace(file, target)

    monkeypatch.setattr(os, "replace", crashing)
    with pytest.raises(Crash):
        bring_in(source)
    monkeypatch.undo()
    folder = tmp_path / "data" / "mychip"
    assert tree(folder) == {name: files[name] for name in DIVIDED[:2]}
    write_files(folder, (".prepare-killed.tmp/image/1.png", ".prepare-0123.tmp"))  # a killed process does not tidy up
    result = bring_in(source)
    assert (result.copied, result.skipped) == (10, 2)
    assert tree(folder) == files


def test_other_content_is_never_overwritten(tmp_path: Path) -> None:
    source = write_files(tmp_path / "download", FLAT)
    bring_in(source)
    place = tmp_path / "data" / "mychip" / "label" / "2.png"
    for other, extent in ((b"other size", "of another size"), (b"label/X.png", "of the same size")):
        place.write_bytes(other)
        with pytest.raises(UserError, match=r"label/2\.png: exists with other content than .*nothing is overwritten"):
            bring_in(source)
        assert place.read_bytes() == other, extent


def test_another_layout_is_not_mixed_in(tmp_path: Path) -> None:
    bring_in(write_files(tmp_path / "one", FLAT))
    for name, names in (("two", DIVIDED), ("three", HY5SYN)):
        with pytest.raises(UserError, match=r"mychip: holds image/ already"):
            bring_in(write_files(tmp_path / name, names))


@pytest.mark.parametrize(
    ("code", "match"), [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")]
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failing_disk_gives_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, match: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    source = write_files(tmp_path / "download", FLAT)
    (tmp_path / "a.zip").write_bytes(zipped(content(FLAT)))
    monkeypatch.setattr(os, step, fail)
    for download in (source, tmp_path / "a.zip"):
        assert_refused(download, rf"image/1\.png: cannot be written \({match}\)")


def test_unpacked_files_are_moved_and_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(content(FLAT)))
    monkeypatch.setattr(archives.Member, "chunks", None)  # reads a content
    bring_in(tmp_path / "a.zip")
    assert tree(tmp_path / "data" / "mychip") == content(FLAT)


def test_missing_disk_space_is_reported_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_files(tmp_path / "download", FLAT)
    monkeypatch.setattr(archives, "RESERVE", 1 << 62)
    assert_refused(source, "mychip: needs .* and a reserve")


def test_target_must_be_a_folder(tmp_path: Path) -> None:
    source = write_files(tmp_path / "download", FLAT)
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(UserError, match="data"):
        bring_in(source)
    assert (tmp_path / "data").read_bytes() == b""


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "/a", "C:a", "a\n", "omc-syn"])
def test_dataset_name_must_be_plain(tmp_path: Path, name: str) -> None:
    assert_refused(write_files(tmp_path / "download", FLAT), "dataset name", name)


def test_links_in_target_are_refused(tmp_path: Path) -> None:
    source = write_files(tmp_path / "download", FLAT)
    outside = tmp_path / "outside"
    outside.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "mychip").symlink_to(outside)
    with pytest.raises(UserError, match=r"mychip: a link to .*remove the link"):
        bring_in(source)
    (data / "mychip").unlink()
    (data / "mychip").mkdir()
    (data / "mychip" / "label").symlink_to(outside)
    with pytest.raises(UserError, match="label: a link or a file where a folder is to go"):
        bring_in(source)
    (data / "mychip" / "label").unlink()
    (data / "mychip" / "label").mkdir()
    (tmp_path / "xy").write_bytes(b"label/1.png")
    (data / "mychip" / "label" / "1.png").symlink_to("../../../xy")  # as long as the content, which is the same
    with pytest.raises(UserError, match=r"label/1\.png: exists with other content"):
        bring_in(source)
    assert tree(outside) == {}


@pytest.mark.parametrize("place", ["data/mychip", "data", ".", "data/mychip/raw"])
def test_source_that_overlaps_its_target_is_refused(tmp_path: Path, place: str) -> None:
    source = write_files(tmp_path / place, FLAT)
    before = digest(tmp_path)
    with pytest.raises(UserError, match=r"holds .*mychip, or lies in it"):
        prepare_dataset("mychip", source, tmp_path / "data")
    assert digest(tmp_path) == before


def test_refused_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    for evil in ("../../evil.png", "/evil.png"):
        (tmp_path / "a.zip").write_bytes(zipped(content((*FLAT, evil))))
        assert_refused(tmp_path / "a.zip", "goes up|an absolute path")
    damaged = bytearray(zipped(content(FLAT)))
    damaged[damaged.index(b"image/1.png", 40)] ^= 1  # in the content of the first file
    (tmp_path / "a.zip").write_bytes(damaged)
    assert_refused(tmp_path / "a.zip", r"'image/1\.png': damaged or incomplete")


PIECES = (
    "image",
    "label",
    "Images",
    "mask",
    "train",
    "val",
    "test",
    "sems",
    "labels",
    "Anomaly_test",
    "..",
    ".",
    "",
    "C:",
)
LEAVES = ("1.png", "1_.png", "2.PNG", "sem1.png", "label1.svg", "test_normal_1.jpg", "x.zip", "\0", "..", "a" * 300)
PATHS = st.lists(st.sampled_from(PIECES), max_size=4).flatmap(
    lambda folders: st.sampled_from(LEAVES).map(lambda leaf: "/".join([*folders, leaf]))
)
ANY_NAME = st.one_of(PATHS, PATHS, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))


@given(
    files=st.dictionaries(ANY_NAME, st.binary(max_size=20), min_size=1, max_size=6),
    flips=st.one_of(st.just([]), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=4)),
    as_tar=st.booleans(),
)
def test_no_archive_writes_outside_the_target(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], flips: list[tuple[int, int]], as_tar: bool
) -> None:
    """Nothing is raised but a user's error, whatever an archive holds."""
    base = tmp_path_factory.getbasetemp() / "fuzz"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    packed = bytearray(tarred(files) if as_tar else zipped(files))
    for place, value in flips:
        packed[place % len(packed)] ^= value
    (base / "a.bin").write_bytes(packed)
    with contextlib.suppress(UserError):
        result = prepare_dataset("x", base / "a.bin", base / "data")
        assert result.images >= 1 or result.layout == "hy5syn"
    paths = {str(path.relative_to(base)) for path in base.rglob("*")}
    assert {path for path in paths if not path.startswith("data/x/")} <= {"a.bin", "data", "data/x"}
    assert not any(path.endswith(".tmp") for path in paths)
    assert (base / "a.bin").read_bytes() == packed

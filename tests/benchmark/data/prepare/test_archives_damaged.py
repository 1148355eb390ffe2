"""Truncated, flipped and mutated archives: each is read as it was packed or refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.utils.errors import UserError
from tests.benchmark.data.prepare.archive_makers import assert_source_refused, read, tarred, zipped

RANDOM = hashlib.shake_256(b"").digest(20_000)
WHOLE = {
    "zip": zipped({"a.png": RANDOM, "b.png": b"2" * 700}, compression=zipfile.ZIP_DEFLATED),
    **{mode: tarred({"a.png": RANDOM, "b.png": b"2" * 700}, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")},
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_archive_is_refused(tmp_path: Path, kind: str) -> None:
    content = WHOLE[kind]
    for end in (600, len(content) // 2, len(content) - 10):
        (tmp_path / "a.bin").write_bytes(content[: end if kind != "w" else min(end, len(content) - 9500)])
        assert_source_refused(tmp_path / "a.bin", "damaged|neither|cut off")
    if kind == "w":  # between two members, and within the mark of the end
        for end in (512 + 20_480, 512 + 20_480 + 512 + 1024, 512 + 20_480 + 512 + 1024 + 511):
            (tmp_path / "a.bin").write_bytes(content[:end])
            assert_source_refused(tmp_path / "a.bin", "cut off at byte")


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind != "w"])  # a plain tar has no checksum of contents
def test_flipped_bit_is_found(tmp_path: Path, kind: str) -> None:
    content = bytearray(WHOLE[kind])
    content[5000] ^= 1
    (tmp_path / "a.bin").write_bytes(content)
    assert_source_refused(tmp_path / "a.bin", "damaged|neither a folder nor a whole zip or tar")


def test_damaged_tar_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    content = bytearray(WHOLE["w"])
    content[512 + 20_480 + 3] ^= 1  # in the second name
    (tmp_path / "a.tar").write_bytes(content)
    assert_source_refused(tmp_path / "a.tar", "damaged or cut off at byte 20992")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A whole archive with some bytes changed, cut out or repeated, or random bytes."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"BZh9"])) + draw(st.binary(max_size=600))
    content = bytearray(draw(st.sampled_from(list(WHOLE.values()))))
    for _ in range(draw(st.integers(1, 4))):
        # Directories and headers lie at both ends.
        place = draw(st.one_of(st.integers(0, 600), st.integers(-600, -1), st.integers(0, len(content) - 1)))
        place = place % max(len(content), 1)
        end = place + draw(st.integers(0, 40))
        content[place:end] = draw(st.one_of(st.binary(max_size=40), st.just(bytes(end - place))))
    return bytes(content)


@given(content=mutated())
def test_mutated_archive_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    tmp_path = tmp_path_factory.getbasetemp() / "mutated"
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    (tmp_path / "a.bin").write_bytes(content)
    with contextlib.suppress(UserError):
        read(tmp_path / "a.bin")
    assert os.listdir(tmp_path) == ["a.bin"]

"""Zip and tar archives for the tests, made in memory."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmark.data.prepare import archives
from benchmark.utils.errors import UserError

FILES = {"image/1.png": b"one", "image/2.png": bytes(100_000), "label/1.png": b""}


def zipped(files: Mapping[str, bytes], **how: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as file:  # type: ignore[arg-type]
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, how.get("compression", zipfile.ZIP_STORED)
            file.writestr(info, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w", format: int = tarfile.PAX_FORMAT, **fields: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(source: Path) -> dict[str, bytes]:
    with archives.members(source, source.parent / "target") as members:
        content = {member.path: b"".join(member.chunks()) for member in members}
        assert {member.path: member.size for member in members} == {path: len(content[path]) for path in content}
        return content


def assert_source_refused(source: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        read(source)
    assert source.name in str(error.value)

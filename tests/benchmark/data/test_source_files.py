"""Source files are read from a clone's history or from a folder, and only with the right content."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmark.data.source_files import SourceFile, read_sources
from benchmark.utils.errors import UserError

ADDRESS = "https://example.org/chips"


def described(file: str, content: bytes, **fields: str) -> SourceFile:
    return SourceFile(address=ADDRESS, file=file, sha256=hashlib.sha256(content).hexdigest(), **fields)


def commit(repository: Path, file: str, content: bytes) -> str:
    (repository / file).parent.mkdir(parents=True, exist_ok=True)
    (repository / file).write_bytes(content)
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "x"), ("rev-parse", "HEAD")):
        done = subprocess.run(["git", "-C", str(repository), *command], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_clone_gives_the_version_of_the_commit_and_not_that_of_the_work_tree(tmp_path: Path) -> None:
    first = commit(tmp_path, "img/a.jpg", b"old")
    commit(tmp_path, "img/a.jpg", b"new")
    assert read_sources([described("img/a.jpg", b"old", commit=first)], tmp_path) == {"img/a.jpg": b"old"}
    bare = tmp_path / "bare"
    subprocess.run(["git", "clone", "-q", "--bare", str(tmp_path), str(bare)], check=True, capture_output=True)
    assert read_sources([described("img/a.jpg", b"old", commit=first)], bare) == {"img/a.jpg": b"old"}


@pytest.mark.parametrize("place", ["img/a.jpg", "a.jpg"])
def test_folder_gives_files_by_path_or_by_name(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"content")
    file = described("img/a.jpg", b"content", commit="0123456789")
    assert read_sources([file], tmp_path) == {"img/a.jpg": b"content"}
    assert file.is_at(tmp_path / place)


def test_all_missing_and_changed_files_are_one_message(tmp_path: Path) -> None:
    newest = commit(tmp_path, "a.jpg", b"new")
    files = [described("a.jpg", b"old", commit=newest), described("b.jpg", b"there", commit="e4697480ce2ab940")]
    with pytest.raises(UserError) as caught:
        read_sources(files, tmp_path)
    message = str(caught.value)
    assert f"{newest[:12]}:a.jpg has another content (SHA-256 {hashlib.sha256(b'new').hexdigest()[:16]}" in message
    assert "e4697480ce2a:b.jpg is missing" in message
    assert f"clone of {ADDRESS} with its history" in message
    with pytest.raises(UserError, match=r"nowhere: no folder; expected a git clone of https://example\.org/chips"):
        read_sources(files, tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["../a.jpg", "/a.jpg", "", "a\\b.jpg", "a/../../b.jpg"])
def test_paths_lead_out_of_no_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="leads out of no folder"):
        described("a.jpg", b"", to=path)

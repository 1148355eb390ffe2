"""Tests the identity of the code: this project's checkout alone, and packages that pip can install again."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmark.records import provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git, which is not installed here")


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", folder, *who, *words], env=clean, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def project(root: Path, name: str = provenance.PROJECT) -> Path:
    for package in provenance.CODE:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("x = 1\n")
    (root / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    return root


def committed(root: Path) -> str:
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    return git(root, "rev-parse", "HEAD")


@needs_git
def test_clean_checkout_is_its_commit(tmp_path: Path) -> None:
    root = project(tmp_path)
    commit = committed(root)
    assert provenance.checkout(root) == (commit, False)
    (root / "results").mkdir()
    (root / "results/record.json").write_text("{}")  # what a run writes changes no number
    assert provenance.checkout(root) == (commit, False)


@needs_git
@pytest.mark.parametrize("file", ["models/__init__.py", "baselines/new.py"])
def test_changed_and_new_sources_are_dirty(tmp_path: Path, file: str) -> None:
    root = project(tmp_path)
    commit = committed(root)
    git(root, "config", "status.showUntrackedFiles", "no")  # a user's taste
    (root / file).write_text("x = 2\n")
    assert provenance.checkout(root) == (commit, True)


@needs_git
def test_repository_of_the_user_s_is_not_this_project_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = project(tmp_path / "other", name="a-thesis")
    committed(other)
    assert provenance.checkout(other) == (None, None)
    installed = project(other / ".venv/lib")  # with the project's own pyproject, but within the user's work tree
    assert provenance.checkout(installed) == (None, None)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as in a hook of the user's
    own = project(tmp_path / "own")
    commit = committed(own)
    assert provenance.checkout(own) == (commit, False)


@needs_git
def test_working_directory_changes_no_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.code.cache_clear()
    before = provenance.code()
    committed(project(tmp_path))
    monkeypatch.chdir(tmp_path)
    provenance.code.cache_clear()
    assert provenance.code() == before
    assert before["content"]


def test_checkout_without_git_or_with_a_git_that_hangs_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path / "own")
    (root / ".git").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert provenance.checkout(root) == (None, None)
    program = tmp_path / "bin/git"
    program.write_text(f"#!/bin/sh\nexec {shutil.which('sleep', path=os.defpath)} 30\n")
    program.chmod(0o755)
    monkeypatch.setattr(provenance, "GIT_TIMEOUT_S", 0.2)
    started = time.perf_counter()
    assert provenance.checkout(root) == (None, None)
    assert time.perf_counter() - started < 10


def test_two_installs_of_the_same_sources_have_the_same_content(tmp_path: Path) -> None:
    first, second = (project(tmp_path / name) for name in ("first", "second"))
    expected = provenance.content_hash(first)
    assert len(expected) == 16
    (second / "models/__init__.py").write_bytes(b"x = 1\r\n")  # checked out on Windows
    (second / "models/notes.txt").write_text("not code")
    (second / "tests").mkdir()
    (second / "tests/test_x.py").write_text("not of the package")
    assert provenance.content_hash(second) == expected
    (second / "models/__init__.py").write_text("x = 2\n")
    assert provenance.content_hash(second) != expected
    (first / "models/__init__.py").rename(first / "models/init.py")
    assert provenance.content_hash(first) != expected


def test_packages_are_all_that_are_installed_with_their_versions() -> None:
    lines = provenance.packages().splitlines()
    result = {requirement.name: str(requirement.specifier) for requirement in map(Requirement, lines)}
    assert len(result) == len(lines) >= 20
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    for name in ("torch", "pytest", "segmentation-models-pytorch", "typing-extensions"):
        assert result[name] == f"=={importlib.metadata.version(name)}"

"""Folders of other people's packages in the current folder or on the path, under this project's names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.config import own_packages, registry
from benchmark.config.protocol import Protocol
from benchmark.executors.remote import Parcel
from benchmark.runs.jobs import TrainJob
from benchmark.utils.errors import UserError

#: Stands for an editable installation, whose finder comes after the folders of the path.
EDITABLE = """
import importlib.util, sys
from importlib.machinery import PathFinder

class Finder:
    def find_spec(name, path=None, target=None):
        package, _, module = name.partition(".")
        if package in ("benchmark", "models", "baselines"):
            if module:
                return PathFinder.find_spec(name, [f"{ROOT}/{package}"])
            return importlib.util.spec_from_file_location(name, f"{ROOT}/{name}/__init__.py")

sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Finder)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder as labs have it: packages of their own, and a folder of results."""
    for package in ("models", "baselines"):
        (tmp_path / "lab" / package).mkdir(parents=True)
        (tmp_path / "lab" / package / "__init__.py").touch()
    (tmp_path / "lab/benchmark").mkdir()
    (tmp_path / "lab/benchmark/results.csv").touch()
    return tmp_path / "lab"


def version(folder: Path, *path: Path) -> tuple[int, str]:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    words = [sys.executable, "-m", "benchmark", "--version"]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_packages_in_the_current_folder_are_not_taken_for_ours(lab: Path) -> None:
    assert version(lab, own_packages.ROOT)[0] == 0


@pytest.mark.parametrize("init", ["", "__version__ = 'of the lab'"])
def test_editable_installation_works_beside_a_folder_of_its_name(tmp_path: Path, lab: Path, init: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(f"ROOT = {str(own_packages.ROOT)!r}\n{EDITABLE}", "utf-8")
    if init:
        (lab / "benchmark/__init__.py").write_text(init, "utf-8")
    code, error = version(lab, tmp_path / "site")
    assert (code, error[:1].isdigit()) == (0, True), error


@pytest.mark.parametrize("package", ["models", "baselines"])
def test_package_that_hides_ours_is_named(lab: Path, package: str) -> None:
    other = lab / "models" if package == "baselines" else lab / "baselines"
    (other / "__init__.py").unlink()
    other.rmdir()
    code, error = version(lab.parent, lab, own_packages.ROOT)
    assert code == 2
    assert error.startswith(
        f"benchmark: package '{package}': found in {lab / package}, which hides the benchmark's own"
    )
    assert error.endswith(f"take {lab} out of PYTHONPATH or start in another folder")


def test_checkout_itself_is_found_as_before() -> None:
    assert version(own_packages.ROOT)[0] == 0


@pytest.fixture
def hidden(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library's user has such a folder on the path, as a notebook has; nothing of ours is imported yet."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("models", "baselines")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(lab))
    return lab


def test_another_network_never_runs_under_the_name_of_a_shipped_one(hidden: Path) -> None:
    (hidden / "baselines/contextnet.py").write_text("from torch import nn\nclass ContextNet(nn.Module): ...\n", "utf-8")
    with pytest.raises(UserError, match=rf"package 'models': found in {hidden}/models"):
        registry.select("contextnet")[0].load()


def test_node_where_others_packages_are_found_does_no_job(
    hidden: Path, make_job: Callable[..., TrainJob], small: Protocol
) -> None:
    answer = Parcel((make_job(small),), hidden).perform(lambda *_: None)
    assert isinstance(answer, UserError)
    assert f"found in {hidden}/models" in str(answer)


def test_current_folder_leaves_the_path_unless_the_project_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, left in ((tmp_path, False), (own_packages.ROOT, True)):
        monkeypatch.chdir(folder)
        for first in ("", str(folder)):
            monkeypatch.setattr(sys, "path", [first, "/elsewhere"])
            own_packages.leave_current_folder()
            assert sys.path == [first, "/elsewhere"][not left :]


def test_fork_server_does_not_look_into_the_current_folder(lab: Path) -> None:
    (lab / "models/__init__.py").write_text("print('of the lab', flush=True)\n", "utf-8")
    code = """
from benchmark.utils.processes import FORKSERVER
FORKSERVER.set_forkserver_preload(["models"])
process = FORKSERVER.Process(target=print, args=("a child",))
process.start()
process.join()
"""
    variables = {**os.environ, "PYTHONPATH": str(own_packages.ROOT)}
    words = [sys.executable, "-c", f"import sys; del sys.path[0]{code}"]
    variables.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(words, cwd=lab, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "a child\n"

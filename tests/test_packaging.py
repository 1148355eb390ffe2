"""The package as others install it: its wheel, what that holds, and what it says it needs."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.test_structure import statements

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "models", "baselines")
MODULE = (sys.executable, "-m", "benchmark")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
#: Names of modules of optional packages that may not be installed here.
MODULES = {
    "mlflow": "mlflow-skinny",
    "pynvml": "nvidia-ml-py",
    "ray": "ray",
    "submitit": "submitit",
    "pkg_resources": "setuptools",
}


def distribution_name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]).lower()


def imported(files: Iterable[Path]) -> set[str]:
    """Top-level names of all import statements, those of this project and Python's own aside."""
    names: set[str] = set()
    for file in files:
        for node in statements(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).partition(".")[0])
    return names - set(sys.stdlib_module_names) - {*PACKAGES, "tests"}


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    """Return the installed packages by the modules that they bring; to read their lists of files takes a second."""
    return importlib.metadata.packages_distributions()


def undeclared(files: Iterable[Path], requirements: Iterable[str]) -> set[str]:
    known = distributions()
    declared = {distribution_name(requirement) for requirement in requirements}
    return {
        name
        for name in imported(files)
        if not {distribution_name(result) for result in known.get(name, [MODULES.get(name, name)])} & declared
    }


def test_all_that_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    optional = [requirement for name in extras for requirement in extras[name] if name not in ("test", "dev")]
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert undeclared(files, [*PROJECT["dependencies"], *optional]) == set()
    tests = (ROOT / "tests").rglob("*.py")
    assert undeclared(tests, [*PROJECT["dependencies"], *optional, *extras["test"]]) == set()


def test_imports_of_every_run_need_no_extra() -> None:
    parts = (ROOT / "models", ROOT / "baselines", ROOT / "benchmark/cli")
    files = [file for part in parts for file in part.rglob("*.py")]
    assert undeclared(files, PROJECT["dependencies"]) == set()


@pytest.mark.slow
def test_wheel_works_in_a_folder_of_other_packages_of_the_same_names(tmp_path: Path) -> None:
    """As installed by pip, not as editable; without the network."""
    source, site, lab = (tmp_path / name for name in ("source", "site", "lab"))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip = (sys.executable, "-m", "pip")
    run(tmp_path, *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "wheels", "./source")
    (wheel,) = (tmp_path / "wheels").iterdir()
    run(tmp_path, *pip, "install", "--no-deps", "--no-index", "--target", "site", str(wheel))
    with zipfile.ZipFile(wheel) as content:
        there = {name for name in content.namelist() if ".dist-info/" not in name}
    files = {file.relative_to(source).as_posix() for name in PACKAGES for file in (source / name).rglob("*.*")}
    assert there == {name for name in files if not name.endswith(".md")}
    for package in PACKAGES:
        assert f"{package}/py.typed" in there
        (lab / package).mkdir(parents=True)
    for package in ("models", "baselines"):
        (lab / package / "__init__.py").write_text("raise RuntimeError('not the benchmark')\n", "utf-8")

    listed = run(lab, *MODULE, "list", "models", path=site)
    assert "eal_icnet" in listed
    assert run(lab, site / "bin/benchmark", "list", "models", path=site) == listed
    names = "{entry.load().__module__ for entry in BUILTIN.values()}"
    load = f"from benchmark.config.registry import BUILTIN; print(*{names})"
    assert "baselines.contextnet" in run(lab, sys.executable, "-P", "-c", load, path=site).split()
    settings = ["training.steps=2", "split.counts=[8,4,4]", "data.standin_images=16", "efficiency.budget_seconds=0.1"]
    study = ["run", "--models", "contextnet", "--datasets", "omc", "--protocol", "quick", "--repeats", "1"]
    run(lab, *MODULE, *study, *(word for setting in settings for word in ("--set", setting)), path=site)
    assert (lab / "results/quick/report/index.html").is_file()


def run(folder: Path, *words: str | Path, path: Path | None = None) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_tests_that_ci_names_exist() -> None:
    """A missing one would be noticed only after the whole suite."""
    script = ROOT / ".ci/run"
    if not script.is_file():
        pytest.skip("needs a checkout")
    named = re.findall(r"'(tests/[^':]+)::(\w+)", script.read_text("utf-8"))
    assert len(named) > 5
    assert [(file, name) for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")] == []

"""The structure of the packages: who imports whom, unique names, sizes; what a newcomer relies on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "models", "baselines")
#: From top to bottom; a package imports from those below it only.
LAYERS = (
    *(
        "cli",
        "api",
        "speedup",
        "predict",
        "report",
        "study",
        "executors",
        "runs",
        "efficiency",
        "training",
        "evaluation",
    ),
    *("records", "devices", "data", "config", "metrics", "utils"),
)


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def repeated(names: Iterator[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return the names that stand for more than one thing, each with its files."""
    files: dict[str, list[str]] = {}
    for name, file in names:
        files.setdefault(name, []).append(str(file.relative_to(ROOT)))
    return {name: result for name, result in files.items() if len(result) > 1}


def imports(*, types: bool) -> dict[str, set[str]]:
    """Return the modules of ``benchmark``, each with those that it imports, inside of functions too.

    The package itself is left out: every module imports it, and it imports its functions when they are asked for.
    """
    graph = grimp.build_graph("benchmark", exclude_type_checking_imports=not types, cache_dir=None)
    graph.remove_module("benchmark")
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_imports_point_down_also_those_for_type_checkers() -> None:
    floors = {f"benchmark.{layer}": number for number, layer in enumerate(LAYERS)}
    up = []
    for module, imported in imports(types=True).items():
        for other in imported:
            above, below = (".".join(name.split(".")[:2]) for name in (module, other))
            if above in floors and below in floors and floors[above] > floors[below]:
                up.append(f"{module} imports {other}")
    assert up == []


def test_no_modules_import_each_other() -> None:
    TopologicalSorter(imports(types=False)).prepare()  # raises where there is a circle


def test_every_package_is_a_layer_and_few_entries_lie_beside_them() -> None:
    folders = {path.name for path in (ROOT / "benchmark").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(LAYERS)
    entries = [path for path in (ROOT / "benchmark").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 21


def test_networks_know_nothing_of_the_harness() -> None:
    for package in ("models", "baselines"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom | ast.Import):
                    names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                    assert not any(name.split(".")[0] == "benchmark" for name in names), file


def test_no_two_modules_have_one_name() -> None:
    assert repeated((file.stem, file) for file in modules() if not file.stem.startswith("__")) == {}


def test_no_two_classes_have_one_name() -> None:
    def classes() -> Iterator[tuple[str, Path]]:
        for file in modules():
            for node in ast.parse(file.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    yield node.name, file

    assert repeated(classes()) == {}


def test_modules_are_short_and_say_in_a_sentence_what_lives_there() -> None:
    for file in modules():
        text = file.read_text("utf-8")
        assert text.count("\n") <= 400, file
        sentence = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        assert 0 < len(sentence.split()) <= 14, f"{file}: {sentence}"
        assert not sentence.startswith(("What ", "Where ", "How ", "Which ", "Such ")), file


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                sentence = ast.get_docstring(node) or ""
                assert not sentence.startswith(("What ", "Where ", "How ", "Which ", "Such ")), f"{file}: {sentence}"


def test_packages_have_no_logic_in_their_init() -> None:
    for file in modules():
        if file.name == "__init__.py" and file.parent.name != "benchmark":
            body = ast.parse(file.read_text("utf-8")).body[1:]
            assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in body), file

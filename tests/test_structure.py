"""The structure of the packages: who imports whom, unique names, sizes; what a newcomer relies on."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

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


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    gc.disable()  # of 400,000 nodes none is garbage, and to look takes two thirds of the time
    parsed = {file: ast.parse(file.read_bytes()) for file in modules()}
    gc.enable()
    return parsed


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements of a module and those inside of them; to look at all expressions too takes ten times longer.

    Parts of statements that hold others, as the cases of a match, are yielded too.
    """
    left: list[ast.AST] = [*tree.body]
    while left:
        node = left.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, part, ())


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


def test_imports_keep_process_settings(trees: dict[Path, ast.Module]) -> None:
    """Statements of modules define names: none calls a function for its effect or sets what belongs to another one."""
    result = [
        f"{file.relative_to(ROOT)}:{statement.lineno}"
        for file, tree in trees.items()
        if file != ROOT / "benchmark/cli/main.py"  # which registers verbs
        for statement in tree.body
        if (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call))
        or (
            isinstance(statement, ast.Assign)
            and any(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
        )
    ]
    assert not result


def test_networks_know_nothing_of_the_harness(trees: dict[Path, ast.Module]) -> None:
    networks = [file for file in trees if file.relative_to(ROOT).parts[0] in ("models", "baselines")]
    assert len(networks) > 10
    for file in networks:
        for node in statements(trees[file]):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not any(name.split(".")[0] == "benchmark" for name in names), file


def test_no_two_modules_have_one_name() -> None:
    assert repeated((file.stem, file) for file in modules() if not file.stem.startswith("__")) == {}


def test_no_two_classes_have_one_name(trees: dict[Path, ast.Module]) -> None:
    classes = (
        (node.name, file) for file, tree in trees.items() for node in tree.body if isinstance(node, ast.ClassDef)
    )
    assert repeated(classes) == {}


def test_modules_are_short_and_say_in_a_sentence_what_lives_there(trees: dict[Path, ast.Module]) -> None:
    for file, tree in trees.items():
        assert file.read_text("utf-8").count("\n") <= 400, file
        sentence = (ast.get_docstring(tree) or "").split("\n\n")[0]
        assert 0 < len(sentence.split()) <= 14, f"{file}: {sentence}"
        assert not sentence.startswith(("What ", "Where ", "How ", "Which ", "Such ")), file


def test_docstrings_begin_with_a_verb_or_a_noun(trees: dict[Path, ast.Module]) -> None:
    for file, tree in trees.items():
        for node in statements(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                sentence = ast.get_docstring(node) or ""
                assert not sentence.startswith(("What ", "Where ", "How ", "Which ", "Such ")), f"{file}: {sentence}"


def test_packages_have_no_logic_in_their_init(trees: dict[Path, ast.Module]) -> None:
    for file, tree in trees.items():
        if file.name == "__init__.py" and file.parent.name != "benchmark":
            assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in tree.body[1:]), file

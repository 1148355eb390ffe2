"""Mutants: the same 100 faults in two revisions, and whether the tests of each revision catch them.

    pip install cosmic-ray
    python tests/mutants.py draw 3a16b7b                    # once: writes tests/mutants.csv
    python tests/mutants.py test 3a16b7b before             # fills a column; takes half an hour on one core
    python tests/mutants.py test HEAD after [LINE ...]      # or only these lines of the table

cosmic-ray makes every mutant of the four packages: one line in place of another. 25 of each package are drawn, at most
one a line: first a line by chance, then one of its mutants. Not drawn are

- lines that are not once in their file, here and in the other revision, since each mutant is made in both;
- annotations, decorators, ``if TYPE_CHECKING`` and unions of types, which do nothing or fail at once;
- ``==`` in place of ``is``, which means the same to ``None``.

A mutant is tested in a clone, by the tests that mirror its module and that both revisions have (``test_x.py``,
``test_x_*.py``), or by their folder if there are none. It is caught if one fails, or if they take a minute more than
three times their usual time.

The table is of 3a16b7b and f93fa77. Its column ``after`` counts tests that were added for mutants that both revisions
missed; its notes name them. Drawn again, only the sign of a change to a number may differ. When the suite was cut to
four minutes, at 20c7629, 13 of the lines were gone; the mutants of the other 87 ended as in ``after``. So they did when
tests named no private part of the package any more, at e295f0d3.
"""

from __future__ import annotations

import ast
import csv
import importlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests/mutants.csv"
COLUMNS = ("file", "line", "mutant", "tests", "before", "after", "note")
PACKAGES = ("metrics", "training", "records", "study")
EACH, SEED = 25, 19
SETTINGS = f"""[cosmic-ray]
module-path = {[f"benchmark/{package}" for package in PACKAGES]}
timeout = 1
excluded-modules = []
test-command = ""
[cosmic-ray.distributor]
name = "local"
"""
OPTIONS = ("-n", "0", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")


def run(*command: str, folder: Path = ROOT) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def clone(revision: str, folder: str) -> Path:
    run("git", "clone", "-q", "--no-checkout", str(ROOT), folder)
    run("git", "checkout", "-q", run("git", "rev-parse", revision).strip(), folder=Path(folder))
    return Path(folder)


def indices(text: str, line: str) -> list[int]:
    return [index for index, other in enumerate(text.splitlines()) if other.strip() == line]


def fits(place: dict, tree: ast.Module) -> bool:
    """Say whether a mutation is none of those that do nothing or fail at once."""
    operator, start = place["operator_name"], tuple(place["start_pos"])
    skipped: list[ast.AST | None] = []
    for node in ast.walk(tree):
        skipped += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        skipped += getattr(node, "decorator_list", [])
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.append(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            skipped.append(node.args[1])
    spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in filter(None, skipped)]
    return (
        not any(first <= start < last for first, last in spans)
        and not ("_BitOr_" in operator and not place["definition_name"])
        and not ("_Is" in operator and not operator.endswith(("_Is_IsNot", "_IsNot_Is")))
    )


def mutant(tree: Path, other: Path, name: str, places: list[dict]) -> dict[str, str] | None:
    """Return a mutant of a line by chance, or None if it does not fit."""
    file, text = tree / name, (tree / name).read_text("utf-8")
    places = [place for place in places if fits(place, ast.parse(text))]
    if not places or not (other / name).exists():
        return None
    order = ("start_pos", "operator_name", "occurrence")
    place = random.choice(sorted(places, key=lambda place: [place[name] for name in order]))
    run("cosmic-ray", "apply", name, place["operator_name"], str(place["occurrence"]), folder=tree)
    mutated = file.read_text("utf-8")
    file.write_text(text, "utf-8")
    changes = [pair for pair in zip(text.splitlines(), mutated.splitlines(), strict=False) if pair[0] != pair[1]]
    try:
        ast.parse(mutated)
    except SyntaxError:
        return None
    line, changed = (part.strip() for part in changes[0])
    here, there = indices(text, line), indices((other / name).read_text("utf-8"), line)
    if not len(changes) == len(here) == len(there) == 1:
        return None
    return {"file": name, "line": line, "mutant": changed, "tests": mirrored(Path(name), tree, other)}


def mirrored(file: Path, *trees: Path) -> str:
    """Return the files of tests of a module that all trees have, or their folder if there are none."""
    folder = Path("tests") / file.parent
    patterns = (f"test_{file.stem}.py", f"test_{file.stem}_*.py")
    names = [{path.name for pattern in patterns for path in (tree / folder).glob(pattern)} for tree in trees]
    return " ".join(f"{folder}/{name}" for name in sorted(set.intersection(*names))) or str(folder)


def draw(revision: str) -> None:
    """Write the table of mutants that can be made in this and in the other revision."""
    random.seed(SEED)
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        tree, other = clone("HEAD", f"{folder}/tree"), clone(revision, f"{folder}/other")
        (tree / "settings.toml").write_text(SETTINGS, "utf-8")
        run("cosmic-ray", "init", "settings.toml", "session.sqlite", folder=tree)
        lines: dict[tuple[str, int], list[dict]] = {}
        for item in run("cosmic-ray", "dump", "session.sqlite", folder=tree).splitlines():
            (place,) = json.loads(item)[0]["mutations"]
            lines.setdefault((place["module_path"], place["start_pos"][0]), []).append(place)
        for package in PACKAGES:
            there = sorted(key for key in lines if Path(key[0]).parent.name == package)
            drawn = (mutant(tree, other, key[0], lines[key]) for key in random.sample(there, len(there)))
            rows += [row for row, _ in zip(filter(None, drawn), range(EACH), strict=False)]
    write(sorted(rows, key=lambda row: row["file"]))


def write(rows: list[dict[str, str]]) -> None:
    with TABLE.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def fails(tree: Path, tests: str, seconds: float = math.inf) -> bool:
    """Run tests in a fork, which has the slow imports already, and end it after that time."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(tree)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ |= {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        sys.path[0] = str(tree)
        # Python takes the bytecode of a mutant for that of the next one, made in the same second and as long.
        sys.dont_write_bytecode = seconds < math.inf
        os._exit(pytest.main([*OPTIONS, *tests.split()]))
    end = time.monotonic() + seconds
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)
    return ended[1] != 0


def test(revision: str, column: str, *numbers: str) -> None:
    """Fill a column of the table."""
    rows = list(csv.DictReader(TABLE.read_text("utf-8").splitlines()))
    limits: dict[str, float] = {}
    for name in ("pandas", "scipy.stats", "skimage.measure", "torch", "torchvision"):  # take seconds, in each fork
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as name:
        tree = clone(revision, name)
        for number, row in enumerate(rows, 2):
            if numbers and str(number) not in numbers:
                continue
            file, tests = tree / row["file"], row["tests"]
            text = file.read_text("utf-8") if file.exists() else ""
            lines, found = text.splitlines(keepends=True), indices(text, row["line"])
            if len(found) != 1 or not all((tree / name).exists() for name in tests.split()):
                row[column] = "gone"  # a table of other code: draw anew
                continue
            if tests not in limits:
                started = time.monotonic()
                if fails(tree, tests):
                    raise SystemExit(f"{revision}: {tests} fails without a mutant.")
                limits[tests] = 60 + 3 * (time.monotonic() - started)
            lines[found[0]] = lines[found[0]].replace(row["line"], row["mutant"])
            file.write_text("".join(lines), "utf-8")
            row[column] = "caught" if fails(tree, tests, limits[tests]) else "missed"
            file.write_text(text, "utf-8")
            print(f"{number}: {row[column]}", flush=True)
            write(rows)


if __name__ == "__main__":
    {"draw": draw, "test": test}[sys.argv[1]](*sys.argv[2:])

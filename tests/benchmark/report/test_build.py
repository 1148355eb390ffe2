from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.records.run_record import Failure
from benchmark.report import build
from benchmark.report.tables import render
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, which is not installed here")


TABLES = ("accuracy", "electrical", "efficiency", "methods", "networks")


def pdflatex(folder: Path, document: str) -> str:
    """Compile and return the log; the exit code is 0 only where LaTeX met no error."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-2000:]
    return log


def test_written_files_are_those_returned(study: Path, built: list[Path]) -> None:
    assert all(path.is_file() for path in built)
    written = {path for path in (study / "report").rglob("*") if path.is_file()}
    assert written == set(built)
    tables = {f"{table}.{kind}" for table in TABLES for kind in ("csv", "md", "tex")}
    assert {path.name for path in built if path.parent.name == "tables"} == {*tables, "numbers.tex", "references.bib"}


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        fake.write_study(tmp_path / name / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2) for name in "ab"
    )

    made = {path.relative_to(first): path.read_bytes() for path in build.build(first)}
    again = {path.relative_to(second): path.read_bytes() for path in build.build(second)}

    assert made == again


@needs_latex
def test_latex_document_of_all_tables_compiles_within_its_margins(
    study: Path, built: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(study / "report", tmp_path / "report")

    log = pdflatex(tmp_path / "report", "tables.tex")

    assert "Overfull" not in log
    assert "Undefined" not in log


@needs_latex
def test_hostile_names_compile(tmp_path: Path) -> None:
    names = [
        r"a_b & c% $x$ #1 {y ~^ \end{tabular}",
        "网络 Ω é ß ð «x» ±×·²→≤",
        "<|>`'\"--",
        "[x]",
        "tab\tnew\nline\x07",
    ]
    rows = tuple(Row(name, name, "user", {"v": Cell(0.5, 0.1, 2)}, remark=name) for name in names)
    column = Column("v", names[0], higher_is_better=True, unit=names[0])
    block = Block(names[0], "".join(names), {}, tuple(names), (column,), rows, n=3)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/hostile.tex").write_text(render.to_latex(Table("hostile", names[0], (block,))), "utf-8")
    (tmp_path / "tables.tex").write_text(render.latex_document(["hostile"]), "utf-8")

    pdflatex(tmp_path, "tables.tex")


def test_efficiency_alone_makes_a_report_without_a_protocol(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")

    names = {path.name for path in build.build(tmp_path)}

    tables = {"efficiency.csv", "efficiency.md", "efficiency.tex", "numbers.tex", "references.bib", "tables.tex"}
    assert names == tables | {"profile.pdf", "profile.png", "index.html"}


def test_all_failed_and_one_model_build(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, None, Failure(kind="error", message="RuntimeError: no"))

    assert {path.suffix for path in build.build(tmp_path)} == {".csv", ".md", ".tex", ".bib", ".html"}


def test_folder_that_is_no_study_or_an_empty_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"protocol\.toml"):
        build.build(tmp_path / "missing")
    fake.write_protocol(tmp_path)
    with pytest.raises(UserError, match="neither runs nor efficiency"):
        build.build(tmp_path)


def test_report_needs_no_torch_no_model_and_no_pyplot() -> None:
    code = (
        "import sys, benchmark.report.build, benchmark.predict.encoder_plot; "
        "print([name for name in ('torch', 'models', 'baselines', 'matplotlib.pyplot') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"

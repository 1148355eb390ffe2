"""A report from a study's files: what is written, that it is the same each time, and what it needs."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.records.run_record import Failure
from benchmark.report.build import build, check
from benchmark.report.plots.all_plots import PLOTS
from benchmark.report.tables import render
from benchmark.report.tables.all_tables import TABLES
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake
from tests.benchmark.report.conftest import IN_PAGE
from tests.benchmark.report.tables.test_roofline_table import limits
from tests.benchmark.report.tables.test_stress_table import write_stressed
from tests.benchmark.report.tables.test_training_table import FACTS

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, which is not installed here")


SKELETON = {"skeleton_true": 9, "skeleton_predicted": 9, "skeleton_true_hit": 8, "skeleton_predicted_hit": 7}
TABLES_OF_RUNS = ("accuracy", "electrical", "efficiency", "methods", "networks")


def pdflatex(folder: Path, document: str) -> str:
    """Compile and return the log; the exit code is 0 only where LaTeX met no error."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-2000:]
    return log


def test_written_files_are_those_returned(study: Path, built: list[Path]) -> None:
    assert all(path.is_file() for path in built)
    assert {path for path in (study / "report").rglob("*") if path.is_file()} == set(built)
    tables = {f"{table}.{kind}" for table in TABLES_OF_RUNS for kind in ("csv", "md", "tex")}
    assert {path.name for path in built if path.parent.name == "tables"} == {*tables, "numbers.tex", "references.bib"}


def shuffle_images(folder: Path, seed: int) -> None:
    """Write every file of counts anew: rows in another order, images and frames under other names."""
    rng = np.random.default_rng(seed)
    names: dict[str, str] = {}
    for file in sorted(folder.glob("runs/**/images.*.csv")) + sorted(folder.glob("references/*.csv")):
        table = pd.read_csv(file).sample(frac=1, random_state=int(rng.integers(2**31)))
        for column in ("image", "group"):
            table[column] = [names.setdefault(name, f"{rng.integers(10**9)}-{len(names)}") for name in table[column]]
        table.to_csv(file, index=False)


def test_same_counts_give_the_same_bytes_whatever_the_order_and_names_of_images(tmp_path: Path) -> None:
    first, second = (
        fake.write_study(tmp_path / name / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2) for name in "ab"
    )
    shuffle_images(second, 1)
    plots = (*PLOTS[:1], *IN_PAGE[1:])

    contents, again = (
        {path.relative_to(study): path.read_bytes() for path in build(study, plots=plots)} for study in (first, second)
    )

    assert {path.suffix for path in contents} == {".csv", ".md", ".tex", ".bib", ".pdf", ".png", ".html"}
    assert contents == again


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A study with something for every table and plot but those of `bench`."""
    folder = write_stressed(tmp_path / "everything")
    for model, repeat in itertools.product(("eal_icnet", "eal_icnet.no_pam"), range(2)):
        rows = [row | SKELETON for row in fake.counts(0.9, fake.random_of(model, repeat))]
        run = fake.write_run(folder, model, ["omc-syn"], repeat, rows, test=["omc-syn", "miic-syn"])
        fake.write_history(run, [0.9, 0.5, 0.4])
    fake.change(folder, lambda record: {"training": FACTS})
    for size in (96, 192, 384):
        fake.write_efficiency(folder, "eal_icnet", size, limits=limits(100, 20), bytes_moved=10**8)
    return folder


def test_every_table_and_plot_is_written_on_the_page_and_checked(everything: Path) -> None:
    stale = everything / "report/plots/transfer.aji.png"
    stale.parent.mkdir(parents=True)
    stale.touch()

    plots = [plot for plot in IN_PAGE if plot.table != "accuracy"]  # those are slow, and on the page of every study

    files = build(everything, plots=plots)

    assert {entry.name for entry in TABLES} - {"bench", "runtimes", "int8"} <= {path.stem for path in files}
    assert not stale.exists()
    page = (everything / "report/index.html").read_text("utf-8")
    sections = re.findall(r'(?s)<section id="(\w+)">(.+?)</section>', page)
    drawn = {section: re.findall('aria-label="(.+?)"', text) for section, text in sections}
    device = "AMD-EPYC-9B14-96-Core-Processor.float32"
    roofs = [f"roofline.{size}x{size}.{device}" for size in (96, 192, 384)]
    assert {section: names for section, names in drawn.items() if names} == {
        "electrical": ["omc-syn.electrical", "hy5syn-syn.electrical", "omc-syn-on-miic-syn.electrical"],
        "transfer": ["transfer.miou"],
        "stress": ["hy5syn-syn.stress"],
        "efficiency": ["profile", *roofs, f"growth.{device}"],
        "training": ["training.omc-syn"],
    }
    assert check(everything, plots=plots) == []


def test_every_plot_has_files_but_the_curves_of_trainings() -> None:
    assert [plot.table for plot in PLOTS if plot.kinds != ("pdf", "png")] == ["training"]


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

    names = {path.name for path in build(tmp_path)}

    tables = {"efficiency.csv", "efficiency.md", "efficiency.tex", "numbers.tex", "references.bib", "tables.tex"}
    assert names == tables | {"profile.pdf", "profile.png", "index.html"}


def test_all_failed_and_one_model_build(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc"], 0, None, Failure(kind="error", message="RuntimeError: no"))

    assert {path.suffix for path in build(tmp_path)} == {".csv", ".md", ".tex", ".bib", ".html"}


def test_folder_that_is_no_study_or_an_empty_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"protocol\.toml"):
        build(tmp_path / "missing")
    fake.write_protocol(tmp_path)
    with pytest.raises(UserError, match="neither runs nor efficiency"):
        build(tmp_path)


def test_report_needs_no_torch_no_model_and_no_pyplot() -> None:
    code = (
        "import sys, benchmark.report.build, benchmark.predict.encoder_plot; "
        "print([name for name in ('torch', 'models', 'baselines', 'matplotlib.pyplot') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"

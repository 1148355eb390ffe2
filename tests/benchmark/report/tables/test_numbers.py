from __future__ import annotations

import re
import shutil
from pathlib import Path

from benchmark.report.build import build
from benchmark.report.tables import numbers
from benchmark.report.tables.paper_table import COSTS, PaperChoice
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from tests.benchmark.report import fake
from tests.benchmark.report.test_build import needs_latex, pdflatex

DEFINITION = re.compile(r"\\expandafter\\def\\csname (result|resultstd)/(.+)/(.+)/(.+)\\endcsname\{(.*)\}")


def defined(folder: Path) -> dict[tuple[str, ...], str]:
    text = (folder / "report/tables/numbers.tex").read_text("utf-8")
    result = [match.groups() for match in map(DEFINITION.fullmatch, text.splitlines()) if match]
    names = {tuple(place): printed for *place, printed in result}
    assert len(names) == len(result)
    return names


def test_every_number_of_the_standard_tables_is_a_macro_that_prints_alike(study: Path, built: list[Path]) -> None:
    result = defined(study)
    text = (study / "report/tables/accuracy.md").read_text("utf-8")

    mean, std = result["result", "omc-syn", "eal_icnet", "miou"], result["resultstd", "omc-syn", "eal_icnet", "miou"]
    assert re.search(rf"\| EAL-ICNet \| (\*\*|<u>)?{mean}(\*\*|</u>)? ± {std} \|", text)
    assert result["result", "omc-syn", "background", "dice"] == "0.00"
    assert ("resultstd", "omc-syn", "background", "dice") not in result
    assert result["result", "miic-syn", "eal_icnet", "params"] == "0.803"
    assert ("result", "miic-syn", "hrnet", "miou") not in result  # failed
    cells = sum(
        len([cell for cell in line.split("|")[2:-1] if cell.strip() not in ("–", "")])
        for name in ("accuracy", "electrical", "efficiency")
        for line in (study / f"report/tables/{name}.md").read_text("utf-8").splitlines()
        if line.startswith("| ") and not line.startswith(("| Model", "| *"))
    )
    costs = sum(key[0] == "result" and key[1].endswith("-syn") and key[3] in COSTS for key in result)
    assert sum(kind == "result" for kind, *_ in result) == cells + costs


def test_paper_table_s_decimals_count_and_a_bare_name_means_the_protocol_s_reduction(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=2)
    build(tmp_path, PaperChoice(columns=("miou", "miou.pooled"), digits=1), plots=())

    result = defined(tmp_path)

    (bare, image, pooled) = (
        result["result", "omc-syn", "unet", name] for name in ("miou", "miou.image", "miou.pooled")
    )
    assert bare == image
    assert re.fullmatch(r"\d\d\.\d", bare)
    assert bare in (tmp_path / "report/tables/custom.md").read_text("utf-8")
    assert pooled in (tmp_path / "report/tables/custom.md").read_text("utf-8")


def test_names_are_made_of_what_latex_reads_as_it_stands() -> None:
    column = Column("v", "V", None, signed=True)
    block = Block("AMD EPYC #1~é", "", {}, (), (column,), (Row("a_b%", "", "user", {"v": Cell(-1.0)}),))

    text = numbers.macros([Table("t", "T", (block,))], "image")

    assert r"\csname result/AMD-EPYC-u00231u007Eu00E9/a_bu0025/v\endcsname{\ensuremath{-}1.00}" in text


ARTICLE = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\input{tables/numbers}
\begin{document}
On stand-ins EAL-ICNet reaches <\result{omc-syn}{eal_icnet}{miou}> $\pm$ <\resultstd{omc-syn}{eal_icnet}{miou}>,
in math $<\result{omc-syn}{eal_icnet.no_tssa}{miou_difference}>$.
\section{A heading with \result{omc-syn}{eal_icnet}{fps}}
\edef\expanded{\result{omc-syn}{unet}{params}}\typeout{EXPANDED \expanded}
%s
\begin{figure}\caption{A caption with \result{omc-syn}{unet}{params}.}\end{figure}
%s
\end{document}
"""


@needs_latex
def test_article_with_numbers_in_its_text_and_all_tables_compiles(tmp_path: Path) -> None:
    study = fake.write_study(tmp_path / "quick", ["eal_icnet", "eal_icnet.no_tssa", "unet"], repeats=2)
    build(study, PaperChoice(cite=True, layout="wide"), plots=())
    folder = study / "report"
    names = [path.stem for path in sorted(folder.glob("tables/*.tex")) if path.stem != "numbers"]
    assert {"ablation", "custom"} < set(names)
    inputs = "\n".join(f"\\input{{tables/{name}}}" for name in names)

    (folder / "article.tex").write_text(ARTICLE % ("", inputs), "utf-8")
    log = pdflatex(folder, "article.tex")
    assert "EXPANDED 13.394" in log
    assert "No result" not in log

    (folder / "typo.tex").write_text(ARTICLE % (r"\result{omc}{eal_icnet}{miou}", ""), "utf-8")
    assert "No result `miou' of eal_icnet on omc" in pdflatex(folder, "typo.tex").replace("\n", "")


@needs_latex
def test_citations_resolve_in_two_runs_without_bibtex(tmp_path: Path) -> None:
    study = fake.write_study(tmp_path / "quick", ["eal_icnet", "unet", "unetpp"], repeats=2)
    build(study, PaperChoice(cite=True), plots=())
    folder = shutil.copytree(study / "report", tmp_path / "report")
    assert r"EUNet++~\cite{zhou2018unetpp,cheng2025eunetpp} &" in (folder / "tables/custom.tex").read_text()
    assert r"\cite" not in (folder / "tables/accuracy.tex").read_text()

    pdflatex(folder, "tables.tex")
    log = pdflatex(folder, "tables.tex")

    assert "undefined" not in log
    assert "Overfull" not in log

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.report.read import read_study
from benchmark.report.tables import literature_table, paper_table
from benchmark.report.tables.paper_table import PaperChoice
from benchmark.report.tables.render import Block, to_csv, to_latex, to_markdown
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake

HEADER = "model,dataset,metric,value,source,std,n\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return fake.write_study(tmp_path / "quick", ["eal_icnet", "unet"], ["omc-syn", "miic-syn"], repeats=2)


def read(
    tmp_path: Path, lines: str, header: str = HEADER, encoding: str = "utf-8"
) -> tuple[literature_table.LiteratureEntry, ...]:
    file = tmp_path / "lit.csv"
    file.write_bytes((header + lines).encode(encoding))
    return literature_table.read(file)


def blocks(study: Path, printed: tuple[literature_table.LiteratureEntry, ...], *columns: str) -> tuple[Block, ...]:
    return paper_table.table(read_study(study), PaperChoice(columns=columns or None, printed=printed)).blocks


def test_printed_figures_are_rows_of_their_own_that_are_never_ranked(small: Path, tmp_path: Path) -> None:
    printed = read(tmp_path, 'SegNet,omc-syn,miou,99.9,"Doe, 2024",0.5,5\nunet,omc-syn,dice,99.8,Roe 2023,,\n')
    omc, miic = blocks(small, printed)

    assert [row.key for row in omc.rows if row.family == "literature"] == ["literature1.SegNet", "literature2.unet"]
    assert not any(row.family == "literature" for row in miic.rows)
    marks = omc.marks()
    assert marks
    assert not any(key.startswith("literature") for key, _ in marks)
    table = paper_table.table(read_study(small), PaperChoice(printed=printed))
    text = to_markdown(table)
    assert "| *From the literature* |" in text
    assert "| SegNet †1 | 99.90 ± 0.50 | – |" in text
    assert "- SegNet †1: as printed in Doe, 2024, n = 5" in text
    assert "- UNet †2: as printed in Roe 2023" in text
    assert "not ranked" in text
    assert r"SegNet $\dagger$1 & 99.90" in to_latex(table)
    assert "literature1.SegNet,SegNet †1,literature,miou.image,0.999,0.005,5," in to_csv(table)


def test_figure_on_real_data_never_stands_in_a_table_of_a_stand_in(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lit\.csv: line 2: no results on 'omc' here, only on omc-syn, miic-syn"):
        blocks(small, read(tmp_path, "SegNet,omc,miou,91,Doe,,\n"))


def test_metric_under_both_reductions_must_say_which(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2: metric 'miou' could be miou\.image or miou\.pooled"):
        blocks(small, read(tmp_path, "SegNet,omc-syn,miou,91,Doe,,\n"), "miou", "miou.pooled")
    omc, _ = blocks(small, read(tmp_path, "SegNet,omc-syn,miou.pooled,91,Doe,,\n"), "miou", "miou.pooled")
    assert set(omc.rows[-1].cells) == {"miou.pooled"}


def test_figures_of_columns_that_are_not_shown_are_left_out(small: Path, tmp_path: Path) -> None:
    omc, _ = blocks(small, read(tmp_path, "SegNet,omc-syn,aji,91,Doe,,\nSegNet,omc-syn,miou.pooled,91,Doe,,\n"), "miou")

    assert not any(row.family == "literature" for row in omc.rows)
    assert not any("†" in sentence for sentence in omc.conventions)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("SegNet,omc,miou,101,Doe,,\n", r"lit\.csv: line 2: value '101': expected percent between 0 and 100"),
        ("SegNet,omc,miou,-1,Doe,,\n", r"line 2: value '-1'"),
        ("\nSegNet,omc,miou,nan,Doe,,\n", r"line 3: value 'nan'"),
        ('SegNet,omc,miou,"91,2",Doe,,\n', r"line 2: value '91,2'"),
        ("SegNet,omc,miou,91,Doe,x,\n", r"line 2: std 'x'"),
        ("SegNet,omc,miou,91,Doe,,2.5\n", r"line 2: n '2\.5': expected a whole number"),
        ("SegNet,omc,opens,-3,Doe,,\n", r"line 2: value '-3': expected a count of 0 or more"),
        ("SegNet,omc,vi_split,-3,Doe,,\n", r"line 2: value '-3': expected bits of 0 or more"),
        ("SegNet,omc,miuo,91,Doe,,\n", r"line 2: no metric 'miuo'; did you mean 'miou'\?"),
        ("SegNet,omc,fps,91,Doe,,\n", r"line 2: no metric 'fps'.*depend on size and device"),
        ("SegNet,omc,miou.mean,91,Doe,,\n", r"line 2: metric 'miou\.mean': miou is taken image or pooled"),
        ("SegNet,omc,miou,91,,,\n", r"line 2: source is blank"),
        ("SegNet,omc,miou,91,Doe\n", r"line 2: 5 fields under 7 columns"),
        ("SegNet,omc,miou,91,Doe,,\nSegNet,omc,miou,92,Doe,,\n", r"line 3: repeats lit\.csv: line 2"),
        ("SegNet,omc,miou,0.91,Doe,,\nunet,omc,dice,0.95,Doe,,\n", r"expected percent.*91\.3, not 0\.913"),
        ('SegNet,omc,miou,91,"Doe,,\n', r"cannot be read"),
        ("", r"no line below the header"),
    ],
)
def test_broken_line_is_an_error_that_names_it(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, lines)


@pytest.mark.parametrize("header", ["model;dataset;metric;value;source\n", "model,dataset,metric,value\n", "", "a,a\n"])
def test_header_with_other_columns_is_an_error_that_shows_it(tmp_path: Path, header: str) -> None:
    with pytest.raises(UserError, match=r"line 1 names the columns .*expected model,dataset,metric,value,source"):
        read(tmp_path, "", header)


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    header, line = "model, dataset,metric,value,source\r\n", '"SegNet, big",omc,miou,91.5,"two\r\nlines"\r\n'
    (entry,) = read(tmp_path, line, header, "utf-8-sig")

    assert (entry.model, entry.value, entry.std, entry.n) == ("SegNet, big", pytest.approx(0.915), None, None)
    with pytest.raises(UserError, match="UTF-8"):
        read(tmp_path, line.replace("SegNet", "Réseau"), header, "latin-1")
    with pytest.raises(UserError, match=r"--extra .*missing\.csv: cannot be read"):
        literature_table.read(tmp_path / "missing.csv")


@pytest.mark.parametrize("metric", ["opens", "vi_split"])
def test_count_or_bits_are_no_percentage(tmp_path: Path, metric: str) -> None:
    (entry,) = read(tmp_path, f"SegNet,omc,{metric},120,Doe,2,3\n")

    assert (entry.value, entry.std, entry.n) == (120.0, 2.0, 3)

from __future__ import annotations

import csv
import io
import math

import pytest

from benchmark.report.tables.render import Block, Cell, Column, Row, Table, to_csv, to_latex, to_markdown

IOU = Column("miou", "mIoU", higher_is_better=True, scale=100)
COST = Column("macs", "MACs", higher_is_better=False, scale=1e-9, digits=3, unit="G")
SIZE = Column("batch", "Batch", higher_is_better=None, digits=0)


def block(values: dict[str, float | None], column: Column = IOU, **changes: object) -> Block:
    rows = tuple(
        Row(name, name, "lightweight", {} if value is None else {column.key: Cell(value, 0.01, 3)})
        for name, value in values.items()
    )
    fields = {"key": "omc", "title": "Accuracy on omc", "facts": {"dataset": "omc"}, "conventions": ("Percent.",),
              "columns": (column,), "rows": rows, "n": 3} | changes  # fmt: skip
    return Block(**fields)


def table(*blocks: Block) -> Table:
    return Table("accuracy", "Accuracy", blocks)


def marks(found: Block) -> dict[str, str]:
    return {row: mark for (row, _), mark in found.marks().items()}


def test_cell_is_the_mean_and_the_sample_deviation_of_the_finite_values() -> None:
    cell = Cell.over([0.90, 0.94, 0.92, math.nan])

    assert cell is not None
    assert cell.mean == pytest.approx(0.92)
    assert cell.std == pytest.approx(0.02)  # sqrt((0.02² + 0.02²) / (3 - 1))
    assert cell.n == 3


def test_one_value_has_no_deviation_and_none_no_cell() -> None:
    assert Cell.over([0.5]) == Cell(0.5, None, 1)
    assert Cell.over([]) is None


def test_best_and_second_follow_the_direction_of_the_column() -> None:
    assert marks(block({"a": 0.9, "b": 0.8, "c": 0.7})) == {"a": "best", "b": "second"}
    assert marks(block({"a": 3e9, "b": 2e9, "c": 1e9}, COST)) == {"c": "best", "b": "second"}
    assert marks(block({"a": 3, "b": 2}, SIZE)) == {}


def test_mean_over_fewer_repeats_is_not_marked_and_a_line_below_says_so() -> None:
    rows = tuple(
        Row(name, name, "lightweight", {"miou": Cell(value, None if n == 1 else 0.01, n)})
        for name, value, n in (("one", 0.99, 1), ("a", 0.9, 3), ("b", 0.8, 3), ("c", 0.7, 3))
    )
    result = block({}, rows=rows)
    assert marks(result) == {"a": "best", "b": "second"}
    assert "| one | 99.00 [n=1] |" in to_markdown(table(result))
    assert "- Figures with an n of their own rest on fewer repeats" in to_markdown(table(result))
    assert "not marked" not in to_markdown(table(block({"a": 0.9, "b": 0.8})))


def test_values_that_print_alike_share_a_mark() -> None:
    result = marks(block({"a": 0.90004, "b": 0.90001, "c": 0.85, "d": 0.85, "e": 0.1}))

    assert result == {"a": "best", "b": "best", "c": "second", "d": "second"}


def test_all_equal_are_all_best_and_a_lone_model_is_not() -> None:
    assert marks(block({"a": 0.9, "b": 0.9})) == {"a": "best", "b": "best"}
    assert marks(block({"a": 0.9, "b": None})) == {}


def test_reference_rows_are_never_marked() -> None:
    trained = block({"a": 0.5, "b": 0.4})
    reference = Row("otsu", "Otsu", "reference", {"miou": Cell(0.99)}, ranked=False)

    result = marks(block({}, rows=(*trained.rows, reference)))

    assert result == {"a": "best", "b": "second"}


def test_csv_keeps_every_digit_and_says_how_the_value_was_formed() -> None:
    result = block({"a": 1 / 3, "b": None}, facts={"dataset": "omc", "reduction": "image", "ddof": 1})

    rows = list(csv.DictReader(io.StringIO(to_csv(table(result)))))

    assert rows[0] == {
        "dataset": "omc", "reduction": "image", "ddof": "1", "model": "a", "display": "a", "family": "lightweight",
        "metric": "miou", "mean": repr(1 / 3), "std": "0.01", "n": "3", "remark": "",
    }  # fmt: skip
    assert (rows[1]["mean"], rows[1]["std"], rows[1]["n"]) == ("", "", "0")


def test_markdown_prints_percent_marks_and_a_cells_own_n() -> None:
    fewer = Row("c", "c", "ic", {"miou": Cell(0.7, 0.02, 2)}, remark="repeat 1 failed (nan_loss): NaN")
    result = block({"a": 0.9, "b": 0.8})

    text = to_markdown(table(block({}, rows=(*result.rows, fewer))))

    assert "| a | **90.00** ± 1.00 |" in text
    assert "| b | <u>80.00</u> ± 1.00 |" in text
    assert "| c | 70.00 ± 2.00 [n=2] |" in text
    assert "- c: repeat 1 failed (nan\\_loss): NaN" in text
    assert (
        text.index("*Lightweight networks*") < text.index("| a |") < text.index("*IC networks*") < text.index("| c |")
    )


def test_every_markdown_line_of_a_table_has_the_same_number_of_cells_despite_hostile_names() -> None:
    text = to_markdown(table(block({"a|b": 0.9, "*_<b>\n|": 0.8})))

    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert {line.replace("\\|", "").count("|") for line in rows} == {3}
    assert "<b>" not in text.replace("\\<b\\>", "")


def test_latex_escapes_what_is_not_text() -> None:
    text = to_latex(table(block({r"50%_of & {a} $x$ #1 ~^\bold": 0.9, "网络é": 0.8})))

    assert (
        r"50\%\_of \& \{a\} \$x\$ \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}bold & \textbf{90.00}" in text
    )
    assert r"\texttt{U+7F51}\texttt{U+7EDC}é" in text


def test_latex_aligns_means_where_a_row_has_no_spread() -> None:
    reference = Row("otsu", "Otsu", "reference", {"miou": Cell(0.5)}, ranked=False)
    result = block({"a": 0.9, "b": None})

    text = to_latex(table(block({}, rows=(*result.rows, reference))))

    assert r"\begin{tabular}{@{}lr@{\,}l@{}}" in text
    assert r"a & 90.00 & {\scriptsize$\pm$\,1.00} \\" in text
    assert r"b & -- & \\" in text
    assert r"Otsu & 50.00 &  \\" in text


def test_units_stand_under_titles_and_in_markdown_beside_them() -> None:
    result = block({"a": 2e9, "b": 1e9}, COST)

    assert r"\multicolumn{2}{c}{(G)}" in to_latex(table(result))
    assert "| Model | MACs ↓ (G) |" in to_markdown(table(result))

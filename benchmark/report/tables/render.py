"""One neutral table in memory and its renderings as CSV, Markdown and booktabs LaTeX."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from benchmark.report.tables import tex

Mark = Literal["best", "second"]
T = TypeVar("T")

#: Behind a figure that was measured while something else had the device.
HINDERED = "‡"


@dataclass(frozen=True)
class Cell:
    """A value over repeats, in the unit it is stored in.

    Attributes:
        mean: the mean, or the value itself where ``n`` is 1.
        std: the standard deviation with ddof = 1; ``None`` where ``n`` is 1.
        n: how many repeats it covers.
        text: printed in place of the figure: an interval, a verdict.
        hindered: measured while something else had the device: printed with :data:`HINDERED` and never ranked.
    """

    mean: float
    std: float | None = None
    n: int = 1
    text: str = ""
    hindered: bool = False

    @property
    def mark(self) -> str:
        """The sign behind the printed figure."""
        return HINDERED if self.hindered else ""

    @classmethod
    def over(cls, values: Iterable[float]) -> Cell | None:
        """Summarise the finite values; ``None`` where there is none."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return None
        return cls(statistics.fmean(finite), statistics.stdev(finite) if len(finite) > 1 else None, len(finite))


@dataclass(frozen=True)
class Column:
    """A figure and how it is printed: ``scale * value`` with ``digits`` decimals.

    Attributes:
        higher_is_better: ``None`` where a figure ranks nothing.
        group: heading over neighbouring columns that share it.
        signed: prints a plus sign too.
        repeated: whether its cells rest on the block's repeats unless they say otherwise.
    """

    key: str
    title: str
    higher_is_better: bool | None
    scale: float = 1.0
    digits: int = 2
    unit: str = ""
    group: str = ""
    signed: bool = False
    repeated: bool = True

    @property
    def heading(self) -> str:
        """The title with the direction of better figures."""
        return self.title + {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]

    @property
    def bracketed_unit(self) -> str:
        """``(M)``, or nothing."""
        return f"({self.unit})" if self.unit else ""

    def text(self, value: float) -> str:
        """Return the value as printed, without its spread."""
        return f"{self.scale * value:{'+' * self.signed}z.{self.digits}f}"

    def spread(self, std: float) -> str:
        """Return a standard deviation as printed: never signed."""
        return f"{self.scale * std:.{self.digits}f}"


@dataclass(frozen=True)
class Row:
    """A model (or another method) with its cells by column key; a missing cell prints as a dash.

    Attributes:
        key: the model's name, for programs.
        label: the model's name, for readers.
        family: a key of ``FAMILIES``.
        ranked: takes part in best and second; references and figures of other papers do not.
        remark: why a figure is missing or rests on fewer repeats; printed below the table.
        cite: BibTeX keys that LaTeX cites beside the label.
    """

    key: str
    label: str
    family: str
    cells: Mapping[str, Cell]
    ranked: bool = True
    remark: str = ""
    cite: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """Rows that share their columns and everything that makes figures comparable: one dataset, or one device.

    Attributes:
        key: names the block inside file names and LaTeX labels.
        title: what the figures are and where they come from.
        facts: what the figures depend on, by name; the leading CSV columns.
        conventions: sentences above the rows that say how the figures were formed.
        n: repeats that a cell rests on unless it says otherwise.
    """

    key: str
    title: str
    facts: Mapping[str, str | int]
    conventions: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    n: int = 1

    def marks(self) -> dict[tuple[str, str], Mark]:
        """Return best and second by (row key, column key), judged on the printed means; equal ones share a mark.

        Means over fewer repeats than the others of their column have no mark, nor has a column with fewer than two
        values left: nothing was compared.
        """
        marks: dict[tuple[str, str], Mark] = {}
        for column in self.columns:
            printed = {row.key: float(column.text(row.cells[column.key].mean)) for row in self.compared(column)[0]}
            if column.higher_is_better is not None and len(printed) > 1:
                ladder = sorted(set(printed.values()), reverse=column.higher_is_better)
                ranks: dict[float, Mark] = dict(zip(ladder, ("best", "second"), strict=False))
                marks |= {(key, column.key): ranks[value] for key, value in printed.items() if value in ranks}
        return marks

    def compared(self, column: Column) -> tuple[list[Row], list[Row]]:
        """Return the ranked rows with a figure of a column: those of the most repeats, and those of fewer."""
        figures = [(row, row.cells[column.key]) for row in self.rows if row.ranked and column.key in row.cells]
        ranked = [row for row, cell in figures if not cell.hindered]
        most = max((row.cells[column.key].n for row in ranked), default=0)
        fewer = [row for row in ranked if column.repeated and row.cells[column.key].n < most]
        return [row for row in ranked if row not in fewer], fewer


@dataclass(frozen=True)
class Table:
    """Content of one set of files under ``tables/``."""

    name: str
    title: str
    blocks: tuple[Block, ...] = ()


FAMILIES: Mapping[str, str] = {
    "ours": "Method under test",
    "lightweight": "Lightweight networks",
    "ic": "IC networks",
    "general": "General networks",
    "user": "User's networks",
    "reference": "No training",
    "literature": "From the literature",
    "harness": "The harness",
}


def noun_of(facts: Mapping[str, object]) -> str:
    """Return what figures with these facts are means over: repeats or, in a cross-validation, folds."""
    return "fold" if "folds" in facts else "repeat"


def to_csv(table: Table) -> str:
    """Return one line per block, row and column, with unrounded values and the conventions as columns."""
    facts = list(dict.fromkeys(name for block in table.blocks for name in block.facts))
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([*facts, "model", "display", "family", "metric", "mean", "std", "n", "remark"])
    for block in table.blocks:
        shared = [block.facts.get(name, "") for name in facts]
        for row in block.rows:
            for column in block.columns:
                cell = row.cells.get(column.key)
                # repr() of a float is its shortest exact form; csv writes None as an empty field.
                figures = (cell.mean, cell.std, cell.n) if cell else (None, None, 0)
                cells = [*shared, row.key, row.label, row.family, column.key, *figures, row.remark]
                writer.writerow(map(csv_cell, cells))
    return lines.getvalue()


def csv_cell(value: T) -> T | str:
    """Return a cell for a CSV file; text that a spreadsheet would take for a formula gets an apostrophe in front.

    The files of a run (``images.<test>.csv``) keep names as they are, since programs find images by them.
    """
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def to_markdown(table: Table) -> str:
    """Return one Markdown table per block, its conventions above and its remarks below."""
    parts = [f"# {_md(table.title)}"]
    for block in table.blocks:
        marks = block.marks()
        titles = (f"{c.group}{': ' * bool(c.group)}{c.heading} {c.bracketed_unit}" for c in block.columns)
        lines = [f"| Model | {' | '.join(map(_md, titles))} |", "|:--|" + "--:|" * len(block.columns)]
        for family, rows in sections_of(block):
            lines.append(f"| *{_md(family)}* |" + " |" * len(block.columns))
            for row in rows:
                cells = [_md_cell(block, row, column, marks.get((row.key, column.key))) for column in block.columns]
                lines.append(f"| {_md(row.label)} | " + " | ".join(cells) + " |")
        parts += [f"## {_md(block.title)}", _md(" ".join(block.conventions))]
        if block.rows:
            parts.append("\n".join(lines))
        if remarks := remarks_of(block):
            parts.append("\n".join(f"- {_md(remark)}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """Return one ``table`` float per block; needs the package booktabs, and graphicx where columns have groups."""
    grouped = any(column.group for block in table.blocks for column in block.columns)
    packages = "booktabs,graphicx" if grouped else "booktabs"
    parts = [f"% {table.title}: \\input this file; needs \\usepackage{{{packages}}}. In two columns, make it table*."]
    # Datasets side by side are shrunk to the line where they are wider.
    shrink = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{" if grouped else ""
    for block in table.blocks:
        marks = block.marks()
        # With a spread, mean and spread are two columns, so that means align even where a row has no spread.
        widths = {
            column.key: 1 + any(row.cells[column.key].std is not None for row in block.rows if column.key in row.cells)
            for column in block.columns
        }
        spec = "".join("r@{\\,}l" if width == 2 else "r" for width in widths.values())
        body = []
        for family, rows in sections_of(block):
            family_width = 1 + sum(widths.values())
            body += ["\\midrule", f"\\multicolumn{{{family_width}}}{{@{{}}l}}{{\\emph{{{tex.escape(family)}}}}} \\\\"]
            for row in rows:
                marked = ((column, marks.get((row.key, column.key))) for column in block.columns)
                cells = [_tex_cell(block, row, column, mark, widths[column.key] == 2) for column, mark in marked]
                cite = f"~\\cite{{{','.join(row.cite)}}}" if row.cite else ""
                body.append(" & ".join([tex.escape(row.label) + cite, *cells]) + " \\\\")
        notes = [
            f"\\begin{{minipage}}{{\\linewidth}}\\scriptsize\\raggedright {tex.escape(remark)}\\end{{minipage}}\\par"
            for remark in remarks_of(block)
        ]
        title = tex.escape(block.title)
        if not block.rows:
            parts.append(f"\\paragraph{{{title}.}} {tex.escape(' '.join(block.conventions))}")
            continue
        label = re.sub(r"[^a-z0-9]+", "-", f"{table.name}-{block.key}".lower()).strip("-")
        lines = [
            "\\begin{table}[htbp]",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"\\caption[{{{title}}}]{{\\textbf{{{title}.}} {tex.escape(' '.join(block.conventions))}}}",
            f"\\label{{tab:{label}}}\\smallskip",
            # A box of no more than the line's width centres a tabular that is wider than the line.
            f"\\makebox[\\linewidth][c]{{{shrink}\\begin{{tabular}}{{@{{}}l{spec}@{{}}}}",
            *("\\toprule", *_tex_headings(block, widths), *body, "\\bottomrule"),
            "\\end{tabular}}" + "}" * grouped,
            *(["\\par\\smallskip", *notes] if notes else []),
            "\\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _tex_headings(block: Block, widths: Mapping[str, int]) -> list[str]:
    """Return the lines above the rows: groups with rules under them, titles, units."""
    lines, rules = [], []
    if any(column.group for column in block.columns):
        cells, position = [""], 2
        for group, columns in itertools.groupby(block.columns, key=lambda column: column.group):
            width = sum(widths[column.key] for column in columns)
            cells.append(f"\\multicolumn{{{width}}}{{c}}{{{tex.escape(group)}}}")
            rules += [f"\\cmidrule(lr){{{position}-{position + width - 1}}}"] if group else []
            position += width
        lines += [" & ".join(cells) + " \\\\", "".join(rules)]
    # Titles over units, where there are any: a wide table keeps to the page.
    titles = [["Model", *(column.heading for column in block.columns)]]
    if any(column.unit for column in block.columns):
        titles.append(["", *(column.bracketed_unit for column in block.columns)])
    for first, *rest in titles:
        spans = zip(widths.values(), rest, strict=True)
        texts = (f"\\multicolumn{{{width}}}{{c}}{{{tex.escape(text)}}}" for width, text in spans)
        lines.append(" & ".join([first, *texts]) + " \\\\")
    return lines


def latex_document(names: Iterable[str], references: str = "") -> str:
    """Return the smallest LaTeX document that prints the named files of ``tables/`` and a ``thebibliography``."""
    inputs = "\n".join(f"\\input{{tables/{name}}}" for name in names)
    return (
        "% All tables on paper: run pdflatex in this folder" + ", twice" * bool(references) + ".\n"
        "\\documentclass[a4paper]{article}\n"
        "\\usepackage[margin=2cm]{geometry}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
        f"{inputs}\n{references}\\end{{document}}\n"
    )


def sections_of(block: Block) -> list[tuple[str, list[Row]]]:
    """Group rows by family in the order of ``FAMILIES``; within a family they keep their order."""
    grouped = [(title, [row for row in block.rows if row.family == family]) for family, title in FAMILIES.items()]
    return [(title, rows) for title, rows in grouped if rows]


def remarks_of(block: Block) -> list[str]:
    """Return why figures are missing, row by row, and that those of fewer repeats are not compared."""
    remarks = [f"{row.label}: {row.remark}" for row in block.rows if row.remark]
    if any(column.higher_is_better is not None and block.compared(column)[1] for column in block.columns):
        fewer = f"rest on fewer {noun_of(block.facts)}s than the others"
        remarks.append(f"Figures with an n of their own {fewer}, and are not marked.")
    return remarks


def own_n_of(block: Block, row: Row, column: Column, cell: Cell) -> str:
    """Return ``n=2`` where a cell rests on another number of repeats than the block says."""
    return f"n={cell.n}" if row.ranked and column.repeated and cell.n != block.n else ""


def _md_cell(block: Block, row: Row, column: Column, mark: Mark | None) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return "–"
    mean = (_md(cell.text) or column.text(cell.mean).replace("-", "−")) + cell.mark
    text = {"best": f"**{mean}**", "second": f"<u>{mean}</u>"}.get(mark or "", mean)
    if cell.std is not None:
        text += f" ± {column.spread(cell.std)}"
    own_n = own_n_of(block, row, column, cell)
    return f"{text} [{own_n}]" if own_n else text


def _tex_cell(block: Block, row: Row, column: Column, mark: Mark | None, spread: bool) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return "-- &" if spread else "--"
    mean = (tex.escape(cell.text) or tex.number(column.text(cell.mean))) + tex.escape(cell.mark)
    text = {"best": f"\\textbf{{{mean}}}", "second": f"\\underline{{{mean}}}"}.get(mark or "", mean)
    aside = "" if cell.std is None else f"{{\\scriptsize$\\pm$\\,{column.spread(cell.std)}}}"
    if own_n := own_n_of(block, row, column, cell):
        aside += f"\\textsuperscript{{{own_n}}}"
    return f"{text} & {aside}" if spread else text + aside


def _md(text: str) -> str:
    text = re.sub(r"([\\`*_{}\[\]<>|~$])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;")

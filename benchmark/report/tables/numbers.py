r"""Writes every number of the tables as a LaTeX macro for use in text.

``\result{omc-syn}{eal_icnet}{miou}`` prints what the table prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from benchmark.report.tables import tex
from benchmark.report.tables.render import Table, noun_of

HEAD = r"""% The numbers of all tables as text; \input this file before \begin{document}, from one study per article.
%   \result{dataset}{model}{metric}     the mean (or the value), as its table prints it
%   \resultstd{dataset}{model}{metric}  the standard deviation over NOUNs
% Datasets, models and metrics are called as in the CSV files: \result{omc-syn}{eal_icnet}{miou}. Costs stand under each
% dataset (at its input size) and under each setting of the efficiency table, as named below. What does not exist prints
% ?? with a warning.
\newcommand{\noresult}[3]{\textbf{??}%
  \GenericWarning{}{LaTeX Warning: No result `#3' of #2 on #1, input line \the\inputlineno}}
\newcommand{\storedresult}[4]{\ifcsname #1/#2/#3/#4\endcsname\csname #1/#2/#3/#4\endcsname\else\noresult{#2}{#3}{#4}\fi}
\newcommand{\result}{\storedresult{result}}
\newcommand{\resultstd}{\storedresult{resultstd}}
"""


def macros(tables: Iterable[Table], reduction: str) -> str:
    """Return a LaTeX file of definitions.

    Args:
        tables: where two have the same number, the later one's decimals count.
        reduction: of a metric's bare name (``miou`` beside ``miou.image``).
    """
    texts: dict[str, dict[str, str]] = {}
    blocks = [block for table in tables for block in table.blocks]
    noun = "fold" if any(noun_of(block.facts) == "fold" for block in blocks) else "repeat"
    for block in blocks:
        for row in block.rows:
            for column in block.columns:
                if cell := row.cells.get(column.key):
                    mean = tex.number(column.text(cell.mean)) + "\\ensuremath{\\ddagger}" * cell.hindered
                    printed = {"result": mean} | ({} if cell.std is None else {"resultstd": column.spread(cell.std)})
                    for name in (column.key, column.key.removesuffix(f".{reduction}")):
                        texts["/".join(map(_name, (block.key, row.key, name)))] = printed
    return HEAD.replace("NOUN", noun) + "".join(
        f"\\expandafter\\def\\csname {kind}/{name}\\endcsname{{{text}}}\n"
        for name, printed in texts.items()
        for kind, text in printed.items()
    )


def _name(text: str) -> str:
    """Return a name that LaTeX reads as it stands: a space becomes a hyphen, other characters their code point."""
    return re.sub(r"[^A-Za-z0-9._+@-]", lambda match: "-" if match[0] == " " else f"u{ord(match[0]):04X}", text)

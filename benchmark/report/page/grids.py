"""Prepares a report's tables for the page, within a bound of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmark.report.tables import render
from benchmark.report.tables.render import Block, Cell, Column, Mark, Row, Table

#: Rows of one table that the page shows; the files hold all. A study of eleven models on four datasets has sixty.
ROWS = 400
#: Columns from which on a table is printed across the page.
WIDE = 14


@dataclass(frozen=True)
class Entry:
    """A cell as it is shown.

    Attributes:
        value: the number that the column is sorted by; blank if it is sorted by the text.
        text: the mean, or the words in its place.
        aside: its spread.
        n: its repeats if that is another number than the block's; blank otherwise.
        mark: best or second.
    """

    value: str
    text: str
    aside: str = ""
    n: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Line:
    """A row as it is shown; an entry without a figure is ``None``."""

    row: Row
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Grid:
    """A block as it is shown.

    Attributes:
        block: its content.
        dataset: by which it can be chosen: test dataset, else training dataset, else blank.
        conventions: sentences that are not those of the whole table.
        widths: characters that each column's spreads take, so that means stand below each other; 0 for a column without
            spreads, -1 if all are equally long.
        groups: (heading over columns, their number); empty without headings.
        sections: family -> its rows.
        remarks: sentences below the rows.
        left_out: rows that are in the files only.
    """

    block: Block
    dataset: str
    conventions: tuple[str, ...]
    widths: tuple[int, ...]
    groups: tuple[tuple[str, int], ...]
    sections: tuple[tuple[str, tuple[Line, ...]], ...]
    remarks: tuple[str, ...]
    left_out: int = 0

    @property
    def own_n(self) -> bool:
        """Whether a figure rests on another number of repeats than the block says."""
        return any(
            entry is not None and entry.n for _, lines in self.sections for line in lines for entry in line.entries
        )

    @property
    def wide(self) -> bool:
        """Whether it is printed across the page."""
        return len(self.block.columns) >= WIDE


@dataclass(frozen=True)
class Shown:
    """A table as it is shown.

    Attributes:
        table: its content.
        grids: its blocks.
        conventions: sentences that all of its blocks share.
        left_out: blocks that are in the files only.
    """

    table: Table
    grids: tuple[Grid, ...]
    conventions: tuple[str, ...]
    left_out: int


def show(table: Table) -> Shown:
    """Lay out a table's blocks up to the bound of rows; of the first one, as many rows as the bound allows."""
    grids: list[Grid] = []
    room = ROWS
    first, *others = table.blocks
    shared = [text for text in first.conventions if others and all(text in block.conventions for block in others)]
    for block in table.blocks:
        if grids and len(block.rows) > room:
            break
        grids.append(_grid(block, shared, room))
        room -= len(block.rows)
    return Shown(table, tuple(grids), tuple(shared), len(table.blocks) - len(grids))


def _grid(block: Block, shared: Sequence[str], room: int) -> Grid:
    marks = block.marks()
    sections = []
    for family, rows in render.sections_of(block):
        lines = tuple(
            Line(row, tuple(_entry(block, row, column, marks.get((row.key, column.key))) for column in block.columns))
            for row in rows[:room]
        )
        room -= len(lines)
        sections += [(family, lines)] if lines else []
    everything = [line for _, lines in sections for line in lines]
    asides = [
        [entry.aside for line in everything if (entry := line.entries[index])] for index in range(len(block.columns))
    ]
    facts = block.facts
    return Grid(
        block,
        str(facts.get("dataset") or facts.get("train") or ""),
        tuple(text for text in block.conventions if text not in shared),
        tuple(map(_width, asides)),
        tuple(_groups(block)),
        tuple(sections),
        tuple(_remarks(block))[:ROWS],
        len(block.rows) - len(everything),
    )


def _remarks(block: Block) -> Iterator[str]:
    """Yield a block's remarks, each once with the models that it is about."""
    labels: dict[str, list[str]] = {}
    for row in block.rows:
        if row.remark:
            labels.setdefault(row.remark, []).append(row.label)
    yield from (f"{', '.join(of_remark)}: {remark}" for remark, of_remark in labels.items())
    yield from render.remarks_of(block)[sum(map(len, labels.values())) :]


def _width(asides: Sequence[str]) -> int:
    lengths = {len(aside) for aside in asides}
    longest = max(lengths, default=0)
    return -1 if longest and len(lengths) == 1 else longest


def _groups(block: Block) -> Iterator[tuple[str, int]]:
    if any(column.group for column in block.columns):
        for group, columns in groupby(block.columns, key=lambda column: column.group):
            yield group, len(list(columns))


def _entry(block: Block, row: Row, column: Column, mark: Mark | None) -> Entry | None:
    cell = row.cells.get(column.key)
    if cell is None:
        return None
    own_n = render.own_n_of(block, row, column, cell)
    spread = f"± {column.spread(cell.std)}" if cell.std is not None else ""
    return Entry(f"{cell.mean:.9g}" if math.isfinite(cell.mean) else "", printed(column, cell), spread, own_n, mark)


def printed(column: Column, cell: Cell) -> str:
    """Return a cell's figure without its spread, as Markdown has it."""
    return (cell.text or column.text(cell.mean).replace("-", "−")) + cell.mark

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
        value: what the column is sorted by; blank where the text itself is.
        text: the mean, or what stands in its place.
        aside: its spread.
        n: on how many repeats it rests where that is another number than the block's.
        mark: best or second.
    """

    value: str
    text: str
    aside: str = ""
    n: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Line:
    """A row as it is shown; an entry is ``None`` where there is no figure."""

    row: Row
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Grid:
    """A block as it is shown.

    Attributes:
        block: what it is made of.
        dataset: what it can be chosen by: test dataset, else training dataset, else blank.
        conventions: sentences that are not those of the whole table.
        widths: characters that each column's spreads take, so that means stand below each other; 0 where a column has
            none, and -1 where all are equally long.
        groups: heading over columns -> how many; empty where columns have none.
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
        """Whether a figure rests on fewer repeats than others."""
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
        table: what it is made of.
        grids: its blocks.
        conventions: sentences that all of its blocks share.
        left_out: blocks that are in the files only.
    """

    table: Table
    grids: tuple[Grid, ...]
    conventions: tuple[str, ...]
    left_out: int


def show(table: Table) -> Shown:
    """Lay out a table's blocks until the bound is reached; the first one is there in any case, if not as a whole."""
    grids: list[Grid] = []
    room = ROWS
    first, *others = table.blocks
    shared = [said for said in first.conventions if others and all(said in block.conventions for block in others)]
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
        [entry.aside for line in everything if (entry := line.entries[place])] for place in range(len(block.columns))
    ]
    facts = block.facts
    return Grid(
        block,
        str(facts.get("dataset") or facts.get("train") or ""),
        tuple(said for said in block.conventions if said not in shared),
        tuple(map(_width, asides)),
        tuple(_groups(block)),
        tuple(sections),
        tuple(render.remarks_of(block)[:ROWS]),
        len(block.rows) - len(everything),
    )


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

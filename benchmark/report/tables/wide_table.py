"""Blocks side by side: one table of all datasets, each a group of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmark.report.tables.conventions import in_order
from benchmark.report.tables.render import Block, Cell, Column, Row, Table


def widen(table: Table) -> Table:
    """Return a table of one block, models as rows; costs that all datasets share are one group.

    What is said of one dataset only (a convention, a remark, a number of repeats) keeps its name.
    """
    if len(table.blocks) < 2:
        return table
    groups: dict[str, dict[str, Column]] = {}
    keys = [_group_keys(table.blocks, block) for block in table.blocks]
    for block, groups_of in zip(table.blocks, keys, strict=True):
        for column in block.columns:
            group = groups_of[column.key]
            groups.setdefault(group, {})[column.key] = replace(column, key=f"{group}/{column.key}", group=group)
    # Metrics of all datasets first, then costs, whatever the order within a dataset.
    ordered = sorted(groups.items(), key=lambda item: not any(column.repeated for column in item[1].values()))
    rows: dict[str, Row] = {}
    for block, groups_of in zip(table.blocks, keys, strict=True):
        for row in block.rows:
            cells: dict[str, Cell] = {f"{groups_of[key]}/{key}": cell for key, cell in row.cells.items()}
            before = rows.get(row.key)
            rows[row.key] = replace(
                row, cells={**before.cells, **cells} if before else cells, remark=_remark(table, row)
            )
    trained = in_order(key for key, row in rows.items() if row.ranked)
    others = [key for key, row in rows.items() if not row.ranked]
    first = table.blocks[0]
    names = [block.title.partition(" on ")[2] for block in table.blocks]
    return Table(
        table.name,
        table.title,
        (
            Block(
                key="all",
                title=f"{table.title} on {', '.join(names[:-1])} and {names[-1]}",
                facts={name: value for name, value in first.facts.items() if name in ("protocol", "ddof")},
                conventions=_conventions(table.blocks),
                columns=tuple(column for _, columns in ordered for column in columns.values()),
                rows=tuple(rows[key] for key in (*trained, *others)),
                n=max(block.n for block in table.blocks),
            ),
        ),
    )


def _group_keys(blocks: Sequence[Block], block: Block) -> dict[str, str]:
    """Return the heading over each column: the dataset, or the input size of costs, or nothing where one would do."""
    inputs = {str(other.facts["input"]) for other in blocks if other.facts["input"]}
    costs = str(block.facts["input"]) if len(inputs) > 1 else "Efficiency"
    return {column.key: block.key if column.repeated else costs for column in block.columns}


def _remark(table: Table, row: Row) -> str:
    """Join what the datasets say of a row, once where they say the same."""
    found: dict[str, list[str]] = {}
    for block in table.blocks:
        for other in block.rows:
            if other.key == row.key and other.remark:
                found.setdefault(other.remark, []).append(block.key)
    everywhere = sum(any(other.key == row.key for other in block.rows) for block in table.blocks)
    return "; ".join(
        remark if len(names) == everywhere else f"{', '.join(names)}: {remark}" for remark, names in found.items()
    )


def _conventions(blocks: Sequence[Block]) -> tuple[str, ...]:
    said: dict[str, list[str]] = {}
    for block in blocks:
        for sentence in block.conventions:
            said.setdefault(sentence, []).append(block.key)
    return tuple(
        sentence
        if len(names) == len(blocks) or sentence.startswith(f"{names[0]} ")
        else f"{', '.join(names)}: {sentence}"
        for sentence, names in said.items()
    )

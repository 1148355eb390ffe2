"""Shows all verdicts about methods as one matrix, models by metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from benchmark.metrics import METRICS
from benchmark.report.tables.render import Block, Row, Table

#: VerdictCell in the table of methods -> its mark.
MARKS: Mapping[str, str] = {"better": "▲", "worse": "▼", "no difference shown": "○", "no test": "–"}


@dataclass(frozen=True)
class VerdictCell:
    """A cell of the matrix: a mark, its meaning for style sheets, and the figures behind it."""

    mark: str
    name: str
    tip: str


@dataclass(frozen=True)
class VerdictMatrix:
    """Verdicts of every model against the reference.

    Attributes:
        groups: (dataset, columns below it).
        columns: names of metrics.
        lines: (model's row, a verdict per column).
    """

    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    lines: tuple[tuple[Row, tuple[VerdictCell, ...]], ...]

    @classmethod
    def of(cls, methods: Table | None) -> VerdictMatrix | None:
        """Read the table of methods; ``None`` if nothing was tested."""
        blocks = [block for block in methods.blocks if block.rows] if methods else []
        if not blocks:
            return None
        rows = {row.key: row for block in blocks for row in block.rows}
        groups = [(name, len(list(group))) for name, group in groupby(blocks, key=_dataset)]
        columns = [METRICS[str(block.facts["metric"])].display for block in blocks]
        lines = [(row, tuple(_verdict(block, key) for block in blocks)) for key, row in rows.items()]
        return cls(tuple(groups), tuple(columns), tuple(lines))


def _dataset(block: Block) -> str:
    train, dataset = str(block.facts["train"]), str(block.facts["dataset"])
    return dataset if train == dataset else f"{train} to {dataset}"


def _verdict(block: Block, model: str) -> VerdictCell:
    row = next((row for row in block.rows if row.key == model), None)
    if row is None:
        return VerdictCell("", "none", "no run here")
    text = row.cells["verdict"].text
    figures = {"difference": "difference {} pp", "interval": "95 % interval {} pp", "p_holm": "Holm p {}"}
    words = [template.format(row.cells[key].text) for key, template in figures.items() if key in row.cells]
    return VerdictCell(MARKS[text], text.split()[0], "; ".join([text, *words]))

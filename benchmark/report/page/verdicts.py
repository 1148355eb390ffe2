"""Shows verdicts about methods as matrices: models by metrics, and models by models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmark.config.targets import dataset_of
from benchmark.metrics import METRICS
from benchmark.report.plots import comparison_plot
from benchmark.report.read import StudyResults
from benchmark.report.tables.contests import contest
from benchmark.report.tables.render import Block, Row, Table

#: Verdict in the table of methods -> its mark.
MARKS: Mapping[str, str] = {"better": "▲", "worse": "▼", "no difference shown": "○", "no test": "–"}
OPPOSITE = {"better": "worse", "worse": "better"}
#: More models or matrices than these are too many to read; the tables have all.
MODELS, MATRICES = 24, 12
#: Rows and columns of the matrix of models by metrics at most.
ROWS, COLUMNS = 100, 40


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
        blocks = [block for block in methods.blocks if block.rows][:COLUMNS] if methods else []
        if not blocks:
            return None
        rows = {row.key: row for block in blocks for row in block.rows}
        groups = [(name, len(list(group))) for name, group in groupby(blocks, key=_dataset)]
        columns = [METRICS[str(block.facts["metric"])].display for block in blocks]
        lines = [(row, tuple(_verdict(block, key) for block in blocks)) for key, row in list(rows.items())[:ROWS]]
        return cls(tuple(groups), tuple(columns), tuple(lines))


@dataclass(frozen=True)
class PairMatrix:
    """Verdicts about all pairs of models by mIoU on one dataset.

    Attributes:
        where: the dataset, in words that follow a metric's name.
        dataset: by which it can be chosen.
        pairs: the family of Holm's correction.
        tested: the pairs that could be tested.
        lines: (model's row, a verdict against every model), from the highest mean.
    """

    where: str
    dataset: str
    pairs: int
    tested: int
    lines: tuple[tuple[Row, tuple[VerdictCell, ...]], ...]

    @property
    def decided(self) -> bool:
        """Whether a model is better than another."""
        return any(cell.name in OPPOSITE for _, cells in self.lines for cell in cells)

    @classmethod
    def of_blocks(cls, study: StudyResults, accuracy: Sequence[Block]) -> Iterator[PairMatrix]:
        """Yield a matrix for each block of the accuracy table with a tested pair of at least three models."""
        if study.protocol is None:
            return
        for block in accuracy[:MATRICES]:
            compared = contest(study, block, "miou", study.protocol.report.reduction)
            ranked = comparison_plot.in_order(compared)
            if not 2 < len(ranked) <= MODELS:
                continue
            groups = comparison_plot.groups(compared, ranked)
            if groups.tested:
                lines = tuple(
                    (row, tuple(_pair_cell(groups.verdicts, ranked, first, second) for second in range(len(ranked))))
                    for first, row in enumerate(ranked)
                )
                yield cls(compared.where, str(compared.facts["dataset"]), groups.pairs, groups.tested, lines)


def _pair_cell(verdicts: Mapping[tuple[int, int], str], ranked: Sequence[Row], first: int, second: int) -> VerdictCell:
    if first == second:
        return VerdictCell("", "same", ranked[first].label)
    text = verdicts[min(first, second), max(first, second)]
    text = text if first < second else OPPOSITE.get(text, text)
    return VerdictCell(MARKS[text], text.split()[0], f"{ranked[first].label} against {ranked[second].label}: {text}")


def _dataset(block: Block) -> str:
    train, dataset = str(block.facts["train"]), str(block.facts["dataset"])
    return dataset if train == dataset_of(dataset) else f"{train} to {dataset}"


def _verdict(block: Block, model: str) -> VerdictCell:
    row = next((row for row in block.rows if row.key == model), None)
    if row is None:
        return VerdictCell("", "none", "no run here")
    text = row.cells["verdict"].text
    figures = {"difference": "difference {} pp", "interval": "95 % interval {} pp", "p_holm": "Holm p {}"}
    words = [template.format(row.cells[key].text) for key, template in figures.items() if key in row.cells]
    return VerdictCell(MARKS[text], text.split()[0], "; ".join([text, *words]))

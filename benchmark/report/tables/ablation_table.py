"""Tables each network beside its variants that lack one of its parts."""

from __future__ import annotations

from dataclasses import replace

from benchmark.config import registry
from benchmark.report.read import StudyResults
from benchmark.report.tables import paper_table
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.report.tables.conventions import display
from benchmark.report.tables.render import Block, Cell, Column, Row, Table, noun_of

COLUMNS = ("miou", "mpa", "dice", "aji", "net_error_rate", "params", "macs")
DIFFERENCE = Column("miou_difference", "Δ mIoU", None, scale=100.0, digits=2, unit="pp", signed=True)


def ablation(study: StudyResults) -> Table:
    """Return one block per dataset on which a network and variants of it (``parent.variant``) were run."""
    blocks = []
    if study.protocol is not None:
        chosen = paper_table.figures(COLUMNS, study.protocol.report.reduction)
        for base in scores(study, ACCURACY).blocks:
            trained = [row.key for row in base.rows if row.ranked]
            if parents := {_parent(name) for name in trained if _parent(name) != name} & set(trained):
                family = {name for name in trained if _parent(name) in parents}
                blocks.append(_with_differences(study, paper_table.compose(study, base, chosen, family), parents))
    return Table("ablation", "Ablation", tuple(blocks))


def _parent(name: str) -> str:
    return name.partition(".")[0]


def _with_differences(study: StudyResults, block: Block, parents: set[str]) -> Block:
    assert study.protocol is not None
    reduction, noun = study.protocol.report.reduction, noun_of(block.facts)
    values: dict[str, dict[int, float]] = {}
    for model, by_repeat in study.scores_of(str(block.facts["train"]), str(block.facts["dataset"])).items():
        reduced = {repeat: counts.reduced[reduction] for repeat, counts in by_repeat.items()}
        values[model] = {repeat: figures["miou"] for repeat, figures in reduced.items() if "miou" in figures}
    rows: list[Row] = []
    for row in block.rows:
        own, other = values.get(row.key, {}), values.get(_parent(row.key), {})
        # Repeats pair up: seed and data order are the same for both, so differences are formed before the mean.
        cell = Cell.over(own[repeat] - other[repeat] for repeat in sorted(own.keys() & other.keys()))
        rows.append(replace(row, cells={**row.cells, DIFFERENCE.key: cell}) if cell and row.key not in parents else row)
    at = next((index + 1 for index, column in enumerate(block.columns) if column.key.startswith("miou")), 0)
    return replace(
        block,
        title=block.title.replace("Results", "Ablation", 1),
        conventions=(
            *block.conventions,
            f"Δ mIoU: variant minus the whole network in percentage points, {noun} by {noun} where both have finished; "
            "± is the std of these differences.",
            *(f"What the variants of {display(name)[0]} change: {_source(name)}." for name in sorted(parents)),
        ),
        columns=(*block.columns[:at], DIFFERENCE, *block.columns[at:]),
        rows=tuple(rows),
    )


def _source(model: str) -> str:
    """Return the file that describes a network's variants."""
    entry = registry.find(model)
    return entry.target.partition(":")[0].replace(".", "/") + ".py" if entry else "its own source"

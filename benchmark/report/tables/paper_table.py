"""The table for a paper: metrics and costs of one's choice side by side, per dataset, and what its caption must say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmark import metrics
from benchmark.config import registry
from benchmark.report.read import Measurement, Scores, StudyResults, comparable
from benchmark.report.tables import accuracy_table as tables
from benchmark.report.tables import conventions, efficiency_table
from benchmark.report.tables import literature_table as literature
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.errors import UserError, did_you_mean

NAME = "custom"
DEFAULT = ("miou", "mpa", "dice", "aji", "params", "macs", "fps")
COSTS: Mapping[str, Column] = {column.key: replace(column, repeated=False) for column in efficiency_table.EFFICIENCY}
STATIC = frozenset({"params", "unused_params", "macs", "flops"})  # the same on every device
ELECTRICAL = frozenset({*tables.ELECTRICAL.columns, "net_precision", "net_recall"})


class PaperChoice(BaseModel):
    """What a paper's table shows, and how; kept beside the report, so that later reports build the table again.

    Attributes:
        columns: metrics, each perhaps with a reduction (``miou.pooled``), and costs; ``None`` for ``DEFAULT``.
        models: patterns as in ``--models``; ``None`` for all models and methods without training.
        digits: decimals of percentages and counts; ``None`` for those of the standard tables.
        layout: datasets below each other, or side by side.
        reduction: of the metrics that leave it open; ``None`` for the protocol's.
        cite: whether LaTeX cites each network's paper.
        printed: figures of other papers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: tuple[str, ...] | None = None
    models: str | None = None
    digits: int | None = Field(None, ge=0, le=6)
    layout: Literal["long", "wide"] = "long"
    reduction: metrics.Reduction | None = None
    cite: bool = False
    printed: tuple[literature.LiteratureEntry, ...] = ()


@dataclass(frozen=True)
class PaperFigure:
    """A column of such a table: a metric under a reduction, or a cost."""

    column: Column
    metric: metrics.Metric | None = None
    reduction: metrics.Reduction = "pooled"


def figures(names: Sequence[str], default: metrics.Reduction, digits: int | None = None) -> list[PaperFigure]:
    """Resolve names of columns.

    Args:
        names: such as ``miou``, ``miou.pooled``, ``opens``, ``params``.
        default: the reduction of metrics that have several and name none.
        digits: decimals of the metrics.

    Raises:
        UserError: there is no such column, or a metric is not taken that way.
    """
    found = {figure.column.key: figure for figure in (_figure(name.strip(), default) for name in names)}
    ratios = {f.reduction for f in found.values() if f.metric and f.metric.unit != "count"}
    return [_printed(figure, named=len(ratios) > 1, digits=digits) for figure in found.values()]


def _figure(text: str, default: metrics.Reduction) -> PaperFigure:
    if text in COSTS:
        return PaperFigure(COSTS[text])
    name, _, suffix = text.partition(".")
    metric = metrics.METRICS.get(name)
    if metric is None:
        known = [*metrics.METRICS, *COSTS]
        raise UserError(
            f"--columns {text!r}: no such column{did_you_mean(text, known)}; expected metrics "
            f"({', '.join(metrics.METRICS)}) or costs ({', '.join(COSTS)})"
        )
    if suffix and suffix not in metric.reductions:
        raise UserError(f"--columns {text!r}: {name} is taken {' or '.join(metric.reductions)}")
    wanted = suffix or default
    reduction = next((how for how in metric.reductions if how == wanted), metric.reductions[0])
    column = conventions.metric_column(metric)
    # The key says how the figure was taken wherever there are two ways.
    key = f"{name}.{reduction}" if len(metric.reductions) > 1 else name
    return PaperFigure(replace(column, key=key), metric, reduction)


def _printed(figure: PaperFigure, *, named: bool, digits: int | None) -> PaperFigure:
    """Name the reduction beside the unit where a table mixes them; a count is a sum and needs no name."""
    column = figure.column
    if figure.metric is None:
        return figure
    if named and figure.metric.unit != "count":
        column = replace(column, unit=", ".join(filter(None, (column.unit, figure.reduction))))
    return replace(figure, column=replace(column, digits=column.digits if digits is None else digits))


def table(study: StudyResults, choice: PaperChoice) -> Table:
    """Return one block per dataset with the chosen columns and rows; the layout is left to ``wide.widen``.

    Raises:
        UserError: the study has no runs, or nothing of what is asked for.
    """
    if study.protocol is None:
        raise UserError("the study only measured efficiency; a table for a paper needs runs")
    bases = tables.scores(study, tables.ACCURACY).blocks
    shown = _chosen_rows(choice.models, list(dict.fromkeys(row.key for base in bases for row in base.rows)))
    chosen = figures(choice.columns or DEFAULT, choice.reduction or study.protocol.report.reduction, choice.digits)
    literature.check_datasets(choice.printed, [base.key for base in bases])
    blocks = [compose(study, base, chosen, shown, choice) for base in bases]
    present = {key for block in blocks for row in block.rows for key in row.cells}
    missing = [figure.column.key for figure in chosen if figure.column.key not in present]
    if choice.columns and missing and any(run.scores for run in study.runs):
        raise UserError(f"--columns {missing[0]!r}: no run or measurement of this study has it; leave it out")
    return Table(NAME, "Results", tuple(block for block in blocks if block.rows))


def _chosen_rows(patterns: str | None, known: Sequence[str]) -> set[str]:
    """Return the names among ``known`` that the patterns match."""
    if patterns is None:
        return set(known)
    chosen: set[str] = set()
    for pattern in filter(str.strip, patterns.split(",")):
        names = {entry.name for entry in registry.select(pattern, also=known)} & set(known)
        if not names:
            raise UserError(f"--models {pattern.strip()!r}: not in this study, which has {', '.join(known)}")
        chosen |= names
    if not chosen:
        raise UserError(f"--models is empty; expected some of {', '.join(known)}")
    return chosen


def compose(
    study: StudyResults, base: Block, chosen: Sequence[PaperFigure], models: Set[str], choice: PaperChoice | None = None
) -> Block:
    """Return a block with the rows of an accuracy block and other columns.

    Args:
        study: where the figures come from.
        base: the accuracy block; its dataset, training and rows are taken.
        chosen: the columns; those without a value here are left out.
        models: the rows that stay.
        choice: for figures of other papers and citations.
    """
    assert study.protocol is not None
    choice = choice or PaperChoice()
    test, train = str(base.facts["dataset"]), str(base.facts["train"])
    kept = [row for row in base.rows if row.key in models]
    scores: dict[str, list[Scores]] = {
        row.key: [*study.references[test][row.key]] if row.family == "reference" else [] for row in kept
    }
    for run in study.runs:
        if run.record.model in scores and "+".join(run.record.train) == train and test in run.scores:
            scores[run.record.model].append(run.scores[test])
    measured = study.measured_for(test)
    timed = comparable(measured, models)
    costs = {found.record.model: found for found in (*measured, *timed)}
    clocked = {found.record.model: found for found in timed}
    rows = [
        _row(row, chosen, scores[row.key], costs.get(row.key), clocked.get(row.key), cite=choice.cite) for row in kept
    ]
    by_metric = {(f.metric.name, str(f.reduction)): f.column.key for f in chosen if f.metric}
    printed = list(literature.rows(choice.printed, base.key, by_metric))
    present = {key for row in (*rows, *printed) for key in row.cells}
    shown = [f for f in chosen if f.column.key in present or (f.metric and not present)]
    costly = {f.column.key for f in shown if f.metric is None}
    rated = {f.column.key for f in shown if f.metric}
    n = max((cell.n for row in rows for key, cell in row.cells.items() if row.ranked and key in rated), default=0)
    everything = [score for row in kept if row.family != "reference" for score in scores[row.key]]
    told: list[str] = []
    if costly and measured:
        told = list(_cost_conventions(timed if costly - STATIC else measured, costly))
    return Block(
        key=base.key,
        title=base.title.replace(tables.ACCURACY.title, "Results", 1),
        facts={name: value for name, value in base.facts.items() if name != "reduction"}
        | {
            "input": f"{timed[0].setting.size}×{timed[0].setting.channels}" if costly and timed else "",
            "device": timed[0].setting.describe() if costly - STATIC and timed else "",
        },
        conventions=(
            *_score_conventions(study, base, [f for f in shown if f.metric], n, everything),
            *told,
            *([literature.CONVENTION] * bool(printed)),
        ),
        columns=tuple(f.column for f in shown),
        rows=(*rows, *printed),
        n=n,
    )


def _row(
    row: Row,
    chosen: Sequence[PaperFigure],
    scores: Sequence[Scores],
    cost: Measurement | None,
    clocked: Measurement | None,
    *,
    cite: bool,
) -> Row:
    cells: dict[str, Cell] = {}
    remarks = [row.remark]
    for figure in chosen:
        key = figure.column.key
        if figure.metric:
            reduced = [score.reduced[figure.reduction] for score in scores]
            cell = Cell.over(values[figure.metric.name] for values in reduced if figure.metric.name in values)
        else:
            source = cost if key in STATIC else clocked
            cell = efficiency_table.cost(source, key) if source and key in source.figures else None
            if cell and source and key not in STATIC:
                remarks += source.warnings
        if cell is not None:
            cells[key] = cell
    entry = registry.models().get(row.key)
    return replace(
        row,
        cells=cells,
        remark="; ".join(dict.fromkeys(filter(None, remarks))),
        cite=entry.cite if entry and cite else (),
    )


def _score_conventions(
    study: StudyResults, base: Block, shown: Sequence[PaperFigure], n: int, everything: Sequence[Scores]
) -> Iterator[str]:
    assert study.protocol is not None
    rated = [(figure, figure.metric) for figure in shown if figure.metric]
    reductions = list(dict.fromkeys(figure.reduction for figure, metric in rated if metric.unit != "count"))
    train, test = str(base.facts["train"]).split("+"), str(base.facts["dataset"])
    yield from conventions.about_scores(study.protocol, reductions, train, test, n, str(base.facts["test_images"]))
    yield from conventions.nothing_to_judge(everything, test)
    yield from conventions.origins(run for run in study.runs if "+".join(run.record.train) == str(base.facts["train"]))
    yield from conventions.left_out(study)
    if any(metric.unit == "count" for _, metric in rated):
        yield "Counts are sums over the test images."
    if any(metric.name in ELECTRICAL for _, metric in rated):
        yield from conventions.electrical_conventions(study.protocol, everything)


def _cost_conventions(measured: Sequence[Measurement], costly: Set[str]) -> Iterator[str]:
    setting = measured[0].setting
    where = f" on {setting.describe()}" if costly - STATIC else ""
    yield f"Efficiency at {setting.size}{where}."
    yield from efficiency_table.efficiency_conventions(measured, setting, costly)

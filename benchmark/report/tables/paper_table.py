"""Tables metrics and costs of a user's choice side by side, for a paper."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark import metrics
from benchmark.config import registry
from benchmark.records.schema import fault
from benchmark.records.store import RECORD_BYTES
from benchmark.report.read import Measurement, StudyResults, comparable
from benchmark.report.scores import Scores
from benchmark.report.tables import accuracy_table, bibliography, conventions, efficiency_table, literature_table
from benchmark.report.tables.conventions import ENSEMBLE
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_limited

NAME = "custom"
CHOICE = f"{NAME}.json"  # in a report's folder
DEFAULT = ("miou", "mpa", "dice", "aji", "params", "macs", "fps")
COSTS: Mapping[str, Column] = {column.key: replace(column, repeated=False) for column in efficiency_table.EFFICIENCY}
STATIC = frozenset({"params", "unused_params", "macs", "flops"})  # the same on every device
ELECTRICAL = frozenset({*accuracy_table.ELECTRICAL.columns, "net_precision", "net_recall"})


class PaperChoice(BaseModel):
    """Columns and form of a paper's table; kept beside the report, so that later reports build the table again.

    Attributes:
        columns: metrics, each perhaps with a reduction (``miou.pooled``), and costs; ``None`` for ``DEFAULT``.
        models: patterns as in ``--models``; ``None`` for all models and methods without training.
        datasets: also transfers (``omc-on-miic``: trained on the first, tested on the second); ``None`` for all.
        digits: decimals of percentages and counts; ``None`` for those of the standard tables.
        layout: datasets below each other, or side by side.
        reduction: of the metrics that leave it open; ``None`` for the protocol's.
        cite: whether LaTeX cites each network's paper.
        printed: figures of other papers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: tuple[str, ...] | None = None
    models: str | None = None
    datasets: tuple[str, ...] | None = None
    digits: int | None = Field(None, ge=0, le=6)
    layout: Literal["long", "wide"] = "long"
    reduction: metrics.Reduction | None = None
    cite: bool = False
    printed: tuple[literature_table.LiteratureEntry, ...] = ()


def kept_choice(file: Path) -> PaperChoice | None:
    """Read what the table for a paper was made from; ``None`` if there is no such table.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return PaperChoice.model_validate_json(read_limited(file, RECORD_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{file}: cannot be read ({fault(error)}); delete it and choose the table's columns again"
        ) from error


@dataclass(frozen=True)
class PaperFigure:
    """A column of such a table: a metric under a reduction, or a cost."""

    column: Column
    metric: metrics.Metric | None = None
    reduction: metrics.Reduction = "pooled"

    @property
    def is_sum(self) -> bool:
        """Tell whether the figure is a number of things in all test images."""
        return self.metric is not None and self.metric.unit == "count" and self.reduction == "pooled"


def figures(names: Sequence[str], default: metrics.Reduction, digits: int | None = None) -> list[PaperFigure]:
    """Resolve names of columns.

    Args:
        names: such as ``miou``, ``miou.pooled``, ``opens``, ``params``.
        default: the reduction of metrics that have several and name none.
        digits: decimals of the metrics.

    Raises:
        UserError: there is no such column, or a metric is not taken that way.
    """
    resolved = {figure.column.key: figure for figure in (_figure(name.strip(), default) for name in names)}
    reductions = {figure.reduction for figure in resolved.values() if figure.metric and not figure.is_sum}
    return [_printed(figure, named=len(reductions) > 1, digits=digits) for figure in resolved.values()]


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
    reduction = next((how for how in metric.reductions if how == (suffix or default)), metric.reductions[0])
    column = conventions.metric_column(metric)
    # The key says how the figure was taken wherever there are two ways.
    key = f"{name}.{reduction}" if len(metric.reductions) > 1 else name
    return PaperFigure(replace(column, key=key), metric, reduction)


def _printed(figure: PaperFigure, *, named: bool, digits: int | None) -> PaperFigure:
    """Name the reduction beside the unit where a table mixes them; a count is a sum and needs no name."""
    if figure.metric is None:
        return figure
    column = figure.column
    reduction = figure.reduction if named and not figure.is_sum else ""
    unit = ", ".join(filter(None, (column.unit, reduction)))
    return replace(figure, column=replace(column, unit=unit, digits=column.digits if digits is None else digits))


def table(study: StudyResults, choice: PaperChoice) -> Table:
    """Return one block per dataset with the chosen columns and rows; the layout is left to ``widen``.

    Raises:
        UserError: the study has no runs, or nothing of what is asked for.
    """
    if study.protocol is None:
        raise UserError("the study only measured efficiency; a table for a paper needs runs")
    bases = accuracy_table.scores(study, accuracy_table.ACCURACY).blocks
    shown = _chosen_rows(choice.models, list(dict.fromkeys(row.key for base in bases for row in base.rows)))
    chosen = figures(choice.columns or DEFAULT, choice.reduction or study.protocol.report.reduction, choice.digits)
    literature_table.check_datasets(choice.printed, [base.key for base in bases])
    blocks = [compose(study, base, chosen, shown, choice) for base in _chosen_blocks(choice.datasets, bases)]
    present = {key for block in blocks for row in block.rows for key in row.cells}
    missing = [figure.column.key for figure in chosen if figure.column.key not in present]
    if choice.columns and missing and any(run.scores for run in study.runs):
        raise UserError(f"--columns {missing[0]!r}: no run or measurement of this study has it; leave it out")
    return Table(NAME, "Results", tuple(block for block in blocks if block.rows))


def _chosen_rows(patterns: str | None, known: Sequence[str]) -> set[str]:
    """Return the names among ``known`` that the patterns match."""
    if patterns is None:
        return set(known)
    others = [conventions.entry_of(name) or registry.user_entry(name, name) for name in known]
    chosen: set[str] = set()
    for pattern in filter(str.strip, patterns.split(",")):
        names = {entry.name for entry in registry.select(pattern, also=others, figures=False)} & set(known)
        if not names:
            raise UserError(f"--models {pattern.strip()!r}: not in this study, which has {', '.join(known)}")
        chosen |= names
    if not chosen:
        raise UserError(f"--models is empty; expected some of {', '.join(known)}")
    return chosen


def _chosen_blocks(names: Sequence[str] | None, blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks of these names, or all of them, in the tables' own order."""
    known = [block.key for block in blocks]
    if unknown := [name for name in names or () if name not in known]:
        raise UserError(f"--datasets {unknown[0]!r}: not in this study, which has {', '.join(known)}")
    return [block for block in blocks if names is None or block.key in names]


def compose(
    study: StudyResults, base: Block, chosen: Sequence[PaperFigure], models: Set[str], choice: PaperChoice | None = None
) -> Block:
    """Return an accuracy block with other columns: those of ``chosen`` that have a value in one of its ``models``.

    The choice adds figures of other papers and citations.
    """
    assert study.protocol is not None
    printed_entries, cite = (choice.printed, choice.cite) if choice else ((), False)
    test, train = str(base.facts["dataset"]), str(base.facts["train"])
    kept = [row for row in base.rows if row.key in models]
    by_model = study.scores_of(train, test)
    scores: dict[str, Collection[Scores]] = {
        row.key: study.references[test][row.key] if row.family == "reference" else by_model.get(row.key, {}).values()
        for row in kept
    }
    averaged = {key: study.ensemble_of(train, key.removesuffix(ENSEMBLE), test) for key in scores if ENSEMBLE in key}
    scores |= {key: [tested.scores] for key, tested in averaged.items() if tested}
    measured = study.measured_for(test)
    timed = comparable(measured, models)
    costs = {found.record.model: found for found in (*measured, *timed)}
    clocked = {found.record.model: found for found in timed}
    rows = [_row(row, chosen, scores[row.key], costs.get(row.key), clocked.get(row.key), cite=cite) for row in kept]
    by_metric = {(f.metric.name, str(f.reduction)): f.column.key for f in chosen if f.metric}
    printed = list(literature_table.rows(printed_entries, base.key, by_metric))
    present = {key for row in (*rows, *printed) for key in row.cells}
    shown = [f for f in chosen if f.column.key in present or (f.metric and not present)]
    costly = {f.column.key for f in shown if f.metric is None}
    rated = {f.column.key for f in shown if f.metric}
    n = max((cell.n for row in rows for key, cell in row.cells.items() if row.ranked and key in rated), default=0)
    everything = [counted for row in kept for counted in by_model.get(row.key, {}).items()]
    about_costs = _cost_conventions(timed if costly - STATIC else measured, costly) if costly and measured else ()
    return Block(
        key=base.key,
        title=base.title.replace(accuracy_table.ACCURACY.title, "Results", 1),
        facts={name: value for name, value in base.facts.items() if name != "reduction"}
        | {
            "input": f"{timed[0].setting.size}×{timed[0].setting.channels}" if costly and timed else "",
            "device": timed[0].setting.describe() if costly - STATIC and timed else "",
        },
        conventions=(
            *_score_conventions(study, base, [f for f in shown if f.metric], n, everything),
            *conventions.about_ensembles(rows),
            *about_costs,
            *([literature_table.CONVENTION] * bool(printed)),
        ),
        columns=tuple(f.column for f in shown),
        rows=(*rows, *printed),
        n=n,
    )


def _row(
    row: Row, chosen: Sequence[PaperFigure], scores: Iterable[Scores], cost: Measurement | None,
    clocked: Measurement | None, *, cite: bool,
) -> Row:  # fmt: skip
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
    entry = conventions.entry_of(row.key)
    remark = "; ".join(dict.fromkeys(filter(None, remarks)))
    return replace(row, cells=cells, remark=remark, cite=bibliography.own_keys(entry) if entry and cite else ())


def _score_conventions(
    study: StudyResults, base: Block, shown: Sequence[PaperFigure], n: int, everything: Sequence[tuple[int, Scores]]
) -> Iterator[str]:
    assert study.protocol is not None
    rated = [figure for figure in shown if figure.metric]
    reductions = list(dict.fromkeys(figure.reduction for figure in rated if not figure.is_sum))
    train, test = str(base.facts["train"]).split("+"), str(base.facts["dataset"])
    yield from conventions.about_scores(study.protocol, reductions, (test, *train), n, str(base.facts["test_images"]))
    yield from conventions.not_judged((scores for _, scores in everything), test)
    yield from conventions.origins(run for run in study.runs if "+".join(run.record.train) == str(base.facts["train"]))
    yield from conventions.left_out(study)
    if any(figure.is_sum for figure in rated):
        yield f"Counts are sums over the test images{' of a fold' * bool(study.protocol.split.folds)}."
    if any(figure.metric and figure.metric.name in ELECTRICAL for figure in rated):
        yield from conventions.electrical_conventions(study.protocol, everything)


def _cost_conventions(measured: Sequence[Measurement], costly: Set[str]) -> Iterator[str]:
    setting = measured[0].setting
    where = f" on {setting.describe()}" if costly - STATIC else ""
    yield f"Efficiency at {setting.size}{where}."
    yield from efficiency_table.efficiency_conventions(measured, setting, costly)


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
            cells = {f"{groups_of[key]}/{key}": cell for key, cell in row.cells.items()}
            earlier = rows[row.key].cells if row.key in rows else {}
            rows[row.key] = replace(row, cells={**earlier, **cells}, remark=_joined_remark(table, row))
    trained = conventions.in_order(key for key, row in rows.items() if row.ranked or ENSEMBLE in key)
    others = [key for key in rows if key not in trained]
    names = [block.title.partition(" on ")[2] for block in table.blocks]
    block = Block(
        key="all",
        title=f"{table.title} on {', '.join(names[:-1])} and {names[-1]}",
        facts={name: value for name, value in table.blocks[0].facts.items() if name in ("protocol", "ddof", "folds")},
        conventions=tuple(_joined_conventions(table.blocks)),
        columns=tuple(column for _, columns in ordered for column in columns.values()),
        rows=tuple(rows[key] for key in (*trained, *others)),
        n=max(block.n for block in table.blocks),
    )
    return Table(table.name, table.title, (block,))


def _group_keys(blocks: Sequence[Block], block: Block) -> dict[str, str]:
    """Return the heading over each column: the dataset, or the input size of costs, or nothing where one would do."""
    inputs = {str(other.facts["input"]) for other in blocks if other.facts["input"]}
    costs = str(block.facts["input"]) if len(inputs) > 1 else "Efficiency"
    return {column.key: block.key if column.repeated else costs for column in block.columns}


def _joined_remark(table: Table, row: Row) -> str:
    """Join what the datasets say of a row, once where they say the same."""
    remarks = [(block.key, other.remark) for block in table.blocks for other in block.rows if other.key == row.key]
    names = {remark: [name for name, other in remarks if other == remark] for _, remark in remarks if remark}
    everywhere = len(remarks)
    return "; ".join(f"{', '.join(of)}: {text}" if len(of) < everywhere else text for text, of in names.items())


def _joined_conventions(blocks: Sequence[Block]) -> Iterator[str]:
    for sentence in dict.fromkeys(sentence for block in blocks for sentence in block.conventions):
        names = [block.key for block in blocks if sentence in block.conventions]
        alone = len(names) == len(blocks) or sentence.startswith(f"{names[0]} ")
        yield sentence if alone else f"{', '.join(names)}: {sentence}"

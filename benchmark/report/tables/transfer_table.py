"""Tables how networks do on datasets that they were not trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmark import metrics
from benchmark.config.targets import dataset_of
from benchmark.data.specs import KNOWN, known_first
from benchmark.report.read import Run, StudyResults
from benchmark.report.tables.conventions import about_scores, display, folds_of, in_order, metric_column
from benchmark.report.tables.render import Block, Cell, Row, Table

Train = tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """One metric of one model: a cell per training set and test dataset, where there are finished runs."""

    model: str
    cells: dict[tuple[Train, str], Cell]


def reduction_of(study: StudyResults, name: str) -> metrics.Reduction:
    """Return how a metric is reduced here: as the protocol says, or the one way that it can be."""
    allowed = metrics.METRICS[name].reductions
    assert study.protocol is not None
    return study.protocol.report.reduction if study.protocol.report.reduction in allowed else allowed[0]


def crosses(study: StudyResults) -> bool:
    """Tell whether any run was tested on a dataset that it was not trained on."""
    return any(set(map(dataset_of, run.record.test)) - set(run.record.train) for run in study.runs)


def axes_of(runs: Sequence[Run]) -> tuple[list[Train], list[str]]:
    """Return the training sets, single ones first, and the test datasets, both in the datasets' own order."""

    def order(names: Train) -> tuple[int, list[tuple[int, str]]]:
        return len(names), [known_first(name, KNOWN) for name in names]

    trains = sorted({run.record.train for run in runs}, key=order)
    tests = sorted({test for run in runs for test in run.record.test}, key=lambda name: known_first(name, KNOWN))
    return trains, tests


def matrices_of(study: StudyResults, name: str) -> list[Matrix]:
    """Return a metric of every model, in the registry's order."""
    reduction = reduction_of(study, name)
    by_model: dict[str, dict[tuple[Train, str], list[float]]] = {}
    for run in study.runs:
        cells = by_model.setdefault(run.record.model, {})
        for test, scores in run.scores.items():
            if name in scores.reduced[reduction]:
                cells.setdefault((run.record.train, test), []).append(scores.reduced[reduction][name])
    return [
        Matrix(model, {key: cell for key, values in by_model[model].items() if (cell := Cell.over(values))})
        for model in in_order(by_model)
    ]


def table(study: StudyResults) -> Table:
    """Return one block per metric and training set: models as rows, test datasets as columns.

    A study without a test on a foreign dataset has no blocks.
    """
    if study.protocol is None or not crosses(study):
        return Table("transfer", "Transfer")
    trains, tests = axes_of(study.runs)
    pairs = itertools.product(("miou", "net_error_rate", "via_f1"), trains)
    blocks = (_block(study, name, train, tests) for name, train in pairs)
    return Table("transfer", "Transfer", tuple(filter(None, blocks)))


def _block(study: StudyResults, name: str, train: Train, tests: Sequence[str]) -> Block | None:
    assert study.protocol is not None
    rows = [
        Row(matrix.model, *display(matrix.model), cells)
        for matrix in matrices_of(study, name)
        if (cells := {test: cell for (trained_on, test), cell in matrix.cells.items() if trained_on == train})
    ]
    if not rows:
        return None
    metric, reduction, trained = metrics.METRICS[name], reduction_of(study, name), "+".join(train)
    shown = [test for test in tests if any(test in row.cells for row in rows)]
    n = max(cell.n for row in rows for cell in row.cells.values())
    return Block(
        key=f"{name}-{trained}",
        title=f"{metric.display} after training on {trained}",
        facts={
            **{"metric_name": name, "train": trained, "protocol": study.protocol.name, "reduction": reduction},
            **folds_of(study.protocol),
        },
        conventions=tuple(_conventions(study, reduction, train, shown, n)),
        columns=tuple(replace(metric_column(metric), key=test, title=test) for test in shown),
        rows=tuple(rows),
        n=n,
    )


def _conventions(
    study: StudyResults, reduction: metrics.Reduction, train: Train, tests: Sequence[str], n: int
) -> Iterator[str]:
    assert study.protocol is not None
    yield "Columns: the dataset that is tested on."
    if own := [test for test in tests if test in train]:
        yield f"{', '.join(own)}: trained on too; the test part is never trained on."
    if len(train) > 1:
        yield "The training datasets are one set; each image comes once per epoch."
    yield from about_scores(study.protocol, (reduction,), (*train, *tests), n)

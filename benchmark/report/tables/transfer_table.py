"""Transfer: how networks do on datasets that they were not trained on, as tables and as heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark import metrics
from benchmark.data.specs import KNOWN, known_first
from benchmark.report.plots.plot_style import DPI, INK, LINE_INCHES, STYLE, drawable, tag, wrapped
from benchmark.report.read import Run, Study
from benchmark.report.tables.conventions import MARKS, display, in_order, metric_column, over_repeats, stand_ins
from benchmark.report.tables.render import Block, Cell, Column, Row, Table

Train = tuple[str, ...]

ACROSS = 4  # panels beside each other
CELL_INCHES, PANEL_TITLE_INCHES, TITLE_INCHES, LABELS_INCHES = 0.62, 0.32, 0.35, 0.7
NOTE_PER_INCH = 17  # characters beside each other in the note below
LIGHT_INK, DARK_INK = "#FAFAFA", "#111111"  # unlike white and black, they stay as they are on a dark page


@dataclass(frozen=True)
class _Matrix:
    """One metric of one model: a cell per training set and test dataset, where there are finished runs."""

    model: str
    cells: dict[tuple[Train, str], Cell]


def reduction_of(study: Study, name: str) -> metrics.Reduction:
    """Return how a metric is reduced here: as the protocol says, or the one way that it can be."""
    allowed = metrics.METRICS[name].reductions
    assert study.protocol is not None
    return study.protocol.report.reduction if study.protocol.report.reduction in allowed else allowed[0]


def crosses(study: Study) -> bool:
    """Tell whether any run was tested on a dataset that it was not trained on."""
    return any(set(run.record.test) - set(run.record.train) for run in study.runs)


def _axes_of(runs: Sequence[Run]) -> tuple[list[Train], list[str]]:
    """Return the training sets, single ones first, and the test datasets, both in the datasets' own order."""

    def order(names: Train) -> tuple[int, list[tuple[int, str]]]:
        return len(names), [known_first(name, KNOWN) for name in names]

    trains = sorted({run.record.train for run in runs}, key=order)
    tests = sorted({test for run in runs for test in run.record.test}, key=lambda name: known_first(name, KNOWN))
    return trains, tests


def _matrices(study: Study, name: str) -> list[_Matrix]:
    reduction = reduction_of(study, name)
    by_model: dict[str, dict[tuple[Train, str], list[float]]] = {}
    for run in study.runs:
        cells = by_model.setdefault(run.record.model, {})
        for test, scores in run.scores.items():
            if name in scores.reduced[reduction]:
                cells.setdefault((run.record.train, test), []).append(scores.reduced[reduction][name])
    return [
        _Matrix(model, {key: cell for key, values in by_model[model].items() if (cell := Cell.over(values))})
        for model in in_order(by_model)
    ]


def table(study: Study) -> Table:
    """Return one block per metric and training set: models as rows, test datasets as columns.

    A study without a test on a foreign dataset has no blocks.
    """
    if study.protocol is None or not crosses(study):
        return Table("transfer", "Transfer")
    trains, tests = _axes_of(study.runs)
    blocks = [
        block
        for name in ("miou", "net_error_rate", "via_f1")
        for train in trains
        if (block := _block(study, name, train, tests)) is not None
    ]
    return Table("transfer", "Transfer", tuple(blocks))


def _block(study: Study, name: str, train: Train, tests: Sequence[str]) -> Block | None:
    assert study.protocol is not None
    rows = [
        Row(
            matrix.model,
            *display(matrix.model),
            {test: matrix.cells[train, test] for test in tests if (train, test) in matrix.cells},
        )
        for matrix in _matrices(study, name)
    ]
    rows = [row for row in rows if row.cells]
    if not rows:
        return None
    metric, reduction, trained = metrics.METRICS[name], reduction_of(study, name), "+".join(train)
    column = metric_column(metric)
    columns = tuple(
        Column(test, test, column.higher_is_better, column.scale, column.digits, column.unit)
        for test in tests
        if any(test in row.cells for row in rows)
    )
    n = max(cell.n for row in rows for cell in row.cells.values())
    return Block(
        key=f"{name}-{trained}",
        title=f"{metric.display} after training on {trained}",
        facts={"metric_name": name, "train": trained, "protocol": study.protocol.name, "reduction": reduction},
        conventions=tuple(_conventions(study, reduction, train, [column.key for column in columns], n)),
        columns=columns,
        rows=tuple(rows),
        n=n,
    )


def _conventions(
    study: Study, reduction: metrics.Reduction, train: Train, tests: Sequence[str], n: int
) -> Iterator[str]:
    assert study.protocol is not None
    yield "Columns: the dataset that is tested on."
    if own := [test for test in tests if test in train]:
        yield f"{', '.join(own)}: trained on too; the test part is never trained on."
    if len(train) > 1:
        yield "The training datasets are one set; each image comes once per epoch."
    yield over_repeats(n)
    yield f"Reduction: {reduction} ({metrics.REDUCTIONS[reduction]})."
    yield f"Protocol: {study.protocol.name}."
    yield MARKS
    yield from stand_ins((*train, *tests))


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Draw mIoU as one heat map per model, training sets as rows and test datasets as columns.

    Yields:
        The file name without its ending, and the figure; nothing for a study without a test on a foreign dataset.
    """
    if study.protocol is None or not crosses(study):
        return
    matrices = [matrix for matrix in _matrices(study, "miou") if matrix.cells]
    if matrices:
        yield "transfer.miou", _heat_maps(study, matrices)


def _heat_maps(study: Study, matrices: Sequence[_Matrix]) -> Figure:
    assert study.protocol is not None
    trains, tests = _axes_of([run for run in study.runs if run.scores])
    across = min(ACROSS, len(matrices))
    down = -(-len(matrices) // across)
    names = [drawable(" + ".join(train)) for train in trains]
    left = 0.25 + 0.075 * max(map(len, names))
    panel = CELL_INCHES * len(tests) + 0.18, CELL_INCHES * len(trains) + PANEL_TITLE_INCHES
    width = max(left + across * panel[0] + 0.9, 5.2)
    repeats = sorted({cell.n for matrix in matrices for cell in matrix.cells.values()})
    reduction = study.protocol.report.reduction
    note = wrapped(
        f"Mean over n = {' or '.join(map(str, repeats))} repeat(s), {reduction} reduction. Framed: tested on the test "
        f"part of a dataset that was trained on. Protocol: {study.protocol.name}.",
        int(NOTE_PER_INCH * width),
    )
    below = LABELS_INCHES + LINE_INCHES * (note.count("\n") + 1)
    height = TITLE_INCHES + down * panel[1] + below
    values = [100 * cell.mean for matrix in matrices for cell in matrix.cells.values()]
    scale = matplotlib.colors.Normalize(min(values), max(max(values), min(values) + 1))
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((width, height), dpi=DPI)
        for number, matrix in enumerate(matrices):
            row, column = divmod(number, across)
            x = left + column * panel[0]
            y = height - TITLE_INCHES - (row + 1) * panel[1]
            inside = x / width, y / height, CELL_INCHES * len(tests) / width, CELL_INCHES * len(trains) / height
            axes = figure.add_axes(inside)
            _heat_map(axes, matrix, trains, tests, scale)
            last = number + across >= len(matrices)
            axes.set_xticks(range(len(tests)), [drawable(t) for t in tests] if last else [], rotation=35, ha="right")
            axes.set_yticks(range(len(trains)), names if column == 0 else [])
        bar = figure.add_axes((1 - 0.62 / width, (below + 0.1) / height, 0.13 / width, down * panel[1] / height))
        figure.colorbar(matplotlib.cm.ScalarMappable(scale, "cividis"), cax=bar)
        figure.text(0.1 / width, 1 - 0.1 / height, "mIoU (%) by training set (rows) and test dataset (columns)",
                    fontsize=10.5, fontweight="bold", va="top")  # fmt: skip
        figure.text(0.1 / width, 0.08 / height, note, fontsize=7.5, color=INK, va="bottom")
    return figure


def _heat_map(
    axes: Axes, matrix: _Matrix, trains: Sequence[Train], tests: Sequence[str], scale: matplotlib.colors.Normalize
) -> None:
    grid = np.full((len(trains), len(tests)), np.nan)
    for i, train in enumerate(trains):
        for j, test in enumerate(tests):
            cell = matrix.cells.get((train, test))
            if cell is None:
                axes.text(j, i, "–", ha="center", va="center", fontsize=8, color=INK)
                continue
            grid[i, j] = 100 * cell.mean
            # Cividis is dark in its lower half.
            ink = LIGHT_INK if scale(grid[i, j]) < 0.5 else DARK_INK
            axes.text(j, i, f"{grid[i, j]:.1f}", ha="center", va="center", fontsize=8, color=ink)
            if test in train:
                axes.add_patch(
                    Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=1.4)
                )
    axes.imshow(grid, cmap="cividis", norm=scale, aspect="equal")
    label = display(matrix.model)[0]
    axes.set_title(drawable(label), fontsize=9, pad=4)
    said = (f"{100 * cell.mean:.2f} from {'+'.join(train)} to {test}" for (train, test), cell in matrix.cells.items())
    tag(matrix.model, f"{label}: mIoU (%) {', '.join(said)}", axes)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)

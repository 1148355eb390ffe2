"""Draws mIoU of networks on foreign datasets as heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmark.report.plots.plot_style import DPI, INK, LINE_INCHES, NOTE_POINTS, STYLE, drawable, tag, wrapped_note
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, noun_under
from benchmark.report.tables.transfer_table import Matrix, Train, axes_of, crosses, matrices_of
from benchmark.utils.words import counted

ACROSS = 4  # panels beside each other
CELL_INCHES, PANEL_TITLE_INCHES, TITLE_INCHES, LABELS_INCHES = 0.62, 0.32, 0.35, 0.7
NOTE_PER_INCH = 17  # characters beside each other in the note below
LIGHT_INK, DARK_INK = "#FAFAFA", "#111111"  # unlike white and black, they stay as they are on a dark page


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw mIoU as one heat map per model, training sets as rows and test datasets as columns.

    Yields:
        The file name without its ending, and the figure; nothing for a study without a test on a foreign dataset.
    """
    if study.protocol is None or not crosses(study):
        return
    matrices = [matrix for matrix in matrices_of(study, "miou") if matrix.cells]
    if matrices:
        yield "transfer.miou", _heat_maps(study, matrices)


def _heat_maps(study: StudyResults, matrices: Sequence[Matrix]) -> Figure:
    assert study.protocol is not None
    trains, tests = axes_of([run for run in study.runs if run.scores])
    across = min(ACROSS, len(matrices))
    down = -(-len(matrices) // across)
    names = [drawable(" + ".join(train)) for train in trains]
    left = 0.25 + 0.075 * max(map(len, names))
    panel = CELL_INCHES * len(tests) + 0.18, CELL_INCHES * len(trains) + PANEL_TITLE_INCHES
    width = max(left + across * panel[0] + 0.9, 5.2)
    repeats = sorted({cell.n for matrix in matrices for cell in matrix.cells.values()})
    reduction = study.protocol.report.reduction
    note = wrapped_note(
        f"Mean over n = {counted(' or '.join(map(str, repeats)), noun_under(study.protocol))}, {reduction} reduction. "
        "Framed: tested on the test part of a dataset that was trained on. "
        f"Protocol: {study.protocol.name}.",
        int(NOTE_PER_INCH * width),
        width - 0.1,
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
        figure.text(0.1 / width, 0.08 / height, note, fontsize=NOTE_POINTS, color=INK, va="bottom")
    return figure


def _heat_map(
    axes: Axes, matrix: Matrix, trains: Sequence[Train], tests: Sequence[str], scale: matplotlib.colors.Normalize
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
    values = (f"{100 * cell.mean:.2f} from {'+'.join(train)} to {test}" for (train, test), cell in matrix.cells.items())
    tag(matrix.model, f"{label}: mIoU (%) {', '.join(values)}", axes)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)

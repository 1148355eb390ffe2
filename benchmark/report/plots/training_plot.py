"""Draws the losses of every run, one small panel per model."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from benchmark.data.specs import KNOWN, known_first
from benchmark.records.history import HISTORY_BYTES
from benchmark.records.packed_study import read_stored
from benchmark.report.plots import axis_limits
from benchmark.report.plots.plot_style import (
    DPI,
    INK,
    LINE_INCHES,
    NOTE_POINTS,
    STYLE,
    STYLES,
    drawable,
    round_ticks,
    tag,
    wrapped_note,
)
from benchmark.report.read import Run, StudyResults
from benchmark.report.tables.conventions import display, in_order, noun_under
from benchmark.utils.words import counted

#: Bounds for large studies: training sets, models of each, repeats of each, points of a curve.
SETS, MODELS, REPEATS, POINTS = 12, 40, 6, 48
LOG_FROM = 8.0  # largest over smallest loss, from which on the axis is logarithmic
ACROSS = 4  # panels beside each other
PANEL_INCHES, GAP_INCHES = (2.0, 1.15), (0.5, 0.5)
TOP_INCHES, NOTE_WIDTH = 0.85, 165
BAND = "#E6E6E6"


@dataclass(frozen=True)
class Curve:
    """One run's losses.

    Attributes:
        steps: of the validations.
        validation: the validation loss at each; not a number if there is none.
        training: the training loss since the validation before.
    """

    run: str  # such as repeat 0
    steps: tuple[int, ...]
    validation: tuple[float, ...]
    training: tuple[float, ...]

    @property
    def best(self) -> int | None:
        """Position of the lowest validation loss."""
        finite = [index for index, loss in enumerate(self.validation) if math.isfinite(loss)]
        return min(finite, key=lambda index: self.validation[index], default=None)

    def thinned(self, losses: Sequence[float]) -> tuple[list[int], list[float]]:
        """Return steps and finite losses of ``POINTS`` validations at most, both ends and the best among them."""
        last = len(self.steps) - 1
        kept = {round(number * last / (POINTS - 1)) for number in range(POINTS)} if last >= POINTS else range(last + 1)
        indices = sorted({*kept, *([] if self.best is None else [self.best])})
        points = [(self.steps[index], losses[index]) for index in indices if math.isfinite(losses[index])]
        return [step for step, _ in points], [loss for _, loss in points]

    @property
    def losses(self) -> list[float]:
        """All finite losses."""
        return [loss for loss in (*self.validation, *self.training) if math.isfinite(loss)]

    @property
    def tip(self) -> str:
        """The lowest validation loss in words."""
        if self.best is None:
            return f"{self.run}: no validation loss"
        loss, step = self.validation[self.best], self.steps[self.best]
        return f"{self.run}: lowest validation loss {loss:.4f} at step {step}"


def read_history(file: Path, run: str) -> Curve | None:
    """Read a ``history.csv``; ``None`` if it is missing or broken, since no number of the report rests on it."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_stored(file, HISTORY_BYTES).decode("utf-8"))))
        steps = tuple(int(row["steps"]) for row in rows)
        losses = [tuple(float(row[name] or "nan") for row in rows) for name in ("validation_loss", "train_loss")]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    return Curve(run, steps, losses[0], losses[1]) if rows else None


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per training set.

    Yields:
        The name of the plot, which has no files, and the figure.
    """
    noun = noun_under(study.protocol)
    sets: dict[str, dict[str, list[Run]]] = {}
    for run in study.runs:
        if run.folder is not None:
            sets.setdefault("+".join(run.record.train), {}).setdefault(run.record.model, []).append(run)
    for train in sorted(sets, key=lambda train: known_first(train, KNOWN))[:SETS]:
        models = sets[train]
        curves: dict[str, list[Curve]] = {}
        for model in in_order(models)[:MODELS]:
            runs = sorted(models[model], key=lambda run: run.record.repeat)[:REPEATS]
            histories = [
                read_history(run.folder / "history.csv", f"{noun} {run.record.repeat}") for run in runs if run.folder
            ]
            curves[model] = [curve for curve in histories if curve is not None]
        curves = {model: of_model for model, of_model in curves.items() if of_model}
        if _losses(curves):
            yield f"training.{train}", _figure(train, curves, models, noun)


def _losses(curves: Mapping[str, Sequence[Curve]]) -> list[float]:
    return [loss for of_model in curves.values() for curve in of_model for loss in curve.losses]


@dataclass(frozen=True)
class LossAxis:
    """The axis of losses that all panels of a figure share.

    Attributes:
        low: its lower end.
        high: its upper end; curves of diverged runs go on beyond it.
        logarithmic: its scale.
        cut: whether a loss lies beyond ``high``.
    """

    low: float
    high: float
    logarithmic: bool
    cut: bool

    @classmethod
    def of(cls, curves: Mapping[str, Sequence[Curve]]) -> LossAxis:
        """Choose the axis by the highest loss of each run; runs far above the others do not stretch it."""
        low, highest = min(_losses(curves)), max(_losses(curves))
        tops = [max(curve.losses) for of_model in curves.values() for curve in of_model if curve.losses]
        if low > 0:
            high = 10 ** axis_limits.usual_range([math.log10(top) for top in tops], math.log10(low))[1]
        else:
            high = axis_limits.usual_range(tops, low)[1]
        cut = highest > high * (1 + 1e-9)  # a power of a logarithm is rounded
        high = high if cut else highest
        if low > 0 and high / low > LOG_FROM:
            return cls(low / 1.1, high * 1.1, True, cut)
        pad = max(0.06 * (high - low), 1e-3)
        return cls(low - pad, high + pad, False, cut)

    def apply(self, axes: Axes) -> None:
        """Set limits, scale and ticks."""
        axes.set_ylim(self.low, self.high)
        if self.logarithmic:
            axes.set_yscale("log")
            round_ticks(axes.yaxis, fine=self.high / self.low < 100)
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4))


def _figure(
    train: str, curves: Mapping[str, Sequence[Curve]], models: Mapping[str, Sequence[Run]], noun: str
) -> Figure:
    axis = LossAxis.of(curves)
    width = ACROSS * (PANEL_INCHES[0] + GAP_INCHES[0]) + 0.2
    note = wrapped_note(_note(curves, models, axis, noun), NOTE_WIDTH, width - 0.1)
    down = -(-len(curves) // ACROSS)
    bottom = 0.1 + LINE_INCHES * (note.count("\n") + 1) + GAP_INCHES[1]
    height = TOP_INCHES + down * (PANEL_INCHES[1] + GAP_INCHES[1]) - GAP_INCHES[1] + bottom
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((width, height), dpi=DPI)
        figure.set_gid(train)
        for number, model in enumerate(curves):
            row, column = divmod(number, ACROSS)
            left = GAP_INCHES[0] + column * (PANEL_INCHES[0] + GAP_INCHES[0])
            floor = height - TOP_INCHES - PANEL_INCHES[1] - row * (PANEL_INCHES[1] + GAP_INCHES[1])
            axes = figure.add_axes((left / width, floor / height, PANEL_INCHES[0] / width, PANEL_INCHES[1] / height))
            axes.set_xlim(0, max(max(curve.steps) for of_model in curves.values() for curve in of_model))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2.5, 5, 10]))
            axis.apply(axes)
            _panel(axes, model, curves, axis)
            if number + ACROSS >= len(curves):
                axes.set_xlabel("step", fontsize=7.5, labelpad=1)
        edge = 0.1 / width
        title = drawable(f"Losses while training on {train}")
        figure.text(edge, 1 - 0.1 / height, title, fontsize=10.5, fontweight="bold", va="top")
        figure.legend(
            handles=[
                Line2D([], [], color=INK, linewidth=1.3, label=f"Validation loss, one line per {noun}"),
                Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="Training loss"),
                Line2D([], [], color=INK, linewidth=0, marker="o", markersize=4, label="Lowest validation loss"),
                Patch(color=BAND, label="Validation losses of all models, lowest to highest"),
            ],
            loc="upper left", bbox_to_anchor=(edge, 1 - 0.3 / height), ncols=4, frameon=False, fontsize=8,
            borderaxespad=0, borderpad=0.2, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
        figure.text(edge, 0.08 / height, note, fontsize=NOTE_POINTS, color=INK, va="bottom")
    return figure


def _panel(axes: Axes, model: str, curves: Mapping[str, Sequence[Curve]], axis: LossAxis) -> None:
    label, family = display(model)
    losses: dict[int, list[float]] = {}
    for curve in (curve for of_model in curves.values() for curve in of_model):
        for step, loss in zip(*curve.thinned(curve.validation), strict=True):
            losses.setdefault(step, []).append(loss)
    steps = sorted(losses)
    axes.fill_between(steps, [min(losses[s]) for s in steps], [max(losses[s]) for s in steps], color=BAND, linewidth=0)
    colour = STYLES[family][1]
    for curve in curves[model]:
        axes.plot(*curve.thinned(curve.training), color=colour, linewidth=0.9, linestyle="--", alpha=0.75)
        axes.plot(*curve.thinned(curve.validation), color=colour, linewidth=1.3)
        if curve.best is not None:
            axes.plot(
                curve.steps[curve.best], curve.validation[curve.best], "o", color=colour, markersize=4,
                markeredgecolor="white", markeredgewidth=0.6,
            )  # fmt: skip
    highest = max((loss for curve in curves[model] for loss in curve.losses), default=-math.inf)
    if axis.cut and highest > axis.high:
        axes.text(
            0.98, 0.96, f"▲ {highest:.3g}", transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    axes.set_title(drawable(label), fontsize=8.5, fontweight="bold", loc="left", pad=3, y=1)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, length=2)
    tag(model, f"{label}: {'; '.join(curve.tip for curve in curves[model])}", axes)


def _note(curves: Mapping[str, Sequence[Curve]], models: Mapping[str, Sequence[Run]], axis: LossAxis, noun: str) -> str:
    left_out = max(len(models) - MODELS, 0)
    return (
        f"Loss at every validation{', on a logarithmic scale' * axis.logarithmic}; the same axes "
        "for all models of a dataset."
        + " ▲: a run's loss goes on beyond the axis, up to this value." * axis.cut
        + " The test uses the weights of the lowest validation loss, if there is a validation part."
        + f" The first {REPEATS} {noun}s are drawn." * any(len(models[model]) > REPEATS for model in curves)
        + f" Not drawn: {counted(left_out, 'more model')}." * bool(left_out)
        + " Points of long trainings are thinned out; history.csv of each run has all."
    )

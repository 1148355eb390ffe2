"""Training curves: losses of every run at its validations, one small plot per model, on the same axes per dataset."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.specs import KNOWN, known_first
from benchmark.report.page.drawing import Axis, digits, number, path
from benchmark.report.read import Run, Study
from benchmark.report.tables.conventions import display, in_order
from benchmark.utils.files import read_limited

#: What the page shows of large studies: training sets, models of each, repeats of each, points of a curve.
SETS, MODELS, REPEATS, POINTS = 12, 40, 6, 48
#: The most that a history may hold, bytes; ten thousand rounds have less.
HISTORY_BYTES = 4 << 20
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 236, 148, 42, 8, 8, 24
LOG_FROM = 8.0  # largest over smallest loss, from which on the axis is logarithmic


@dataclass(frozen=True)
class Curve:
    """One run's losses.

    Attributes:
        steps: of the validations.
        validation: the validation loss at each; not a number where there is none.
        training: the training loss since the validation before.
    """

    repeat: int
    steps: tuple[int, ...]
    validation: tuple[float, ...]
    training: tuple[float, ...]

    @property
    def best(self) -> int | None:
        """Where the validation loss is lowest."""
        finite = [index for index, loss in enumerate(self.validation) if math.isfinite(loss)]
        return min(finite, key=lambda index: self.validation[index], default=None)


@dataclass(frozen=True)
class Small:
    """One model's plot.

    Attributes:
        validation: SVG paths, one per repeat.
        training: the same.
        best: where each repeat's validation loss is lowest.
        tip: what is said of it.
    """

    key: str
    label: str
    family: str
    validation: tuple[str, ...]
    training: tuple[str, ...]
    best: tuple[tuple[str, str], ...]
    tip: str


@dataclass(frozen=True)
class Multiples:
    """The plots of one training set.

    Attributes:
        left_out: models that are not drawn.
        repeats_left_out: whether a model has more repeats than are drawn.
    """

    train: str
    across: Axis
    up: Axis
    plots: tuple[Small, ...]
    left_out: int
    repeats_left_out: bool


def read(file: Path, repeat: int) -> Curve | None:
    """Read a ``history.csv``; ``None`` where there is none or it is none, since nothing else rests on it."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_limited(file, HISTORY_BYTES).decode("utf-8"))))
        steps = tuple(int(row["steps"]) for row in rows)
        losses = [tuple(_loss(row[name]) for row in rows) for name in ("validation_loss", "train_loss")]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    return Curve(repeat, steps, losses[0], losses[1]) if rows else None


def _loss(text: str) -> float:
    return float(text) if text else math.nan


def multiples(study: Study) -> tuple[list[Multiples], int]:
    """Return the plots of each training set, and how many sets are left out."""
    sets: dict[str, dict[str, list[Run]]] = {}
    for run in study.runs:
        if run.folder is not None:
            sets.setdefault("+".join(run.record.train), {}).setdefault(run.record.model, []).append(run)
    ordered = sorted(sets, key=lambda train: known_first(train, KNOWN))
    made = [found for train in ordered[:SETS] if (found := _of_set(train, sets[train])) is not None]
    return made, max(len(ordered) - SETS, 0)


def _of_set(train: str, models: dict[str, list[Run]]) -> Multiples | None:
    names = in_order(models)
    curves: dict[str, list[Curve]] = {}
    for name in names[:MODELS]:
        runs = sorted(models[name], key=lambda run: run.record.repeat)[:REPEATS]
        found = [read(run.folder / "history.csv", run.record.repeat) for run in runs if run.folder is not None]
        if kept := [curve for curve in found if curve is not None]:
            curves[name] = kept
    drawn = [curve for found in curves.values() for curve in found]
    losses = [loss for curve in drawn for loss in (*curve.validation, *curve.training) if math.isfinite(loss)]
    if not losses:
        return None
    low, high = min(losses), max(losses)
    logarithmic = low > 0 and high / low > LOG_FROM
    pad = 1.1 if logarithmic else max(0.06 * (high - low), 1e-3)
    ends = (low / pad, high * pad) if logarithmic else (low - pad, high + pad)
    across = Axis.over((0, max(max(curve.steps) for curve in drawn)), (LEFT, WIDTH - RIGHT), most=4)
    up = Axis.over(ends, (HEIGHT - BOTTOM, TOP), most=4, logarithmic=logarithmic)
    return Multiples(
        train,
        across,
        up,
        tuple(_small(name, found, across, up) for name, found in curves.items()),
        left_out=max(len(names) - MODELS, 0),
        repeats_left_out=any(len(models[name]) > REPEATS for name in curves),
    )


def _small(name: str, curves: Sequence[Curve], across: Axis, up: Axis) -> Small:
    label, family = display(name)
    best = [(curve, curve.best) for curve in curves]
    return Small(
        key=name,
        label=label,
        family=family,
        validation=tuple(_line(curve, curve.validation, across, up) for curve in curves),
        training=tuple(_line(curve, curve.training, across, up) for curve in curves),
        best=tuple(
            (number(across.place(curve.steps[index])), number(up.place(curve.validation[index])))
            for curve, index in best
            if index is not None
        ),
        tip=f"{label}: " + "; ".join(_told(curve) for curve in curves),
    )


def _told(curve: Curve) -> str:
    if curve.best is None:
        return f"repeat {curve.repeat}: no validation loss"
    loss = curve.validation[curve.best]
    return f"repeat {curve.repeat}: lowest validation loss {loss:.4f} at step {curve.steps[curve.best]}"


def _line(curve: Curve, losses: Sequence[float], across: Axis, up: Axis) -> str:
    points = [
        (across.place(curve.steps[index]), up.place(losses[index])) for index in _thinned(len(losses), curve.best)
        if math.isfinite(losses[index])
    ]  # fmt: skip
    return path(points)


def _thinned(count: int, best: int | None) -> Iterator[int]:
    """Yield the places of so many points at most, both ends and the best among them, in order."""
    if count <= POINTS:
        yield from range(count)
        return
    kept = {round(step * (count - 1) / (POINTS - 1)) for step in range(POINTS)} | (
        {best} if best is not None else set()
    )
    yield from sorted(kept)


def ticks(axis: Axis) -> list[tuple[str, str]]:
    """Return place and text of an axis's ticks."""
    decimals = digits(axis.ticks)
    return [
        (number(axis.place(tick)), f"{tick:g}" if axis.logarithmic else f"{tick:.{decimals}f}") for tick in axis.ticks
    ]

"""Compares a repeated run with the record of its original, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark import metrics
from benchmark.records.packed_study import is_stored
from benchmark.records.run_record import Record
from benchmark.records.store import Store
from benchmark.report import diff
from benchmark.report.contradictions import ROUNDING
from benchmark.report.scores import read_scores
from benchmark.utils.errors import UserError


@dataclass(frozen=True)
class ChangedMetric:
    """One metric that is not what the record says; ``None`` where one side lacks it."""

    test: str
    reduction: metrics.Reduction
    name: str
    recorded: float | None
    now: float | None

    @property
    def rounding(self) -> bool:
        """Whether only the last bits differ."""
        if self.recorded is None or self.now is None:
            return False
        return math.isclose(self.recorded, self.now, rel_tol=ROUNDING)


@dataclass(frozen=True)
class Comparison:
    """Comparison of a repeated run with its record.

    Attributes:
        figures: metrics that differ.
        images: test dataset -> images with other counts; ``None`` where there are no counts beside the record.
        tested: test dataset -> all images.
        notes: what else differs, ``recorded | now``.
    """

    figures: Sequence[ChangedMetric]
    images: dict[str, int | None]
    tested: dict[str, int]
    notes: Sequence[str]

    @property
    def identical(self) -> bool:
        """Whether every metric is equal to the last bit.

        Where they agree but for rounding, equal counts of every image stand in for them: an older release may have
        summed these in another order.
        """
        counted = set(self.images.values()) == {0}
        agree = not self.figures or (counted and all(figure.rounding for figure in self.figures))
        return agree and not any(self.images.values())


def compare(recorded: Record, file: Path, study: Path, folder: Path) -> Comparison:
    """Compare the run in a study's folder with its record.

    Args:
        recorded: the record of the run that was repeated.
        file: the record's file, with the counts per image beside it.
        study: the folder of the record's study.
        folder: the study of the repeated run.

    Raises:
        UserError: it did not finish there, or counts cannot be read.
    """
    store = Store(folder)
    run_folder = store.run_folder(recorded.train, recorded.model, recorded.repeat)
    now = store.read_record(recorded.train, recorded.model, recorded.repeat)
    if now is None or now.status != "ok":
        raise UserError(f"{run_folder}: the repeated run did not finish")
    images: dict[str, int | None] = {}
    tested: dict[str, int] = {}
    for test in now.metrics:
        name = f"images.{test}.csv"
        counted = read_scores(run_folder / name)
        tested[test] = len(counted.images)
        images[test] = None
        if is_stored(counts := file.with_name(name)):
            before = read_scores(counts)
            shared = [column for column in before.columns if column in counted.columns]
            if before.images == counted.images:
                changed = [before.columns[column] != counted.columns[column] for column in shared]
                images[test] = int(np.any(changed, axis=0).sum())
            else:
                images[test] = len(set(before.images) ^ set(counted.images)) or tested[test]
    return Comparison(_changed_metrics(recorded, now), images, tested, _notes(recorded, study, now, folder))


def _changed_metrics(recorded: Record, now: Record) -> list[ChangedMetric]:
    changed: list[ChangedMetric] = []
    for test in recorded.metrics.keys() | now.metrics.keys():
        for reduction in metrics.REDUCTIONS:
            before, after = (side.metrics.get(test, {}).get(reduction, {}) for side in (recorded, now))
            pairs = {name: (before.get(name), after.get(name)) for name in (*before, *after)}
            changed += [
                ChangedMetric(test, reduction, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]
            ]
    return sorted(changed, key=lambda figure: (figure.test, figure.reduction))


def _notes(recorded: Record, study: Path, now: Record, folder: Path) -> list[str]:
    before, after = recorded.training, now.training
    notes = []
    if recorded.key_parts.model != now.key_parts.model:
        notes.append(f"the network's code: {recorded.key_parts.model} | {now.key_parts.model}")
    if before is not None and after is not None:
        pairs = {
            "split of the training datasets": (before.split, after.split),
            "optimiser steps": (before.steps, after.steps),
            "best validation loss": (before.best_validation_loss, after.best_validation_loss),
        }
        notes += [f"{name}: {old} | {new}" for name, (old, new) in pairs.items() if old != new]
    sides = diff.environment(study, recorded), diff.environment(folder, now)
    return notes + diff.environment_differences(*sides)

"""Finds records and counts of a study that do not belong together."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config.protocol import Protocol
from benchmark.config.targets import dataset_of
from benchmark.records.store import RECORD, Store

if TYPE_CHECKING:
    from benchmark.report.read import Run, StudyResults
    from benchmark.report.scores import Scores

#: Relative. Rounding in sums over thousands of images stays below it, and every digit that is printed above.
ROUNDING = 1e-12
#: The behaviour number of the harness from which what has nothing to judge has no value.
NOTHING_WITHOUT_VALUE = 3


def contradictions(folder: Path, study: StudyResults) -> list[str]:
    """Return one sentence per run and test dataset whose record tells other metrics than its counts per image give.

    Both were formed by :func:`benchmark.metrics.reduce`; of an older release's records the last bits may differ, since
    sums were rounded on the way, and metrics may be missing. They also gave a value to images without a counted pixel
    and to sets without a net or via; the report follows today's rule there, and does not call the record wrong.
    """
    wrong: list[str] = []
    for run in study.runs:
        record = run.record
        for test, scores in run.scores.items():
            old = record.key_parts.behaviour < NOTHING_WITHOUT_VALUE
            if old and scores.judged < len(scores.images):
                continue
            figures = (
                (reduction, name, recorded, scores.reduced[reduction].get(name, math.nan))
                for reduction, values in record.metrics[test].items()
                for name, recorded in values.items()
            )
            file = Store(folder).run_folder(record.train, record.model, record.repeat) / RECORD
            first = (
                f"{file}: does not agree with images.{test}.csv beside it: "
                f"{name} ({reduction}) is {recorded!r}, the counts give {real!r}"
                for reduction, name, recorded, real in figures
                if _contradict(recorded, real, old=old)
            )
            wrong += itertools.islice(first, 1)
    return wrong


def _contradict(recorded: float, counted: float, *, old: bool) -> bool:
    """Compare a metric with what its counts give; records of old releases have a 1 where today's have no value."""
    return not math.isclose(recorded, counted, rel_tol=ROUNDING) and not (old and recorded == 1 and math.isnan(counted))


def stranger(store: Store, protocol: Protocol, runs: Sequence[Run], dataset: str, scores: Scores) -> str:
    """Say why the scores of a method without training must not stand beside a study's runs; blank where they may."""
    tested = [run for run in runs if dataset in run.scores]
    reasons = []
    if any(_images(run.scores[dataset]) != _images(scores) for run in tested):
        reasons.append("tested on other images than the runs")
    fingerprints = store.read_split(dataset_of(dataset)).get("fingerprint", [])
    of_runs = {part for run in tested for part in re.split("[+>]", run.record.key_parts.data)}
    if tested and fingerprints and of_runs.isdisjoint(fingerprints):
        reasons.append("made from other content of the dataset than the runs")
    if (shared := store.shared(dataset_of(dataset))) is not None:
        if shared.protocol != protocol.digest():
            reasons.append("made under other settings than the study's protocol.toml")
        if tested and shared.behaviour not in {run.record.key_parts.behaviour for run in tested}:
            reasons.append("counted by another release's rules than the runs")
    return " and ".join(reasons)


def divided(study: StudyResults) -> Iterator[str]:
    """Yield a sentence for each test dataset of which a study's runs, or those of a fold, saw different images."""
    folds = study.protocol is not None and study.protocol.split.folds
    tests: dict[tuple[str, int], dict[frozenset[tuple[str, str]], str]] = {}
    for run in study.runs:
        for test, scores in run.scores.items():
            first = tests.setdefault((test, run.record.repeat if folds else 0), {})
            first.setdefault(_images(scores), run.record.label)
    for (test, _), first in tests.items():
        if len(first) > 1:
            yield f"{test}: {' and '.join(first.values())} were tested on different images"


def _images(scores: Scores) -> frozenset[tuple[str, str]]:
    return frozenset(zip(scores.images, scores.groups, strict=True))

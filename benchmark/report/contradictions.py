"""Finds records whose metrics differ from those of their counts per image."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from benchmark.records.store import RECORD, Store
from benchmark.report.read import StudyResults

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
    wrong = []
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

"""Stores which runs a study's last command asked for, and finds unfinished ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from benchmark.records import claims
from benchmark.records.run_record import Name, Record, TestName
from benchmark.records.schema import Filed
from benchmark.records.store import RECORD_BYTES, Store
from benchmark.utils.errors import UserError
from benchmark.utils.files import read_limited, write_atomically

#: A file that asks for more is damaged or forged, and listing its runs would fill the memory.
MOST_RUNS = 1_000_000


class AskedRuns(Filed):
    """All runs of a command: every network on every training set, ``repeats`` times."""

    datasets: tuple[tuple[tuple[Name, ...], tuple[TestName, ...]], ...] = Field(
        description="training datasets and tests"
    )
    models: tuple[Name, ...]
    repeats: int = Field(ge=1)
    ensembles: bool = Field(False, description="whether the mean of each network's repeats is tested too")

    @property
    def of_ensembles(self) -> frozenset[tuple[tuple[str, ...], str]]:
        """Training set and model of every ensemble that was asked for."""
        return frozenset((train, model) for train, _ in self.datasets * self.ensembles for model in self.models)

    @classmethod
    def read(cls, study: Path) -> AskedRuns | None:
        """Return what the last command of a study asked for, ``None`` if that is not known."""
        with contextlib.suppress(OSError, ValidationError, UserError):
            asked = cls.from_json(read_limited(asked_file(study), RECORD_BYTES))
            if asked.repeats * len(asked.datasets) * len(asked.models) <= MOST_RUNS:
                return asked
        return None

    def write(self, study: Path) -> None:
        """Replace the file."""
        write_atomically(asked_file(study), self.to_json())


def asked_file(study: Path) -> Path:
    """Return the file that says what the last command asked for."""
    return study / "asked.json"


@dataclass(frozen=True)
class UnfinishedRun:
    """A run without a result: a living process computes it, or no process has begun it."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    model: str
    repeat: int
    state: Literal["running", "not begun"]


def unfinished_runs(study: Path, records: Iterable[tuple[Path, Record]], known: Iterable[Path]) -> list[UnfinishedRun]:
    """Return the runs that are under way, then those that the last command asked for and nothing has begun.

    Args:
        study: the study's folder.
        records: folder and record of its runs.
        known: folders of other runs that were begun.
    """
    records = list(records)
    running = [
        UnfinishedRun(record.train, record.test, record.model, record.repeat, "running")
        for folder, record in records
        if is_running(folder, record)
    ]
    begun = {*known, *(folder for folder, _ in records)}
    return running + [run for folder, run in _asked(study) if folder not in begun]


def is_running(folder: Path, record: Record) -> bool:
    """Return whether a living process computes a run: its record says that it was interrupted, which is not so yet."""
    return record.status == "interrupted" and claims.holder(folder) is not None


def _asked(study: Path) -> Iterator[tuple[Path, UnfinishedRun]]:
    asked, store = AskedRuns.read(study), Store(study)
    for repeat in range(asked.repeats) if asked else ():
        for train, test in asked.datasets if asked else ():
            for model in asked.models if asked else ():
                folder = store.run_folder(train, model, repeat)
                yield folder, UnfinishedRun(train, test, model, repeat, "not begun")

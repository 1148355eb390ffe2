"""Defines the events that report the progress of jobs, and the executor's interface."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmark.runs.jobs import Job, Outcome


@dataclass(frozen=True)
class Started:
    """A job has begun."""

    job: Job


@dataclass(frozen=True)
class Step:
    """A run has done optimiser steps, or a later job tests."""

    job: Job
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A job has ended with its record (runs), with ``None`` (other jobs) or with a failure.

    If another process has the job, the executor reports :class:`~benchmark.runs.jobs.Elsewhere`; the study replaces it
    by the result of that process and sets ``elsewhere``.
    """

    job: Job
    outcome: Outcome
    seconds: float
    elsewhere: bool = False


@dataclass(frozen=True)
class Packing:
    """A dataset is being decoded or generated."""

    dataset: str
    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """A note for the user, mostly about a dataset, such as thresholded masks."""

    dataset: str
    text: str


Event = Packing | Note | Started | Step | Finished


class Executor(Protocol):
    """Runs jobs; closing the iterator stops them."""

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events in order until every job has finished."""
        ...

"""Events report what jobs do; an executor takes jobs and yields events."""

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
    """A run has taken optimiser steps, or been tested under so many stresses."""

    job: Job
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A job has ended: a run with its record, others with nothing, all with the reason of their failure.

    Any may also turn out to be another process's: first as :class:`~benchmark.runs.jobs.Elsewhere`, which stays between
    executor and study, then, with ``elsewhere``, as what that process left.
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
    """Something that a user should know, mostly about a dataset, such as masks that had to be thresholded."""

    dataset: str
    text: str


Event = Packing | Note | Started | Step | Finished


class Executor(Protocol):
    """Runs jobs somewhere; closing the iterator stops what is under way."""

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield what happens, in the order it happens, until every job has finished."""
        ...

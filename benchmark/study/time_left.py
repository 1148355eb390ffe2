"""Estimates a call's time left from the jobs done so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmark.executors.events import Event, Finished, Started, Step
from benchmark.records.run_record import Failure

#: Share of a run that its training takes; the test follows.
TRAINING_SHARE = 0.9
#: A pace is known after this share of a run.
PACE_SHARE = 0.05
#: The time left is a guess if more than this share of it rests on nothing that was timed.
GUESSED_SHARE = 0.33


@dataclass(frozen=True)
class ExpectedJob:
    """A job before its start. The estimates of a ``group`` err alike; ``timed`` if earlier calls measured the job."""

    seconds: float
    group: str
    exclusive: bool = False
    timed: bool = False


@dataclass(frozen=True)
class ExpectedWork:
    """All jobs of a call by label; ``other`` are the seconds of stress tests and report."""

    jobs: Mapping[str, ExpectedJob] = field(default_factory=dict)
    slots: int = 1
    other: float = 0.0


class TimeLeft:
    """Follows the events of a call. Done jobs correct the estimates of their group, else of their kind."""

    def __init__(self, work: ExpectedWork, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock."""
        self.work, self.clock, self.start = work, clock, clock()
        self._left = dict(work.jobs)
        self._started: dict[str, float] = {}
        self._steps: dict[str, tuple[float, float, float]] = {}  # time and share of the first step, share now
        # Seconds expected and taken of done jobs, by group and by kind (exclusive or not).
        self._done: dict[str | bool, tuple[float, float]] = {}

    def see(self, event: Event) -> None:
        """Take an event into account."""
        if isinstance(event, Started):
            self._started[event.job.label] = self.clock()
        elif isinstance(event, Step) and event.total:
            share = TRAINING_SHARE * event.done / event.total
            since, first, _ = self._steps.get(event.job.label, (self.clock(), share, share))
            self._steps[event.job.label] = since, first, share
        elif isinstance(event, Finished):
            self._end(event)

    def _end(self, event: Finished) -> None:
        job = self._left.pop(event.job.label, None)
        _, first, _ = self._steps.pop(event.job.label, (0.0, 0.0, 0.0))
        resumed = first > PACE_SHARE
        if job is None or resumed or event.elsewhere or isinstance(event.outcome, Failure):
            return
        for key in (job.group, job.exclusive):
            expected, taken = self._done.get(key, (0.0, 0.0))
            self._done[key] = expected + job.seconds, taken + event.seconds

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self.clock() - self.start

    def left(self) -> tuple[float, bool]:
        """Return the seconds left, and whether they are a guess."""
        alone, beside, guessed = 0.0, [0.0], 0.0
        for label, job in list(self._left.items()):
            seconds, certain = self._remaining(label, job)
            if job.exclusive:
                alone += seconds
            else:
                beside.append(seconds)
            guessed += 0.0 if certain else seconds
        left = alone + max(sum(beside) / self.work.slots, max(beside))
        return left + self.work.other, guessed > GUESSED_SHARE * (alone + sum(beside))

    def _remaining(self, label: str, job: ExpectedJob) -> tuple[float, bool]:
        expected, taken = self._done.get(job.group) or self._done.get(job.exclusive) or (1.0, 1.0)
        seconds, certain = job.seconds * taken / expected, job.timed or job.group in self._done
        since, first, share = self._steps.get(label, (0.0, 0.0, 0.0))
        if share - first > PACE_SHARE:
            return (self.clock() - since) / (share - first) * (1 - share), True
        if label in self._started:  # without a known pace, the last twentieth takes as long as it takes
            seconds = max(seconds - (self.clock() - self._started[label]), seconds / 20)
        return seconds, certain

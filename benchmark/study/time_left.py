"""Estimates a call's time left from the jobs done so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmark.executors.events import Event, Finished, Note, Packing, Started, Step
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import StressJob

#: Share of a run that its training takes; the test follows.
TRAINING_SHARE = 0.9
STRESS = "stress tests"  # label of their common pace
#: A pace is known after this share of a run.
PACE_SHARE = 0.05
#: Without a known pace, this share of the expected time stays left, however long the work takes.
LEAST_LEFT = 0.05
#: The time left is a guess if more than this share of it rests on nothing that was timed.
GUESSED_SHARE = 0.33


@dataclass(frozen=True)
class ExpectedJob:
    """A job before its start. The estimates of a ``group`` err alike; ``timed`` if earlier calls measured the job."""

    seconds: float
    group: str
    exclusive: bool = False
    timed: bool = False
    may_stop_early: bool = False  # no pace tells the length of a training that its validation loss may end


@dataclass(frozen=True)
class ExpectedStress:
    """The stress tests after all runs: seconds of drawing their images; number and seconds of tests by network."""

    drawing: float = 0.0
    tests: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of drawing and testing."""
        return self.drawing + sum(count * each for count, each in self.tests.values())


@dataclass(frozen=True)
class ExpectedWork:
    """All jobs of a call by label, its stress tests and its report; ``timed`` if a report was timed before."""

    jobs: Mapping[str, ExpectedJob] = field(default_factory=dict)
    slots: int = 1
    stress: ExpectedStress = field(default_factory=ExpectedStress)
    report: float = 0.0
    report_timed: bool = False


class _Pace(NamedTuple):
    """The first step of a job or dataset, and its progress since."""

    since: float
    first: float
    share: float

    def left(self, now: float) -> float:
        """Return the seconds left at this pace, which needs progress since the first step."""
        return (now - self.since) / (self.share - self.first) * (1 - self.share)


class TimeLeft:
    """Follows the events of a call. Done jobs correct the estimates of their group, else of their kind."""

    def __init__(self, work: ExpectedWork, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock."""
        self.work, self.clock, self.start = work, clock, clock()
        self._left = dict(work.jobs)
        self._started: dict[str, float] = {}
        self._paces: dict[str, _Pace] = {}
        self._built: dict[str, _Pace] = {}  # of datasets
        # Seconds expected and taken of done jobs, by group and by kind (exclusive or not).
        self._done: dict[str | bool, tuple[float, float]] = {}
        self._drawing: float | None = None  # start of drawing the images of stress tests
        self._testing: float | None = None  # start of the first stress test
        self._tested: dict[str, float] = {}  # expected seconds of the stress tests that are done, by job

    def see(self, event: Event) -> None:
        """Take an event into account."""
        now = self.clock()
        if isinstance(event, Packing):
            _step(self._built, event.dataset, event.done / event.total, now)
            if not self._left and self._drawing is None:
                self._drawing = now
        elif isinstance(event, Note):
            pass
        elif isinstance(event.job, StressJob):
            self._test(event, event.job, now)
        elif isinstance(event, Started):
            self._started[event.job.label] = now
        elif isinstance(event, Step) and event.total:
            _step(self._paces, event.job.label, TRAINING_SHARE * event.done / event.total, now)
        elif isinstance(event, Finished):
            self._end(event)

    def _test(self, event: Started | Step | Finished, job: StressJob, now: float) -> None:
        self._testing = now if self._testing is None else self._testing
        if isinstance(event, Started):
            return
        self._tested[job.label] = self._each(job.entry.name) * (
            event.done if isinstance(event, Step) else len(job.tests)
        )
        if whole := self._seconds_of_tests():
            _step(self._paces, STRESS, min(sum(self._tested.values()) / whole, 1.0), now)

    def _each(self, network: str) -> float:
        """Return the expected seconds of a stress test; trainings tell how the estimates of a network err."""
        _, seconds = self.work.stress.tests.get(network, (0, 0.0))
        return seconds * self._correction(network, False)

    def _seconds_of_tests(self) -> float:
        return sum(count * self._each(network) for network, (count, _) in self.work.stress.tests.items())

    def _end(self, event: Finished) -> None:
        job = self._left.pop(event.job.label, None)
        _, first, _ = self._paces.pop(event.job.label, (0.0, 0.0, 0.0))
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
        now = self.clock()
        alone, beside, guessed = 0.0, [0.0], 0.0
        for label, job in list(self._left.items()):
            seconds, certain = self._remaining(label, job, now)
            if job.exclusive:
                alone += seconds
            else:
                beside.append(seconds)
            guessed += 0.0 if certain else seconds
        after = [self._stress(now), (self.work.report, self.work.report_timed)]
        guessed += sum(seconds for seconds, certain in after if not certain)
        building = sum(pace.left(now) for pace in list(self._built.values()) if pace.first < pace.share)
        rest = building + alone + sum(seconds for seconds, _ in after)
        left = rest + max(sum(beside) / self.work.slots, max(beside))
        return left, guessed > GUESSED_SHARE * (rest + sum(beside))

    def _correction(self, *keys: str | bool) -> float:
        expected, taken = next((self._done[key] for key in keys if key in self._done), (1.0, 1.0))
        return taken / expected

    def _remaining(self, label: str, job: ExpectedJob, now: float) -> tuple[float, bool]:
        pace = self._paces.get(label)
        if pace is not None and pace.share - pace.first > PACE_SHARE:
            return pace.left(now), not job.may_stop_early
        seconds = job.seconds * self._correction(job.group, job.exclusive)
        certain = not job.may_stop_early and (job.timed or job.group in self._done)
        return _less(seconds, self._started.get(label), now), certain

    def _stress(self, now: float) -> tuple[float, bool]:
        pace = self._paces.get(STRESS)
        if pace is not None and pace.share - pace.first > PACE_SHARE:
            return pace.left(now), True
        testing = _less(self._seconds_of_tests(), self._testing, now)
        drawing = 0.0 if self._testing is not None else _less(self.work.stress.drawing, self._drawing, now)
        return drawing + testing, False


def _step(paces: dict[str, _Pace], label: str, share: float, now: float) -> None:
    since, first, _ = paces.get(label, (now, share, share))
    paces[label] = _Pace(since, first, share)


def _less(seconds: float, since: float | None, now: float) -> float:
    """Return the seconds of a work that are left, if it has begun; without a pace, some stay left to its end."""
    return seconds if since is None else max(seconds - (now - since), LEAST_LEFT * seconds)

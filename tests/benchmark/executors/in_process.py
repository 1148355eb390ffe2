"""An executor without processes: the executors' protocol in its shortest form."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from benchmark.executors.events import Event, Finished, Started, Step
from benchmark.runs.failures import describe_failure
from benchmark.runs.jobs import Job, OnStep, Outcome
from benchmark.runs.perform import Perform, perform_job


class InProcessExecutor:
    """Does one job after another in this process.

    Every job begins with one ``Started``, may report any number of ``Step``, and ends with one ``Finished`` that holds
    its outcome: a failure is an outcome too, and the next job follows. Exclusive jobs come first. A caller that closes
    the iterator cancels: no further job begins, and a job without ``Finished`` counts as interrupted.
    """

    def __init__(self, perform: Perform = perform_job, *, measures: bool = False) -> None:
        """Keep the function that does a job; without ``measures``, measurements end at once and without figures."""
        self.perform, self.measures = perform, measures

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        for job in sorted(jobs, key=lambda job: not job.exclusive):
            started = time.perf_counter()
            yield Started(job)
            steps: list[tuple[int, int]] = []
            outcome = None
            if self.measures or not job.exclusive:
                outcome = self.perform(job, lambda *step, steps=steps: steps.append(step))
            yield from (Step(job, *step) for step in steps)
            yield Finished(job, outcome, time.perf_counter() - started)


class NoSlots(InProcessExecutor):
    """Takes the place of local slots under a command line, and measures too."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take the arguments of local slots and need none."""
        super().__init__(_as_a_worker, measures=True)


class NoWorker:
    """Takes the place of a worker process that is started ahead."""

    def __init__(self, **_: object) -> None:
        """Take the arguments of a worker and need none."""

    def end(self) -> None:
        pass


def _as_a_worker(job: Job, on_step: OnStep) -> Outcome:
    try:
        return perform_job(job, on_step)
    except Exception as error:
        return describe_failure(error, entry=job.entry)


def outcomes(events: Iterable[Event]) -> dict[str, Any]:
    """Return the outcome of every job that has finished, by its label."""
    return {event.job.label: event.outcome for event in events if isinstance(event, Finished)}

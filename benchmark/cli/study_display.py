"""Shows the events of a working study."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.text import Text

from benchmark.cli.progress import ProgressDisplay, duration
from benchmark.executors.events import Event, Finished, Note, Packing, Started, Step
from benchmark.records.history import read_rounds
from benchmark.records.run_record import BOUNDED, BOUNDED_MEANS, Failure, Record
from benchmark.runs.jobs import EfficiencyJob, Job, TrainJob
from benchmark.study.plan import Plan
from benchmark.study.time_left import TimeLeft
from benchmark.utils.words import counted

PACKING_LINE_S = 10.0  # between two lines about a dataset that is being built
ROUND_LINE_S = 30.0  # between two lines about validation rounds, without a terminal


class StudyDisplay(ProgressDisplay):
    """Shows events: a bar for the study and each of its jobs, a line for each job that ended.

    Without a terminal, lines tell validation rounds too.
    """

    def __init__(self, console: Console, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, PACKING_LINE_S, clock)
        self.finished, self.total = 0, len(plan.todo)
        self.failures: list[tuple[Job, Failure]] = []
        self.time_left = TimeLeft(plan.expected, clock)
        self.rounds: dict[str, int] = {}  # the last round of each run that a line told
        self.round_at = clock()

    def __enter__(self) -> Self:
        self.begin("study", self.total, self.progress)
        return super().__enter__()

    def progress(self) -> str:
        """Return share done, time so far and time left of the whole call."""
        elapsed, (left, guess) = self.time_left.elapsed(), self.time_left.left()
        share = elapsed / (elapsed + left) if elapsed + left else 1.0
        return f"{share:.0%}, {duration(elapsed)} so far, about {duration(left)} left{' (a guess)' * guess}"

    def show(self, event: Event) -> None:
        """Show one event."""
        self.time_left.see(event)
        if isinstance(event, Packing):
            label = f"building {event.dataset}"
            self.update(label, event.done, event.total, "images")
            if event.done == event.total:
                self.end(label)
                if self.bars.disable:
                    self.print(f"{label}: {event.done}/{counted(event.total, 'image')}")
        elif isinstance(event, Note):
            self.print(f"{event.dataset}: {event.text}" if event.dataset else event.text)
        elif isinstance(event, Started):
            self.begin(event.job.label)
        elif isinstance(event, Step):
            self.update(event.job.label, event.done, event.total)
            if self.bars.disable and isinstance(event.job, TrainJob):
                self._round(event.job, event)
        else:
            self._finished(event)

    def _round(self, job: TrainJob, step: Step) -> None:
        if self.clock() - self.round_at < ROUND_LINE_S:
            return
        self.round_at = self.clock()  # also without a new round: the file is read now and then
        rounds = read_rounds(job.folder)
        if rounds and rounds[-1].round > self.rounds.get(job.label, 0):
            self.rounds[job.label] = rounds[-1].round
            loss = rounds[-1].validation_loss
            text = f"training loss {rounds[-1].train_loss:.4f}" if loss is None else f"validation loss {loss:.4f}"
            steps = f"round {rounds[-1].round}, step {step.done}/{step.total}"
            self.print(f"{job.label}: {steps}, {text}; study {self.progress()}")

    def _finished(self, event: Finished) -> None:
        job, outcome = event.job, event.outcome
        self.end(job.label)
        text = Text()
        if isinstance(job, TrainJob):
            self.finished += 1
            if "study" in self.rows:
                self.bars.update(self.rows["study"], completed=self.finished)
            text.append(f"[{self.finished:>{len(str(self.total))}}/{self.total}] ")
        text.append(f"{job.label}: ")
        if isinstance(outcome, Failure):
            self.failures.append((job, outcome))
            text.append("failed", "red").append(f" ({outcome.kind})")
        elif isinstance(outcome, Record):
            means = {test: by["image"]["miou"] for test, by in outcome.metrics.items() if "miou" in by["image"]}
            named = len(outcome.metrics) > 1
            text.append(
                ", ".join(["ok", *(f"{f'{test} ' * named}mIoU {100 * mean:.1f} %" for test, mean in means.items())])
            )
        else:
            text.append(job.outcome() if isinstance(job, EfficiencyJob) else "tested")
        text.append(f", {'by another process' if event.elsewhere else duration(event.seconds)}")
        self.print(text.append(f"; {self.progress()}"))
        if isinstance(outcome, Failure):
            self.print(f"    {outcome.message}")
        elif isinstance(outcome, Record) and outcome.environment.get(BOUNDED):
            self.print(f"    warning: {BOUNDED_MEANS}")

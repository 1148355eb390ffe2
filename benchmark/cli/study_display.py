"""Shows the events of a working study."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.text import Text

from benchmark.cli.progress import ProgressDisplay, duration
from benchmark.executors.events import Event, Finished, Note, Packing, Started, Step
from benchmark.records.run_record import BOUNDED, BOUNDED_MEANS, Failure, Record
from benchmark.runs.jobs import EfficiencyJob, Job, TrainJob
from benchmark.study.plan import Plan

PACKING_LINE_S = 10.0  # between two lines about a dataset that is being built


class StudyDisplay(ProgressDisplay):
    """Shows events: a bar for the study and each of its jobs, a line for each job that ended."""

    def __init__(self, console: Console, plan: Plan) -> None:
        super().__init__(console, PACKING_LINE_S)
        self.finished, self.total = 0, len(plan.todo)
        self.failures: list[tuple[Job, Failure]] = []

    def __enter__(self) -> Self:
        self.begin("study", self.total)
        return super().__enter__()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Packing):
            label = f"building {event.dataset}"
            self.update(label, event.done, event.total, "images")
            if event.done == event.total:
                self.end(label)
                if self.bars.disable:
                    self.print(f"{label}: {event.done}/{event.total} images")
        elif isinstance(event, Note):
            self.print(f"{event.dataset}: {event.text}" if event.dataset else event.text)
        elif isinstance(event, Started):
            self.begin(event.job.label)
            if isinstance(event.job, TrainJob):
                self.update("study", self.finished, self.total)  # the first one starts the study's clock
        elif isinstance(event, Step):
            self.update(event.job.label, event.done, event.total)
        else:
            self._finished(event)

    def _finished(self, event: Finished) -> None:
        job, outcome = event.job, event.outcome
        self.end(job.label)
        text = Text()
        left = ""
        if isinstance(job, TrainJob):
            self.finished += 1
            left = self.update("study", self.finished, self.total)
            text.append(f"[{self.finished:>{len(str(self.total))}}/{self.total}] ")
        text.append(f"{job.label}: ")
        if isinstance(outcome, Failure):
            self.failures.append((job, outcome))
            text.append("failed", "red").append(f" ({outcome.kind})")
        elif isinstance(outcome, Record):
            text.append("ok" + "".join(f", mIoU {100 * by['image']['miou']:.1f} %" for by in outcome.metrics.values()))
        else:
            text.append(job.outcome() if isinstance(job, EfficiencyJob) else "tested")
        text.append(f", {'by another process' if event.elsewhere else duration(event.seconds)}")
        self.print(text.append(f"; {left}" if left else ""))
        if isinstance(outcome, Failure):
            self.print(f"    {outcome.message}")
        elif isinstance(outcome, Record) and outcome.environment.get(BOUNDED):
            self.print(f"    warning: {BOUNDED_MEANS}")

"""Shows a study's progress as a bar in a notebook or terminal."""

from __future__ import annotations

from typing import Self

from tqdm.auto import tqdm

from benchmark.executors.events import Event, Finished, Note, Step
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import TrainJob
from benchmark.study.plan import Plan
from benchmark.utils.words import counted

FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/TOTAL, {elapsed} so far, {remaining} left"


class StudyBar:
    """A bar over the runs of a plan, with a line for each failure; a context manager."""

    def __init__(self, plan: Plan, *, shown: bool = True) -> None:
        """Begin a bar, unless nothing is left to do or none is ``shown``."""
        self.shown = shown
        self.shares = dict.fromkeys((job.label for job in plan.todo), 0.0)
        hidden = not shown or not self.shares
        total = counted(len(self.shares), "run")
        self.bar = tqdm(total=len(self.shares), disable=hidden, bar_format=FORMAT.replace("TOTAL", total))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, event: Event) -> None:
        """Show one event."""
        if not self.shown:
            return
        if isinstance(event, Note):
            self.bar.write(f"{event.dataset}: {event.text}" if event.dataset else event.text)
        elif isinstance(event, Step | Finished) and isinstance(event.job, TrainJob):
            self.shares[event.job.label] = event.done / event.total if isinstance(event, Step) else 1.0
            self.bar.set_description_str(event.job.label, refresh=False)
            self.bar.n = round(sum(self.shares.values()), 2)
            self.bar.refresh()
        if isinstance(event, Finished) and isinstance(event.outcome, Failure):
            self.bar.write(f"{event.job.label}: failed ({event.outcome.kind}): {event.outcome.message}")

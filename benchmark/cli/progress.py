"""What a person sees while a study works: live bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from benchmark.data.datasets import Source
from benchmark.data.stressed import Stresses
from benchmark.executors.events import Event, Finished, Note, Packing, Started, Step
from benchmark.records.run_record import BOUNDED, BOUNDED_MEANS, Failure, Record
from benchmark.runs.jobs import EfficiencyJob, Job, TrainJob
from benchmark.study.plan import Plan
from benchmark.study.study import Study
from benchmark.study.time_estimate import Basis

if TYPE_CHECKING:
    from benchmark.report.tables.render import Block

BASES: dict[Basis, str] = {
    "runs": "from times of earlier runs on this machine",
    "latencies": "from latencies measured on this machine",
    "macs": "a guess from MACs: not yet measured on this machine",
}
PACKING_LINE_S = 10.0  # between two plain lines about a dataset that is being built


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``45 s``, ``12 min``, ``3 h 20 min``, ``5 days``, ``3 weeks``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    days = minutes / 1440
    return f"{days:.0f} days" if days < 14 else f"{days / 7:.0f} weeks"


def print_plan(console: Console, study: Study, plan: Plan) -> None:
    """Print what will run, what is done, which datasets are stand-ins and how long it will take."""
    protocol, hardware = study.protocol, study.hardware
    console.print(
        f"[bold]Study {study.folder.name}[/]: protocol {protocol.name}, {len(study.models)} model(s) x "
        f"{len(study.tasks)} training set(s) x {protocol.repeats} repeat(s) = {plan.runs} runs on {hardware.device}"
        + (f" with {hardware.threads} thread(s)" if hardware.kind == "cpu" else "")
        + (f", {hardware.workers} at a time" if hardware.workers > 1 else "")
    )
    table = Table(box=None, pad_edge=False, show_edge=False)
    crossed = any(task.train_names != task.test_names for task in study.tasks)
    for heading in ("trained on", "tested on", "source") if crossed else ("dataset", "source"):
        table.add_column(heading)
    for heading in ("input", "done", "to do", "failed"):
        table.add_column(heading, justify="right")
    for task in study.tasks:
        size = task.input_size(protocol)
        table.add_row(
            task.name,
            *([", ".join(task.test_names)] if crossed else []),
            "; ".join(map(_described, task.train)),
            f"{size}x{size}",
            *(
                str(sum(names == task.train_names for names in of_runs))
                for of_runs in (
                    [record.train for record in plan.done],
                    [job.task.train_names for job in plan.todo],
                    [record.train for record in plan.failed],
                )
            ),
        )
    console.print(table)
    for record in plan.failed:
        assert record.failure is not None
        console.print(
            f"failed earlier: {'+'.join(record.train)} {record.model} repeat {record.repeat} "
            f"({record.failure.kind}: {record.failure.message}); run again with --retry-failed",
            markup=False,
        )
    if plan.stale and not plan.refusal:
        console.print(
            f"{len(plan.stale)} run(s) made under other settings are set aside in {study.folder / 'runs' / '.stale'}"
        )
    if study.start:
        sets = sorted({"+".join(job.init.facts.train) for job in plan.todo if job.init})
        trained = f", trained on {' or '.join(sets)}" if sets else ""
        console.print(f"Runs start from the weights of study {study.start.store.folder.name}{trained}", highlight=False)
    for broken in plan.broken:
        again = any(job.folder == broken.folder for job in plan.todo)
        what = f"set aside in {study.folder / 'runs' / '.stale'} and done again" if again else "left as it is"
        console.print(f"broken record: {broken.reason}; the run is {what}", markup=False, highlight=False)
    standins = [source for source in study.sources if source.synthetic]
    if standins:
        names = ", ".join(f"{source.name} (no {source.base} folder)" for source in standins)
        console.print(f"Synthetic, not real data: {names}. Bring real data as <data-root>/<name>/image and label.")
    if study.stress:
        console.print(_stress(study.stress, plan), markup=False, highlight=False)
    if plan.taken_over:
        studies, left = ", ".join(dict.fromkeys(plan.taken_over)), len(plan.measurements) - len(plan.taken_over)
        console.print(
            f"Efficiency: {left} to measure, {len(plan.taken_over)} taken over from {studies}: the same network "
            "in the same setting, on this machine since it was started",
            markup=False,
            highlight=False,
        )
    if plan.todo or plan.measurements or plan.stress:
        console.print(f"Estimated time: at most {duration(plan.seconds)} ({BASES[plan.basis]})")


def _stress(stress: Stresses, plan: Plan) -> str:
    strengths = ", ".join(f"{strength:g}" for strength in stress.strengths)
    left = sum(len(one.job.tests) for one in plan.stress)
    return (
        f"Stress tests: as drawn, and {', '.join(stress.effects)} at {strengths} times the hardest that is drawn; "
        + (f"{left} to do for {len(plan.stress)} network(s)" if left else "all done")
    )


def _described(source: Source) -> str:
    if source.synthetic:
        return f"synthetic stand-in, {source.count} images"
    return f"{len(source.pairs)} image/label pairs"


class Display:
    """Shows events; a context manager, so that a live display is always closed."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self.console, self.plan = console, plan
        self.started = time.perf_counter()
        self.finished = 0
        self.total = len(plan.todo)
        self.training_since: float | None = None
        self.failures: list[tuple[Job, Failure]] = []
        self.live = console.is_terminal
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self.live,
            transient=True,
        )
        self.rows: dict[str, TaskID] = {}
        self.last_packing_line = 0.0

    def __enter__(self) -> Display:
        """Start the live display."""
        self.bars.start()
        self.study_row = self.bars.add_task("study", total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the live display, whatever happened."""
        self.bars.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Packing):
            self._packing(event)
        elif isinstance(event, Note):
            about = f"{event.dataset}: " if event.dataset else ""
            self.console.print(f"{about}{event.text}", markup=False, highlight=False)
        elif isinstance(event, Started):
            self._row(event.job.label, None)
            if isinstance(event.job, TrainJob) and self.training_since is None:
                self.training_since = time.perf_counter()
        elif isinstance(event, Step):
            self.bars.update(self._row(event.job.label, event.total), completed=event.done, total=event.total)
        else:
            self._finished(event)

    def _packing(self, event: Packing) -> None:
        row = self._row(f"building {event.dataset}", event.total)
        self.bars.update(row, completed=event.done)
        now = time.perf_counter()
        if not self.live and (event.done == event.total or now - self.last_packing_line > PACKING_LINE_S):
            self.last_packing_line = now
            self.console.print(f"building {event.dataset}: {event.done}/{event.total} images")
        if event.done == event.total:
            self._drop(f"building {event.dataset}")

    def _finished(self, event: Finished) -> None:
        self._drop(event.job.label)
        outcome = event.outcome
        if isinstance(outcome, Failure):
            self.failures.append((event.job, outcome))
            text = f"[red]failed[/] ({outcome.kind})"
        elif isinstance(outcome, Record):
            text = "ok" + "".join(f", mIoU {100 * by['image']['miou']:.1f} %" for by in outcome.metrics.values())
        else:
            text = event.job.outcome() if isinstance(event.job, EfficiencyJob) else "tested"
        place = ""
        if isinstance(event.job, TrainJob):
            self.finished += 1
            place = f"[{self.finished:>{len(str(self.total))}}/{self.total}] "
            self.bars.update(self.study_row, completed=self.finished, note=self._left())
        took = "by another process" if event.elsewhere else duration(event.seconds)
        left = f"; {self._left()}" if place and self._left() else ""
        self.console.print(
            f"{place.replace('[', chr(92) + '[')}{event.job.label}: {text}, {took}{left}",
            highlight=False,
        )
        if isinstance(outcome, Failure):
            self.console.print(f"    {outcome.message}", markup=False, highlight=False)
        elif isinstance(outcome, Record) and outcome.environment.get(BOUNDED):
            self.console.print(f"    warning: {BOUNDED_MEANS}", markup=False, highlight=False)

    def _left(self) -> str:
        """Scale the plan's estimate by how long the finished runs really took."""
        if self.training_since is None or not self.finished or self.finished == self.total:
            return ""
        elapsed = time.perf_counter() - self.training_since
        return f"about {duration(elapsed / self.finished * (self.total - self.finished))} left"

    def _row(self, label: str, total: int | None) -> TaskID:
        if label not in self.rows:
            self.rows[label] = self.bars.add_task(label, total=total, note="")
        return self.rows[label]

    def _drop(self, label: str) -> None:
        if label in self.rows:
            self.bars.remove_task(self.rows.pop(label))


def print_failures(console: Console, failures: Sequence[tuple[Job, Failure]]) -> None:
    """List what failed, once more, at the end."""
    if failures:
        console.print(f"[red bold]{len(failures)} failed[/]; run them again with --retry-failed")
        for job, failure in failures:
            console.print(f"  {job.label}: {failure.kind}: {failure.message}", markup=False, highlight=False)


def print_summary(console: Console, folder: Path) -> None:
    """Print the main columns of a study's tables."""
    from benchmark.report.read import read_study
    from benchmark.report.tables import accuracy_table as tables
    from benchmark.report.tables import efficiency_table
    from benchmark.report.tables import profile_table as profile
    from benchmark.report.tables import roofline_table as roofline
    from benchmark.report.tables.render import HINDERED, remarks_of

    study = read_study(folder)
    for block in tables.scores(study, tables.ACCURACY).blocks:
        console.print(_rich_table(block, ("miou", "dice", "aji", "fg_iou")))
        console.print(" ".join(block.conventions[:2]), style="dim", highlight=False)
    if not study.runs:
        overview = profile.overview(study).blocks
        shares = {row.key: row.cells for block in roofline.table(study).blocks for row in block.rows}
        # Of several settings a terminal is wide enough for the latencies only.
        keys = ("params", "latency_p50_ms", *(() if overview else ("macs", "fps", "forward_peak_bytes", "limit_share")))
        for block in overview or efficiency_table.efficiency(study).blocks:
            if shares and not overview:  # a single setting, so that every model has one share
                rows = tuple(replace(row, cells={**row.cells, **shares.get(row.key, {})}) for row in block.rows)
                block = replace(block, columns=(*block.columns, roofline.SHARE), rows=rows)
            console.print(_rich_table(block, keys))
            for said in block.conventions:
                if said.startswith(HINDERED):
                    console.print(said, style="dim", highlight=False)
                    console.print("\n".join(remarks_of(block)), style="dim", markup=False, highlight=False)


def _rich_table(block: Block, keys: Sequence[str]) -> Table:
    """Return some columns of a report table for the terminal, best bold and second underlined."""
    from benchmark.report.tables.render import own_n_of

    columns = [column for column in block.columns if column.key.partition(".")[0] in keys]
    styles, marks = {"best": "bold", "second": "underline"}, block.marks()
    made = Table(title=block.title, title_justify="left", box=None, pad_edge=False)
    made.add_column("model")
    for column in columns:
        made.add_column(f"{column.group} {column.title} {column.bracketed_unit}".strip(), justify="right")
    for row in block.rows:
        texts = []
        for column in columns:
            cell = row.cells.get(column.key)
            spread = f" ± {column.text(cell.std)}" if cell and cell.std is not None else ""
            style = styles[mark] if (mark := marks.get((row.key, column.key))) else ""
            own_n = f" [{own}]" if cell and (own := own_n_of(block, row, column, cell)) else ""
            texts.append(Text(f"{column.text(cell.mean)}{cell.mark}{spread}{own_n}" if cell else "-", style=style))
        made.add_row(row.label, *texts)
    return made

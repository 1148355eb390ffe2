"""Prints lines and shows progress: bars on a terminal, lines anywhere else."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text


def open_console(**options: Any) -> Console:
    """Return a rich console that prints each line unchanged; colours come from ``rich.text.Text`` alone."""
    return Console(soft_wrap=True, markup=False, emoji=False, highlight=False, **options)


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


class _LeftColumn(ProgressColumn):
    """Shows the field ``left`` of a task; a function is asked anew at every refresh."""

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text(left() if callable(left) else left)


class ProgressDisplay:
    """Shows the progress of tasks: a bar each on a terminal, else a line every ``line_s`` seconds; a context manager.

    Example:
        >>> with ProgressDisplay(open_console()) as progress:
        ...     progress.update("scan.png", 40, 120, "tiles")
    """

    def __init__(self, console: Console, line_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.line_s, self.clock = console, line_s, clock
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _LeftColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.rows: dict[str, TaskID] = {}
        self.starts: dict[str, tuple[float, int]] = {}  # the time of the first update, and the steps done then
        self.printed_at = -math.inf

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def print(self, line: RenderableType) -> None:
        """Print a line above the bars."""
        self.console.print(line)
        self.printed_at = self.clock()

    def begin(self, label: str, total: int | None = None, left: str | Callable[[], str] = "") -> None:
        """Show a task before its first step; ``left`` says how long it takes, as text or function."""
        if label not in self.rows:
            self.rows[label] = self.bars.add_task(label, total=total, left=left)

    def update(self, label: str, done: int, total: int, unit: str = "") -> str:
        """Show a task's finished steps; return the time left at its pace, or nothing where the pace is unknown.

        Without a terminal, lines are printed only for tasks with a ``unit`` of their steps.
        """
        now = self.clock()
        start, first = self.starts.setdefault(label, (now, done))
        left = f"about {duration((now - start) / (done - first) * (total - done))} left" if first < done < total else ""
        self.begin(label)
        self.bars.update(self.rows[label], completed=done, total=total, left=left)
        if self.bars.disable and unit and done < total and now - self.printed_at >= self.line_s:
            self.print(f"{label}: {done}/{total} {unit}{left and f', {left}'}")
        return left

    def end(self, label: str) -> None:
        """Remove a task's bar."""
        self.starts.pop(label, None)
        if label in self.rows:
            self.bars.remove_task(self.rows.pop(label))


@contextlib.contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show one task on a terminal, nothing anywhere else; yield the function that takes steps done and all steps."""
    with ProgressDisplay(open_console(stderr=True)) as progress:
        progress.begin(label)

        def advance(done: int, total: int) -> None:
            progress.update(label, done, total)

        yield advance

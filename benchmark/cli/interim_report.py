"""Makes a study's page in the background whenever a group of runs is complete."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import psutil

from benchmark.utils.processes import SPAWN, end_with_parent

if TYPE_CHECKING:
    from benchmark.executors.events import Event
    from benchmark.runs.jobs import TrainJob

#: Linux gives it a fifteenth of a core that a run uses (weights 70 and 1024), and all of an idle one.
NICENESS = 12

Make = Callable[[Path], None]


class InterimReport:
    """Makes the page while runs go on; a context manager, whose end ends a build that is not complete.

    One repeat of one training set, of all networks, is a group. A build begins when a group is complete, unless an
    earlier one is at work, and pauses while an efficiency is measured.
    """

    def __init__(self, study: Path, jobs: Sequence[TrainJob], make: Make | None = None) -> None:
        """Count the runs of each group; ``make`` builds the page in another process, :func:`make_page` by default."""
        self.study, self.make = study, make or make_page
        self.left = Counter((job.task.name, job.repeat) for job in jobs)
        self._builder: SpawnProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the build, which may be paused."""
        if self._builder is not None:
            self._builder.kill()
            self._builder.join()

    def show(self, event: Event) -> None:
        """Begin, pause or continue a build."""
        from benchmark.executors.events import Finished, Started  # not above: builders import this module
        from benchmark.runs.jobs import EfficiencyJob, TrainJob

        if isinstance(event, Started) and isinstance(event.job, EfficiencyJob):
            self._signal("suspend")
        elif isinstance(event, Finished) and isinstance(event.job, EfficiencyJob):
            self._signal("resume")
        elif isinstance(event, Finished) and isinstance(event.job, TrainJob):
            group = event.job.task.name, event.job.repeat
            self.left[group] -= 1
            others = sum(count for count in self.left.values() if count > 0)
            if self.left[group] == 0 and others and not self.is_building():
                self._begin()

    def is_building(self) -> bool:
        """Return whether a build is at work or paused."""
        return self._builder is not None and self._builder.is_alive()

    def _begin(self) -> None:
        builder = SPAWN.Process(target=_build, args=(self.study, self.make))
        with contextlib.suppress(OSError):  # too many processes: a run needs them more
            builder.start()
            self._builder = builder

    def _signal(self, action: Literal["suspend", "resume"]) -> None:
        if self._builder is not None and self.is_building():  # the number of an ended process may be another's
            with contextlib.suppress(psutil.Error):  # it has ended
                getattr(psutil.Process(self._builder.pid), action)()


def make_page(study: Path) -> None:
    """Make the page alone: files of plots take most of a build."""
    from benchmark.report.build import build

    build(study, page_only=True)


def _build(study: Path, make: Make) -> None:
    """Make a page in this process of low priority, which says nothing and ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent acts on Ctrl-C
    end_with_parent()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if sys.platform == "win32":
        psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
    else:
        os.nice(NICENESS)
    with contextlib.suppress(Exception):  # the study's last report says what is wrong
        make(study)

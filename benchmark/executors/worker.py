"""Worker processes of this machine: each does one job after another, until it is ended or its parent is gone."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from benchmark.utils import telemetry
from benchmark.utils.processes import SPAWN, end_with_parent

if TYPE_CHECKING:
    from benchmark.runs.jobs import Job, Outcome
    from benchmark.runs.perform import Perform

STEP_INTERVAL_S = 0.2  # between two progress messages


class Worker:
    """A spawned process.

    Attributes:
        process: of the operating system.
        pipe: jobs go in; out come (steps done, steps in all) and, once per job, its outcome.
    """

    def __init__(self, *, ahead: bool = False, perform: Perform | None = None) -> None:
        """Start the process in the current folder.

        Args:
            perform: does a job; :func:`benchmark.runs.perform.perform` by default.
            ahead: whether its first job is still to be found out: meanwhile it imports what every job needs, torch
                above all.
        """
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, ahead, perform))
        self.process.start()
        theirs.close()
        self._folder = os.getcwd()
        self._variables: Mapping[str, str] | None = None  # known with the first job

    def suits(self, variables: Mapping[str, str]) -> bool:
        """Tell whether it lives, in the current folder, and has done no job without these environment variables."""
        same = self._folder == os.getcwd() and self._variables in (None, variables)
        return same and self.process.is_alive()

    def give(self, job: Job, variables: Mapping[str, str]) -> None:
        """Let it do a job, with environment variables that it does not have yet; those that it has stay.

        Empty ones, which hide the GPUs, replace what it has.
        """
        self._variables = variables
        with contextlib.suppress(BrokenPipeError):  # one that died at its start is noticed when it is read from
            self.pipe.send((dict(variables), job))

    def end(self, *, busy: bool = False) -> None:
        """End it: gently where it waits for a job after others, else by a signal."""
        self.pipe.close()
        if busy or self._variables is None:
            self.process.kill()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _import_ahead() -> None:
    """Import what runs need, without looking for garbage among all that modules make: it takes a tenth longer.

    Later searches leave them out too, since modules stay.
    """
    gc.disable()
    with contextlib.suppress(Exception):  # the job will meet the same error, and say so in its log and record
        import benchmark.runs.train  # noqa: F401  # with torch
    gc.freeze()
    gc.enable()


def _serve(pipe: Connection, ahead: bool, perform: Perform | None) -> None:
    """Do jobs until the parent closes the pipe or is gone."""
    # Ctrl-C reaches the whole process group, as do a cluster's warnings; the parent decides what they mean.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.stderr is not None:
        faulthandler.enable()  # a crash leaves the stack in the run's log
    end_with_parent()
    telemetry.switch_off()
    if ahead:
        _import_ahead()
    if perform is None:
        from benchmark.runs import perform as runs  # not above: the parent starts a process before it imports much

        perform = runs.perform
    _do_jobs(pipe, perform)


def _do_jobs(pipe: Connection, perform: Perform) -> None:
    last = 0.0

    def on_step(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= STEP_INTERVAL_S:
            last = now
            pipe.send((done, total))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            variables, job = pipe.recv()
            for name, value in variables.items():
                if not value or name not in os.environ:
                    os.environ[name] = value
            try:
                result: Outcome = perform(job, on_step)
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception as error:
                from benchmark.runs.failures import describe_failure  # with torch, which the job has imported by now

                result = describe_failure(error, entry=job.entry)
            _let_go()
            pipe.send(result)


def _let_go() -> None:
    """Give back what a job, also one that failed, has left: a neighbour on the GPU cannot use what torch keeps free."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # of a broken context; the parent replaces this process
            torch.cuda.empty_cache()

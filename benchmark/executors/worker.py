"""Starts worker processes on this machine; each does one job after another."""

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
    """A spawned process, which ends with its parent.

    Attributes:
        pipe: takes jobs; returns (steps done, steps in all) and, once per job, its outcome.
    """

    def __init__(self, *, ahead: bool = False, perform: Perform | None = None) -> None:
        """Start the process in the current folder.

        Args:
            ahead: import torch and other modules of all jobs at once, before the first job is known.
            perform: does a job; :func:`benchmark.runs.perform.perform_job` by default.
        """
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, ahead, perform))
        self.process.start()
        theirs.close()
        self._folder = os.getcwd()
        self._variables: Mapping[str, str] | None = None  # known with the first job

    def suits(self, variables: Mapping[str, str]) -> bool:
        """Return whether the process is alive, in the current folder, and has these environment variables or no job."""
        fits = self._folder == os.getcwd() and self._variables in (None, variables)
        return fits and self.process.is_alive()

    def give(self, job: Job, variables: Mapping[str, str]) -> None:
        """Send a job with environment variables; the process keeps its own values, except those that become empty.

        Empty values hide the GPUs.
        """
        self._variables = variables
        with contextlib.suppress(BrokenPipeError):  # a process that died at its start is noticed at the next read
            self.pipe.send((dict(variables), job))

    def end(self, *, busy: bool = False) -> None:
        """End the process: by closing the pipe if it waits after a job, else by a signal."""
        self.pipe.close()
        if busy or self._variables is None:
            self.process.kill()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _import_ahead() -> None:
    """Import the modules of runs, without garbage collection, which would take a tenth longer.

    Later collections skip these objects too, since modules stay.
    """
    gc.disable()
    with contextlib.suppress(Exception):  # the job meets the same error and reports it in its log and record
        import benchmark.runs.train  # noqa: F401  # imports torch
    gc.freeze()
    gc.enable()


def _serve(pipe: Connection, ahead: bool, perform: Perform | None) -> None:
    """Do jobs in this process, which ends with its parent."""
    # Ctrl-C and the warnings of a cluster reach the whole process group; the parent acts on them.
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
        from benchmark.runs.perform import perform_job  # not above: the parent starts a process before its own imports

        perform = perform_job
    do_jobs(pipe, perform)


def do_jobs(pipe: Connection, perform: Perform) -> None:
    """Do jobs until the parent closes the pipe."""
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
                from benchmark.runs.failures import describe_failure  # imports torch, as the job has

                result = describe_failure(error, entry=job.entry)
            _release_memory()
            pipe.send(result)


def _release_memory() -> None:
    """Free the memory of a job, which torch would keep from other processes on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # of a broken context; the parent replaces this process
            torch.cuda.empty_cache()

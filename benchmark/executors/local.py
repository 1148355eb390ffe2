"""Local slots: worker processes that each do one job after another, replaced when they die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from benchmark.executors import Event, Finished, Started, Step
from benchmark.jobs import Job
from benchmark.processes import end_with_parent
from benchmark.records import Failure, Record

STEP_INTERVAL_S = 0.2  # between two progress messages of a worker
LOG_LINES = 20


@dataclass
class _Slot:
    """A worker process, the pipe to it, and what it is doing."""

    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    since: float = 0.0


class LocalExecutor:
    """Runs jobs in ``workers`` spawned processes of this machine.

    A process serves many jobs, because importing torch takes longer than a small run. One that dies (a signal, the
    kernel's out-of-memory killer) is a typed failure of its job and is replaced.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events until every job has finished; closing the iterator ends the workers.

        Exclusive jobs come first, each with nothing beside it: a latency measured next to a training is none.
        """
        queue = deque(sorted(jobs, key=lambda job: not job.exclusive))
        variables = {name: value for job in jobs for name, value in job.variables.items()}
        slots: list[_Slot] = []
        try:
            while queue or any(slot.job for slot in slots):
                yield from self._feed(slots, queue, variables)
                for pipe in wait([slot.pipe for slot in slots if slot.job]):
                    slot = next(slot for slot in slots if slot.pipe is pipe)
                    event = _receive(slot)
                    if isinstance(event, Finished):
                        slot.job = None
                        if not slot.process.is_alive():
                            slots.remove(slot)
                    yield event
        finally:
            for slot in slots:
                _stop(slot)

    def _feed(self, slots: list[_Slot], queue: deque[Job], variables: dict[str, str]) -> Iterator[Event]:
        """Give jobs to idle slots, starting processes as they are needed."""
        while queue:
            busy = [slot.job for slot in slots if slot.job]
            if len(busy) == self.workers or (busy and (queue[0].exclusive or busy[0].exclusive)):
                return
            slot = next((slot for slot in slots if slot.job is None), None)
            if slot is None:
                slot = _start(variables)
                slots.append(slot)
            slot.job, slot.since = queue.popleft(), time.perf_counter()
            with contextlib.suppress(
                BrokenPipeError
            ):  # a worker that died at its start is noticed when it is read from
                slot.pipe.send(slot.job)
            yield Started(slot.job)


def _start(variables: dict[str, str]) -> _Slot:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, variables))
    process.start()
    theirs.close()
    return _Slot(process, ours)


def _stop(slot: _Slot) -> None:
    """End an idle worker by closing its pipe, a busy one by a signal."""
    slot.pipe.close()
    if slot.job is not None:
        slot.process.terminate()
    slot.process.join(timeout=10)
    if slot.process.is_alive():
        slot.process.kill()
        slot.process.join()


def _receive(slot: _Slot) -> Event:
    assert slot.job is not None
    try:
        message: tuple[int, int] | Record | Failure | None = slot.pipe.recv()
    except (EOFError, OSError):
        slot.process.join(timeout=10)
        return Finished(slot.job, _death(slot.process.exitcode), time.perf_counter() - slot.since)
    if isinstance(message, tuple):
        return Step(slot.job, *message)
    return Finished(slot.job, message, time.perf_counter() - slot.since)


def _death(exit_code: int | None) -> Failure:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = "; the kernel does this when memory runs out" if name == "SIGKILL" else ""
        return Failure(kind="worker_died", message=f"the worker process was ended by {name}{hint}")
    return Failure(kind="worker_died", message=f"the worker process exited with code {exit_code}")


def _serve(pipe: Connection, variables: dict[str, str]) -> None:
    """Do jobs until the parent closes the pipe or is gone."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    last = 0.0

    def on_step(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= STEP_INTERVAL_S:
            last = now
            pipe.send((done, total))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job: Job = pipe.recv()
            try:
                result: Record | Failure | None = job.perform(on_step)
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception as error:
                from benchmark import run  # imports torch, which the job itself has done by now

                log = "\n".join(traceback.format_exc().splitlines()[-LOG_LINES:])
                result = run.failure(error, _without_paths(log))
            pipe.send(result)


def _without_paths(log: str) -> str:
    """Shorten the files of a traceback to their names: records hold no absolute path."""
    lines = []
    for line in log.splitlines():
        head, quote, rest = line.partition('File "')
        path, end, tail = rest.partition('"')
        lines.append(f"{head}{quote}{path.replace(chr(92), '/').rsplit('/', 1)[-1]}{end}{tail}" if quote else line)
    return "\n".join(lines)

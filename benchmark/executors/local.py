"""Runs jobs in local worker processes, which it replaces when they die."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

from benchmark.executors.events import Event, Finished, Started, Step
from benchmark.executors.worker import Worker
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import EfficiencyJob, Job, Outcome
from benchmark.runs.perform import Perform
from benchmark.utils import logs

PATROL_S = 1.0  # between two checks for overdue jobs
#: After these failures a process is not used again: a CUDA error breaks its context, exhausted memory is fragmented.
POISONOUS = ("cuda_error", "out_of_memory")


@dataclass
class _Slot:
    """One job at a time on a device (``None``: the device of the job), with the worker process and the job's start."""

    device: str | None
    worker: Worker | None = None
    job: Job | None = None
    since: float = 0.0
    trained: bool = False  # whether the worker has done jobs that are not exclusive


class LocalExecutor:
    """Runs jobs in spawned processes of this machine, one in each slot.

    A process serves many jobs, because importing torch takes longer than a small run. If a process dies (by a signal or
    the kernel's out-of-memory killer) or hangs, its job fails and another process replaces it.
    """

    def __init__(
        self,
        devices: Sequence[str | None] = (None,),
        *,
        timeout_s: float | None = None,
        lasting: bool = False,
        ahead: Worker | None = None,
        perform: Perform | None = None,
    ) -> None:
        """Create the slots.

        Args:
            devices: one slot each; a GPU named twice runs two jobs at a time.
            timeout_s: limit of a run, after which its process is killed; measurements have no limit.
            lasting: whether idle processes wait for another :meth:`run`, until :meth:`close`.
            ahead: a process that was started already, for the first slot.
            perform: does a job in a worker; :func:`benchmark.runs.perform.perform_job` by default.
        """
        self.timeout_s, self.lasting, self.perform = timeout_s, lasting, perform
        self._slots = [_Slot(device) for device in devices]
        self._slots[0].worker = ahead

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events until every job has finished; closing the iterator ends the workers that are busy, or all.

        Jobs start in their order, exclusive ones alone: a training beside it would spoil a latency.
        """
        queue = deque(jobs)
        variables = {name: value for job in jobs for name, value in job.variables.items()}
        slots = self._slots
        try:
            while queue or any(slot.job for slot in slots):
                yield from self._feed(queue, variables)
                busy = [(slot, slot.worker.pipe) for slot in slots if slot.job and slot.worker]
                ready = wait([pipe for _, pipe in busy], timeout=PATROL_S)
                for slot in [slot for slot, pipe in busy if pipe in ready]:
                    yield _receive(slot)
                for slot in slots:
                    # A message in the pipe comes first: the run may have ended in time.
                    overdue = self.timeout_s and slot.job and _seconds(slot) > self.timeout_s
                    if overdue and slot.worker and not slot.worker.pipe.poll():
                        yield from self._end_overdue(slot)
        finally:
            for slot in slots:
                if slot.job or not self.lasting:
                    _stop(slot)

    def close(self) -> None:
        """End the processes of a lasting executor."""
        for slot in self._slots:
            _stop(slot)

    def _feed(self, queue: deque[Job], variables: Mapping[str, str]) -> Iterator[Event]:
        """Give jobs to idle slots, starting processes as they are needed."""
        slots = self._slots
        while queue:
            # All jobs share the variables of each, so that they share processes; but only some may hide the GPUs.
            environment = {name: value for name, value in variables.items() if value or name in queue[0].variables}
            busy = [slot.job for slot in slots if slot.job]
            if len(busy) == len(slots) or (busy and (queue[0].exclusive or busy[0].exclusive)):
                return
            slot = next(slot for slot in slots if slot.job is None)
            # A measurement sees no memory of earlier trainings.
            if slot.worker is not None and (
                (slot.trained and queue[0].exclusive) or not slot.worker.suits(environment)
            ):
                _stop(slot)
            slot.worker = slot.worker or Worker(perform=self.perform)
            job = queue.popleft()
            slot.trained |= not job.exclusive
            slot.job = job.on(slot.device) if slot.device and not job.exclusive else job
            slot.since = time.perf_counter()
            slot.worker.give(slot.job, environment)
            yield Started(slot.job)

    def _end_overdue(self, slot: _Slot) -> Iterator[Event]:
        job, seconds = slot.job, _seconds(slot)
        if job is None or isinstance(job, EfficiencyJob):
            return
        _stop(slot)  # by a signal: a process that hangs in a kernel or on a disk reacts to nothing else
        message = f"took longer than --timeout, {self.timeout_s:.0f} s; {job.after_timeout}"
        yield Finished(job, Failure(kind="timeout", message=message, log=logs.tail(job.log)), seconds)


def _stop(slot: _Slot) -> None:
    """End a slot's worker, if it has one."""
    if slot.worker is not None:
        slot.worker.end(busy=slot.job is not None)
    slot.worker = slot.job = None
    slot.trained = False


def _seconds(slot: _Slot) -> float:
    return time.perf_counter() - slot.since


def _receive(slot: _Slot) -> Event:
    assert slot.job is not None
    assert slot.worker is not None
    job = slot.job
    try:
        message: tuple[int, int] | Outcome = slot.worker.pipe.recv()
    except (EOFError, OSError):
        slot.worker.process.join(timeout=10)
        message = _death(slot.worker.process.exitcode, job)
        _stop(slot)
    if isinstance(message, tuple):
        return Step(job, *message)
    if isinstance(message, Failure) and message.kind in POISONOUS:
        slot.job = None
        _stop(slot)
    slot.job = None
    return Finished(job, message, _seconds(slot))


def _death(exit_code: int | None, job: Job) -> Failure:
    message = f"the worker process exited with code {exit_code}"
    if exit_code is not None and exit_code < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-exit_code, f"signal {-exit_code}")  # real-time signals have no name
        message = f"the worker process was ended by {name}"
        if name == "SIGKILL":
            message += "; the kernel does this when memory runs out"
            message += "" if isinstance(job, EfficiencyJob) else f": {job.memory_advice}"
    return Failure(kind="worker_died", message=message, log=logs.tail(job.log))

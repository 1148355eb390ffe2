"""Runs jobs as Ray tasks, again on another node when a node dies."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import os
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Event, Note, Started, Step
from benchmark.executors.local import PATROL_S, LocalExecutor
from benchmark.executors.remote import Answers, Parcel, ended, parcels, refuse_missing_package
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import Job
from benchmark.utils import logs, telemetry
from benchmark.utils.errors import UserError, require
from benchmark.utils.words import counted

RETRIES = 3  # after the death of a worker or its node; the run continues from its last checkpoint
KNOCK_S = 10.0  # until a cluster's head counts as unreachable
#: Bytes. Ray's object store holds nothing large here; by default it takes 30 % of the memory. Its minimum is 75 MB.
OBJECT_STORE = 80_000_000
ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the working directory, images included
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # pages of a dead node's internals; the harness reports its runs
    "RAY_worker_niceness": "0",  # with the default 15, any other load on the node would change a latency
    "RAY_task_oom_retries": str(RETRIES),  # endless by default
}


class RayExecutor:
    """Runs jobs as Ray tasks on this machine or on an existing cluster.

    A run requests its CPU threads and its share of a GPU; measurements request all CPUs of one node.
    """

    def __init__(
        self, hardware: Hardware, *, address: str | None = None, per_gpu: int = 1, timeout_s: float | None = None
    ) -> None:
        """Keep the requirements of the jobs.

        Args:
            hardware: of this machine, or of a run on a cluster's node.
            address: of an existing cluster (``auto`` or ``HOST:PORT``); ``None`` starts Ray on this machine.
            per_gpu: runs that share a GPU.
            timeout_s: limit of a run, after which its process is killed; measurements have no limit.

        Raises:
            UserError: Ray is not installed.
        """
        require("ray", flag="--executor ray", extra="ray")
        self.hardware, self.address, self.timeout_s = hardware, address, timeout_s
        self.gpus = 1 / per_gpu if hardware.kind == "cuda" else 0

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events until every job has finished; closing the iterator ends the tasks, and Ray if started here."""
        if not jobs:
            return
        ray = self._connect()
        waiting: dict[Any, dict[int, Job]] = {}
        try:
            board = _board(ray)
            perform = ray.remote(_perform)
            numbers = itertools.count()
            for parcel in parcels(jobs, self.timeout_s):
                numbered = {next(numbers): job for job in parcel.jobs}
                # Ray shows a task only its own GPUs, so that the first one is the right one.
                on_node = [job.on("cuda:0") if job.device.startswith("cuda") else job for job in parcel.jobs]
                needs = self.needs(ray, parcel)
                if not _fitting_cpus(ray, needs):
                    cpus, gpus = counted(needs["num_cpus"], "CPU"), counted(needs["num_gpus"], "GPU")
                    yield Note("ray", f"no node has {cpus} and {gpus} now")
                task = perform.options(max_retries=RETRIES, **needs).remote(
                    replace(parcel, jobs=tuple(on_node)), min(numbered), board
                )
                waiting[task] = numbered
            yield from self._watch(ray, waiting, board)
        finally:
            with contextlib.suppress(Exception):  # the cluster may be gone
                for force in (False, True):  # without force, workers give back their claims
                    for task in waiting:
                        ray.cancel(task, force=force)
                    _, running = ray.wait(list(waiting), num_returns=len(waiting), timeout=10)
                    waiting = {task: waiting[task] for task in running}
            ray.shutdown()

    def _watch(self, ray: Any, waiting: dict[Any, dict[int, Job]], board: Any) -> Iterator[Event]:
        started: dict[int, float] = {}
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=PATROL_S)
            running = {number: job for numbered in waiting.values() for number, job in numbered.items()}
            yield from _news(ray, board, running, started)
            now = time.perf_counter()
            for task in ready:
                numbered = waiting.pop(task)
                yield from (Started(job) for number, job in numbered.items() if number not in started)
                yield from outcome_of(ray, task, list(numbered.values()), now - started.get(min(numbered), now))

    def _connect(self) -> Any:
        """Start Ray or join a cluster.

        Raises:
            UserError: the cluster does not answer, or has another version.
        """
        telemetry.switch_off()
        os.environ.update(ENVIRONMENT)
        import ray

        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            options = {
                "address": "local",
                "num_cpus": len(self.hardware.slots) * self.hardware.threads_each,
                "num_gpus": len(self.hardware.gpus),
                "object_store_memory": OBJECT_STORE,
                "include_dashboard": False,
            }
        try:
            _knock(self.address)
            with visible_gpus(self.hardware.gpus if self.address is None else ()):
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            flag = f"--ray-address {self.address}" if self.address else "--executor ray"
            # Paths of Ray's sockets have some 60 characters below the temporary folder; 107 in all are allowed.
            remedy = "try `ray status` on that machine" if self.address else "use --executor local"
            if "AF_UNIX" in str(error):
                remedy = "set RAY_TMPDIR to a short folder, such as /tmp"
            raise UserError(
                f"{flag}: Ray cannot be reached or started ({str(error).splitlines()[0]}): {remedy}"
            ) from error
        return ray

    def needs(self, ray: Any, parcel: Parcel) -> dict[str, float]:
        """Return a run's threads and share of a GPU, or for measurements all CPUs of the largest node and one GPU."""
        if not parcel.exclusive:
            return {"num_cpus": self.hardware.threads_each, "num_gpus": self.gpus}
        needs = {"num_cpus": float(self.hardware.threads_each), "num_gpus": 1.0 if self.gpus else 0.0}
        return {**needs, "num_cpus": max(_fitting_cpus(ray, needs), default=needs["num_cpus"])}


def _fitting_cpus(ray: Any, needs: Mapping[str, float]) -> list[float]:
    """Return the CPUs of each living node that has the needed resources."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = [node for node in nodes if node.get("GPU", 0) >= needs["num_gpus"]]
    return [node["CPU"] for node in fitting if node.get("CPU", 0) >= needs["num_cpus"]]


class Board:
    """An actor on the sender's node that collects the progress of workers."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int, int]] = []

    def write(self, number: int, done: int, total: int) -> None:
        """Add a job's progress; (0, 0) means that it has begun."""
        self.lines.append((number, done, total))

    def take(self) -> list[tuple[int, int, int]]:
        """Return the lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


def _knock(address: str | None) -> None:
    """Raise an OSError at once if HOST:PORT does not answer; Ray itself tries for minutes."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


@contextlib.contextmanager
def visible_gpus(gpus: Sequence[str]) -> Iterator[None]:
    """Show only these GPUs (``cuda:N``) to processes started meanwhile; an empty list changes nothing."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = before.split(",") if before else []
    numbers = [int(gpu.partition(":")[2]) for gpu in gpus]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[number] if names else str(number) for number in numbers)
    try:
        yield
    finally:
        if gpus and before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        elif before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _board(ray: Any) -> Any:
    """Start a board beside this process; it needs no CPU."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


def _perform(parcel: Parcel, first: int, board: Any) -> Answers:
    """Perform a parcel on a worker; the numbers of its jobs begin with ``first``."""
    for number in range(first, first + len(parcel.jobs)):
        board.write.remote(number, 0, 0)
    # Importing torch takes longer than a small run, so a process waits for the next one, unless it holds GPU memory.
    waits = not parcel.exclusive and all(job.device == "cpu" for job in parcel.jobs)
    executor = _lasting(parcel.timeout_s) if waits else None
    return parcel.perform(lambda done, total: board.write.remote(first, done, total), executor)


@functools.cache
def _lasting(timeout_s: float | None) -> LocalExecutor:
    """Return the executor whose process does all runs of a worker and ends with the worker."""
    executor = LocalExecutor(timeout_s=timeout_s, lasting=True)
    atexit.register(executor.close)
    return executor


def _news(ray: Any, board: Any, jobs: Mapping[int, Job], started: dict[int, float]) -> Iterator[Event]:
    """Yield the progress of the workers; a run that begins again elsewhere is not started twice."""
    try:
        lines = ray.get(board.take.remote(), timeout=PATROL_S)
    except ray.exceptions.RayError:
        return  # only the progress is missing
    for number, done, total in lines:
        if number not in jobs:
            continue  # has finished
        if total:
            yield Step(jobs[number], done, total)
            continue
        if number not in started:
            yield Started(jobs[number])
        started[number] = time.perf_counter()


def outcome_of(ray: Any, task: Any, jobs: Sequence[Job], seconds: float) -> Iterator[Event]:
    """Yield the end of each job of a task that is over.

    Raises:
        UserError: the node lacks the package.
    """
    answers: Answers | Failure
    try:
        answers = ray.get(task)
    except ray.exceptions.RayError as error:
        answers = _failure(ray, error, logs.tail(jobs[0].log))
    yield from ended(jobs, answers, seconds)


def _failure(ray: Any, error: Exception, log: str) -> Failure:
    """Describe the error of a lost Ray task, without names of nodes."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Failure(kind="out_of_memory", message="Ray ended the worker: its node ran out of memory", log=log)
    if isinstance(error, ray.exceptions.RayTaskError):
        refuse_missing_package(error)
        cause = error.cause if isinstance(error.cause, Exception) else error
        message = f"{type(cause).__name__} in the worker: {str(cause).splitlines()[0] if str(cause) else ''}"
        return Failure(kind="error", message=logs.quoted(message), log=logs.quoted(str(error)))
    message = f"the worker or its node died {RETRIES + 1} times ({type(error).__name__})"
    return Failure(kind="worker_died", message=message, log=log)

"""Ray tasks: runs go to whatever node of a Ray cluster has room, and elsewhere when a node dies."""

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

from benchmark.devices.hardware import Hardware
from benchmark.executors.events import Event, Note, Started, Step
from benchmark.executors.local import PATROL_S, LocalExecutor
from benchmark.executors.remote import Answers, Parcel, ended, lost, parcels, refuse_missing_package
from benchmark.records.run_record import Failure
from benchmark.runs.jobs import Job
from benchmark.utils import logs, telemetry
from benchmark.utils.errors import UserError, require

RETRIES = 3  # after the death of a worker or its node; the run goes on from its last checkpoint
KNOCK_S = 10.0  # until a cluster's head counts as unreachable
#: Bytes. Nothing large goes through Ray's object store; by default it takes 30 % of the memory. Ray's minimum is 75 MB.
OBJECT_STORE = 80_000_000
ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the working directory, images included
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # pages of a dead node's internals; what became of its runs is told here
    "RAY_worker_niceness": "0",  # 15 by default, at which anything else on the node would bend a latency
    "RAY_task_oom_retries": str(RETRIES),  # without end by default
}


class RayExecutor:
    """Runs jobs as tasks of a Ray of this machine or of an existing cluster.

    A run asks for its CPU threads and its share of a GPU; measurements go to one node and ask for all of its CPUs.
    """

    def __init__(
        self, hardware: Hardware, *, address: str | None = None, per_gpu: int = 1, timeout_s: float | None = None
    ) -> None:
        """Say what is there and what a run needs.

        Args:
            hardware: this machine's, or what a run gets on a cluster's node.
            address: of an existing cluster (``auto`` or ``HOST:PORT``); ``None`` starts a Ray on this machine.
            per_gpu: runs that share a GPU.
            timeout_s: how long a run may take before its process is killed; measurements have no limit.

        Raises:
            UserError: Ray is not installed.
        """
        require("ray", flag="--executor ray", extra="ray")
        self.hardware, self.address, self.timeout_s = hardware, address, timeout_s
        self.gpus = 1 / per_gpu if hardware.kind == "cuda" else 0

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Yield events until every job has finished; closing the iterator ends the tasks, and the Ray started here."""
        if not jobs:
            return
        ray = self._connect()
        waiting: dict[Any, dict[int, Job]] = {}
        try:
            board = _board(ray)
            perform = ray.remote(_perform)
            numbers = itertools.count()
            for parcel in parcels(jobs, self.timeout_s):
                mine = {next(numbers): job for job in parcel.jobs}
                there = replace(parcel, jobs=tuple(map(_on_the_given_gpu, parcel.jobs)))
                needs = self._needs(ray, parcel)
                if not any(_fits(needs, node) for node in _nodes(ray)):
                    yield Note("ray", f"no node has {needs['num_cpus']:g} CPU(s) and {needs['num_gpus']:g} GPU(s) now")
                task = perform.options(max_retries=RETRIES, **needs).remote(there, min(mine), board)
                waiting[task] = mine
            yield from self._watch(ray, waiting, board)
        finally:
            with contextlib.suppress(Exception):  # a cluster that is gone
                for force in (False, True):  # the first way lets workers give back what they have claimed
                    for task in waiting:
                        ray.cancel(task, force=force)
                    _, running = ray.wait(list(waiting), num_returns=len(waiting), timeout=10)
                    waiting = {task: waiting[task] for task in running}
            ray.shutdown()

    def _watch(self, ray: Any, waiting: dict[Any, dict[int, Job]], board: Any) -> Iterator[Event]:
        started: dict[int, float] = {}
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=PATROL_S)
            running = {number: job for mine in waiting.values() for number, job in mine.items()}
            yield from _news(ray, board, running, started)
            now = time.perf_counter()
            for task in ready:
                mine = waiting.pop(task)
                yield from (Started(job) for number, job in mine.items() if number not in started)
                yield from _outcome(ray, task, list(mine.values()), now - started.get(min(mine), now))

    def _connect(self) -> Any:
        """Start a Ray or join a cluster.

        Raises:
            UserError: there is no such cluster, or it is of another version.
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
            with _visible(self.hardware.gpus if self.address is None else ()):
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"--ray-address {self.address}" if self.address else "--executor ray"
            # Ray's sockets lie some 60 characters below the folder for temporary files, and 107 are allowed.
            remedy = "try `ray status` on that machine" if self.address else "use --executor local"
            if "AF_UNIX" in str(error):
                remedy = "set RAY_TMPDIR to a short folder, such as /tmp"
            raise UserError(
                f"{where}: Ray cannot be reached or started ({str(error).splitlines()[0]}): {remedy}"
            ) from error
        return ray

    def _needs(self, ray: Any, parcel: Parcel) -> dict[str, float]:
        """Return what to ask for: a run's threads and share of a GPU, or all CPUs of the largest node and one GPU."""
        if not parcel.exclusive:
            return {"num_cpus": self.hardware.threads_each, "num_gpus": self.gpus}
        needs = {"num_cpus": float(self.hardware.threads_each), "num_gpus": 1.0 if self.gpus else 0.0}
        largest = max((node["CPU"] for node in _nodes(ray) if _fits(needs, node)), default=needs["num_cpus"])
        return {**needs, "num_cpus": largest}


def _nodes(ray: Any) -> list[dict[str, float]]:
    """Return what each living node of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fits(needs: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return node.get("CPU", 0) >= needs["num_cpus"] and node.get("GPU", 0) >= needs["num_gpus"]


class Board:
    """An actor on the sender's node to which workers write what they are doing."""

    def __init__(self) -> None:
        """Begin empty."""
        self.lines: list[tuple[int, int, int]] = []

    def write(self, number: int, done: int, total: int) -> None:
        """Note a job's progress; (0, 0) says that it has begun."""
        self.lines.append((number, done, total))

    def take(self) -> list[tuple[int, int, int]]:
        """Return what has been written since the last call."""
        taken, self.lines = self.lines, []
        return taken


def _knock(address: str | None) -> None:
    """Raise an OSError at once where nothing answers at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


@contextlib.contextmanager
def _visible(gpus: Sequence[str]) -> Iterator[None]:
    """Show some of this machine's GPUs, ``cuda:N``, to what is started meanwhile; without any, leave all as it is."""
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


def _on_the_given_gpu(job: Job) -> Job:
    """Ray shows a task only its GPUs, so that the first one is the right one."""
    return job.on("cuda:0") if job.device.startswith("cuda") else job


def _perform(parcel: Parcel, first: int, board: Any) -> Answers:
    """Do a parcel on a worker; its jobs are numbered from ``first`` on."""
    for number in range(first, first + len(parcel.jobs)):
        board.write.remote(number, 0, 0)
    # Importing torch takes longer than a small run, so a process waits for the next one; but not with a GPU's memory.
    waits = not parcel.exclusive and all(job.device == "cpu" for job in parcel.jobs)
    executor = _lasting(parcel.timeout_s) if waits else None
    return parcel.perform(lambda done, total: board.write.remote(first, done, total), executor)


@functools.cache
def _lasting(timeout_s: float | None) -> LocalExecutor:
    """Return the executor whose process serves a worker's runs one after the other, and ends with the worker."""
    executor = LocalExecutor(timeout_s=timeout_s, lasting=True)
    atexit.register(executor.close)
    return executor


def _news(ray: Any, board: Any, jobs: Mapping[int, Job], started: dict[int, float]) -> Iterator[Event]:
    """Tell what the workers have written; a run that begins again elsewhere has started before."""
    try:
        lines = ray.get(board.take.remote(), timeout=PATROL_S)
    except ray.exceptions.RayError:
        return  # the screen shows a little less
    for number, done, total in lines:
        if number not in jobs:
            continue  # has finished
        if total:
            yield Step(jobs[number], done, total)
            continue
        if number not in started:
            yield Started(jobs[number])
        started[number] = time.perf_counter()


def _outcome(ray: Any, task: Any, jobs: Sequence[Job], seconds: float) -> Iterator[Event]:
    try:
        yield from ended(jobs, ray.get(task))
    except ray.exceptions.RayError as error:
        yield from lost(jobs, _failure(ray, error, logs.tail(jobs[0].log)), seconds)


def _failure(ray: Any, error: Exception, log: str) -> Failure:
    """Describe what Ray says of a task that did not come back, without its names of nodes."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Failure(kind="out_of_memory", message="Ray ended the worker: its node ran out of memory", log=log)
    if isinstance(error, ray.exceptions.RayTaskError):
        refuse_missing_package(error)
        cause = error.cause if isinstance(error.cause, Exception) else error
        message = f"{type(cause).__name__} in the worker: {str(cause).splitlines()[0] if str(cause) else ''}"
        return Failure(kind="error", message=logs.quoted(message), log=logs.quoted(str(error)))
    message = f"the worker or its node died {RETRIES + 1} times ({type(error).__name__})"
    return Failure(kind="worker_died", message=message, log=log)

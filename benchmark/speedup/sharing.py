"""Compares several runs at once on one device with one run alone."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import torch

from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.records.speedup_record import ComparedWork, SpeedupComparison
from benchmark.speedup import steps
from benchmark.speedup.setting import SpeedupSetting, Way
from benchmark.utils.processes import SPAWN, end_with_parent
from benchmark.utils.words import counted

WARM_UP, STEPS = 10, 100  # per run and round; a CUDA graph is captured in the first
PATIENCE_S = 600.0  # for the slowest run to be ready


def together(
    entry: ModelEntry,
    size: int,
    runs: int,
    protocol: Protocol,
    setting: SpeedupSetting,
    alone: Execution,
    what: ComparedWork = "together",
) -> SpeedupComparison:
    """Compare training images per second of all runs together, at batch 1, with those of one run alone.

    Args:
        entry: the network; every run trains one of its own.
        size: of the images, which lie in memory, pixels.
        runs: how many.
        protocol: settings of the trainings.
        setting: where; on a CPU the runs share its threads, and the run alone has all of them.
        alone: how the work of the run alone is given to the device.
        what: the comparison's name.
    """
    each = replace(setting, threads=max(setting.threads // runs, 1))
    on_gpu = setting.kind == "cuda"

    def measure(way: Way) -> list[float]:
        if way == "plain":
            return [images_per_second(1, entry, size, protocol, setting, alone)]
        return [images_per_second(runs, entry, size, protocol, each, "auto")]

    speeds = setting.in_turn(measure)
    form = {"eager": "eager", "graph": "as a CUDA graph"}[alone] if on_gpu else counted(setting.threads, "thread")
    forms = "as CUDA graphs (--per-gpu)" if on_gpu else f"{counted(each.threads, 'thread')} each (--workers)"
    return setting.comparison(
        what=what,
        model=entry.name,
        size=size,
        unit="images/s",
        **speeds,
        plain_form=f"one run alone, {form}",
        our_form=f"{counted(runs, 'run')} at once, {forms}, all their images together",
    )


def images_per_second(
    runs: int, entry: ModelEntry, size: int, protocol: Protocol, setting: SpeedupSetting, execution: Execution
) -> float:
    """Train in processes beside each other; return images per second from the last warm-up's end to the last run's.

    Raises:
        RuntimeError: a run died.
    """
    barrier = SPAWN.Barrier(runs)
    pipes, processes = [], []
    for _ in range(runs):
        ours, theirs = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(
            target=_run, args=(theirs, barrier, (WARM_UP, STEPS), entry, size, protocol, setting, execution)
        )
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        spans: list[tuple[float, float]] = [pipe.recv() for pipe in pipes]
    except EOFError as error:
        raise RuntimeError(f"{entry.name}: one of {runs} runs beside each other died, see above") from error
    finally:
        for process in processes:
            process.join(PATIENCE_S)
    return runs * STEPS / (max(end for _, end in spans) - min(start for start, _ in spans))


def _run(
    pipe: Connection,
    barrier: Barrier,
    counts: tuple[int, int],
    entry: ModelEntry,
    size: int,
    protocol: Protocol,
    setting: SpeedupSetting,
    execution: Execution,
) -> None:
    """Train one network in this process and send when its steps after the warm-up began and ended, in seconds."""
    end_with_parent()
    torch.set_num_threads(setting.threads)
    span: list[float] = []
    counted = itertools.count(1)

    def on_step(*_: object) -> None:
        step = next(counted)
        if step not in (counts[0], sum(counts)):
            return
        setting.wait()
        if step == counts[0]:
            barrier.wait(PATIENCE_S)
        span.append(time.monotonic())  # one clock for all processes of a machine

    network = steps.network_of("ours", entry, setting)
    with contextlib.closing(pipe):
        try:
            steps.take("ours", network, size, sum(counts), protocol, setting, on_step, execution)
        except BaseException:
            barrier.abort()  # or else the others wait for one that is gone
            raise
        pipe.send(tuple(span))

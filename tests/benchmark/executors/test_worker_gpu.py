"""Tests that a worker frees GPU memory; apart from other tests, whose processes must not import torch."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.executors import worker
from tests.benchmark.fake_gpu import FakeGPU, fake_gpu

__all__ = ["fake_gpu"]


class Job:
    """Uses the GPU, or not, and fails, or not."""

    entry = None

    def __init__(self, *, uses: bool, fails: bool = False) -> None:
        self.uses, self.fails = uses, fails


def use(job: Any, on_step: object) -> None:
    if job.uses:
        torch.cuda.synchronize()
    if job.fails:
        raise RuntimeError("CUDA error: unknown error")


class Pipe:
    """Gives jobs and notes, at each outcome, how often memory had been given back."""

    def __init__(self, gpu: FakeGPU, jobs: list[Job]) -> None:
        self.gpu, self.jobs, self.emptied = gpu, jobs, list[int]()

    def recv(self) -> tuple[dict[str, str], Job]:
        if not self.jobs:
            raise EOFError
        return {}, self.jobs.pop(0)

    def send(self, message: object) -> None:
        self.emptied.append(self.gpu.emptied)


def test_gpu_s_memory_is_given_back_after_each_job_also_one_that_failed(fake_gpu: FakeGPU) -> None:
    pipe: Any = Pipe(fake_gpu, [Job(uses=False), Job(uses=True), Job(uses=True, fails=True)])
    worker.do_jobs(pipe, use)
    assert pipe.emptied == [0, 1, 2]  # a process without a context gets none

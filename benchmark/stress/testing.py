"""Stress tests at work: one trained network, every stressed set of test images, counts onto the disk."""

from __future__ import annotations

import gc
import traceback

import torch

from benchmark import determinism, run, scoring, weights
from benchmark.data.stressed import open_stressed
from benchmark.efficiency.resident import keeping_freed_memory
from benchmark.evaluation import evaluate
from benchmark.jobs import OnStep
from benchmark.launching import Launch
from benchmark.records import Failure
from benchmark.store import Store
from benchmark.stress.jobs import StressJob
from benchmark.training import place


def attempt(job: StressJob, on_step: OnStep) -> Failure | None:
    """Do what is left of a job's tests; where that fails, return why. What was tested before is kept."""
    print(f"{job.label}: on {job.device} with {job.training.threads} thread(s)", flush=True)  # into the job's log
    try:
        execute(job, on_step)
    except (BrokenPipeError, ConnectionResetError):
        raise  # there is nobody left to report to
    except Exception as error:  # a user's network may do anything
        traceback.print_exc()  # into the job's log
        return run.failure(error, job.memory_advice, job.entry, job.log.relative_to(job.study))
    return None


def execute(job: StressJob, on_step: OnStep) -> None:
    """Test a network as its run did, on images of which one effect is forced.

    Args:
        job: the tests.
        on_step: called with (tests done, tests in all).

    Raises:
        UserError: weights or images that cannot be read or made.
    """
    training, todo = job.training, job.left()
    protocol, device = training.protocol, torch.device(job.device)
    torch.set_num_threads(training.threads)
    with determinism.kernels(protocol.determinism), keeping_freed_memory():
        (trained,) = weights.find(job.study, [training.entry], training.task.name, training.repeat)
        network = place(trained.build(), device)
        launch = Launch(network, device, training.execution)
        for done, (source, stress) in enumerate(todo, start=1):
            pack = open_stressed(source, protocol, training.cache, stress)
            indices = range(len(pack.tiles))
            rows = evaluate(network, pack, indices, source.target, protocol, device, launch=launch)
            Store(job.study).write_stress(job.record(source, stress), scoring.to_csv(rows))
            on_step(done, len(todo))
        del network, trained, launch
    gc.collect()

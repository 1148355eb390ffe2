"""Tests one trained network on stressed images and writes the counts."""

from __future__ import annotations

import gc

import torch

from benchmark.data.stressed import open_stressed
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import to_device
from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.evaluation.counts import counts_csv
from benchmark.evaluation.evaluate import evaluate
from benchmark.records.store import Store
from benchmark.records.weights import find_trained
from benchmark.runs.jobs import OnStep, StressJob
from benchmark.training import determinism


def run_stress_tests(job: StressJob, on_step: OnStep) -> None:
    """Test a network as its run did, on images with one effect forced; counts of earlier tests are kept.

    Raises:
        UserError: weights or images cannot be read or made.
    """
    training, todo = job.training, job.left()
    protocol, device = training.protocol, torch.device(job.device)
    torch.set_num_threads(training.threads)
    with determinism.kernels(protocol.determinism), keeping_freed_memory():
        (trained,) = find_trained(job.study, [training.entry], training.task.name, training.repeat)
        network = to_device(trained.build(), device)
        launch = Launch(network, device, training.execution)
        for done, (source, stress) in enumerate(todo, start=1):
            pack = open_stressed(source, protocol, training.cache, stress, repeat=training.repeat)
            tested = evaluate(network, pack, range(len(pack.tiles)), protocol, device, launch=launch)
            for test, rows in tested.items():
                Store(job.study).write_stress(job.record(test, source, stress), counts_csv(rows))
            on_step(done, len(todo))
        del network, trained, launch
    gc.collect()

"""Tests trained networks again, on stressed images or averaged, and writes the counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmark.data.packs import open_pack
from benchmark.data.stressed import open_stressed
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import to_device
from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.evaluation.counts import counts_csv
from benchmark.evaluation.ensemble import averaged
from benchmark.evaluation.evaluate import evaluate
from benchmark.records.store import Store
from benchmark.records.weights import find_members
from benchmark.runs.jobs import LaterTests, OnStep, StressJob
from benchmark.training import determinism


def run_later_tests(job: LaterTests, on_step: OnStep) -> None:
    """Test a network, or the mean of several, as its run did; counts of earlier tests are kept.

    Raises:
        UserError: weights or images cannot be read or made.
    """
    training, todo = job.training, job.left()
    protocol, device = training.protocol, torch.device(job.device)
    torch.set_num_threads(training.threads)
    with determinism.kernels(protocol.determinism), keeping_freed_memory():
        repeats = ",".join(map(str, job.repeats))
        trained = find_members(job.study, training.entry, training.task.name, repeats)
        network = averaged([to_device(member.build(), device) for member in trained])
        launch = Launch(network, device, training.execution)
        for done, (source, stress) in enumerate(todo, start=1):
            if isinstance(job, StressJob):
                pack = open_stressed(source, protocol, training.cache, stress, repeat=training.repeat)
                indices: Sequence[int] = range(len(pack.tiles))
            else:
                pack = open_pack(source, protocol, training.cache)
                indices = pack.divide(protocol).test
            tested = evaluate(network, pack, indices, protocol, device, launch=launch)
            for test, rows in tested.items():
                Store(job.study).write_test(job.record(test, source, stress), counts_csv(rows))
            on_step(done, len(todo))

"""Tries a study's networks before any work, at the sizes of its plan."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.study.plan import Plan
from benchmark.study.study import Study
from benchmark.training.probe import ProbeInput, probe_networks


def probe_study(study: Study, plan: Plan, warn: Callable[[str], None]) -> None:
    """Try the networks with work in a plan, at the sizes of its trainings and tests.

    Raises:
        UserError: as :func:`benchmark.training.probe.probe_networks`.
    """
    protocol = study.protocol
    busy = {job.entry.name for job in plan.todo} | {job.entry.name for job in plan.measurements}
    size_for = protocol.input.tile_for if protocol.evaluation.window == "tile" else protocol.input.size_for
    inputs = [ProbeInput(size_for(source.name), protocol.input.channels_for(source.name)) for source in study.tested]
    for task in study.tasks:
        images = min(map(protocol.training.micro_batch_for, task.train_names))
        inputs.append(ProbeInput(task.input_size(protocol), task.channels(protocol), images))
    entries = [entry for entry in study.models if entry.name in busy]
    probe_networks(entries, inputs, warn, on_cpu=study.hardware.kind == "cpu")

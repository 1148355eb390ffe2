"""Tries a study's own networks before any work, at the sizes that its plan needs."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.study.plan import Plan
from benchmark.study.study import Study
from benchmark.training.probe import ProbeInput, probe


def probe_study(study: Study, plan: Plan, tell: Callable[[str], None]) -> None:
    """Try the networks that a plan has work for, at the sizes of its trainings and tests.

    Raises:
        UserError: as :func:`benchmark.training.probe.probe`.
    """
    protocol = study.protocol
    busy = {job.entry.name for job in plan.todo} | {job.entry.name for job in plan.measurements}
    settings = protocol.input
    side = settings.tile_for if protocol.evaluation.window == "tile" else settings.size_for
    inputs = [ProbeInput(side(source.name), settings.channels_for(source.name)) for source in study.tested]
    for task in study.tasks:
        images = min(map(protocol.training.micro_batch_for, task.train_names))
        inputs.append(ProbeInput(task.input_size(protocol), task.channels(protocol), images))
    here = study.hardware.kind == "cpu"
    probe([entry for entry in study.models if entry.name in busy], inputs, tell, on_cpu=here)

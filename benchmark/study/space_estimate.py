"""What a study needs beside time: memory for the runs at a time, and disk for packs, weights, checkpoints, records."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmark.config.protocol import Protocol
from benchmark.data.datasets import Source
from benchmark.devices.hardware import Hardware
from benchmark.records.store import WEIGHTS
from benchmark.runs.jobs import TrainJob
from benchmark.study.plan import Plan
from benchmark.study.stress_plan import image_sets
from benchmark.study.study import Study
from benchmark.study.time_estimate import test_images, tiles
from benchmark.utils.errors import UserError

FLOAT_BYTES = 4  # weights, gradients and moments are float32 whatever the arithmetic
UNKNOWN_PARAMS = 10_000_000  # in memory, of a user's network that was never measured
# Weights, gradients, Adam's two moments, and the best weights so far.
COPIES_IN_TRAINING = 5
# A checkpoint has all of these but the gradients, and the old one stays until the new one is whole.
COPIES_IN_CHECKPOINTS = 2 * 4
# The most that a training step at batch 1 took beside weights, gradients and moments, of the eleven networks at 96x96
# on a CPU (LETNet: 7.3 kB); half of them take less than 4.3 kB.
ACTIVATION_BYTES_PER_PIXEL = 7_300
PROCESS_BYTES = 600_000_000  # a worker that has imported torch; a GPU holds about as much for its context and kernels
RECORD_BYTES = 32_000  # record, history and log of a run
ROW_BYTES = 200  # counts of one test image


@dataclass(frozen=True)
class RunMemory:
    """Memory of the runs at a time on one device.

    Attributes:
        bytes: of all of them.
        runs: how many.
        largest: the network that takes most.
        measured: whether all rests on training steps measured on this machine.
        free: what is there; of a GPU, all that it has; ``None`` where the runs are computed elsewhere.
    """

    bytes: int
    runs: int
    largest: str
    measured: bool
    free: int | None


@dataclass(frozen=True)
class Space:
    """Disk below one folder.

    Attributes:
        folder: where.
        parts: what is written -> bytes.
        free: on its disk.
        disk: tells disks apart.
    """

    folder: Path
    parts: Mapping[str, int]
    free: int
    disk: int

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Needs:
    """What a plan needs.

    Attributes:
        memory: ``None`` where there is nothing to train.
        cache: disk for packs.
        results: disk for everything else.
        unknown: networks that were never measured: on disk they are left out, since no study is refused for a guess.
    """

    memory: RunMemory | None
    cache: Space
    results: Space
    unknown: tuple[str, ...] = ()

    def refuse_full_disk(self) -> None:
        """Refuse a study that would fill the disk.

        Raises:
            UserError: with what is needed, what is free and what to do.
        """
        together = self.cache.disk == self.results.disk
        for spaces in ((self.cache, self.results),) if together else ((self.cache,), (self.results,)):
            needed, free = sum(space.bytes for space in spaces), spaces[0].free
            if needed > free:
                where = " and ".join(
                    f"{size(space.bytes)} in {space.folder} ({_listed(space.parts)})" for space in spaces
                )
                raise UserError(
                    f"not enough disk: the study needs about {size(needed)}, {where}, but {size(free)} are free; free "
                    "the disk, choose another place (--cache DIR, --results DIR), or keep no weights "
                    "(--keep-weights none)"
                )


def size(count: int) -> str:
    """Return bytes as people say them: ``12 kB``, ``320 MB``, ``4.1 GB``."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def needs(study: Study, plan: Plan) -> Needs:
    """Estimate what is left of a study needs."""
    jobs = {(job.entry.name, job.task.name): job for job in plan.todo}
    parameters = {name: _parameters(study, job) for (name, _), job in jobs.items()}
    guessed = {name: UNKNOWN_PARAMS if count is None else count for name, count in parameters.items()}
    known = {name: count or 0 for name, count in parameters.items()}
    return Needs(
        _memory(study, plan, jobs, guessed),
        _cache(study, plan),
        _results(study, plan, jobs, known),
        tuple(name for name, count in parameters.items() if count is None),
    )


def refuse_unfillable(study: Study, plan: Plan) -> list[str]:
    """Refuse parts of a split that a dataset has too few images for, before any image is decoded.

    Returns:
        What is known of the datasets already, a line each.

    Raises:
        UserError: images that are too small, or too few of them.
    """
    from benchmark.data.packs import foresee

    return [
        f"{source.name}: {note}"
        for source in _sources(plan)
        for note in foresee(source, study.protocol, study.cache)[1]
    ]


def _sources(plan: Plan) -> list[Source]:
    """Return the datasets of what is left to do, each once."""
    return list({source.name: source for job in plan.todo for source in job.task.sources}.values())


def _parameters(study: Study, job: TrainJob) -> int | None:
    if job.entry.params is not None:
        return job.entry.params
    found = study.figures.of(job.entry, job.task.input_size(study.protocol))
    return found.params if found else None


def _memory(
    study: Study, plan: Plan, jobs: Mapping[tuple[str, str], TrainJob], parameters: Mapping[str, int]
) -> RunMemory | None:
    if not plan.todo:
        return None
    each = {kind: _of_run(study, job, parameters[kind[0]]) for kind, job in jobs.items()}
    at_a_time = heapq.nlargest(
        study.hardware.workers, ((*each[job.entry.name, job.task.name], job.entry.name) for job in plan.todo)
    )
    return RunMemory(
        bytes=sum(taken for taken, _, _ in at_a_time),
        runs=len(at_a_time),
        largest=at_a_time[0][2],
        measured=all(measured for _, measured in each.values()),
        free=_free_memory(study.hardware),
    )


def _of_run(study: Study, job: TrainJob, parameters: int) -> tuple[int, bool]:
    """Return the memory of one run and whether its activations were measured."""
    side, protocol, weights = job.task.input_size(study.protocol), study.protocol, FLOAT_BYTES * parameters
    pixels = min(map(protocol.training.micro_batch_for, job.task.train_names)) * side**2
    found = study.figures.of(job.entry, side)
    peak = found.memory.train_step_peak_bytes if found and found.memory else None
    if found is None or peak is None:
        return PROCESS_BYTES + COPIES_IN_TRAINING * weights + ACTIVATION_BYTES_PER_PIXEL * pixels, False
    # What a CPU's figure leaves out are the weights, and no figure has the copy of the best ones.
    held = (3 if found.device == "cpu" else 4) * weights
    activations = max(peak - held, 0) * pixels / (found.height * found.width)
    return PROCESS_BYTES + COPIES_IN_TRAINING * weights + round(activations), True


def _free_memory(hardware: Hardware) -> int | None:
    if hardware.kind == "cpu":
        return int(psutil.virtual_memory().available)
    if hardware.remote:
        return None  # the GPUs are other machines'
    import torch  # loaded already, where a GPU was found

    if not torch.cuda.is_available():
        return None
    # What is free could be asked for only by taking half a gigabyte of it.
    return int(torch.cuda.get_device_properties(hardware.device).total_memory)


def _cache(study: Study, plan: Plan) -> Space:
    from benchmark.data.packs import pack_path

    missing = [
        source
        for source in _sources(plan)
        if not (pack_path(source, study.protocol, study.cache) / "manifest.json").is_file()
    ]
    parts = {f"pack of {source.name}": _pack(source, study.protocol) for source in missing}
    for source, stresses in image_sets(plan.stress).items():
        parts[f"stressed images of {source.name}"] = stresses * _stressed(source, study.protocol)
    return _space(study.cache, parts)


def _pack(source: Source, protocol: Protocol) -> int:
    count, side = tiles(source, protocol)
    return count * side**2 * (protocol.input.channels_for(source.name) + 1)


def _stressed(source: Source, protocol: Protocol) -> int:
    return _pack(source, protocol) * test_images(source, protocol) // tiles(source, protocol)[0]


def _results(
    study: Study, plan: Plan, jobs: Mapping[tuple[str, str], TrainJob], parameters: Mapping[str, int]
) -> Space:
    keeping: list[TrainJob] = []
    if study.keep_weights == "all":
        keeping = plan.todo
    elif study.keep_weights == "best-repeat":
        keeping = [job for job in jobs.values() if not _has_weights(job)]
    of_tests = {name: _test_images(job, study.protocol) for (_, name), job in jobs.items()}
    counts = sorted(parameters[job.entry.name] for job in plan.todo)[-len(study.hardware.slots) :]
    parts = {
        "weights": FLOAT_BYTES * sum(parameters[job.entry.name] for job in keeping),
        "checkpoints": COPIES_IN_CHECKPOINTS * FLOAT_BYTES * sum(counts),
        "records": sum(RECORD_BYTES + ROW_BYTES * of_tests[job.task.name] for job in plan.todo),
    }
    return _space(study.folder, {what: taken for what, taken in parts.items() if taken})


def _has_weights(job: TrainJob) -> bool:
    """Tell whether another repeat's weights are there, which better ones replace."""
    return any((job.folder.parent / str(repeat) / WEIGHTS).is_file() for repeat in range(job.protocol.repeats))


def _test_images(job: TrainJob, protocol: Protocol) -> int:
    return sum(test_images(source, protocol) for source in job.task.test)


def _space(folder: Path, parts: Mapping[str, int]) -> Space:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return Space(folder, parts, shutil.disk_usage(there).free, there.stat().st_dev)


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {size(taken)}" for what, taken in parts.items()) or "nothing"

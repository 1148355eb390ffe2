"""Estimates a study's memory, and its disk space for packs, weights, checkpoints, records."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmark.config.protocol import Protocol
from benchmark.data.datasets import Source
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.store import WEIGHTS
from benchmark.runs.jobs import TrainJob
from benchmark.study.plan import Plan
from benchmark.study.stress_plan import image_sets
from benchmark.study.study import Study
from benchmark.study.time_estimate import count_test_images, count_tiles
from benchmark.utils.errors import UserError

FLOAT_BYTES = 4  # weights, gradients and moments are float32 whatever the arithmetic
UNKNOWN_PARAMS = 10_000_000  # in memory, for a user's network that was never measured
# Weights, gradients, Adam's two moments, and the best weights so far.
COPIES_IN_TRAINING = 5
# A checkpoint has all of these except the gradients; the old one stays until the new one is complete.
COPIES_IN_CHECKPOINTS = 2 * 4
# The maximum of the eleven networks for a training step at batch 1 and 96x96 on a CPU, without weights, gradients and
# moments (LETNet: 7.3 kB); half of them take less than 4.3 kB.
ACTIVATION_BYTES_PER_PIXEL = 7_300
PROCESS_BYTES = 600_000_000  # a worker that has imported torch; a GPU holds about as much for its context and kernels
RECORD_BYTES = 32_000  # record, history and log of a run
ROW_BYTES = 200  # counts of one test image


@dataclass(frozen=True)
class RunMemory:
    """Memory of the concurrent runs on one device."""

    bytes: int  # of all runs
    runs: int
    largest: str  # the network that needs most
    measured: bool  # whether all figures rest on training steps measured on this machine
    free: int | None  # bytes; the whole memory of a GPU; None for runs on other machines


@dataclass(frozen=True)
class Space:
    """Disk space in one folder: bytes of each part, free bytes, and a number that identifies the disk."""

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
    """Memory and disk space of a plan."""

    memory: RunMemory | None  # None without a training
    cache: Space  # for packs
    results: Space  # for everything else
    #: Networks that were never measured; the disk estimate omits them, since a guess must not refuse a study.
    unknown: tuple[str, ...] = ()

    def refuse_full_disk(self) -> None:
        """Refuse a study that would fill the disk.

        Raises:
            UserError: names the needed and the free space, and remedies.
        """
        together = self.cache.disk == self.results.disk
        for spaces in ((self.cache, self.results),) if together else ((self.cache,), (self.results,)):
            needed, free = sum(space.bytes for space in spaces), spaces[0].free
            if needed > free:
                folders = []
                for space in spaces:
                    parts = ", ".join(f"{part} {format_bytes(count)}" for part, count in space.parts.items())
                    folders.append(f"{format_bytes(space.bytes)} in {space.folder} ({parts or 'nothing'})")
                raise UserError(
                    f"not enough disk: the study needs about {format_bytes(needed)}, {' and '.join(folders)}, but "
                    f"{format_bytes(free)} are free; free the disk, choose another place (--cache DIR, --results DIR), "
                    "or keep no weights (--keep-weights none)"
                )


def format_bytes(count: int) -> str:
    """Format bytes: ``12 kB``, ``320 MB``, ``4.1 GB``."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def estimate_needs(study: Study, plan: Plan) -> Needs:
    """Estimate memory and disk space for the rest of a study."""
    jobs = {(job.entry.name, job.task.name): job for job in plan.todo}
    parameters: dict[str, int | None] = {}
    for (name, _), job in jobs.items():
        record = study.figures.of(job.entry, job.task.input_size(study.protocol)) if job.entry.params is None else None
        parameters[name] = record.params if record else job.entry.params
    guessed = {name: UNKNOWN_PARAMS if count is None else count for name, count in parameters.items()}
    known = {name: count or 0 for name, count in parameters.items()}
    return Needs(
        _memory(study, plan, jobs, guessed),
        _cache(study, plan),
        _results(study, plan, jobs, known),
        tuple(name for name, count in parameters.items() if count is None),
    )


def refuse_unfillable(study: Study, plan: Plan) -> list[str]:
    """Refuse a split with more images than a dataset has, before any image is decoded.

    Returns:
        Notes on the datasets, a line each.

    Raises:
        UserError: the images are too small or too few.
    """
    from benchmark.data.packs import foresee

    return [
        f"{source.name}: {note}"
        for source in _sources(plan)
        for note in foresee(source, study.protocol, study.cache)[1]
    ]


def _sources(plan: Plan) -> list[Source]:
    """Return the datasets of the runs that are left, each once."""
    return list({source.name: source for job in plan.todo for source in job.task.sources}.values())


def _memory(
    study: Study, plan: Plan, jobs: Mapping[tuple[str, str], TrainJob], parameters: Mapping[str, int]
) -> RunMemory | None:
    if not plan.todo:
        return None
    each = {kind: _of_run(study, job, parameters[kind[0]]) for kind, job in jobs.items()}
    runs = ((*each[job.entry.name, job.task.name], job.entry.name) for job in plan.todo)
    concurrent = heapq.nlargest(study.hardware.workers, runs)
    return RunMemory(
        bytes=sum(count for count, _, _ in concurrent),
        runs=len(concurrent),
        largest=concurrent[0][2],
        measured=all(measured for _, measured in each.values()),
        free=_free_memory(study.hardware),
    )


def _of_run(study: Study, job: TrainJob, parameters: int) -> tuple[int, bool]:
    """Return the bytes of one run and whether its activations were measured."""
    side, protocol, weights = job.task.input_size(study.protocol), study.protocol, FLOAT_BYTES * parameters
    pixels = min(map(protocol.training.micro_batch_for, job.task.train_names)) * side**2
    record = study.figures.of(job.entry, side)
    peak = record.memory.train_step_peak_bytes if record and record.memory else None
    if record is None or peak is None:
        return PROCESS_BYTES + COPIES_IN_TRAINING * weights + ACTIVATION_BYTES_PER_PIXEL * pixels, False
    # A figure on a CPU omits the weights; no figure contains the copy of the best ones.
    copies = (3 if record.device == "cpu" else 4) * weights
    activations = max(peak - copies, 0) * pixels / (record.height * record.width)
    return PROCESS_BYTES + COPIES_IN_TRAINING * weights + round(activations), True


def _free_memory(hardware: Hardware) -> int | None:
    if hardware.kind == "cpu":
        return int(psutil.virtual_memory().available)
    if hardware.remote:
        return None  # the GPUs of other machines
    import torch  # already loaded if a GPU was found

    if not torch.cuda.is_available():
        return None
    # A request for the free memory would itself take half a gigabyte.
    return int(torch.cuda.get_device_properties(hardware.device).total_memory)


def _cache(study: Study, plan: Plan) -> Space:
    from benchmark.data.packs import pack_path

    parts = {
        f"pack of {source.name}": _pack(source, study.protocol)
        for source in _sources(plan)
        if not (pack_path(source, study.protocol, study.cache) / "manifest.json").is_file()
    }
    for source, stresses in image_sets(plan.stress).items():
        images = _pack(source, study.protocol) * count_test_images(source, study.protocol)
        parts[f"stressed images of {source.name}"] = stresses * (images // count_tiles(source, study.protocol)[0])
    return _space(study.cache, parts)


def _pack(source: Source, protocol: Protocol) -> int:
    count, side = count_tiles(source, protocol)
    return count * side**2 * (protocol.input.channels_for(source.name) + 1)


def _results(
    study: Study, plan: Plan, jobs: Mapping[tuple[str, str], TrainJob], parameters: Mapping[str, int]
) -> Space:
    keeping = plan.todo if study.keep_weights == "all" else []
    if study.keep_weights == "best-repeat":
        keeping = [job for job in jobs.values() if not _has_weights(job)]
    tasks = {job.task.name: job.task for job in jobs.values()}
    rows = {
        name: sum(count_test_images(source, study.protocol) for source in task.test) for name, task in tasks.items()
    }
    counts = sorted(parameters[job.entry.name] for job in plan.todo)[-len(study.hardware.slots) :]
    parts = {
        "weights": FLOAT_BYTES * sum(parameters[job.entry.name] for job in keeping),
        "checkpoints": COPIES_IN_CHECKPOINTS * FLOAT_BYTES * sum(counts),
        "records": sum(RECORD_BYTES + ROW_BYTES * rows[job.task.name] for job in plan.todo),
    }
    return _space(study.folder, {part: count for part, count in parts.items() if count})


def _has_weights(job: TrainJob) -> bool:
    """Return whether a repeat has weights, which better ones will replace."""
    return any((job.folder.parent / str(repeat) / WEIGHTS).is_file() for repeat in range(job.protocol.repeats))


def _space(folder: Path, parts: Mapping[str, int]) -> Space:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return Space(folder, parts, shutil.disk_usage(existing).free, existing.stat().st_dev)

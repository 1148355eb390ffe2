"""What a study will cost in time: from earlier runs on this machine, else from latencies, else from MACs alone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmark.config.protocol import Protocol
from benchmark.data.datasets import Source
from benchmark.data.formats.images import read_size
from benchmark.data.tasks import Task
from benchmark.devices.hardware import Hardware
from benchmark.records.efficiency_record import ENERGY_SECONDS
from benchmark.records.measurements import Figures, device_name
from benchmark.runs.jobs import EfficiencyJob, TrainJob
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically

# Rough multiply-accumulates per second of a mid-range device in float32, for networks whose time is not yet known.
ASSUMED_MACS_PER_S = {"cpu": 2e10, "cuda": 3e12}
# A backward costs about two forwards: one for the inputs' gradients, one for the weights'.
TRAINING_FACTOR = 3
UNKNOWN_GMACS = 20.0  # assumed at 512x512 for a user's own network
THROUGHPUT_S = 1.0  # for all batch sizes together; `profile` takes its time
#: Per network and size, where nothing hinders it: mostly the seconds of the latency protocol.
EFFICIENCY_S = {"cpu": 8.0, "cuda": 14.0}

#: What an estimate rests on, the firmest first: times of runs, latencies of forwards, or expected MACs alone.
Basis = Literal["runs", "latencies", "macs"]
BASES: tuple[Basis, ...] = ("runs", "latencies", "macs")


class Costs:
    """Seconds per training image that earlier runs took on this machine, kept beside the packs, and what follows."""

    def __init__(self, protocol: Protocol, hardware: Hardware, cache: Path, figures: Figures) -> None:
        """Read what is known.

        Args:
            protocol: says how many images a run trains on.
            hardware: where it does.
            cache: the folder that keeps the times.
            figures: latencies for networks that no run has been timed of.
        """
        self.protocol, self.hardware, self.figures = protocol, hardware, figures
        self.file = cache / "times.json"
        try:
            self.known: dict[str, float] = json.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError):
            self.known = {}  # nothing measured yet; a broken cache is made again

    def estimate(self, todo: Sequence[TrainJob], measurements: Sequence[EfficiencyJob]) -> tuple[float, Basis]:
        """Return seconds for a plan's jobs, and what the least firm of them rests on."""
        # Repeats of a network on the same data cost the same.
        kinds = {(job.entry.name, job.task.name): job for job in todo}
        runs = {kind: self._run(job) for kind, job in kinds.items()}
        seconds = [runs[job.entry.name, job.task.name][0] for job in todo]
        basis = max((basis for _, basis in runs.values()), key=BASES.index, default=BASES[0])
        # Runs side by side end no sooner than the longest of them.
        training = max(sum(seconds) / len(self.hardware.slots), max(seconds, default=0.0))
        return self._efficiency() * len(measurements) + training, basis

    def _efficiency(self) -> float:
        """Return the seconds of a measurement; a GPU whose energy can be read is kept busy for that once more."""
        on_gpu = self.hardware.kind == "cuda"
        energy = ENERGY_SECONDS if on_gpu and importlib.util.find_spec("pynvml") is not None else 0.0
        return EFFICIENCY_S[self.hardware.kind] + energy

    def _run(self, job: TrainJob) -> tuple[float, Basis]:
        """Return a run's seconds at most and what they rest on."""
        images = self._images(job.task)
        if (known := self.known.get(self._key(job))) is not None:
            return known * images, "runs"
        size = job.task.input_size(self.protocol)
        if (found := self.figures.of(job.entry, size)) is not None:
            # A run with fewer threads than were measured with is taken to be slower in proportion.
            slower = max(found.threads / job.threads, 1.0) if self.hardware.kind == "cpu" else 1.0
            forward = found.latency.p50_ms / 1000 * size**2 / (found.height * found.width)
            return TRAINING_FACTOR * forward * slower * images, "latencies"
        macs = 1e9 * (job.entry.gmacs(size, size) or UNKNOWN_GMACS * (size / 512) ** 2)
        return TRAINING_FACTOR * macs / ASSUMED_MACS_PER_S[self.hardware.kind] * images, "macs"

    def forward(self, job: TrainJob) -> float:
        """Return about how many seconds a test takes per image."""
        return self._run(job)[0] / self._images(job.task) / TRAINING_FACTOR

    def remember(self, job: TrainJob, seconds: float) -> None:
        """Note how long a run took, testing included."""
        self.known[self._key(job)] = seconds / self._images(job.task)
        try:
            write_atomically(self.file, json.dumps(self.known, indent=0, sort_keys=True).encode())
        except UserError:
            return  # an estimate is not worth a study: the disk may be full

    def _images(self, task: Task) -> int:
        """Return how many images a run trains on at most, counting repetitions."""
        settings = self.protocol.training
        if settings.steps:
            return settings.steps * settings.batch
        return settings.epochs * sum(map(self._training_images, task.train))

    def _training_images(self, source: Source) -> int:
        split = self.protocol.split
        whole = tiles(source, self.protocol)[0]
        return max(split.counts[0] if split.counts else round(whole * (1 - split.validation - split.test)), 1)

    def _key(self, job: TrainJob) -> str:
        training, place = job.protocol.training, "cluster" if self.hardware.remote else device_name(job.device)
        facts = [job.entry.name, job.task.input_size(job.protocol), training.batch, training.mixed_precision]
        facts += [job.device.partition(":")[0], job.threads, place]
        return "|".join(map(str, facts if job.execution == "eager" else [*facts, job.execution]))


def tiles(source: Source, protocol: Protocol) -> tuple[int, int]:
    """Return how many tiles a dataset has and their side, if all its images are as large as the first."""
    height, width = source.shape if source.synthetic else read_size(source.pairs[0].image)
    side = min(protocol.input.tile_for(source.name), height, width)
    partial = protocol.input.partial_tiles
    rows, columns = (length // side + bool(partial and length % side) for length in (height, width))
    return (source.count or len(source.pairs)) * rows * columns, side


def test_images(source: Source, protocol: Protocol) -> int:
    """Return how many images a dataset's test part has, if it can be filled."""
    split = protocol.split
    return split.counts[2] if split.counts else round(tiles(source, protocol)[0] * split.test)

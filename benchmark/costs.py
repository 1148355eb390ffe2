"""What a study will cost: seconds, from times measured on this machine where there are any, and otherwise from MACs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import environment
from benchmark.data.datasets import Source
from benchmark.data.images import read_size
from benchmark.data.tasks import Task
from benchmark.errors import UserError
from benchmark.files import write_atomically
from benchmark.jobs import EfficiencyJob, TrainJob
from benchmark.protocol import Protocol

# Rough multiply-accumulates per second of a mid-range device in float32, for networks whose time is not yet known.
ASSUMED_MACS_PER_S = {"cpu": 2e10, "cuda": 3e12}
# A backward costs about two forwards: one for the inputs' gradients, one for the weights'.
TRAINING_FACTOR = 3
UNKNOWN_GMACS = 20.0  # assumed at 512x512 for a user's own network
THROUGHPUT_S = 1.0  # for all batch sizes together; `profile` takes its time
EFFICIENCY_S = 6.0  # per network and size: mostly the three seconds of the latency protocol


@dataclass(frozen=True)
class Hardware:
    """Where runs are computed.

    Attributes:
        device: ``cpu``, or the GPU that measurements are made on, as ``cuda:N``.
        threads: CPU threads of all workers together, and of a measurement, which has nothing beside it.
        workers: runs at a time, on each GPU where there are any.
        gpus: all GPUs that runs are spread over.
    """

    device: str
    threads: int
    workers: int = 1
    gpus: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.device.partition(":")[0]

    @property
    def slots(self) -> tuple[str | None, ...]:
        """A device for each run at a time; ``None`` for the one that a run names."""
        return self.workers * (self.gpus or (None,))

    @property
    def threads_each(self) -> int:
        """CPU threads of one run."""
        return max(self.threads // len(self.slots), 1)


class Costs:
    """Seconds per training image that earlier runs took on this machine, kept beside the packs, and what follows."""

    def __init__(self, protocol: Protocol, hardware: Hardware, cache: Path) -> None:
        """Read what is known."""
        self.protocol, self.hardware = protocol, hardware
        self.file = cache / "times.json"
        try:
            self.known: dict[str, float] = json.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError):
            self.known = {}  # nothing measured yet; a broken cache is made again

    def estimate(self, todo: Sequence[TrainJob], measurements: Sequence[EfficiencyJob]) -> tuple[float, bool]:
        """Return seconds for a plan's jobs and whether every run's time was measured here before."""
        seconds, measured = EFFICIENCY_S * len(measurements), True
        for job in todo:
            per_image = self.known.get(self._key(job))
            if per_image is None:
                measured = False
                size = job.task.input_size(self.protocol)
                macs = 1e9 * (job.entry.gmacs(size, size) or UNKNOWN_GMACS * (size / 512) ** 2)
                per_image = TRAINING_FACTOR * macs / ASSUMED_MACS_PER_S[self.hardware.kind]
            seconds += per_image * self._images(job.task) / len(self.hardware.slots)
        return seconds, measured

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
        tile = self.protocol.input.tile_for(source.name)
        # Images of one dataset are mostly of one size: the first one's header stands for all.
        height, width = source.shape if source.synthetic else read_size(source.pairs[0].image)
        whole = (source.count or len(source.pairs)) * max(height // tile, 1) * max(width // tile, 1)
        return max(split.counts[0] if split.counts else round(whole * (1 - split.validation - split.test)), 1)

    @staticmethod
    def _key(job: TrainJob) -> str:
        training = job.protocol.training
        facts = (job.entry.name, job.task.input_size(job.protocol), training.batch, training.mixed_precision)
        return "|".join(map(str, (*facts, job.device.partition(":")[0], job.threads, environment.cpu_name())))

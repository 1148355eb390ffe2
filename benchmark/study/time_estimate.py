"""Estimates a study's time from earlier runs, else from latencies, else from MACs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source
from benchmark.data.formats.images import read_size
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.efficiency_record import ENERGY_SECONDS
from benchmark.records.measurements import Figures, device_name
from benchmark.runs.jobs import EfficiencyJob, TrainJob
from benchmark.study.time_left import ExpectedJob, ExpectedStress, ExpectedWork
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically

# Rough multiply-accumulates per second of a mid-range device in float32, for networks without a measured time.
ASSUMED_MACS_PER_S = {"cpu": 2e10, "cuda": 3e12}
# A backward costs about two forwards: one for the gradients of the inputs, one for those of the weights.
TRAINING_FACTOR = 3
UNKNOWN_GMACS = 20.0  # assumed at 512x512 for a user's own network
THROUGHPUT_S = 1.0  # for all batch sizes together; `profile` takes its time
#: Of a measurement beside its timings: start of a process, memory, limits of the device.
EFFICIENCY_S = {"cpu": 4.0, "cuda": 3.0}
UNTIL_BUDGET = 4  # forwards that are measured even beyond the budget: a warm-up and three timings

#: A report on an idle core: one of 66 runs takes twenty seconds. The cache keeps a machine's factor.
REPORT, REPORT_S, REPORT_S_PER_RUN = "report", 10.0, 0.15

#: Source of an estimate, the most reliable first: times of runs, latencies of forwards, or expected MACs alone.
Basis = Literal["runs", "latencies", "macs"]
BASES: tuple[Basis, ...] = ("runs", "latencies", "macs")


class Costs:
    """Estimates seconds of runs; stores the seconds per training image of earlier runs beside the packs."""

    def __init__(self, protocol: Protocol, hardware: Hardware, cache: Path, figures: Figures) -> None:
        """Read the times of earlier runs from ``cache``; ``figures`` hold latencies for networks without such a run."""
        self.protocol, self.hardware, self.figures = protocol, hardware, figures
        self.file = cache / "times.json"
        try:
            self.known = TypeAdapter(dict[str, float]).validate_json(self.file.read_bytes())
        except (OSError, ValueError):
            self.known = {}  # nothing measured yet; a broken file is replaced

    def estimate(self, todo: Sequence[TrainJob], measurements: Sequence[EfficiencyJob]) -> tuple[float, Basis]:
        """Return seconds for a plan's jobs, and the least reliable source among them."""
        runs = self._kinds(todo)
        seconds = [runs[job.entry.name, job.task.name][0] for job in todo]
        basis = max((basis for _, basis in runs.values()), key=BASES.index, default=BASES[0])
        # Runs side by side end no sooner than the longest of them.
        training = max(sum(seconds) / len(self.hardware.slots), max(seconds, default=0.0))
        return sum(map(self.seconds, measurements)) + training, basis

    def expected(
        self, todo: Sequence[TrainJob], measurements: Sequence[EfficiencyJob], stress: ExpectedStress, runs: int
    ) -> ExpectedWork:
        """Return what the jobs of a plan, its stress tests and the report of all ``runs`` are expected to take."""
        jobs = {job.label: ExpectedJob(self.seconds(job), "efficiency", exclusive=True) for job in measurements}
        of_kinds = self._kinds(todo)
        for job in todo:
            seconds, basis = of_kinds[job.entry.name, job.task.name]
            early = job.protocol.training.patience is not None
            jobs[job.label] = ExpectedJob(seconds, job.entry.name, timed=basis == "runs", may_stop_early=early)
        return ExpectedWork(jobs, len(self.hardware.slots), stress, self.report_seconds(runs), REPORT in self.known)

    def report_seconds(self, runs: int) -> float:
        """Return an estimate of the seconds of a study's report."""
        return self.known.get(REPORT, 1.0) * (REPORT_S + REPORT_S_PER_RUN * runs)

    def remember_report(self, runs: int, seconds: float) -> None:
        """Store the seconds of a report."""
        self._store(REPORT, seconds / (REPORT_S + REPORT_S_PER_RUN * runs))

    def seconds(self, job: EfficiencyJob | TrainJob) -> float:
        """Return an estimate of the seconds of one job."""
        if isinstance(job, TrainJob):
            return self._run(job)[0]
        settings, kind = job.settings, self.hardware.kind
        forward, _ = self._forward(job.entry, job.size, job.threads)
        timed = settings.warm_up * forward + max(settings.min_iterations * forward, settings.min_seconds)
        timed += settings.throughput_seconds
        if settings.budget_seconds is not None:
            timed = max(min(timed, settings.budget_seconds), UNTIL_BUDGET * forward)
        # A GPU whose energy can be read runs longer for that.
        elif kind == "cuda" and importlib.util.find_spec("pynvml") is not None:
            timed += ENERGY_SECONDS
        return EFFICIENCY_S[kind] + timed

    def _kinds(self, jobs: Sequence[TrainJob]) -> dict[tuple[str, str], tuple[float, Basis]]:
        """Return network and training set -> :meth:`_run`: repeats of a network on the same data cost the same."""
        kinds = {(job.entry.name, job.task.name): job for job in jobs}
        return {kind: self._run(job) for kind, job in kinds.items()}

    def _run(self, job: TrainJob) -> tuple[float, Basis]:
        """Return an upper limit of a run's seconds, and its source."""
        images = self._images(job)
        if (known := self.known.get(self._key(job))) is not None:
            return known * images, "runs"
        forward, basis = self._forward(job.entry, job.task.input_size(self.protocol), job.threads)
        return TRAINING_FACTOR * forward * images, basis

    def _forward(self, entry: ModelEntry, size: int, threads: int) -> tuple[float, Basis]:
        """Return the seconds of a forward of one image, and their source."""
        kind = self.hardware.kind
        if (record := self.figures.of(entry, size, timed=True)) is not None:
            # With fewer threads than the measurement, a forward counts as slower in proportion.
            slower = max(record.threads / threads, 1.0) if kind == "cpu" else 1.0
            return record.latency.p50_ms / 1000 * size**2 / (record.height * record.width) * slower, "latencies"
        gmacs = entry.gmacs(size, size) or UNKNOWN_GMACS * (size / 512) ** 2
        return 1e9 * gmacs / ASSUMED_MACS_PER_S[kind], "macs"

    def forward(self, job: TrainJob) -> float:
        """Return an estimate of a test's seconds per image."""
        return self._run(job)[0] / self._images(job) / TRAINING_FACTOR

    def remember(self, job: TrainJob, seconds: float) -> None:
        """Store the seconds of a run, testing included."""
        self._store(self._key(job), seconds / self._images(job))

    def _store(self, key: str, value: float) -> None:
        self.known[key] = value
        with contextlib.suppress(UserError):  # a full disk must not end the study for an estimate
            write_atomically(self.file, json.dumps(self.known, indent=0, sort_keys=True).encode())

    def _images(self, job: TrainJob) -> int:
        """Return how many images a run trains on at most, counting repetitions."""
        settings, task = self.protocol.training.for_model(job.entry.name), job.task
        if settings.steps:
            return settings.steps * settings.batch
        split = self.protocol.split
        share = (1 - 1 / split.folds) * (1 - split.validation) if split.folds else 1 - split.validation - split.test
        counts = (
            split.counts[0] if split.counts else round(count_tiles(source, self.protocol)[0] * share)
            for source in task.train
        )
        return settings.epochs * sum(max(count, 1) for count in counts)

    def _key(self, job: TrainJob) -> str:
        training, name = job.protocol.training, "cluster" if self.hardware.remote else device_name(job.device)
        facts = [job.entry.name, job.task.input_size(job.protocol), training.batch, training.mixed_precision]
        facts += [job.device.partition(":")[0], job.threads, name]
        return "|".join(map(str, facts if job.execution == "eager" else [*facts, job.execution]))


def count_tiles(source: Source, protocol: Protocol) -> tuple[int, int]:
    """Return the number of a dataset's tiles and their side, if all its images are as large as the first."""
    height, width = source.shape if source.synthetic else read_size(source.pairs[0].image)
    side = min(protocol.input.tile_for(source.name), height, width)
    partial = protocol.input.partial_tiles
    rows, columns = (length // side + bool(partial and length % side) for length in (height, width))
    return (source.count or len(source.pairs)) * rows * columns, side


def count_test_images(source: Source, protocol: Protocol) -> int:
    """Return the number of images in a dataset's test part, if the dataset has enough images."""
    split = protocol.split
    share = 1 / split.folds if split.folds else split.test
    return split.counts[2] if split.counts else round(count_tiles(source, protocol)[0] * share)

"""Plans the stress tests of a study and draws their images."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmark.data import stressed
from benchmark.data.datasets import Source
from benchmark.data.synthetic import Stress
from benchmark.executors.events import Event, Note, Packing
from benchmark.records.store import WEIGHTS
from benchmark.records.weights import best_repeat
from benchmark.runs.jobs import StressJob, TrainJob
from benchmark.runs.staleness import run_name
from benchmark.study.study import Study
from benchmark.study.time_estimate import count_test_images
from benchmark.study.time_left import ExpectedStress
from benchmark.utils.errors import UserError

DRAWN_PIXELS_PER_S = 11 * 512 * 512  # of one core


@dataclass(frozen=True)
class PlannedStress:
    """Stress tests of one network that are left."""

    job: StressJob  # of the first repeat while the repeat with kept weights is unknown
    known: bool  # whether that repeat is known

    @property
    def label(self) -> str:
        """Name of the tests in terminal lines."""
        training = self.job.training
        return f"stress {training.task.name} {training.entry.name}" + (
            f" repeat {training.repeat}" if self.known else " (after its training)"
        )

    @property
    def summary(self) -> str:
        """The tests in a line: ``omc-syn as drawn; clouds 0.5, 1, 2; noise 2``."""
        parts = []
        for source in dict.fromkeys(source for source, _ in self.job.tests):
            stresses = [stress for tested, stress in self.job.tests if tested == source]
            named = ["as drawn"] if None in stresses else []
            by_name: dict[str, list[str]] = {}
            for stress in filter(None, stresses):
                by_name.setdefault(stress.name, []).append(f"{stress.strength:g}")
            named += [f"{name} {', '.join(strengths)}" for name, strengths in by_name.items()]
            parts.append(f"{source.name} {'; '.join(named)}")
        return "; ".join(parts)


def stress_jobs(study: Study, asked: Sequence[TrainJob]) -> list[StressJob]:
    """Return the tests that are left for the kept weights: those of the best repeat, or all."""
    jobs: list[StressJob] = []
    for runs in by_network(asked):
        tested = {run.repeat: run for run in runs if has_weights(run)}
        if tested and study.keep_weights == "best-repeat":
            best = best_repeat(study.store, runs[0].task.name, runs[0].entry.name, tested)
            tested = {best: tested[best]}
        complete = [_job(study, run, study.hashes.digest(run.folder / WEIGHTS)) for run in tested.values()]
        jobs += [replace(job, tests=left) for job in complete if (left := tuple(job.left()))]
    study.hashes.save()
    return jobs


def plan_stress(study: Study, asked: Sequence[TrainJob], todo: Sequence[TrainJob]) -> list[PlannedStress]:
    """Return the tests that are left, also of networks that are not trained yet.

    Raises:
        UserError: the weights of finished runs were not kept.
    """
    names = set(map(run_name, todo))
    planned = []
    for runs in by_network(asked):
        waiting = [run for run in runs if run_name(run) in names]
        if waiting and study.keep_weights == "best-repeat":
            planned.append(PlannedStress(_job(study, waiting[0], ""), known=False))
            continue  # the best repeat is known after the trainings
        planned += [PlannedStress(_job(study, run, ""), known=True) for run in waiting]
        if not waiting and not any(map(has_weights, runs)) and any(map(has_finished, runs)):
            raise UserError(
                f"--stress: no weights of {runs[0].entry.name} in {runs[0].folder.parent}, whose runs are done; "
                f"train them again in another --study, or leave {runs[0].entry.name} out of --models"
            )
        trained = [run for run in runs if run not in waiting]
        planned += [PlannedStress(job, known=True) for job in stress_jobs(study, trained)]
    return planned


def _job(study: Study, run: TrainJob, digest: str) -> StressJob:
    assert study.stress is not None
    return StressJob(run, tuple(itertools.product(run.task.test, study.stress.each)), digest)


def image_sets(planned: Sequence[PlannedStress]) -> dict[Source, int]:
    """Return how many sets of test images the tests need of each stand-in."""
    return dict(Counter(source for source, _, _ in _sets(stress.job for stress in planned)))


def _sets(jobs: Iterable[StressJob]) -> list[tuple[Source, Stress | None, int]]:
    """Return the sets of images that tests need, each once; all repeats share one unless each has its own fold."""
    return list(
        dict.fromkeys(
            (*test, job.training.repeat if job.training.protocol.split.folds else 0)
            for job in jobs
            for test in job.tests
        )
    )


def expected_stress(study: Study, planned: Sequence[PlannedStress]) -> ExpectedStress:
    """Return estimates of the time for drawing the images and for testing."""
    cores = os.cpu_count() or 1
    drawing = sum(
        count / (study.protocol.split.folds or 1) * source.count * math.prod(source.shape) / DRAWN_PIXELS_PER_S / cores
        for source, count in image_sets(planned).items()
    )
    tests: dict[str, list[float]] = {}
    for network in planned:
        forward = study.costs.forward(network.job.training) / len(study.hardware.slots)
        images = [count_test_images(source, study.protocol) for source, _ in network.job.tests]
        tests.setdefault(network.job.entry.name, []).extend(forward * count for count in images)
    return ExpectedStress(drawing, {name: (len(seconds), fmean(seconds)) for name, seconds in tests.items()})


def prepare_stress(study: Study, jobs: Sequence[StressJob], emit: Callable[[Event], None]) -> list[StressJob]:
    """Draw the images of all jobs, each set once; return the jobs without the tests that have no images.

    Raises:
        UserError: the images cannot be written.
    """
    empty: set[str] = set()
    for source, stress, repeat in _sets(jobs):
        name = f"{source.name} {stress or 'as drawn'}"
        pack = stressed.open_stressed(
            *(source, study.protocol, study.cache, stress),
            lambda *steps, name=name: emit(Packing(name, *steps)),
            repeat=repeat,
        )
        if not pack.tiles and source.name not in empty:
            empty.add(source.name)
            emit(Note(source.name, "no test images, so no stress tests"))
    remaining = (replace(job, tests=tuple(test for test in job.tests if test[0].name not in empty)) for job in jobs)
    return [job for job in remaining if job.tests]


def by_network(runs: Iterable[TrainJob]) -> list[list[TrainJob]]:
    """Group runs by training set and network."""
    networks: dict[tuple[str, str], list[TrainJob]] = {}
    for run in runs:
        networks.setdefault((run.task.name, run.entry.name), []).append(run)
    return list(networks.values())


def has_finished(run: TrainJob) -> bool:
    """Tell whether a run has ended with a result."""
    record = run.recorded()
    return record is not None and record.status == "ok"


def has_weights(run: TrainJob) -> bool:
    """Tell whether a run has ended with a result, and its weights are kept."""
    return (run.folder / WEIGHTS).is_file() and has_finished(run)

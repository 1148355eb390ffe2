"""Plans the stress tests of a study and draws their images."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from benchmark.data import stressed
from benchmark.data.datasets import Source
from benchmark.executors.events import Event, Note, Packing
from benchmark.records import weights
from benchmark.records.store import WEIGHTS
from benchmark.runs.jobs import StressJob, TrainJob
from benchmark.study.study import Study
from benchmark.study.time_estimate import test_images
from benchmark.utils.errors import UserError

DRAWN_PIXELS_PER_S = 11 * 512 * 512  # of one core


@dataclass(frozen=True)
class Planned:
    """Stress tests of one network that are left.

    Attributes:
        job: with the tests; of the first repeat where it is not known yet whose weights will be kept.
        known: whether it is.
    """

    job: StressJob
    known: bool

    @property
    def label(self) -> str:
        """How terminal lines call them."""
        training = self.job.training
        return f"stress {training.task.name} {training.entry.name}" + (
            f" repeat {training.repeat}" if self.known else " (after its training)"
        )

    @property
    def told(self) -> str:
        """Which tests, in a line: ``omc-syn as drawn; clouds 0.5, 1, 2; noise 2``."""
        parts = []
        for source in dict.fromkeys(source for source, _ in self.job.tests):
            stresses = [stress for of, stress in self.job.tests if of == source]
            named = ["as drawn"] if None in stresses else []
            by_name: dict[str, list[str]] = {}
            for stress in filter(None, stresses):
                by_name.setdefault(stress.name, []).append(f"{stress.strength:g}")
            named += [f"{name} {', '.join(strengths)}" for name, strengths in by_name.items()]
            parts.append(f"{source.name} {'; '.join(named)}")
        return "; ".join(parts)


def stress_jobs(study: Study, asked: Sequence[TrainJob]) -> list[StressJob]:
    """Return what is left of the tests of the weights that are kept: the best repeat's, or all of them."""
    made = []
    for runs in _by_network(asked):
        kept = {run.repeat: run for run in runs if _has_weights(run)}
        if kept and study.keep_weights == "best-repeat":
            first = runs[0]
            files = {repeat: run.folder / WEIGHTS for repeat, run in kept.items()}
            best = weights.best(study.store, first.task.name, first.entry.name, files)
            kept = {best: kept[best]}
        jobs = (_job(study, run, study.hashes.digest(run.folder / WEIGHTS)) for run in kept.values())
        made += [replace(job, tests=left) for job in jobs if (left := tuple(job.left()))]
    study.hashes.save()
    return made


def plan_stress(study: Study, asked: Sequence[TrainJob], todo: Sequence[TrainJob]) -> list[Planned]:
    """Return what is left, also of networks that are yet to be trained.

    Raises:
        UserError: finished runs whose weights were thrown away.
    """
    awaited = {(run.task.name, run.entry.name, run.repeat) for run in todo}
    planned = []
    for runs in _by_network(asked):
        waiting = [run for run in runs if (run.task.name, run.entry.name, run.repeat) in awaited]
        if waiting:
            planned.append(Planned(_job(study, waiting[0], ""), known=False))
        if waiting and study.keep_weights == "best-repeat":
            continue  # which repeat is the best one is seen at the end
        if not waiting and not any(map(_has_weights, runs)) and any(map(_has_finished, runs)):
            raise UserError(
                f"--stress: no weights of {runs[0].entry.name} in {runs[0].folder.parent}, whose runs are done; "
                f"train them again in another --study, or leave {runs[0].entry.name} out of --models"
            )
        planned += [Planned(job, known=True) for job in stress_jobs(study, [run for run in runs if run not in waiting])]
    return planned


def _job(study: Study, run: TrainJob, digest: str) -> StressJob:
    assert study.stress is not None
    return StressJob(run, digest, tuple(itertools.product(run.task.test, study.stress.each)))


def image_sets(planned: Sequence[Planned]) -> dict[Source, int]:
    """Return how many sets of test images the tests need of each stand-in."""
    tests = dict.fromkeys(test for network in planned for test in network.job.tests)
    return dict(Counter(source for source, _ in tests))


def stress_seconds(study: Study, planned: Sequence[Planned]) -> float:
    """Return about how long the tests take, their images drawn first."""
    cores = os.cpu_count() or 1
    drawing = sum(
        count * source.count * math.prod(source.shape) / DRAWN_PIXELS_PER_S / cores
        for source, count in image_sets(planned).items()
    )
    tests = sum(
        test_images(source, study.protocol) * study.costs.forward(one.job.training)
        for one in planned
        for source, _ in one.job.tests
    )
    return drawing + tests / len(study.hardware.slots)


def prepare_stress(study: Study, jobs: Sequence[StressJob], emit: Callable[[Event], None]) -> list[StressJob]:
    """Draw the images that jobs test on, once for all of them; return the jobs that have any.

    Raises:
        UserError: they cannot be written.
    """
    empty: set[str] = set()
    for source, stress in dict.fromkeys(test for job in jobs for test in job.tests):
        called = f"{source.name} {stress or 'as drawn'}"
        pack = stressed.open_stressed(
            source, study.protocol, study.cache, stress, lambda *of, name=called: emit(Packing(name, *of))
        )
        if not pack.tiles and source.name not in empty:
            empty.add(source.name)
            emit(Note(source.name, "no test images, so no stress tests"))
    kept = (replace(job, tests=tuple(test for test in job.tests if test[0].name not in empty)) for job in jobs)
    return [job for job in kept if job.tests]


def _by_network(runs: Iterable[TrainJob]) -> list[list[TrainJob]]:
    found: dict[tuple[str, str], list[TrainJob]] = {}
    for run in runs:
        found.setdefault((run.task.name, run.entry.name), []).append(run)
    return list(found.values())


def _has_finished(run: TrainJob) -> bool:
    found = run.recorded()
    return found is not None and found.status == "ok"


def _has_weights(run: TrainJob) -> bool:
    return (run.folder / WEIGHTS).is_file() and _has_finished(run)

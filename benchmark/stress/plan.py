"""Which stress tests a study is asked for, which of them are left, and drawing the images that all networks share."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmark import weights
from benchmark.costs import test_images
from benchmark.data import stressed
from benchmark.data.datasets import Source
from benchmark.data.synthetic import Stress
from benchmark.errors import UserError
from benchmark.executors import Event, Note, Packing
from benchmark.jobs import StressJob, TrainJob
from benchmark.store import WEIGHTS

if TYPE_CHECKING:
    from benchmark.study import Study

STRENGTHS = "0.5,1,2"
STRONGEST = 8.0  # a blur of 24 px, of tracks that are 22 px wide: beyond, nothing is left to be lost
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


@dataclass(frozen=True)
class Stresses:
    """What ``--stress`` and ``--strength`` ask for.

    Attributes:
        effects: each alone.
        strengths: of each; images as drawn are tested too.
    """

    effects: tuple[str, ...]
    strengths: tuple[float, ...]

    @classmethod
    def parse(cls, effects: str | None, strengths: str | None) -> Stresses | None:
        """Read the two flags; ``None`` where neither was given.

        Raises:
            UserError: an empty list, strengths of nothing, or one that is no number or out of range.
        """
        if effects is None:
            if strengths is not None:
                raise UserError(f"--strength {strengths}: of what? Add effects, such as --stress clouds,noise")
            return None
        names = tuple(dict.fromkeys(name.strip() for name in effects.split(",") if name.strip()))
        if not names:
            raise UserError("--stress is empty; expected effects, such as clouds,defocus,noise,roughness")
        return cls(
            names,
            tuple(
                sorted({_strength(text.strip()) for text in (STRENGTHS if strengths is None else strengths).split(",")})
            ),
        )

    @property
    def each(self) -> tuple[Stress | None, ...]:
        """As drawn, then every effect at every strength."""
        return (None, *(Stress(name, strength) for name in self.effects for strength in self.strengths))

    def refuse(self, sources: Iterable[Source], keep_weights: str) -> None:
        """Refuse what cannot be tested, before any work.

        Raises:
            UserError: datasets that are no stand-ins or lack an effect, or weights that are not kept.
        """
        if keep_weights == "none":
            raise UserError(
                "--stress: tests trained weights, which --keep-weights none throws away; use best-repeat or all"
            )
        stressed.refuse(sources, self.effects)

    def jobs(self, study: Study, asked: Sequence[TrainJob]) -> list[StressJob]:
        """Return what is left of the tests of the weights that are kept: the best repeat's, or all of them."""
        made = []
        for runs in _by_network(asked):
            kept = {run.repeat: run for run in runs if _has_weights(run)}
            if kept and study.keep_weights == "best-repeat":
                first = runs[0]
                files = {repeat: run.folder / WEIGHTS for repeat, run in kept.items()}
                best = weights.best(study.store, first.task.name, first.entry.name, files)
                kept = {best: kept[best]}
            jobs = (self._job(run, study.hashes.digest(run.folder / WEIGHTS)) for run in kept.values())
            made += [replace(job, tests=left) for job in jobs if (left := tuple(job.left()))]
        study.hashes.save()
        return made

    def plan(self, study: Study, asked: Sequence[TrainJob], todo: Sequence[TrainJob]) -> list[Planned]:
        """Return what is left, also of networks that are yet to be trained.

        Raises:
            UserError: finished runs whose weights were thrown away.
        """
        awaited = {(run.task.name, run.entry.name, run.repeat) for run in todo}
        planned = []
        for runs in _by_network(asked):
            waiting = [run for run in runs if (run.task.name, run.entry.name, run.repeat) in awaited]
            if waiting:
                planned.append(Planned(self._job(waiting[0], ""), known=False))
            if waiting and study.keep_weights == "best-repeat":
                continue  # which repeat is the best one is seen at the end
            if not waiting and not any(map(_has_weights, runs)) and any(map(_has_finished, runs)):
                raise UserError(
                    f"--stress: no weights of {runs[0].entry.name} in {runs[0].folder.parent}, whose runs are done; "
                    f"train them again in another --study, or leave {runs[0].entry.name} out of --models"
                )
            planned += [
                Planned(job, known=True) for job in self.jobs(study, [run for run in runs if run not in waiting])
            ]
        return planned

    def _job(self, run: TrainJob, digest: str) -> StressJob:
        return StressJob(run, digest, tuple(itertools.product(run.task.test, self.each)))

    def sets(self, planned: Sequence[Planned]) -> dict[Source, int]:
        """Return how many sets of test images the tests need of each stand-in."""
        needed = {(source, stress) for one in planned for source, stress in one.job.tests}
        return {source: sum(of == source for of, _ in needed) for source in dict.fromkeys(of for of, _ in needed)}

    def seconds(self, study: Study, planned: Sequence[Planned]) -> float:
        """Return about how long the tests take, their images drawn first."""
        cores = os.cpu_count() or 1
        drawing = sum(
            count * source.count * math.prod(source.shape) / DRAWN_PIXELS_PER_S / cores
            for source, count in self.sets(planned).items()
        )
        tests = sum(
            test_images(source, study.protocol) * study.costs.forward(one.job.training)
            for one in planned
            for source, _ in one.job.tests
        )
        return drawing + tests / len(study.hardware.slots)


def prepare(study: Study, jobs: Sequence[StressJob], emit: Callable[[Event], None]) -> list[StressJob]:
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


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= STRONGEST:
        raise UserError(
            f"--strength {text!r}: expected numbers above 0 and up to {STRONGEST:g}, such as {STRENGTHS}; "
            "1 is the hardest that a stand-in draws"
        )
    return value

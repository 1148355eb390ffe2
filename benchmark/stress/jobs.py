"""The unit of work of stress tests: one trained network on stand-ins with one effect forced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from benchmark import claims, logs
from benchmark.data.datasets import Source
from benchmark.data.synthetic import CONVENTION, STANDINS, Stress
from benchmark.jobs import Elsewhere, OnStep, TrainJob, fewer
from benchmark.records import Failure
from benchmark.registry import ModelEntry
from benchmark.store import Store
from benchmark.stress.records import StressRecord


@dataclass(frozen=True)
class StressJob:
    """Tests of one trained network on stand-ins with one effect forced.

    Attributes:
        training: the run whose weights are tested.
        weights: hash of their file.
        tests: what to test on: a stand-in, and what it is stressed by; as drawn where that is ``None``.
    """

    training: TrainJob
    weights: str
    tests: tuple[tuple[Source, Stress | None], ...]

    exclusive: ClassVar[bool] = False
    after_timeout: ClassVar[str] = "the tests that were done are kept"

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.training.study

    @property
    def entry(self) -> ModelEntry:
        """The network."""
        return self.training.entry

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``."""
        return self.training.device

    @property
    def variables(self) -> Mapping[str, str]:
        """What a worker's environment must hold from its start on."""
        return self.training.variables

    @property
    def label(self) -> str:
        """How terminal lines call the tests."""
        return f"{self.training.label} stress"

    @property
    def folder(self) -> Path:
        """Where the counts lie, and what is claimed while they are made."""
        training = self.training
        return Store(self.study).stress_folder(training.task.train_names, training.entry.name, training.repeat)

    @property
    def log(self) -> Path:
        """What the tests printed, and the stack of a crash."""
        return self.folder / "log.txt"

    @property
    def memory_advice(self) -> str:
        """What a user can do where memory runs out."""
        return fewer(self.device)

    def on(self, device: str) -> StressJob:
        """Return the same tests on another device."""
        return replace(self, training=self.training.on(device))

    def record(self, source: Source, stress: Stress | None) -> StressRecord:
        """Return what is kept beside the counts of a test."""
        training = self.training
        return StressRecord(
            key=training.key,
            behaviour=training.key_parts.behaviour,
            weights=self.weights,
            model=training.entry.name,
            train=training.task.train_names,
            repeat=training.repeat,
            test=source.name,
            images=source.fingerprint,
            convention=CONVENTION,
            standin_version=STANDINS[source.base].version,
            effect=stress.name if stress else None,
            strength=stress.strength if stress else None,
        )

    def left(self) -> list[tuple[Source, Stress | None]]:
        """Return the tests that have no counts yet, or those of other weights, images or code."""
        read = Store(self.study).read_stress
        return [test for test in self.tests if read(wanted := self.record(*test)) != wanted]

    def settled(self) -> StressRecord | None:
        """Return one of the records on disk if nothing is left to do."""
        return self.record(*self.tests[0]) if not self.left() else None

    def perform(self, on_step: OnStep) -> Failure | Elsewhere | None:
        """Do what is left in this process, unless another one does it or has done it since it was planned."""
        claim = claims.acquire(self.folder)
        if claim is None:
            return Elsewhere(None)
        with claim:
            if (found := self.settled()) is not None:
                return Elsewhere(found)
            from benchmark.stress import testing

            with logs.to_file(self.log):
                return testing.attempt(self, on_step)

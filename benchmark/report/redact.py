"""Removes names of images, messages, logs and paths from a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmark.records.run_record import Failure
from benchmark.records.store import Broken
from benchmark.report.read import Run, Scores, StudyResults

WITHHELD = "message withheld"


def redact_study(study: StudyResults) -> StudyResults:
    """Return the study with numbers in place of the names of images and frames, and nothing that a program said.

    Numbers follow the names' order and are padded with zeros, so that everything that is computed in the order of names
    comes out the same. Names of datasets, models and studies stay: a study is called by them.
    """
    images, groups = (_numbered(names) for names in _names(study))

    def with_numbers(scores: Scores) -> Scores:
        names = tuple(images[name] for name in scores.images)
        return replace(scores, images=names, groups=tuple(groups[name] for name in scores.groups))

    def without_names(scores: Scores) -> Scores:
        return replace(scores, images=("",) * len(scores.images), groups=("",) * len(scores.groups))

    def without_messages(run: Run) -> Run:
        failure = run.record.failure
        kept = Failure(kind=failure.kind, message=WITHHELD) if failure else None
        record = run.record.model_copy(update={"failure": kept})
        return replace(run, record=record, scores={test: with_numbers(scores) for test, scores in run.scores.items()})

    return replace(
        study,
        stressed=tuple(replace(test, scores=without_names(test.scores)) for test in study.stressed),
        broken_stress=tuple("a stress test cannot be read" for _ in study.broken_stress),
        runs=tuple(without_messages(run) for run in study.runs),
        references={
            dataset: {method: tuple(map(with_numbers, divisions)) for method, divisions in methods.items()}
            for dataset, methods in study.references.items()
        },
        broken=tuple(Broken(Path(broken.run), f"{broken.run}: its record cannot be read") for broken in study.broken),
    )


def _names(study: StudyResults) -> tuple[list[str], list[str]]:
    """Return all names of images and of frames, in order."""
    counts = [scores for run in study.runs for scores in run.scores.values()]
    counts += [
        scores for methods in study.references.values() for divisions in methods.values() for scores in divisions
    ]
    images = {name for scores in counts for name in scores.images}
    return sorted(images), sorted({name for scores in counts for name in scores.groups})


def _numbered(names: list[str]) -> dict[str, str]:
    width = len(str(len(names)))
    return {name: f"{number:0{width}d}" for number, name in enumerate(names, 1)}

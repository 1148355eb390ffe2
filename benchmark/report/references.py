"""Checks that methods without training were tested on the same images as the runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmark.config.protocol import Protocol
from benchmark.records.store import Store

if TYPE_CHECKING:
    from benchmark.report.read import Run, Scores, StudyResults


def stranger(store: Store, protocol: Protocol, runs: Sequence[Run], dataset: str, scores: Scores) -> str:
    """Say why the scores of a method without training must not stand beside a study's runs; blank where they may."""
    tested = [run for run in runs if dataset in run.scores]
    reasons = []
    if any(_images(run.scores[dataset]) != _images(scores) for run in tested):
        reasons.append("tested on other images than the runs")
    fingerprints = store.read_split(dataset).get("fingerprint", [])
    of_runs = {part for run in tested for part in re.split("[+>]", run.record.key_parts.data)}
    if tested and fingerprints and of_runs.isdisjoint(fingerprints):
        reasons.append("made from other content of the dataset than the runs")
    if (shared := store.shared(dataset)) is not None:
        if shared.protocol != protocol.digest():
            reasons.append("made under other settings than the study's protocol.toml")
        if tested and shared.behaviour not in {run.record.key_parts.behaviour for run in tested}:
            reasons.append("counted by another release's rules than the runs")
    return " and ".join(reasons)


def divided(study: StudyResults) -> Iterator[str]:
    """Yield a sentence for each test dataset whose runs in one study were tested on different images."""
    for test in dict.fromkeys(test for run in study.runs for test in run.scores):
        first: dict[frozenset[tuple[str, str]], str] = {}
        for run in study.runs:
            if test in run.scores:
                first.setdefault(_images(run.scores[test]), run.record.label)
        if len(first) > 1:
            yield f"{test}: {' and '.join(first.values())} were tested on different images"


def _images(scores: Scores) -> frozenset[tuple[str, str]]:
    return frozenset(zip(scores.images, scores.groups, strict=True))

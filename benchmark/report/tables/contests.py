"""What is compared: one metric on one test dataset, by model and repeat."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmark import metrics
from benchmark.metrics.significance import Clustered
from benchmark.report.read import Scores, StudyResults
from benchmark.report.tables import accuracy_table as tables
from benchmark.report.tables.render import Block, Row


@dataclass(frozen=True)
class Contest:
    """One metric of the models of one block of the accuracy table.

    Attributes:
        key: names it inside file names and LaTeX labels.
        where: on which dataset, and after which training if on another; follows a metric's name.
        facts: what the figures depend on, by name.
        metric: what is compared.
        reduction: how it is taken over images.
        rows: the models, in the table's order.
        scores: model -> repeat -> the counts of a finished run.
    """

    key: str
    where: str
    facts: Mapping[str, str | int]
    metric: metrics.Metric
    reduction: metrics.Reduction
    rows: tuple[Row, ...]
    scores: Mapping[str, Mapping[int, Scores]]

    def values(self, model: str) -> dict[int, float]:
        """Return the metric by repeat; a repeat in which it has no value is absent."""
        reduced = {repeat: scores.reduced[self.reduction] for repeat, scores in self.scores[model].items()}
        return {repeat: found[self.metric.name] for repeat, found in reduced.items() if self.metric.name in found}

    def common(self, model: str, other: str) -> list[int]:
        """Return the repeats in which both have a value."""
        return sorted(self.values(model).keys() & self.values(other).keys())

    def same_images(self, models: Iterable[str]) -> bool:
        """Tell whether all finished runs of the models were tested on the same images of the same frames."""
        tested = {
            tuple(sorted(zip(found.images, found.groups, strict=True)))
            for model in models
            for found in self.scores[model].values()
        }
        return len(tested) < 2

    def frames(self, model: str) -> int:
        """Return how many source frames a model's test images with a counted pixel come from."""
        found = next(iter(self.scores[model].values()))
        return len(set(itertools.compress(found.groups, metrics.judged(found.columns))))

    def networks(self, model: str, repeats: Sequence[int]) -> Clustered:
        """Return the metric's terms per source frame of a model's networks, tested on the same images."""
        chosen = [self.scores[model][repeat] for repeat in repeats]
        return Clustered.of([(found.columns, found.groups) for found in chosen], self.metric.name, self.reduction)


def contest(study: StudyResults, block: Block, metric: str, reduction: metrics.Reduction) -> Contest:
    """Collect the runs of a block of the accuracy table."""
    train, test = str(block.facts["train"]), str(block.facts["dataset"])
    rows = tuple(row for row in block.rows if row.ranked)
    scores: dict[str, dict[int, Scores]] = {row.key: {} for row in rows}
    for run in study.runs:
        record = run.record
        if record.model in scores and "+".join(record.train) == train and test in run.scores:
            scores[record.model][record.repeat] = run.scores[test]
    images = sorted({found.judged for of_model in scores.values() for found in of_model.values()})
    facts = {name: block.facts[name] for name in ("dataset", "train", "protocol")}
    tested = " or ".join(map(str, images)) or block.facts["test_images"]
    facts |= {"test_images": tested, "metric": metric, "reduction": reduction}
    return Contest(
        key=block.key,
        where=block.title.removeprefix(tables.ACCURACY.title).strip(),
        facts=facts,
        metric=metrics.METRICS[metric],
        reduction=reduction,
        rows=rows,
        scores=scores,
    )


def contests(study: StudyResults, blocks: Iterable[Block]) -> list[Contest]:
    """Return for each block mIoU under the protocol's reduction, and the net error rate or the vias' F1, pooled."""
    if study.protocol is None:
        return []
    found = []
    for block in blocks:
        found.append(contest(study, block, "miou", study.protocol.report.reduction))
        for metric in ("net_error_rate", "via_f1"):
            electrical = contest(study, block, metric, "pooled")
            if any(electrical.values(row.key) for row in electrical.rows):
                found.append(electrical)
    return found

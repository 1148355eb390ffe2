"""Compares a block's models by one metric, over repeats and source frames."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import SupportsFloat

import numpy as np

from benchmark import metrics
from benchmark.metrics import significance
from benchmark.metrics.definitions import Counts
from benchmark.metrics.significance import Clustered
from benchmark.report.read import StudyResults
from benchmark.report.scores import Scores
from benchmark.report.tables.accuracy_table import ACCURACY
from benchmark.report.tables.conventions import display, in_all_tests
from benchmark.report.tables.render import Block, Row, noun_of


@dataclass(frozen=True)
class Contest:
    """One metric of the models of one block of the accuracy table.

    Attributes:
        key: names it inside file names and LaTeX labels.
        where: on which dataset, and after which training if on another; follows a metric's name.
        facts: what the figures depend on, by name.
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
        reduced = ((repeat, scores.reduced[self.reduction]) for repeat, scores in self.scores[model].items())
        return {repeat: values[self.metric.name] for repeat, values in reduced if self.metric.name in values}

    def common(self, model: str, other: str) -> list[int]:
        """Return the repeats in which both have a value."""
        return sorted(self.values(model).keys() & self.values(other).keys())

    @property
    def noun(self) -> str:
        """Repeat or fold: the word for one of the runs that its figures are means over."""
        return noun_of(self.facts)

    @property
    def test_to_training(self) -> float:
        """Number of test images by that of the others, on which the trainings of folds overlap; 0 without folds."""
        return 1 / (int(self.facts["folds"]) - 1) if "folds" in self.facts else 0.0

    def same_images(self, models: Iterable[str]) -> bool:
        """Tell whether all finished runs of the models were tested on the same images of the same frames."""
        return len({images for of_repeat in self._images(models).values() for images in of_repeat}) < 2

    def same_images_by_fold(self, models: Iterable[str]) -> bool:
        """Tell whether the models' runs of a fold were tested on the same images, and on none of another fold."""
        images = self._images(models).values()
        everything = [image for of_fold in images for image in next(iter(of_fold))]
        return all(len(of_fold) == 1 for of_fold in images) and len(set(everything)) == len(everything)

    def _images(self, models: Iterable[str]) -> dict[int, set[tuple[tuple[str, str], ...]]]:
        """Return the sets of images, with their frames, that runs of each repeat were tested on."""
        images: dict[int, set[tuple[tuple[str, str], ...]]] = {}
        for model in models:
            for repeat, scores in self.scores[model].items():
                tested = tuple(sorted(zip(scores.images, scores.groups, strict=True)))
                images.setdefault(repeat, set()).add(tested)
        return images

    def frames(self, model: str) -> int:
        """Return how many source frames a model's test images with a counted pixel come from."""
        tested = (
            itertools.compress(scores.groups, metrics.judged(scores.columns)) for scores in self.scores[model].values()
        )
        return len(set(itertools.chain.from_iterable(tested)))

    def networks(self, model: str, repeats: Sequence[int]) -> Clustered:
        """Return the metric's terms per source frame of a model's networks, tested on the same images.

        The networks of folds count as one that was tested on the images of all of them.
        """
        chosen = [self.scores[model][repeat] for repeat in repeats]
        networks: list[tuple[Counts, Sequence[str]]] = [(scores.columns, scores.groups) for scores in chosen]
        if self.noun == "fold":
            shared = set.intersection(*({*scores.columns} for scores in chosen))
            columns = {name: np.concatenate([scores.columns[name] for scores in chosen]) for name in shared}
            networks = [(columns, [group for scores in chosen for group in scores.groups])]
        return Clustered.of(networks, self.metric.name, self.reduction)


def contest(study: StudyResults, block: Block, metric: str, reduction: metrics.Reduction) -> Contest:
    """Collect the runs of a block of the accuracy table."""
    rows = tuple(row for row in block.rows if row.ranked)
    by_model = study.scores_of(str(block.facts["train"]), str(block.facts["dataset"]))
    scores = {row.key: by_model.get(row.key, {}) for row in rows}
    judged = ((repeat, counts.judged) for by_repeat in scores.values() for repeat, counts in by_repeat.items())
    facts = {name: block.facts[name] for name in ("dataset", "train", "protocol", "folds") if name in block.facts}
    tested = in_all_tests(judged, noun_of(facts)) or block.facts["test_images"]
    facts |= {"test_images": tested, "metric": metric, "reduction": reduction}
    where = block.title.removeprefix(ACCURACY.title).strip()
    return Contest(block.key, where, facts, metrics.METRICS[metric], reduction, rows, scores)


def contests(study: StudyResults, blocks: Iterable[Block]) -> list[Contest]:
    """Return for each block mIoU under the protocol's reduction, and the net error rate or the vias' F1, pooled."""
    if study.protocol is None:
        return []
    every: list[Contest] = []
    for block in blocks:
        every.append(contest(study, block, "miou", study.protocol.report.reduction))
        electrical = [contest(study, block, metric, "pooled") for metric in ("net_error_rate", "via_f1")]
        every += [rated for rated in electrical if any(rated.values(row.key) for row in rated.rows)]
    return every


@dataclass(frozen=True)
class PairedComparison:
    """One model against the reference; fields that no test fills are ``None``.

    Attributes:
        row: the model.
        n: repeats that it shares with the reference.
        difference: of the metric, model minus reference; ``low`` and ``high`` are the ends of its 95 % interval.
        p: uncorrected.
        p_holm: corrected over the models of the block.
        remark: why there is no test, or fewer repeats.
    """

    row: Row
    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    remark: str = ""

    def verdict(self, metric: metrics.Metric) -> str:
        """Return what a test over repeats says of the method."""
        if self.p_holm is None or self.difference is None:
            return "no test"
        if self.p_holm >= significance.ALPHA:
            return "no difference shown"
        return "better" if (self.difference > 0) == metric.higher_is_better else "worse"


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of one contest, or why there are none.

    Attributes:
        pairs: a comparison per model beside the reference.
        clusters: source frames of the test images, where they are what was resampled.
        why_not: a sentence instead of a test.
        absent: the reference is not among the models.
    """

    contest: Contest
    pairs: tuple[PairedComparison, ...] = ()
    clusters: int = 0
    why_not: str = ""
    absent: bool = False

    @property
    def tested(self) -> list[PairedComparison]:
        """The family that Holm corrects over."""
        return [pair for pair in self.pairs if pair.difference is not None]


def _others(contest: Contest, reference: str) -> list[Row]:
    return [row for row in contest.rows if row.key != reference]


def _why_alone(contest: Contest, reference: str) -> str:
    """Say why no model can be compared, whatever the test; blank where one can."""
    label = display(reference)[0]
    if reference not in contest.scores:
        return f"No test: {label}, which every model is compared with, was not trained and tested here."
    if not _others(contest, reference):
        return f"No test: {label} is the only model here."
    if not contest.values(reference):
        return f"No test: no run of {label} has a value here."
    return ""


def over_repeats(contest: Contest, reference: str) -> Comparisons:
    """Test over repeats, which says something about the methods."""
    if why_not := _why_alone(contest, reference):
        return Comparisons(contest, why_not=why_not, absent=reference not in contest.scores)
    theirs = contest.values(reference)
    pairs = []
    for row in _others(contest, reference):
        ours, repeats = contest.values(row.key), contest.common(row.key, reference)
        if len(repeats) < 2:
            pairs.append(_untested(row, len(repeats), contest.noun))
            continue
        sides = ([values[repeat] for repeat in repeats] for values in (ours, theirs))
        t = significance.paired_t(*sides, test_to_training=contest.test_to_training)
        constant = "" if math.isfinite(t.p) else f"no test: the difference is the same in every {contest.noun}"
        low, high, p = map(_number, (t.low, t.high, t.p))
        remark = _joined(row.remark, constant)
        pairs.append(PairedComparison(row, len(repeats), float(t.mean), low, high, p, remark=remark))
    most = max(comparison.n for comparison in pairs)
    if most < 2:
        why_not = (
            f"No test: no model has more than {'one' if most else 'no'} {contest.noun} in common with "
            f"{display(reference)[0]}, "
            "and it takes two at least: one training of each says nothing about the methods."
        )
        return Comparisons(contest, why_not=why_not)
    return Comparisons(contest, tuple(_corrected(pairs)))


def over_frames(contest: Contest, reference: str) -> Comparisons:
    """Test over source frames, which says something about these trained networks only."""
    if why_not := _why_alone(contest, reference):
        return Comparisons(contest, why_not=why_not, absent=reference not in contest.scores)
    same_images = contest.same_images_by_fold if contest.noun == "fold" else contest.same_images
    if not same_images(row.key for row in contest.rows):
        return Comparisons(contest, why_not="No test: the runs were not tested on the same images.")
    frames = contest.frames(reference)
    if frames < 2:
        return Comparisons(contest, why_not="No test: all test images come from one source frame.")
    pairs = []
    # Most models share the same repeats with the reference.
    of_reference = functools.cache(lambda repeats: contest.networks(reference, repeats))
    for row in _others(contest, reference):
        repeats = tuple(contest.common(row.key, reference))
        if not repeats:
            pairs.append(_untested(row, 0, contest.noun))
            continue
        ours, theirs = contest.networks(row.key, repeats), of_reference(repeats)
        difference, *ends = significance.paired_interval(ours, theirs)
        low, high, p = map(_number, (*ends, significance.sign_flip(ours, theirs)))
        pairs.append(PairedComparison(row, len(repeats), difference, low, high, p, remark=row.remark))
    if not any(comparison.n for comparison in pairs):
        label = display(reference)[0]
        return Comparisons(contest, why_not=f"No test: no model has a {contest.noun} in common with {label}.")
    return Comparisons(contest, tuple(_corrected(pairs)), frames)


def _corrected(pairs: list[PairedComparison]) -> list[PairedComparison]:
    tested = [pair for pair in pairs if pair.difference is not None]
    adjusted = significance.holm([math.nan if pair.p is None else pair.p for pair in tested])
    corrected = {pair.row.key: _number(p) for pair, p in zip(tested, adjusted, strict=True)}
    return [replace(pair, p_holm=corrected.get(pair.row.key)) for pair in pairs]


def _number(value: SupportsFloat) -> float | None:
    return None if math.isnan(value) else float(value)


def _untested(row: Row, n: int, noun: str) -> PairedComparison:
    few = f"no test: {'one' if n else 'no'} {noun} in common"
    return PairedComparison(row, n, remark=_joined(row.remark, few))


def _joined(*remarks: str) -> str:
    return "; ".join(filter(None, remarks))

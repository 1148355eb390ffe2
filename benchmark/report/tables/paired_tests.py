"""Every model of a contest against one reference model: tests over repeats, and over source frames."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

from benchmark import metrics
from benchmark.metrics import significance as tests
from benchmark.report.tables import conventions
from benchmark.report.tables.contests import Contest
from benchmark.report.tables.render import Row


@dataclass(frozen=True)
class PairedComparison:
    """One model against the reference; fields that no test fills are ``None``.

    Attributes:
        row: the model.
        n: repeats that it shares with the reference.
        difference: of the metric, model minus reference.
        low: lower end of its 95 % interval.
        high: upper end.
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
        if self.p_holm >= tests.ALPHA:
            return "no difference shown"
        return "better" if (self.difference > 0) == metric.higher_is_better else "worse"


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of one contest, or why there are none.

    Attributes:
        contest: what was compared.
        made: one per model beside the reference.
        clusters: source frames of the test images, where they are what was resampled.
        why_not: a sentence instead of a test.
        absent: the reference is not among the models.
    """

    contest: Contest
    made: tuple[PairedComparison, ...] = ()
    clusters: int = 0
    why_not: str = ""
    absent: bool = False

    @property
    def tested(self) -> list[PairedComparison]:
        """The family that Holm corrects over."""
        return [one for one in self.made if one.difference is not None]


def _others(contest: Contest, reference: str) -> list[Row]:
    return [row for row in contest.rows if row.key != reference]


def _why_alone(contest: Contest, reference: str) -> str:
    """Say why no model can be compared, whatever the test; blank where one can."""
    label = conventions.display(reference)[0]
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
    made = []
    for row in _others(contest, reference):
        ours, repeats = contest.values(row.key), contest.common(row.key, reference)
        if len(repeats) < 2:
            made.append(PairedComparison(row, len(repeats), remark=_joined(row.remark, _few(len(repeats)))))
            continue
        found = tests.paired_t([ours[repeat] for repeat in repeats], [theirs[repeat] for repeat in repeats])
        p = _number(found.p)
        remark = "no test: the difference is the same in every repeat" if p is None else ""
        made.append(
            PairedComparison(
                row, len(repeats), float(found.mean), _number(found.low), _number(found.high), p,
                remark=_joined(row.remark, remark),
            )
        )  # fmt: skip
    most = max(one.n for one in made)
    if most < 2:
        label = conventions.display(reference)[0]
        here = "one repeat" if most else "no repeat"
        return Comparisons(
            contest,
            why_not=f"No test: no model has more than {here} in common with {label}, and it takes two at least: one "
            "training of each says nothing about the methods.",
        )
    return Comparisons(contest, tuple(_corrected(made)))


def over_frames(contest: Contest, reference: str) -> Comparisons:
    """Test over source frames, which says something about these trained networks only."""
    if why_not := _why_alone(contest, reference):
        return Comparisons(contest, why_not=why_not, absent=reference not in contest.scores)
    if not contest.same_images(row.key for row in contest.rows):
        return Comparisons(contest, why_not="No test: the runs were not tested on the same images.")
    frames = contest.frames(reference)
    if frames < 2:
        return Comparisons(contest, why_not="No test: all test images come from one source frame.")
    made = []
    # Most models share the same repeats with the reference.
    of_reference = functools.cache(lambda repeats: contest.networks(reference, repeats))
    for row in _others(contest, reference):
        repeats = tuple(contest.common(row.key, reference))
        if not repeats:
            made.append(PairedComparison(row, 0, remark=_joined(row.remark, _few(0))))
            continue
        ours, theirs = contest.networks(row.key, repeats), of_reference(repeats)
        difference, low, high = tests.paired_interval(ours, theirs)
        p = tests.sign_flip(ours, theirs)
        made.append(
            PairedComparison(
                row, len(repeats), difference, _number(low), _number(high), _number(p), remark=row.remark
            )
        )  # fmt: skip
    if not any(one.n for one in made):
        label = conventions.display(reference)[0]
        return Comparisons(contest, why_not=f"No test: no model has a repeat in common with {label}.")
    return Comparisons(contest, tuple(_corrected(made)), frames)


def _corrected(made: list[PairedComparison]) -> list[PairedComparison]:
    tested = [one for one in made if one.difference is not None]
    adjusted = tests.holm([math.nan if one.p is None else one.p for one in tested])
    corrected = {one.row.key: _number(p) for one, p in zip(tested, adjusted, strict=True)}
    return [replace(one, p_holm=corrected.get(one.row.key)) for one in made]


def _number(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return None if math.isnan(number) else number


def _few(n: int) -> str:
    return "no test: no repeat in common" if n == 0 else "no test: one repeat in common"


def _joined(*remarks: str) -> str:
    return "; ".join(filter(None, remarks))

"""Plots all models of a dataset: means, intervals, repeats, and ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.metrics import significance
from benchmark.report.plots import axis_limits, rows
from benchmark.report.plots.plot_style import INK, STYLE, STYLES, family_handles, tag
from benchmark.report.read import StudyResults
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.report.tables.contests import Contest, contest
from benchmark.report.tables.conventions import other_counts
from benchmark.report.tables.render import Block, Row
from benchmark.utils.words import counted

LINES: tuple[tuple[float, tuple[float, ...]], ...] = (  # of methods without training, in their order
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (9, 3)),
)
BAR_INCHES, BARS_INCHES = 0.13, 1.6  # from one group to the next, and for all of them at most
EDGE, HEAD = 0.06, 0.008  # shares of the axis: left free on either side; between an end and an arrowhead


@dataclass(frozen=True)
class Groups:
    """Groups of models without a shown difference.

    Attributes:
        members: positions of models, from the highest mean; a group of one is left out.
        pairs: number of pairs of models.
        tested: number of pairs with two repeats in common and a difference that varies.
        verdicts: positions of two models, the higher mean first -> the verdict about the first one.
    """

    members: tuple[tuple[int, ...], ...]
    pairs: int
    tested: int
    verdicts: Mapping[tuple[int, int], str]


@dataclass(frozen=True)
class _Reference:
    """A method without training: its legend entry, and its line's position; ``None`` for one beyond the axis."""

    handle: Line2D
    style: tuple[float, tuple[float, ...]]
    x: float | None


@dataclass(frozen=True)
class Standing:
    """The models of a block of the accuracy table, compared.

    Attributes:
        contest: the metric, the models and their runs.
        ranked: the models that have a value, from the highest mean.
        alike: groups of them without a shown difference.
        intervals: model -> 95 % interval of the mean, as fractions; not a number where there is none.
        references: label of a method without training -> its value.
    """

    contest: Contest
    ranked: tuple[Row, ...]
    alike: Groups
    intervals: Mapping[str, tuple[float, float]]
    references: Mapping[str, float]

    @property
    def title(self) -> str:
        """Of the plot."""
        return f"{self.contest.metric.display} {self.contest.where}"

    @property
    def x_title(self) -> str:
        """Of the axis."""
        return f"{self.contest.metric.display} (%), {self.contest.reduction} reduction"

    @property
    def joined(self) -> tuple[tuple[int, ...], ...]:
        """The groups that are drawn; none without a test."""
        return self.alike.members if self.alike.tested else ()

    @property
    def footnote(self) -> str:
        """Of intervals and groups: method, test and numbers."""
        return _footnote(self)

    def percent(self, model: str) -> list[float]:
        """Return a model's repeats in percent."""
        return [100 * value for value in self.contest.values(model).values()]

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The ends of the axis: it reaches for a method without training, but not far."""
        bars = []
        for row in self.ranked:
            values, interval = self.percent(row.key), [100 * end for end in self.intervals[row.key]]
            ends = [*values, *(end for end in interval if not math.isnan(end))]
            bars.append((float(np.mean(values)), min(ends), max(ends)))
        low, high = axis_limits.with_bars(bars)
        references = [100 * value for value in self.references.values()]
        # A lone network is compared with these methods alone.
        reach = max(0.5 * (high - low), 0.5) if len(self.ranked) > 1 else math.inf
        near = [value for value in references if low - reach <= value <= high + reach]
        low, high = min([low, *near]), max([high, *near])
        edge = max(EDGE * (high - low), 0.1)
        return low - edge, high + edge

    def outside(self, model: str) -> str:
        """Return an arrow and the mean of a model whose mean lies beyond the axis; blank for others."""
        mean, (left, right) = float(np.mean(self.percent(model))), self.limits
        return f"◀ {mean:.2f}" if mean < left else f"{mean:.2f} ▶" if mean > right else ""


def standings(study: StudyResults, blocks: Sequence[Block]) -> list[Standing]:
    """Compare the models and methods of each block of the accuracy table in which a run has finished."""
    if study.protocol is None:
        return []
    collected = []
    for block in blocks:
        compared = contest(study, block, "miou", study.protocol.report.reduction)
        ranked = tuple(in_order(compared))
        untrained = [row for row in block.rows if row.family == "reference" and "miou" in row.cells]
        references = {row.label: row.cells["miou"].mean for row in untrained}
        if ranked and len(ranked) + len(references) > 1:  # a single mark shows nothing that its row does not
            intervals = {row.key: _interval(compared, row.key) for row in ranked}
            collected.append(Standing(compared, ranked, groups(compared, ranked), intervals, references))
    return collected


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per block of the accuracy table in which a run has finished.

    Yields:
        The file name without its ending, and the figure.
    """
    for standing in standings(study, scores(study, ACCURACY).blocks):
        yield f"{standing.contest.key}.comparison", _figure(standing)


def in_order(contest: Contest) -> list[Row]:
    """Return the models that have a value, from the highest mean."""
    means = {
        row.key: float(np.mean(list(values.values()))) for row in contest.rows if (values := contest.values(row.key))
    }
    return sorted((row for row in contest.rows if row.key in means), key=lambda row: -means[row.key])


def groups(contest: Contest, ranked: Sequence[Row]) -> Groups:
    """Test every pair of models over repeats, Holm-corrected over all pairs."""
    values = [contest.values(row.key) for row in ranked]
    pairs = list(itertools.combinations(range(len(ranked)), 2))
    p, differences = [], []
    for first, second in pairs:
        repeats = sorted(values[first].keys() & values[second].keys())
        sides = ([values[side][repeat] for repeat in repeats] for side in (first, second))
        t = significance.paired_t(*sides, test_to_training=contest.test_to_training) if repeats else None
        p.append(float(t.p) if t else math.nan)
        differences.append(float(t.mean) if t else math.nan)
    different = np.zeros((len(ranked), len(ranked)), dtype=bool)
    verdicts = {}
    for pair, difference, adjusted in zip(pairs, differences, significance.holm(p), strict=True):
        different[pair] = different[pair[::-1]] = adjusted < significance.ALPHA
        better = (difference > 0) == contest.metric.higher_is_better
        verdicts[pair] = ("better" if better else "worse") if different[pair] else "no difference shown"
        if math.isnan(adjusted):
            verdicts[pair] = "no test"
    alike = tuple(group for group in significance.alike(different) if len(group) > 1)
    return Groups(alike, len(pairs), sum(not math.isnan(p_of_pair) for p_of_pair in p), verdicts)


def _figure(standing: Standing) -> Figure:
    ranked, shown = standing.ranked, standing.joined
    left, right = standing.limits
    drawn = not all(math.isnan(low) for low, _ in standing.intervals.values())
    with matplotlib.style.context(STYLE, after_reset=True):
        lines = _references(standing.references, left, right)
        figure, axes = rows.frame(
            standing.title,
            ranked,
            _legend(
                ranked,
                [line.handle for line in lines],
                intervals=drawn,
                grouped=bool(shown),
                single=f"Single {standing.contest.noun}",
            ),
            standing.footnote,
            right_inches=0.2 + _bar_inches(shown) * (len(shown) + bool(shown)),
        )
        figure.set_gid(str(standing.contest.facts["dataset"]))
        for height, row in enumerate(ranked):
            _draw_row(axes, height, row, standing)
        for line in lines:
            if line.x is not None:
                axes.axvline(line.x, color=INK, linewidth=1.0, linestyle=line.style, zorder=1)
        axes.set_xlim(left, right)
        axes.set_xlabel(standing.x_title)
        _draw_groups(axes, shown)
    return figure


def _interval(contest: Contest, model: str) -> tuple[float, float]:
    if _why_none(contest, model):
        return math.nan, math.nan
    return significance.two_level_bootstrap(contest.networks(model, sorted(contest.values(model))))


def _why_none(contest: Contest, model: str) -> str:
    """Say why a model has no interval; blank if it has one."""
    if not contest.same_images([model]):
        return f"{contest.noun}s saw different images"
    repeats = contest.values(model)
    frames = {group for repeat in repeats for group in contest.scores[model][repeat].groups}
    return f"one {contest.noun} on one source frame has no spread" if len(repeats) == len(frames) == 1 else ""


def _draw_row(axes: Axes, height: int, row: Row, standing: Standing) -> None:
    marker, colour, size = STYLES[row.family]
    values, interval = standing.percent(row.key), standing.intervals[row.key]
    left, right = standing.limits
    artists: list[Artist] = []
    noun = standing.contest.noun
    interval_text = f"no interval, since {_why_none(standing.contest, row.key)}"
    if not math.isnan(interval[0]):
        low, high = (100 * end for end in interval)
        interval_text = f"95 % interval [{low:.2f}, {high:.2f}]"
        bar = axes.errorbar(
            (low + high) / 2, height, xerr=(high - low) / 2, fmt="none", ecolor=colour, elinewidth=1.4, capsize=2.5,
            zorder=3,
        )  # fmt: skip
        artists += bar.get_children()
        inset = HEAD * (right - left)
        for end, head, beyond in ((left + inset, "<", low < left), (right - inset, ">", high > right)):
            if beyond:
                artists += axes.plot(end, height, head, color=colour, markersize=5, zorder=4)
    mean = float(np.mean(values))
    if text := standing.outside(row.key):
        side, offset = ("left", 10) if mean < left else ("right", -10)
        artists.append(
            axes.annotate(
                text, (left if mean < left else right, height), (offset, 0), textcoords="offset points", fontsize=8,
                color=colour, ha=side, va="center_baseline", zorder=6,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
        )  # fmt: skip
    else:
        artists += axes.plot(
            mean, height, marker, color=colour, markersize=size, markeredgecolor="white", markeredgewidth=0.6, zorder=5
        )
    # Beside the interval, so that a repeat is seen wherever it lies.
    artists += axes.plot(
        values, [height + 0.3] * len(values), "o", color=colour, alpha=0.45, markersize=3.2, markeredgewidth=0, zorder=4
    )
    repeats = ", ".join(f"{value:.2f}" for value in values[:12]) + ", …" * (len(values) > 12)
    tip = f"{row.label}: {standing.x_title} {mean:.2f}, {interval_text}; {noun}s: {repeats}"
    tag(row.key, tip, *artists)


def _draw_groups(axes: Axes, members: Sequence[tuple[int, ...]]) -> None:
    """Draw a bar for each group on the right of the axes, with a dot at every member."""
    inches = axes.figure.dpi_scale_trans
    frame = axes.get_window_extent().transformed(inches.inverted())
    for number, group in enumerate(members):
        x = frame.x1 + _bar_inches(members) * (number + 1)
        heights = [frame.y1 - rows.ROW_INCHES * (position + 0.5) for position in group]
        axes.add_artist(
            Line2D(
                [x] * len(heights), heights, transform=inches, color=INK, linewidth=1.6, marker="o", markersize=3.6,
                clip_on=False, gid="group",
            )
        )  # fmt: skip


def _bar_inches(members: Sequence[tuple[int, ...]]) -> float:
    return min(BAR_INCHES, BARS_INCHES / (len(members) + 1))


def _references(values: Mapping[str, float], left: float, right: float) -> list[_Reference]:
    """Return the line of each method without training; one beyond the axis has an arrowhead in the legend."""
    references = []
    for (label, value), style in zip(values.items(), itertools.cycle(LINES), strict=False):
        x = 100 * value
        side = "left" if x < left else "right" if x > right else ""
        handle = Line2D(
            [], [], color=INK, linewidth=1.0, linestyle="" if side else style,
            marker={"left": "<", "right": ">", "": ""}[side], markersize=4,
            label=f"{label} {x:.2f}" + (f" ({side} of the axis)" if side else ""),
        )  # fmt: skip
        references.append(_Reference(handle, style, None if side else x))
    return references


def _legend(
    ranked: Sequence[Row], references: Sequence[Line2D], *, intervals: bool, grouped: bool, single: str
) -> list[list[Artist]]:
    families = list[Artist](family_handles(ranked))
    marks: list[Artist] = [
        Line2D([], [], color=INK, linestyle="", marker="o", alpha=0.45, markersize=3.2, label=single),
    ]
    if intervals:
        marks.insert(0, Line2D([], [], color=INK, linewidth=1.4, marker="|", label="95 % interval"))
    if grouped:
        marks.append(
            Line2D([], [], color=INK, linewidth=1.6, marker="o", markersize=3.6, label="Joined: no difference shown")
        )
    return [line for line in (families, marks, list[Artist](references)) if line]


def _footnote(standing: Standing) -> str:
    contest, ranked, alike = standing.contest, standing.ranked, standing.alike
    counts = {row.label: len(contest.values(row.key)) for row in ranked}
    n = max(counts.values())
    others = other_counts(counts, n)
    noun = contest.noun
    frames = len({group for runs in contest.scores.values() for scores in runs.values() for group in scores.groups})
    sentences = [
        f"Interval: two-level bootstrap, percentile, {significance.BOOTSTRAP_DRAWS:,} draws of {noun}s "
        f"(n = {n}{others}), then of source frames ({frames})",
    ]
    if n < 6:  # the range of n values covers their mean in 1 - 2 / 2^n: below 95 % up to five
        trainings = f"these {n} trainings" if n > 1 else "one training"
        sentences.append(f"The interval is too narrow, since it rests on {trainings} of each model")
    without: dict[str, list[str]] = {}
    for row in ranked:
        if why := _why_none(contest, row.key):
            without.setdefault(why, []).append(row.label)
    if sum(map(len, without.values())) == len(ranked):
        sentences = [f"Means over n = {counted(n, noun)}{others}. No intervals, since {' or '.join(without)}"]
    else:
        sentences += [f"No interval, since {why}: {', '.join(labels)}" for why, labels in without.items()]
    if any(standing.outside(row.key) for row in ranked):
        sentences.append("◀ ▶ with a value: the mean lies beyond the axis")
    if alike.tested:
        pairs = f"all {alike.pairs} pairs" if alike.pairs > 1 else "the one pair"
        stricter = ", so stricter than the table of methods, which has one model on one side"
        untested = alike.pairs - alike.tested
        result, sign = ("No difference shown", "≥") if alike.members else ("All differ", "<")
        sentences.append(
            f"{result}: paired t-test over {noun}s, Holm p {sign} {significance.ALPHA} over {pairs}"
            + stricter * (alike.pairs > 1)
            + f"; {untested} of them could not be tested" * bool(untested)
        )
    elif alike.pairs:
        sentences.append(f"No two models have two {noun}s in common: none is tested against another")
    if missing := [row.label for row in contest.rows if row not in ranked]:
        sentences.append(f"No run finished: {', '.join(missing)}")
    sentences += [counted(str(contest.facts["test_images"]), "test image"), f"Protocol: {contest.facts['protocol']}"]
    return ". ".join(sentences) + "."

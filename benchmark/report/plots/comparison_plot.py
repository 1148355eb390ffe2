"""Plots all models of a dataset: means, intervals, repeats, and ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.metrics import significance
from benchmark.report.plots import rows
from benchmark.report.plots.plot_style import INK, STYLE, STYLES, family_handles, tag
from benchmark.report.read import StudyResults
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.report.tables.contests import Contest, contest
from benchmark.report.tables.render import Block, Row

LINES: tuple[tuple[float, tuple[float, ...]], ...] = (  # of methods without training, in their order
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (9, 3)),
)
BAR_INCHES, BARS_INCHES = 0.13, 1.6  # from one group to the next, and for all of them at most
EDGE = 0.06  # share of the axis that is left free on either side


@dataclass(frozen=True)
class Groups:
    """Which models cannot be told apart.

    Attributes:
        members: positions of models, from the highest mean; a group of one is left out.
        pairs: how many pairs of models there are.
        tested: how many of them have two repeats in common, and a difference that varies.
    """

    members: tuple[tuple[int, ...], ...]
    pairs: int
    tested: int


@dataclass(frozen=True)
class _Reference:
    """A method without training: its legend entry, and where its line lies unless that is beyond the axis."""

    handle: Line2D
    style: tuple[float, tuple[float, ...]]
    place: float | None


@dataclass(frozen=True)
class Standing:
    """How the models of a block of the accuracy table stand.

    Attributes:
        found: what is compared.
        ranked: the models that have a value, from the highest mean.
        alike: which of them cannot be told apart.
        intervals: model -> 95 % interval of the mean, as fractions; not a number where its repeats saw other images.
        references: label of a method without training -> its value.
    """

    found: Contest
    ranked: tuple[Row, ...]
    alike: Groups
    intervals: Mapping[str, tuple[float, float]]
    references: Mapping[str, float]

    @property
    def title(self) -> str:
        """Of the plot."""
        return f"{self.found.metric.display} {self.found.where}"

    @property
    def x_title(self) -> str:
        """Of the axis."""
        return f"{self.found.metric.display} (%), {self.found.reduction} reduction"

    @property
    def joined(self) -> tuple[tuple[int, ...], ...]:
        """The groups that are drawn: none where nothing was tested."""
        return self.alike.members if self.alike.tested else ()

    @property
    def footnote(self) -> str:
        """What intervals and groups rest on."""
        return _footnote(self.found, self.ranked, self.alike, self.intervals)

    def percent(self, model: str) -> list[float]:
        """Return a model's repeats in percent."""
        return [100 * value for value in self.found.values(model).values()]

    def limits(self) -> tuple[float, float]:
        """Return the ends of the axis: it reaches for a method without training, but not far."""
        points = [value for row in self.ranked for value in self.percent(row.key)]
        points += [100 * end for interval in self.intervals.values() for end in interval if not math.isnan(end)]
        low, high = min(points), max(points)
        reach = max(0.5 * (high - low), 0.5)
        near = [100 * value for value in self.references.values() if low - reach <= 100 * value <= high + reach]
        low, high = min([low, *near]), max([high, *near])
        edge = max(EDGE * (high - low), 0.1)
        return low - edge, high + edge


def standings(study: StudyResults, blocks: Sequence[Block]) -> list[Standing]:
    """Compare the models of each block of the accuracy table in which a run has finished."""
    if study.protocol is None:
        return []
    made = []
    for block in blocks:
        found = contest(study, block, "miou", study.protocol.report.reduction)
        ranked = tuple(in_order(found))
        if ranked:
            references = {
                row.label: row.cells["miou"].mean for row in block.rows if "miou" in row.cells and not row.ranked
            }
            intervals = {row.key: _interval(found, row.key) for row in ranked}
            made.append(Standing(found, ranked, groups(found, ranked), intervals, references))
    return made


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per block of the accuracy table in which a run has finished.

    Yields:
        The file name without its ending, and the figure.
    """
    for standing in standings(study, scores(study, ACCURACY).blocks):
        yield f"{standing.found.key}.comparison", _figure(standing)


def in_order(found: Contest) -> list[Row]:
    """Return the models that have a value, from the highest mean."""
    means = {row.key: float(np.mean(list(values.values()))) for row in found.rows if (values := found.values(row.key))}
    return sorted((row for row in found.rows if row.key in means), key=lambda row: -means[row.key])


def groups(found: Contest, ranked: Sequence[Row]) -> Groups:
    """Test every pair of models over repeats, Holm-corrected over all pairs."""
    values = [found.values(row.key) for row in ranked]
    pairs = list(itertools.combinations(range(len(ranked)), 2))
    p = []
    for one, other in pairs:
        repeats = sorted(values[one].keys() & values[other].keys())
        sides = ([values[side][repeat] for repeat in repeats] for side in (one, other))
        p.append(float(significance.paired_t(*sides).p) if repeats else math.nan)
    different = np.zeros((len(ranked), len(ranked)), dtype=bool)
    for (one, other), adjusted in zip(pairs, significance.holm(p), strict=True):
        different[one, other] = different[other, one] = adjusted < significance.ALPHA
    alike = tuple(group for group in significance.alike(different) if len(group) > 1)
    return Groups(alike, len(pairs), sum(not math.isnan(one) for one in p))


def _figure(standing: Standing) -> Figure:
    ranked, shown = standing.ranked, standing.joined
    left, right = standing.limits()
    drawn = not all(math.isnan(low) for low, _ in standing.intervals.values())
    with matplotlib.style.context(STYLE, after_reset=True):
        lines = _references(standing.references, left, right)
        figure, axes = rows.frame(
            standing.title,
            ranked,
            _legend(ranked, [line.handle for line in lines], intervals=drawn, grouped=bool(shown)),
            standing.footnote,
            right_inches=0.2 + _bar_inches(shown) * (len(shown) + bool(shown)),
        )
        figure.set_gid(str(standing.found.facts["dataset"]))
        for place, row in enumerate(ranked):
            _draw_row(axes, place, row, standing)
        for line in lines:
            if line.place is not None:
                axes.axvline(line.place, color=INK, linewidth=1.0, linestyle=line.style, zorder=1)
        axes.set_xlim(left, right)
        axes.set_xlabel(standing.x_title)
        _draw_groups(axes, shown)
    return figure


def _interval(found: Contest, model: str) -> tuple[float, float]:
    repeats = sorted(found.values(model))
    if not found.same_images([model]):
        return math.nan, math.nan
    return significance.two_level_bootstrap(found.networks(model, repeats))


def _draw_row(axes: Axes, place: int, row: Row, standing: Standing) -> None:
    marker, colour, size = STYLES[row.family]
    values, interval = standing.percent(row.key), standing.intervals[row.key]
    artists: list[Artist] = []
    said = "no interval, since its repeats saw different images"
    if not math.isnan(interval[0]):
        said = f"95 % interval [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
        bar = axes.errorbar(
            sum(interval) * 50, place, xerr=(interval[1] - interval[0]) * 50, fmt="none", ecolor=colour,
            elinewidth=1.4, capsize=2.5, zorder=3,
        )  # fmt: skip
        artists += bar.get_children()
    artists += axes.plot(
        float(np.mean(values)), place, marker, color=colour, markersize=size, markeredgecolor="white",
        markeredgewidth=0.6, zorder=5,
    )  # fmt: skip
    # Beside the interval, so that a repeat is seen wherever it lies.
    artists += axes.plot(
        values, [place + 0.3] * len(values), "o", color=colour, alpha=0.45, markersize=3.2, markeredgewidth=0, zorder=4
    )
    singles = ", ".join(f"{value:.2f}" for value in values[:12]) + ", …" * (len(values) > 12)
    tip = f"{row.label}: {standing.x_title} {np.mean(values):.2f}, {said}; repeats: {singles}"
    tag(row.key, tip, *artists)


def _draw_groups(axes: Axes, members: Sequence[tuple[int, ...]]) -> None:
    """Draw a bar for each group on the right of the axes, with a dot at every member."""
    inches = axes.figure.dpi_scale_trans
    frame = axes.get_window_extent().transformed(inches.inverted())
    for number, group in enumerate(members):
        x = frame.x1 + _bar_inches(members) * (number + 1)
        heights = [frame.y1 - rows.ROW_INCHES * (place + 0.5) for place in group]
        axes.add_artist(
            Line2D(
                [x] * len(heights), heights, transform=inches, color=INK, linewidth=1.6, marker="o", markersize=3.6,
                clip_on=False, gid="group",
            )
        )  # fmt: skip


def _bar_inches(members: Sequence[tuple[int, ...]]) -> float:
    return min(BAR_INCHES, BARS_INCHES / (len(members) + 1))


def _references(values: Mapping[str, float], left: float, right: float) -> list[_Reference]:
    """Say of each method without training where its line lies; beyond the axis there is an arrowhead in the legend."""
    found = []
    for (label, value), style in zip(values.items(), itertools.cycle(LINES), strict=False):
        place = 100 * value
        side = "left" if place < left else "right" if place > right else ""
        handle = Line2D(
            [], [], color=INK, linewidth=0 if side else 1.0, linestyle=style,
            marker={"left": "<", "right": ">", "": ""}[side], markersize=4,
            label=f"{label} {place:.2f}" + (f" ({side} of the axis)" if side else ""),
        )  # fmt: skip
        found.append(_Reference(handle, style, None if side else place))
    return found


def _legend(
    ranked: Sequence[Row], references: Sequence[Line2D], *, intervals: bool, grouped: bool
) -> list[list[Artist]]:
    families = list[Artist](family_handles(ranked))
    marks: list[Artist] = [
        Line2D([], [], color=INK, linestyle="", marker="o", alpha=0.45, markersize=3.2, label="Single repeat"),
    ]
    if intervals:
        marks.insert(0, Line2D([], [], color=INK, linewidth=1.4, marker="|", label="95 % interval"))
    if grouped:
        marks.append(
            Line2D([], [], color=INK, linewidth=1.6, marker="o", markersize=3.6, label="Joined: no difference shown")
        )
    return [line for line in (families, marks, list[Artist](references)) if line]


def _footnote(
    found: Contest, ranked: Sequence[Row], alike: Groups, intervals: Mapping[str, tuple[float, float]]
) -> str:
    counts = {row.label: len(found.values(row.key)) for row in ranked}
    n = max(counts.values())
    own = [f"{label}: n = {count}" for label, count in counts.items() if count != n]
    frames = len({group for runs in found.scores.values() for scores in runs.values() for group in scores.groups})
    sentences = [
        f"Interval: two-level bootstrap, percentile, {significance.BOOTSTRAP_DRAWS:,} draws of repeats "
        f"(n = {n}{'; ' * bool(own)}{', '.join(own)}), then of source frames ({frames})",
    ]
    if n < 6:  # the range of n values covers their mean in 1 - 2 / 2^n: below 95 % up to five
        sentences.append(
            f"It knows no training but the {n} at hand and is too narrow" if n > 1 else "It knows one training"
        )
    without = [row.label for row in ranked if math.isnan(intervals[row.key][0])]
    if len(without) == len(ranked):
        repeats = f"n = {n} repeats{'; ' * bool(own)}{', '.join(own)}"
        sentences = [f"Means over {repeats}. No intervals, since repeats saw different images"]
    elif without:
        sentences.append(f"No interval, since its repeats saw different images: {', '.join(without)}")
    if alike.tested:
        pairs = f"all {alike.pairs} pairs" if alike.pairs > 1 else "the one pair"
        stricter = ", so stricter than the table of methods, which has one model on one side"
        untested = alike.pairs - alike.tested
        found_out, sign = ("No difference shown", "≥") if alike.members else ("All differ", "<")
        sentences.append(
            f"{found_out}: paired t-test over repeats, Holm p {sign} {significance.ALPHA} over {pairs}"
            + stricter * (alike.pairs > 1)
            + f"; {untested} of them could not be tested" * bool(untested)
        )
    elif alike.pairs:
        sentences.append("No two models have two repeats in common: none is tested against another")
    if missing := [row.label for row in found.rows if row not in ranked]:
        sentences.append(f"No run finished: {', '.join(missing)}")
    sentences += [f"{found.facts['test_images']} test images", f"Protocol: {found.facts['protocol']}"]
    return ". ".join(sentences) + "."

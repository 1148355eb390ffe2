"""All models of a dataset in one plot: means, intervals, repeats, and who cannot be told apart."""

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
from benchmark.report import rows as layout
from benchmark.report.collect import Study
from benchmark.report.contests import Contest, contest
from benchmark.report.plots import INK, STYLE, STYLES, family_handles
from benchmark.report.render import Block, Row

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


def figures(study: Study, blocks: Sequence[Block]) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per block of the accuracy table in which a run has finished.

    Yields:
        The file name without its ending, and the figure.
    """
    if study.protocol is None:
        return
    for block in blocks:
        found = contest(study, block, "miou", study.protocol.report.reduction)
        ranked = in_order(found)
        if ranked:
            references = {
                row.label: row.cells["miou"].mean for row in block.rows if "miou" in row.cells and not row.ranked
            }
            yield f"{block.key}.comparison", _figure(found, ranked, references)


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


def _figure(found: Contest, ranked: Sequence[Row], references: Mapping[str, float]) -> Figure:
    alike = groups(found, ranked)
    shown = alike.members if alike.tested else ()
    intervals = {row.key: _interval(found, row.key) for row in ranked}
    points = [100 * value for row in ranked for value in (*found.values(row.key).values(), *intervals[row.key])]
    left, right = _range([point for point in points if not math.isnan(point)], [100 * v for v in references.values()])
    with matplotlib.style.context(STYLE, after_reset=True):
        lines = _references(references, left, right)
        figure, axes = layout.frame(
            f"{found.metric.display} {found.where}",
            ranked,
            _legend(ranked, [line.handle for line in lines], bool(shown)),
            _footnote(found, ranked, alike, intervals),
            right_inches=0.2 + _bar_inches(shown) * (len(shown) + bool(shown)),
        )
        for row, place in zip(ranked, itertools.count()):
            _draw_row(axes, place, row, [100 * value for value in found.values(row.key).values()], intervals[row.key])
        for line in lines:
            if line.place is not None:
                axes.axvline(line.place, color=INK, linewidth=1.0, linestyle=line.style, zorder=1)
        axes.set_xlim(left, right)
        axes.set_xlabel(f"{found.metric.display} (%), {found.reduction} reduction")
        _draw_groups(axes, shown)
    return figure


def _interval(found: Contest, model: str) -> tuple[float, float]:
    repeats = sorted(found.values(model))
    if not found.same_images([model]):
        return math.nan, math.nan
    return significance.two_level_bootstrap(found.networks(model, repeats))


def _range(points: Sequence[float], references: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: it reaches for a method without training, but not far."""
    low, high = min(points), max(points)
    reach = max(0.5 * (high - low), 0.5)
    near = [value for value in references if low - reach <= value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    edge = max(EDGE * (high - low), 0.1)
    return low - edge, high + edge


def _draw_row(axes: Axes, place: int, row: Row, values: Sequence[float], interval: tuple[float, float]) -> None:
    marker, colour, size = STYLES[row.family]
    if not math.isnan(interval[0]):
        axes.errorbar(
            sum(interval) * 50, place, xerr=(interval[1] - interval[0]) * 50, fmt="none", ecolor=colour,
            elinewidth=1.4, capsize=2.5, zorder=3,
        )  # fmt: skip
    axes.plot(
        float(np.mean(values)), place, marker, color=colour, markersize=size, markeredgecolor="white",
        markeredgewidth=0.6, zorder=5,
    )  # fmt: skip
    # Beside the interval, so that a repeat is seen wherever it lies.
    axes.plot(
        values, [place + 0.3] * len(values), "o", color=colour, alpha=0.45, markersize=3.2, markeredgewidth=0, zorder=4
    )


def _draw_groups(axes: Axes, members: Sequence[tuple[int, ...]]) -> None:
    """Draw a bar for each group on the right of the axes, with a dot at every member."""
    inches = axes.figure.dpi_scale_trans
    frame = axes.get_window_extent().transformed(inches.inverted())
    for number, group in enumerate(members):
        x = frame.x1 + _bar_inches(members) * (number + 1)
        heights = [frame.y1 - layout.ROW_INCHES * (place + 0.5) for place in group]
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


def _legend(ranked: Sequence[Row], references: Sequence[Line2D], grouped: bool) -> list[list[Artist]]:
    families = list[Artist](family_handles(ranked))
    marks: list[Artist] = [
        Line2D([], [], color=INK, linewidth=1.4, marker="|", label="95 % interval"),
        Line2D([], [], color=INK, linestyle="", marker="o", alpha=0.45, markersize=3.2, label="Single repeat"),
    ]
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
    if without := [row.label for row in ranked if math.isnan(intervals[row.key][0])]:
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

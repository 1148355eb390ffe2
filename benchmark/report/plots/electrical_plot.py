"""Draws electrical errors of all models of a dataset as stacked bars."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmark import metrics
from benchmark.report.plots import axis_limits, rows
from benchmark.report.plots.plot_style import STYLE, tag, text_inches
from benchmark.report.read import StudyResults
from benchmark.report.tables import accuracy_table, conventions
from benchmark.report.tables.contests import Contest, contest
from benchmark.report.tables.render import Block, Row
from benchmark.utils.words import counted

# Blue open, red short, yellow missed, green false; lightness and hatches tell them apart where colours do not.
LOOKS = {
    "opens": ("#0072B2", "////"),
    "shorts": ("#CC3311", ""),
    "missed": ("#F0E442", ""),
    "false": ("#009E73", "...."),
    "via_missed": ("#F0E442", ""),
    "via_false": ("#009E73", "...."),
}
EDGE_COLOUR = "#262626"
TOTAL_SPACE = 1.12  # the axis beyond the longest bar, where its total stands
TOTAL_POINTS, LEAST_RIGHT_INCHES = 8, 0.45  # right of the axis stands the total of a bar that goes on beyond it


@dataclass(frozen=True)
class Faults:
    """The electrical errors of the models of a block of the accuracy table.

    Attributes:
        contest: the models and their runs.
        means: model -> kind of fault -> mean over repeats of its count in all test images.
        ranked: the models that have counts, from the fewest errors.
        kinds: the kinds of faults that were counted.
    """

    contest: Contest
    means: Mapping[str, Mapping[str, float]]
    ranked: tuple[Row, ...]
    kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the counted errors."""
        return "Via errors" if self.kinds[0].startswith("via") else "Electrical errors"

    @property
    def title(self) -> str:
        """Of the plot."""
        return f"{self.name} {self.contest.where}"

    @property
    def x_title(self) -> str:
        """Of the axis."""
        return f"{self.name}, mean over {self.contest.noun}s"

    @property
    def footnote(self) -> str:
        """Of the counts: repeats, images and nets."""
        return _footnote(self)

    @property
    def end(self) -> float:
        """The end of the axis: the longest bar that is not far beyond the others, and room for its total."""
        totals = [sum(counts.values()) for counts in self.means.values()]
        return TOTAL_SPACE * max(axis_limits.usual_range(totals, 0.0)[1], 1.0)


def faults_of_blocks(study: StudyResults, blocks: Sequence[Block]) -> list[Faults]:
    """Collect the errors of each block of the accuracy table that has counts of nets or of vias."""
    collected = []
    for block in blocks:
        pooled = contest(study, block, "miou", "pooled")
        means = fault_means(pooled)
        if means:
            totals = {model: sum(counts.values()) for model, counts in means.items()}
            ranked = sorted((row for row in pooled.rows if row.key in means), key=lambda row: totals[row.key])
            kinds = tuple(kind for kind in LOOKS if any(kind in counts for counts in means.values()))
            collected.append(Faults(pooled, means, tuple(ranked), kinds))
    return collected


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per block of the accuracy table that has counts of nets or of vias.

    Yields:
        The file name without its ending, and the figure.
    """
    for faults in faults_of_blocks(study, accuracy_table.scores(study, accuracy_table.ACCURACY).blocks):
        yield f"{faults.contest.key}.electrical", _figure(faults)


def fault_means(contest: Contest) -> dict[str, dict[str, float]]:
    """Return model -> kind of fault -> mean over repeats of its count in all test images."""
    means = {}
    for row in contest.rows:
        repeats = [scores.reduced["pooled"] for scores in contest.scores[row.key].values()]
        kinds = [kind for kind in LOOKS if any(kind in values for values in repeats)]
        if kinds:
            means[row.key] = {
                kind: statistics.fmean(values[kind] for values in repeats if kind in values) for kind in kinds
            }
    return means


def _figure(faults: Faults) -> Figure:
    with matplotlib.style.context(STYLE | {"hatch.linewidth": 0.5}, after_reset=True):
        handles: list[Artist] = [
            Patch(
                facecolor=LOOKS[kind][0], hatch=LOOKS[kind][1], edgecolor=EDGE_COLOUR, linewidth=0.5,
                label=metrics.METRICS[kind].display,
            )
            for kind in faults.kinds
        ]  # fmt: skip
        widest = max(text_inches(_total(faults, row), TOTAL_POINTS) for row in faults.ranked)
        right_inches = max(LEAST_RIGHT_INCHES, widest + 0.1)
        figure, axes = rows.frame(faults.title, faults.ranked, [handles], faults.footnote, right_inches)
        figure.set_gid(str(faults.contest.facts["dataset"]))
        for height, row in enumerate(faults.ranked):
            _draw_row(axes, height, row, faults)
        axes.set_xlim(0, faults.end)
        axes.set_xlabel(faults.x_title)
    return figure


def _draw_row(axes: Axes, height: int, row: Row, faults: Faults) -> None:
    start, artists = 0.0, list[Artist]()
    for kind in faults.kinds:
        colour, hatch = LOOKS[kind]
        length = faults.means[row.key].get(kind, 0.0)
        if length:
            artists += axes.barh(
                height, length, left=start, height=0.62, color=colour, hatch=hatch, edgecolor=EDGE_COLOUR,
                linewidth=0.5, zorder=3,
            )  # fmt: skip
        start += length
    total = axes.annotate(
        _total(faults, row), (min(start, faults.end), height), (4, 0), textcoords="offset points",
        fontsize=TOTAL_POINTS, va="center_baseline", zorder=4, annotation_clip=False,
    )  # fmt: skip
    counts = ", ".join(f"{metrics.METRICS[kind].display} {count:.1f}" for kind, count in faults.means[row.key].items())
    over = f"mean over n = {len(faults.contest.scores[row.key])} of counts summed over all test images"
    over += " of a fold" * (faults.contest.noun == "fold")
    tag(row.key, f"{row.label}: {counts}; together {start:.1f} ({over})", *artists, total)


def _total(faults: Faults, row: Row) -> str:
    """Return what stands behind a bar, with an arrow if the bar goes on beyond the axis."""
    total = sum(faults.means[row.key].values())
    return f"▶ {total:.1f}" if total > faults.end else f"{total:.1f}"


def _footnote(faults: Faults) -> str:
    contest = faults.contest
    counts = {row.label: len(contest.scores[row.key]) for row in faults.ranked}
    n = max(counts.values())
    others = conventions.other_counts(counts, n).removeprefix("; ")
    repeats = counted(n, contest.noun) + (f" ({others})" if others else "")
    images = counted(str(contest.facts["test_images"]), "test image")
    images = f"a fold's test images; in all folds {images}" if contest.noun == "fold" else images
    sentences = [f"Mean over n = {repeats} of counts summed over {images}"]
    runs = [run for of_model in contest.scores.values() for run in of_model.items()]
    for column, name in (("nets", "interior nets"), ("via_true", "true vias")):
        sums = ((repeat, scores.sums[column]) for repeat, scores in runs if column in scores.sums)
        if total := conventions.in_all_tests(sums, contest.noun):
            sentences[0] += f" with {total} {name}"
    if any(sum(means.values()) > faults.end for means in faults.means.values()):
        sentences.append("▶: the bar goes on beyond the axis")
    if missing := [row.label for row in contest.rows if row not in faults.ranked]:
        sentences.append(f"No run finished: {', '.join(missing)}")
    sentences.append(f"Protocol: {contest.facts['protocol']}")
    return ". ".join(sentences) + "."

"""Electrical errors of all models of a dataset as stacked bars."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmark import metrics
from benchmark.report.plots import rows
from benchmark.report.plots.plot_style import STYLE, tag
from benchmark.report.read import StudyResults
from benchmark.report.tables import accuracy_table
from benchmark.report.tables.contests import Contest, contest
from benchmark.report.tables.render import Block, Row

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


@dataclass(frozen=True)
class Faults:
    """The electrical errors of the models of a block of the accuracy table.

    Attributes:
        found: whose errors.
        means: model -> kind of fault -> mean over repeats of its count in all test images.
        ranked: the models that have counts, from the fewest errors.
        kinds: the kinds of faults that were counted.
    """

    found: Contest
    means: Mapping[str, Mapping[str, float]]
    ranked: tuple[Row, ...]
    kinds: tuple[str, ...]

    @property
    def what(self) -> str:
        """What is counted."""
        return "Via errors" if self.kinds[0].startswith("via") else "Electrical errors"

    @property
    def title(self) -> str:
        """Of the plot."""
        return f"{self.what} {self.found.where}"

    @property
    def x_title(self) -> str:
        """Of the axis."""
        return f"{self.what}, mean over repeats"

    @property
    def footnote(self) -> str:
        """What the counts rest on."""
        return _footnote(self.found, self.ranked)

    @property
    def longest(self) -> float:
        """The end of the axis: the longest bar, and beyond it where its total stands."""
        return TOTAL_SPACE * max(*(sum(faults.values()) for faults in self.means.values()), 1.0)


def of_blocks(study: StudyResults, blocks: Sequence[Block]) -> list[Faults]:
    """Collect the errors of each block of the accuracy table that has counts of nets or of vias."""
    made = []
    for block in blocks:
        found = contest(study, block, "miou", "pooled")
        means = fault_means(found)
        if means:
            totals = {model: sum(faults.values()) for model, faults in means.items()}
            ranked = sorted((row for row in found.rows if row.key in means), key=lambda row: totals[row.key])
            kinds = tuple(kind for kind in LOOKS if any(kind in faults for faults in means.values()))
            made.append(Faults(found, means, tuple(ranked), kinds))
    return made


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw one figure per block of the accuracy table that has counts of nets or of vias.

    Yields:
        The file name without its ending, and the figure.
    """
    for made in of_blocks(study, accuracy_table.scores(study, accuracy_table.ACCURACY).blocks):
        yield f"{made.found.key}.electrical", _figure(made)


def fault_means(found: Contest) -> dict[str, dict[str, float]]:
    """Return model -> kind of fault -> mean over repeats of its count in all test images."""
    means = {}
    for row in found.rows:
        repeats = [scores.reduced["pooled"] for scores in found.scores[row.key].values()]
        kinds = [kind for kind in LOOKS if any(kind in values for values in repeats)]
        if kinds:
            means[row.key] = {
                kind: statistics.fmean(values[kind] for values in repeats if kind in values) for kind in kinds
            }
    return means


def _figure(made: Faults) -> Figure:
    ranked, kinds, means = made.ranked, made.kinds, made.means
    with matplotlib.style.context(STYLE | {"hatch.linewidth": 0.5}, after_reset=True):
        handles: list[Artist] = [
            Patch(
                facecolor=LOOKS[kind][0], hatch=LOOKS[kind][1], edgecolor=EDGE_COLOUR, linewidth=0.5,
                label=metrics.METRICS[kind].display,
            )
            for kind in kinds
        ]  # fmt: skip
        figure, axes = rows.frame(made.title, ranked, [handles], made.footnote, right_inches=0.25)
        figure.set_gid(str(made.found.facts["dataset"]))
        for place, row in enumerate(ranked):
            start, artists = 0.0, list[Artist]()
            for kind in kinds:
                colour, hatch = LOOKS[kind]
                length = means[row.key].get(kind, 0.0)
                if length:
                    artists += axes.barh(
                        place, length, left=start, height=0.62, color=colour, hatch=hatch, edgecolor=EDGE_COLOUR,
                        linewidth=0.5, zorder=3,
                    )  # fmt: skip
                start += length
            total = axes.annotate(
                f"{start:.1f}",
                (start, place),
                (4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center_baseline",
                zorder=4,
            )
            told = ", ".join(f"{metrics.METRICS[kind].display} {count:.1f}" for kind, count in means[row.key].items())
            over = f"mean over n = {len(made.found.scores[row.key])} of counts summed over all test images"
            tag(row.key, f"{row.label}: {told}; together {start:.1f} ({over})", *artists, total)
        axes.set_xlim(0, made.longest)
        axes.set_xlabel(made.x_title)
    return figure


def _footnote(found: Contest, ranked: Sequence[Row]) -> str:
    counts = {row.label: len(found.scores[row.key]) for row in ranked}
    n = max(counts.values())
    own = [f"{label}: n = {count}" for label, count in counts.items() if count != n]
    sentences = [
        f"Mean over n = {n} repeat{'s' * (n > 1)}{'; ' * bool(own)}{', '.join(own)} of counts summed over "
        f"{found.facts['test_images']} test images"
    ]
    runs = [scores for of_model in found.scores.values() for scores in of_model.values()]
    for column, name in (("nets", "interior nets"), ("via_true", "true vias")):
        if sums := sorted({scores.sums[column] for scores in runs if column in scores.sums}):
            sentences[0] += f" with {' or '.join(map(str, sums))} {name}"
    if missing := [row.label for row in found.rows if row not in ranked]:
        sentences.append(f"No run finished: {', '.join(missing)}")
    sentences.append(f"Protocol: {found.facts['protocol']}")
    return ". ".join(sentences) + "."

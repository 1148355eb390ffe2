"""Draws how many times faster than torch each runtime computes networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.style
from matplotlib.figure import Figure

from benchmark.records.speedup_record import SpeedupComparison
from benchmark.report.plots.plot_style import DPI, INK, STYLE, drawable, file_stem, round_ticks, tag
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display
from benchmark.report.tables.runtimes_table import KINDS, headings, medians
from benchmark.report.tables.speedup_table import groups
from benchmark.utils.words import counted

#: Marker and colour of each runtime, from the palette of ``plot_style``.
MARKS = {
    "ours": ("*", "#D55E00"),
    "compile": ("D", "#CC79A7"),
    "onnxruntime": ("o", "#0072B2"),
    "openvino": ("s", "#009E73"),
}
#: Rows between the marks of a network, of which one could hide another on the same line.
APART = 0.18


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw a row per network and a mark per runtime, one figure per size and number format.

    Yields:
        The file name without its ending, and the figure.
    """
    taken: set[str] = set()
    for group in groups(study.comparisons, KINDS):
        if free := [comparison for comparison in group if not comparison.hindered]:
            first = free[0]
            yield file_stem("runtimes", (f"{first.size}x{first.size}", first.dtype), taken), _figure(free)


def _figure(comparisons: Sequence[SpeedupComparison]) -> Figure:
    first = comparisons[0]
    titles = headings(first)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((6.8, 1.9 + 0.28 * len(comparisons)), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for place, (runtime, (marker, colour)) in enumerate(MARKS.items()):
            beside = APART * (place - (len(MARKS) - 1) / 2)
            gains = [
                (times["torch"] / times[runtime], row, comparison)
                for row, comparison in enumerate(comparisons)
                if runtime in (times := medians(comparison))
            ]
            for number, (gain, row, comparison) in enumerate(gains):
                assert comparison.model is not None
                label = drawable(", ".join(titles[runtime])) if number == 0 else None
                mark = axes.plot(
                    gain, row + beside, marker=marker, color=colour, linestyle="", markersize=9 if marker == "*" else 6,
                    markeredgecolor="white", label=label,
                )  # fmt: skip
                name = display(comparison.model)[0]
                tag(comparison.model, f"{name}, {titles[runtime][0]}: {gain:.2f} times torch as written", *mark)
        names = [drawable(display(comparison.model or "")[0]) for comparison in comparisons]
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        round_ticks(axes.xaxis, fine=high / low < 300)
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.grid(axis="y", color="#EDEDED", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(drawable(f"Times faster than {', '.join(titles['torch'])}"), fontsize=8)
        axes.set_title(drawable(f"{first.device_name}, {counted(first.threads, 'thread')}"), fontsize=8.5, loc="left")
        figure.legend(loc="outside lower center", fontsize=7.5, frameon=False)
    return figure

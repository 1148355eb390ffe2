"""Draws how many times faster the harness is than the plain way."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from benchmark.records.speedup_record import SpeedupComparison
from benchmark.report.plots.plot_style import DPI, INK, STYLE, drawable, tag
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display
from benchmark.report.tables.speedup_table import HARNESS, TITLES, groups, ratio
from benchmark.utils.words import counted


def draw(study: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Draw the ratios, a bar per comparison.

    Yields:
        The file name without its ending, and the figure.
    """
    compared = [comparison for group in groups(study.comparisons) for comparison in group if not comparison.hindered]
    bars = [(comparison, gain) for comparison in compared if (gain := ratio(comparison)) is not None]
    if not bars:
        return
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((6.8, 0.9 + 0.19 * len(bars)), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for row, (comparison, gain) in enumerate(bars):
            own = comparison.model in (None, "eal_icnet")
            bar = axes.barh(row, gain - 1, left=1, color="#D55E00" if own else "#0072B2", height=0.72)
            text = axes.annotate(
                f"{gain:.2f}", (max(gain, 1), row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5
            )
            tag(comparison.model or HARNESS, f"{_bar_name(comparison)}: {gain:.2f} times the plain way", *bar, text)
        axes.set_yticks(range(len(bars)), [drawable(_bar_name(comparison)) for comparison, _ in bars], fontsize=7.5)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xscale("log")
        low, high = min(1.0, *(gain for _, gain in bars)), max(gain for _, gain in bars)
        axes.set_xlim(low * 0.9, high * 1.3)
        axes.set_xticks([tick for tick in (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if low * 0.9 <= tick <= high * 1.3])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Times faster than the plain way (memory: less)")
        machines = dict.fromkeys(
            f"{comparison.device_name}, {counted(comparison.threads, 'thread')}" for comparison, _ in bars
        )
        axes.set_title(drawable("; ".join(machines)), fontsize=8.5, loc="left")
    yield "bench", figure


def _bar_name(comparison: SpeedupComparison) -> str:
    name = display(comparison.model)[0] if comparison.model else ""
    size = f"{comparison.size}×{comparison.size}" if comparison.size else ""
    facts = filter(None, (name, size, comparison.dtype if comparison.dtype != "float32" else ""))
    return f"{TITLES[comparison.what][0].partition(',')[0]}: {', '.join(facts)}"

"""Lists the plots of a report; files, page and check take theirs from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from benchmark.report.plots import (
    accuracy_cost_plot,
    comparison_plot,
    electrical_plot,
    growth_plot,
    profile_plot,
    roofline_plot,
    runtimes_plot,
    speedup_plot,
    stress_plot,
    training_plot,
    transfer_plot,
)
from benchmark.report.read import StudyResults


@dataclass(frozen=True)
class Plot:
    """One kind of plot.

    Attributes:
        table: name of the table that the page shows it below.
        draw: draws the kind for a study, and yields (file name without its ending, figure).
        heading: above all figures of the kind in the page; blank for none.
        kinds: endings of its files in ``plots/``; none for a plot that is in the page alone.
        draw_texts: draws faster, with the same texts in the same order at other places; ``None`` for ``draw``.
    """

    table: str
    draw: Callable[[StudyResults], Iterator[tuple[str, Figure]]]
    heading: str = ""
    kinds: tuple[str, ...] = ("pdf", "png")
    draw_texts: Callable[[StudyResults], Iterator[tuple[str, Figure]]] | None = None


PLOTS = (
    Plot("accuracy", comparison_plot.draw, "Models beside each other"),
    Plot(
        "accuracy",
        accuracy_cost_plot.draw,
        "Accuracy against cost",
        draw_texts=partial(accuracy_cost_plot.draw, placed=False),
    ),
    Plot("electrical", electrical_plot.draw),
    Plot("transfer", transfer_plot.draw),
    Plot("stress", stress_plot.draw),
    Plot("profile", profile_plot.draw),
    Plot("roofline", roofline_plot.draw),
    Plot("growth", growth_plot.draw),
    Plot("training", training_plot.draw, kinds=()),
    Plot("bench", speedup_plot.draw),
    Plot("runtimes", runtimes_plot.draw),
)

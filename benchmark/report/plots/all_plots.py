"""Lists the plots of a report; files, page and check take theirs from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmark.report.plots import accuracy_cost_plot, comparison_plot, electrical_plot, stress_plot, training_plot
from benchmark.report.read import Study
from benchmark.report.tables import growth_table, profile_table, roofline_table, speedup_table, transfer_table


@dataclass(frozen=True)
class Plot:
    """One kind of plot.

    Attributes:
        table: name of the table that the page shows it below.
        figures: draws the kind for a study, and yields (file name without its ending, figure).
        heading: above all figures of the kind in the page; blank for none.
        kinds: endings of its files in ``plots/``; none for a plot that is in the page alone.
    """

    table: str
    figures: Callable[[Study], Iterator[tuple[str, Figure]]]
    heading: str = ""
    kinds: tuple[str, ...] = ("pdf", "png")


PLOTS = (
    Plot("accuracy", comparison_plot.figures, "Models beside each other"),
    Plot("accuracy", accuracy_cost_plot.figures, "Accuracy against cost"),
    Plot("electrical", electrical_plot.figures),
    Plot("transfer", transfer_table.figures),
    Plot("stress", stress_plot.figures),
    Plot("profile", profile_table.figures),
    Plot("roofline", roofline_table.figures),
    Plot("growth", growth_table.figures),
    Plot("training", training_plot.figures, kinds=()),
    Plot("bench", speedup_table.figures),
)

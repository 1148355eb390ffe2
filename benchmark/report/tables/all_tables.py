"""Lists the tables of a report; a new table is one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmark.report.read import StudyResults
from benchmark.report.tables import (
    growth_table,
    int8_table,
    paper_table,
    profile_table,
    roofline_table,
    runtimes_table,
    speedup_table,
    stress_table,
    training_table,
    transfer_table,
)
from benchmark.report.tables.ablation_table import ablation
from benchmark.report.tables.accuracy_table import ACCURACY, ELECTRICAL, TOPOLOGY, scores
from benchmark.report.tables.efficiency_table import efficiency
from benchmark.report.tables.render import Table


@dataclass(frozen=True)
class TableEntry:
    """A table by the name of its files, the page's section that shows it, and the function that makes it."""

    name: str
    section: str
    make: Callable[[StudyResults], Table]


#: In the order of ``tables.tex`` and of the numbers for a text.
TABLES = (
    TableEntry("accuracy", "accuracy", partial(scores, kind=ACCURACY)),
    TableEntry("topology", "topology", partial(scores, kind=TOPOLOGY)),
    TableEntry("electrical", "electrical", partial(scores, kind=ELECTRICAL)),
    TableEntry("transfer", "transfer", transfer_table.table),
    TableEntry("stress", "stress", stress_table.table),
    TableEntry("efficiency", "efficiency", efficiency),
    TableEntry("profile", "efficiency", profile_table.overview),
    TableEntry("roofline", "efficiency", roofline_table.table),
    TableEntry("growth", "efficiency", growth_table.table),
    TableEntry("training", "training", training_table.cost),
    TableEntry("ablation", "ablation", ablation),
    TableEntry("bench", "bench", speedup_table.table),
    TableEntry("runtimes", "bench", runtimes_table.table),
    TableEntry("int8", "bench", int8_table.table),
)

#: The section of each table, also of those that follow from a reference model or a user's choice.
SECTION_OF = {entry.name: entry.section for entry in TABLES} | {
    **{"methods": "significance", "networks": "significance"},
    paper_table.NAME: "custom",
}

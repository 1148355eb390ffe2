"""Writes a study's page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from benchmark.report.page import grids, origin, page_summary
from benchmark.report.page import pictures as panels
from benchmark.report.page.drawings import Drawing
from benchmark.report.read import StudyResults
from benchmark.report.tables import bibliography, stress_table
from benchmark.report.tables.all_tables import TABLES
from benchmark.report.tables.render import Table

#: What a page may hold, bytes: it is mailed around. Pictures take what the rest leaves.
PAGE_BYTES = 5_000_000
#: Of these, at most, the plots.
PLOT_BYTES = 2_500_000

FOLDER = Path(__file__).parent
#: Stands where pictures go; escaped text never holds it.
_PANELS = "<!--panels-->"

#: The sections that tables go to, in a reader's order: the page's own name for each, and for links.
SECTIONS: tuple[tuple[str, str], ...] = (
    ("accuracy", "Accuracy"),
    ("custom", "Table for a paper"),
    ("electrical", "Electrical errors"),
    ("topology", "Topology"),
    ("transfer", "Transfer"),
    ("stress", "Stress"),
    ("ablation", "Ablation"),
    ("significance", "Significance"),
    ("efficiency", "Efficiency"),
    ("training", "Training"),
    ("bench", "Against the plain way"),
)
#: The section of each table, also of those that follow from records and a user's choice.
SECTION_OF = {entry.name: entry.section for entry in TABLES} | {
    "custom": "custom",
    "methods": "significance",
    "networks": "significance",
}


def to_html(
    name: str,
    study: StudyResults,
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    files: Iterable[str],
    pictures: Mapping[str, bytes],
    reference: str,
    *,
    redacted: bool = False,
) -> bytes:
    """Return the page.

    Args:
        name: of the study.
        study: redacted already where the page is to be.
        tables: the report's tables, which the page shows as the files hold them.
        drawings: the report's plots, in the order of :data:`benchmark.report.plots.all_plots.PLOTS`.
        files: paths of the report's files, below the page's own folder, that it links to.
        pictures: panels by name.
        reference: the model that the others are compared with.
        redacted: whether the page says so.
    """
    by_name = {table.name: table for table in tables if table.blocks}
    shown = {table.name: grids.show(table) for table in by_name.values()}
    sizes = itertools.accumulate(len(drawing.svg.encode()) for drawing in drawings)
    within = sum(size <= PLOT_BYTES for size in sizes)
    by_table: dict[str, list[tuple[str, list[Drawing]]]] = {}
    for plot, group in itertools.groupby(drawings[:within], key=lambda drawing: drawing.plot):
        by_table.setdefault(plot.table, []).append((plot.heading, list(group)))
    lost, more_lost = origin.lost(study)
    used = bibliography.keys(dict.fromkeys(row.key for table in tables for block in table.blocks for row in block.rows))
    script = (FOLDER / "page.js").read_text("utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        name=name,
        redacted=redacted,
        summary=page_summary.summarise(study, by_name.get("accuracy", Table("accuracy", "")), reference),
        sections=[
            (key, title, [grid for table, grid in shown.items() if SECTION_OF[table] == key]) for key, title in SECTIONS
        ],
        drawings=by_table,
        undrawn=drawings[within:],
        stressed=[
            (found, stress_table.sentences(study, found)) for found in stress_table.tested(study) if found.stresses
        ],
        lost=lost,
        more_lost=more_lost,
        broken=[(found.run, _reason(found.reason)) for found in study.broken],
        environments=origin.environments(study),
        commands=origin.commands(study, name),
        bibtex=origin.software(study) + "\n" + bibliography.bibtex(used),
        downloads=_downloads(files),
        titles={table.name: table.title for table in tables}
        | {"numbers": "Numbers for a text", "references": "Papers"},
        datasets=_datasets(by_name.get("accuracy"), drawings),
        css=Markup((FOLDER / "page.css").read_text("utf-8")),
        script=Markup(script),
        # Nothing but this script runs, whatever a name or a message holds, and nothing is fetched.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        panels_here=Markup(_PANELS),
    )
    chosen, left_out = panels.embed(pictures, max(PAGE_BYTES - len(page.encode()) - 10_000, 0))
    pictured = environment.get_template("panels.html").render(panels=chosen, left_out=left_out)
    return page.replace(_PANELS, pictured, 1).encode()


def _reason(reason: str) -> str:
    """Return why a record is broken, without the path in front, which is known from the run's name."""
    _, found, why = reason.partition("record.json: ")
    return why if found else reason


def _downloads(files: Iterable[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group the tables' files: name -> (format, path)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file in files:
        path = Path(file)
        if path.parent.name == "tables":
            found.setdefault(path.stem, []).append((path.suffix.removeprefix("."), file))
    return list(found.items())


def _datasets(accuracy: Table | None, drawings: Sequence[Drawing]) -> list[str]:
    """Return what parts of the page can be chosen by."""
    named = [str(block.facts["dataset"]) for block in accuracy.blocks] if accuracy else []
    named += [drawing.dataset for drawing in drawings if drawing.plot.table == "training"]
    return list(dict.fromkeys(named))

"""The page of a study: everything that its report knows in one HTML file that needs nothing else to be read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from benchmark.report.page import charts, curves, grids, origin, summary
from benchmark.report.page import pictures as panels
from benchmark.report.plots import accuracy_cost_plot as plots
from benchmark.report.plots import electrical_plot as faults
from benchmark.report.plots.comparison_plot import Standing
from benchmark.report.read import Study
from benchmark.report.tables import bibliography, render
from benchmark.report.tables import stress_table as stress
from benchmark.report.tables.all_tables import TABLES
from benchmark.report.tables.render import Block, Table

#: What a page may hold, bytes: it is mailed around. Pictures take what the rest leaves.
PAGE_BYTES = 5_000_000
#: Of these, at most, the plots below their tables.
PLOT_BYTES = 1_500_000
#: Tables whose plots the page shows as the files hold them; it draws the others itself.
PLOTTED = ("transfer", "profile", "roofline", "growth", "bench")

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
    study: Study,
    tables: Sequence[Table],
    compared: Sequence[Standing],
    files: Iterable[str],
    pictures: Mapping[str, bytes],
    plotted: Mapping[str, bytes],
    reference: str,
    *,
    redacted: bool = False,
) -> bytes:
    """Return the page.

    Args:
        name: of the study.
        study: redacted already where the page is to be.
        tables: the report's tables, which the page shows as the files hold them.
        compared: how the models stand, as :func:`benchmark.report.plots.comparison_plot.standings` says.
        files: paths of the report's files, below the page's own folder, that it links to.
        pictures: panels by name.
        plotted: plots by name, those of stress tests and others, each beginning with a name in ``PLOTTED``.
        reference: the model that the others are compared with.
        redacted: whether the page says so.
    """
    by_name = {table.name: table for table in tables if table.blocks}
    blocks = by_name["accuracy"].blocks if "accuracy" in by_name else ()
    shown = {table.name: grids.show(table) for table in by_name.values()}
    scatters = [charts.scatter(chart) for chart in plots.charts(study, blocks[: charts.BLOCKS])]
    small, sets_left_out = curves.multiples(study)
    lost, more_lost = origin.lost(study)
    used = bibliography.keys(dict.fromkeys(row.key for table in tables for block in table.blocks for row in block.rows))
    under, unplotted = panels.embed(plotted, PLOT_BYTES)
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
        summary=summary.summarise(study, by_name.get("accuracy", Table("accuracy", "")), reference),
        sections=[
            (key, title, [grid for table, grid in shown.items() if SECTION_OF[table] == key]) for key, title in SECTIONS
        ],
        plots={name: [plot for plot in under if plot.file.partition(".")[0] == name] for name in PLOTTED},
        unplotted=unplotted,
        scatters=scatters,
        ladders=[charts.ladder(standing) for standing in compared[: charts.BLOCKS]],
        errors=[charts.bars(found) for found in faults.of_blocks(study, blocks[: charts.BLOCKS])],
        undrawn=max(len(blocks) - charts.BLOCKS, 0),
        multiples=small,
        stressed=_stressed(study, {plot.file: plot.uri for plot in under}),
        sets_left_out=sets_left_out,
        lost=lost,
        more_lost=more_lost,
        broken=[(found.run, _reason(found.reason)) for found in study.broken],
        environments=origin.environments(study),
        commands=origin.commands(study, name),
        bibtex=origin.software(study) + "\n" + bibliography.bibtex(used),
        downloads=_downloads(files),
        titles={table.name: table.title for table in tables}
        | {"numbers": "Numbers for a text", "references": "Papers"},
        datasets=_datasets(blocks, small),
        families=render.FAMILIES,
        colours={family: colour for family, (_, colour, _) in plots.STYLES.items()},
        looks=faults.LOOKS,
        geometry=charts,
        small=curves,
        css=Markup((FOLDER / "page.css").read_text("utf-8")),
        script=Markup(script),
        # Nothing but this script runs, whatever a name or a message holds, and nothing is fetched.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        panels_here=Markup(_PANELS),
    )
    chosen, left_out = panels.embed(pictures, max(PAGE_BYTES - len(page.encode()) - 10_000, 0))
    pictured = environment.get_template("panels.html").render(panels=chosen, left_out=left_out)
    return page.replace(_PANELS, pictured, 1).encode()


@dataclass(frozen=True)
class _Stressed:
    """What the page says of a stand-in's stress tests before their tables; a plot that is too large is blank."""

    found: stress.Tested
    sentences: list[tuple[str, str]]
    uri: str


def _stressed(study: Study, uris: Mapping[str, str]) -> list[_Stressed]:
    return [
        _Stressed(found, stress.sentences(study, found), uris.get(f"{found.plot}.png", ""))
        for found in stress.tested(study)
        if found.stresses
    ]


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


def _datasets(blocks: Sequence[Block], small: Sequence[curves.Multiples]) -> list[str]:
    """Return what parts of the page can be chosen by."""
    named = [str(block.facts["dataset"]) for block in blocks] + [found.train for found in small]
    return list(dict.fromkeys(named))

"""Writes a study's page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from benchmark.metrics import METRICS, NOTHING_TO_JUDGE
from benchmark.report.page import grids, origin, page_summary
from benchmark.report.page.drawings import Drawing
from benchmark.report.page.pictures import embed
from benchmark.report.page.run_list import RunList
from benchmark.report.page.verdicts import PairMatrix, VerdictMatrix
from benchmark.report.plots.sheet import Sheet
from benchmark.report.read import StudyResults
from benchmark.report.tables import bibliography, stress_table
from benchmark.report.tables.all_tables import SECTION_OF
from benchmark.report.tables.conventions import noun_under
from benchmark.report.tables.render import Table
from benchmark.utils.words import counted

#: Bytes of a page at most: it is mailed around. Pictures take what the rest leaves.
PAGE_BYTES = 5_000_000
#: Bytes of the plots in it at most.
PLOT_BYTES = 2_500_000

FOLDER = Path(__file__).parent
#: Stands for the pictures until the size of all else is known; escaped text never holds it.
_PANELS = "<!--panels-->"

#: The sections of tables and plots in a reader's order: the page's own name for each, and for links.
SECTIONS: tuple[tuple[str, str], ...] = (
    ("accuracy", "Accuracy"),
    ("electrical", "Electrical errors"),
    ("topology", "Topology"),
    ("significance", "Significance"),
    ("transfer", "Transfer"),
    ("stress", "Stress"),
    ("ablation", "Ablation"),
    ("training", "Training"),
    ("efficiency", "Efficiency"),
    ("bench", "Speedup"),
    ("custom", "Table for a paper"),
)


def to_html(
    name: str,
    study: StudyResults,
    tables: Sequence[Table],
    drawings: Sequence[Drawing],
    files: Iterable[str],
    sheets: Sequence[Sheet],
    reference: str,
    *,
    redacted: bool = False,
    renamed: bool = False,
) -> bytes:
    """Return the page.

    Args:
        name: of the study.
        study: redacted already if the page is to be.
        tables: the report's tables, which the page shows as the files hold them.
        drawings: the report's plots, in the order of :data:`benchmark.report.plots.all_plots.PLOTS`.
        files: paths of the report's files, below the page's own folder, that it links to.
        sheets: the report's panels.
        reference: the model that the others are compared with.
        redacted: whether the page says so, and links to no file outside of the report.
        renamed: whether names were replaced in it too, which it says.
    """
    by_name = {table.name: table for table in tables if table.blocks}
    grids_by_name = {table.name: grids.show(table) for table in by_name.values()}
    sizes = itertools.accumulate(len(drawing.svg.encode()) for drawing in drawings)
    within = sum(size <= PLOT_BYTES for size in sizes)
    lost, more_lost = origin.lost(study)
    used = bibliography.keys(dict.fromkeys(row.key for table in tables for block in table.blocks for row in block.rows))
    defined = dict(_defined(by_name.values()))
    metrics = [metric for name, metric in METRICS.items() if name in defined.values()]
    script = (FOLDER / "page.js").read_text("utf-8")
    environment = _environment()
    page = environment.get_template("page.html").render(
        name=name,
        redacted=redacted,
        renamed=renamed,
        noun=noun_under(study.protocol),
        summary=page_summary.summarise(study, by_name.get("accuracy", Table("accuracy", "")), reference),
        pictured=bool(sheets),
        sections=[
            (key, title, _without_repeats(grid for table, grid in grids_by_name.items() if SECTION_OF[table] == key))
            for key, title in SECTIONS
        ],
        drawings=_by_section(drawings[:within]),
        undrawn=drawings[within:],
        verdicts=VerdictMatrix.of(by_name.get("methods")),
        pairs=list(PairMatrix.of_blocks(study, by_name["accuracy"].blocks)) if "accuracy" in by_name else [],
        stressed=[
            (tested, stress_table.sentences(study, tested)) for tested in stress_table.tested(study) if tested.stresses
        ],
        metrics=metrics,
        defined=defined,
        nothing_to_judge=f"{NOTHING_TO_JUDGE[0].upper()}{NOTHING_TO_JUDGE[1:]}.",
        runs=RunList.of(study, linked=not redacted),
        lost=lost,
        more_lost=more_lost,
        broken=[(broken.run, _reason(broken.reason)) for broken in study.broken],
        environments=origin.environments(study),
        commands=origin.commands(study, name, reference),
        merged=bool(study.sources),
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
    # A panel's texts take less than 10 kB.
    panels, left_out = embed(sheets, max(PAGE_BYTES - len(page.encode()) - 10_000 * len(sheets), 0))
    pictures = environment.get_template("panels.html").render(panels=panels, left_out=left_out)
    return page.replace(_PANELS, pictures, 1).encode()


def _without_repeats(tables: Iterable[grids.Shown]) -> list[grids.Shown]:
    """Leave out tables without rows that say what an earlier one says."""
    said: dict[tuple[object, ...], grids.Shown] = {}
    for shown in tables:
        blocks = shown.table.blocks
        empty = not any(block.rows for block in blocks)
        said.setdefault(tuple(block.conventions for block in blocks) if empty else (shown.table.name,), shown)
    return list(said.values())


@functools.cache  # with its compiled templates: a study's page is made again while it runs
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = counted
    return environment


def _by_section(drawings: Sequence[Drawing]) -> dict[str, list[tuple[str, list[list[Drawing]]]]]:
    """Return section -> (heading, drawings beside each other: those of one kind on all datasets)."""
    sections: dict[str, list[tuple[str, list[list[Drawing]]]]] = {}
    for plot, group in itertools.groupby(drawings, key=lambda drawing: drawing.plot):
        lines: dict[str, list[Drawing]] = {}
        for drawing in group:
            lines.setdefault(drawing.name.rpartition(".")[2], []).append(drawing)
        beside = list(lines.values())
        if all(len(line) == 1 for line in beside):
            beside = [list(itertools.chain.from_iterable(beside))]
        sections.setdefault(SECTION_OF[plot.table], []).append((plot.heading, beside))
    return sections


def _defined(tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    """Yield the columns that show a metric, such as ``omc-syn/miou.pooled``, with the metric's name."""
    for block in (block for table in tables for block in table.blocks):
        for key in (*(column.key for column in block.columns), str(block.facts.get("metric"))):
            metric = key.rpartition("/")[2].partition(".")[0]
            if metric in METRICS:
                yield key, metric


def _reason(reason: str) -> str:
    """Return why a record is broken, without the path in front, which is known from the run's name."""
    _, separator, words = reason.partition("record.json: ")
    return words if separator else reason


def _downloads(files: Iterable[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group the tables' files: name -> (format, path)."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for file in files:
        path = Path(file)
        if path.parent.name == "tables":
            groups.setdefault(path.stem, []).append((path.suffix.removeprefix("."), file))
    return list(groups.items())


def _datasets(accuracy: Table | None, drawings: Sequence[Drawing]) -> list[str]:
    """Return the datasets by which parts of the page can be chosen."""
    names = [str(block.facts["dataset"]) for block in accuracy.blocks] if accuracy else []
    names += [drawing.dataset for drawing in drawings if drawing.plot.table == "training"]
    return list(dict.fromkeys(names))

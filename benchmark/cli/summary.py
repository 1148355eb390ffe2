"""Prints the main columns of a study's tables and its failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.records.method import kept_method
from benchmark.records.run_record import Failure
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables import accuracy_table, conventions, efficiency_table, profile_table, roofline_table
from benchmark.report.tables.render import HINDERED, Block, own_n_of, remarks_of
from benchmark.runs.jobs import Job


def print_summary(console: Console, folder: Path) -> None:
    """Print accuracy, or for a study without runs efficiency."""
    study = read_study(folder)
    with conventions.naming(study.networks.values(), kept_method(folder)):
        _print_tables(console, study)


def _print_tables(console: Console, study: StudyResults) -> None:
    for block in accuracy_table.scores(study, accuracy_table.ACCURACY).blocks:
        console.print(_rich_table(block, ("miou", "dice", "aji", "fg_iou")))
        console.print(" ".join(block.conventions[:2]), style="dim")
    if not study.runs:
        overview = profile_table.overview(study).blocks
        shares = {row.key: row.cells for block in roofline_table.table(study).blocks for row in block.rows}
        # Of several settings a terminal is wide enough for the latencies only.
        keys = ("params", "latency_p50_ms", *(() if overview else ("macs", "fps", "forward_peak_bytes", "limit_share")))
        for block in overview or efficiency_table.efficiency(study).blocks:
            if shares and not overview:  # a single setting, so that every model has one share
                rows = tuple(replace(row, cells={**row.cells, **shares.get(row.key, {})}) for row in block.rows)
                block = replace(block, columns=(*block.columns, roofline_table.SHARE), rows=rows)
            console.print(_rich_table(block, keys))
            for convention in block.conventions:
                if convention.startswith(HINDERED):
                    console.print("\n".join([convention, *remarks_of(block)]), style="dim")


def print_failures(console: Console, failures: Sequence[tuple[Job, Failure]]) -> None:
    """List all failures again at the end."""
    if failures:
        console.print(Text.assemble((f"{len(failures)} failed", "red bold"), "; run them again with --retry-failed"))
        for job, failure in failures:
            console.print(f"  {job.label}: {failure.kind}: {failure.message}")


def _rich_table(block: Block, keys: Sequence[str]) -> Table:
    """Return some columns of a report table for the terminal, best bold and second underlined."""
    columns = [column for column in block.columns if column.key.partition(".")[0] in keys]
    styles, marks = {"best": "bold", "second": "underline"}, block.marks()
    table = Table(title=block.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("model")
    for column in columns:
        table.add_column(f"{column.group} {column.title} {column.bracketed_unit}".strip(), justify="right")
    for row in block.rows:
        texts = []
        for column in columns:
            cell = row.cells.get(column.key)
            spread = f" ± {column.text(cell.std)}" if cell and cell.std is not None else ""
            style = styles[mark] if (mark := marks.get((row.key, column.key))) else ""
            own_n = f" [{own}]" if cell and (own := own_n_of(block, row, column, cell)) else ""
            texts.append(Text(f"{column.text(cell.mean)}{cell.mark}{spread}{own_n}" if cell else "-", style=style))
        table.add_row(row.label, *texts)
    return table

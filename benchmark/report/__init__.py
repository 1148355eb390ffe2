"""Reports: tables and plots from a study's files alone, without a model, a GPU or the data."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UserError
from benchmark.files import write_atomically
from benchmark.report import plots, render, tables, transfer
from benchmark.report.collect import read_study

RENDERERS = {"csv": render.to_csv, "md": render.to_markdown, "tex": render.to_latex}


def build(study: Path) -> list[Path]:
    """Write ``report/tables/*.{csv,md,tex}``, ``report/tables.tex`` and ``report/plots/*.{pdf,png}`` of a study.

    The same records give the same bytes.

    Args:
        study: ``results/<study>``.

    Returns:
        The written files.

    Raises:
        UserError: no study there, nothing in it to report, or a broken file in it.
    """
    found = read_study(study)
    accuracy, electrical = (tables.scores(found, kind) for kind in (tables.ACCURACY, tables.ELECTRICAL))
    made = (accuracy, electrical, transfer.table(found), tables.efficiency(found))
    filled = [table for table in made if table.blocks]
    if not filled:
        raise UserError(f"{study}: holds neither runs nor efficiency figures to report; start `benchmark run` first")
    files = {
        f"tables/{table.name}.{kind}": to_text(table).encode()
        for table in filled
        for kind, to_text in RENDERERS.items()
    }
    files["tables.tex"] = render.latex_document(table.name for table in filled).encode()
    for stem, figure in (*plots.figures(found, accuracy.blocks), *transfer.figures(found)):
        files |= {f"plots/{stem}.{kind}": plots.save(figure, kind) for kind in ("pdf", "png")}
    for name, content in files.items():
        write_atomically(study / "report" / name, content)
    return [study / "report" / name for name in files]

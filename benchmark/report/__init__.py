"""Reports: tables and plots from a study's files alone, without a model, a GPU or the data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.files import read_limited, write_atomically
from benchmark.report import (
    bibliography,
    comparison,
    faults,
    numbers,
    panels,
    paper,
    plots,
    profile,
    render,
    significance,
    tables,
    training,
    transfer,
    wide,
)
from benchmark.report.ablation import ablation
from benchmark.report.collect import Study, contradictions, read_study
from benchmark.report.paper import Choice
from benchmark.report.render import Table
from benchmark.store import RECORD_BYTES

__all__ = ["Choice", "build", "check"]

RENDERERS = {"csv": render.to_csv, "md": render.to_markdown, "tex": render.to_latex}
CHOICE = f"{paper.NAME}.json"


def build(
    study: Path,
    choice: Choice | None = None,
    reference: str = significance.REFERENCE,
    *,
    with_panels: bool = True,
    tell: Callable[[str], None] = lambda sentence: None,
) -> list[Path]:
    """Write ``report/tables/*``, ``report/tables.tex``, ``report/{plots,panels}/*.{pdf,png}`` of a study.

    The same records give the same bytes.

    Args:
        study: ``results/<study>``.
        choice: what the table for a paper shows. It is kept, and ``None`` takes the kept one; without one there is no
            such table.
        reference: the model that the others are compared with.
        with_panels: whether images are shown; without, earlier ones are removed from ``report/panels``.
        tell: called with a sentence for each thing that is left out.

    Returns:
        The written files.

    Raises:
        UserError: no study there, nothing in it to report, or a broken file in it.
    """
    found = read_study(study)
    files = _texts(study, found, choice, reference)
    blocks = tables.scores(found, tables.ACCURACY).blocks
    by_dataset = itertools.chain.from_iterable(module.figures(found, blocks) for module in (plots, comparison, faults))
    for stem, figure in (*by_dataset, *transfer.figures(found), *profile.figures(found)):
        files |= {f"plots/{stem}.{kind}": plots.save(figure, kind) for kind in ("pdf", "png")}
    if with_panels:
        files |= panels.build(study, found, blocks, tell)
    for left in (study / "report/panels").glob("[!.]*"):
        if panels.is_panel(left.name) and f"panels/{left.name}" not in files:
            left.unlink()  # of an image that may no longer be shown
    for name, content in files.items():
        write_atomically(study / "report" / name, content)
    return [study / "report" / name for name in files]


def check(study: Path, choice: Choice | None = None) -> list[str]:
    """Compare the tables on disk with what the records give, and the records with their counts; nothing is written.

    Returns:
        One sentence per file of ``report/tables`` and ``report/tables.tex`` that differs, lacks or should not be, and
        per record whose metrics are not those of its counts per image.

    Raises:
        UserError: as ``build``.
    """
    folder = study / "report"
    found = read_study(study)
    files = _texts(study, found, choice)
    wrong = contradictions(study, found)
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path}: missing")
        elif path.read_bytes() != content:
            wrong.append(f"{path}: differs from the records")
    left = sorted(path for path in (folder / "tables").glob("[!.]*") if f"tables/{path.name}" not in files)
    return wrong + [f"{path}: belongs to no table of this report" for path in left]


def _texts(
    study: Path, found: Study, choice: Choice | None, reference: str = significance.REFERENCE
) -> dict[str, bytes]:
    """Return everything but the plots, by path below ``report/``."""
    standard = [tables.scores(found, kind) for kind in (tables.ACCURACY, tables.TOPOLOGY, tables.ELECTRICAL)]
    standard += [transfer.table(found), tables.efficiency(found), profile.overview(found)]
    standard += [training.cost(found), ablation(found)]
    filled = [table for table in standard if table.blocks]
    if not filled and found.broken:
        raise UserError(f"{study}: nothing to report, since every record is broken; {found.broken[0].reason}")
    if not filled:
        raise UserError(f"{study}: holds neither runs nor efficiency figures to report; start `benchmark run` first")
    printed = {table.name: {kind: to_text(table) for kind, to_text in RENDERERS.items()} for table in filled}
    for compared in significance.written(found, standard[0].blocks, reference):
        shown = {kind: to_text(compared.table) for kind, to_text in RENDERERS.items()}
        printed[compared.table.name] = shown | {"csv": compared.to_csv()}
    counted = [*filled, *_costs(found)]
    custom, chosen = _custom(study / "report" / CHOICE, found, choice)
    if custom is not None and chosen is not None:
        laid_out = wide.widen(custom) if chosen.layout == "wide" else custom
        # The CSV file is for programs and stays one line per figure.
        printed[custom.name] = {
            kind: to_text(laid_out if kind != "csv" else custom) for kind, to_text in RENDERERS.items()
        }
        counted.append(custom)
    files = {f"tables/{name}.{kind}": text.encode() for name, texts in printed.items() for kind, text in texts.items()}
    reduction = found.protocol.report.reduction if found.protocol else ""
    files["tables/numbers.tex"] = numbers.macros(counted, reduction).encode()
    used = bibliography.keys(dict.fromkeys(row.key for table in filled for block in table.blocks for row in block.rows))
    if used:
        files["tables/references.bib"] = bibliography.bibtex(used).encode()
    cited = bibliography.thebibliography(used) if used and chosen is not None and chosen.cite else ""
    files["tables.tex"] = render.latex_document(printed, cited).encode()
    if chosen is not None:
        files[CHOICE] = (chosen.model_dump_json(indent=1) + "\n").encode()
    return files


def _costs(found: Study) -> Iterator[Table]:
    """Yield each dataset's efficiency figures under the dataset's own name, for the numbers in a text."""
    figures = paper.figures(list(paper.COSTS), "image")
    for base in tables.scores(found, tables.ACCURACY).blocks:
        block = paper.compose(found, base, figures, {row.key for row in base.rows})
        yield Table("costs", "Efficiency", (block,))


def _custom(file: Path, found: Study, choice: Choice | None) -> tuple[Table | None, Choice | None]:
    """Return the table for a paper, from what is asked now or was kept, and what it was made from."""
    if choice is not None:
        return paper.table(found, choice), choice
    try:
        kept = Choice.model_validate_json(read_limited(file, RECORD_BYTES))
    except FileNotFoundError:
        return None, None
    except (OSError, ValidationError) as error:
        raise UserError(f"{file}: cannot be read ({error}); delete it and choose the table's columns again") from error
    try:
        return paper.table(found, kept), kept
    except UserError as error:
        raise UserError(f"{file}: no longer fits the study ({error}); delete it or choose again") from error

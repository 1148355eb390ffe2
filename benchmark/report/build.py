"""Builds a report of tables, plots and a page from a study's files alone."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from matplotlib.figure import Figure

from benchmark.records.method import check_method, keep_method, kept_method
from benchmark.records.packed_study import is_packed
from benchmark.report import merge, up_to_date
from benchmark.report.contradictions import contradictions, divided
from benchmark.report.page import html
from benchmark.report.page.drawings import Drawing, texts_only
from benchmark.report.plots import panels, plot_style
from benchmark.report.plots.all_plots import PLOTS, Plot
from benchmark.report.plots.sheet import Sheet
from benchmark.report.read import StudyResults, read_study
from benchmark.report.redact import redact_study, rename_study, renamed
from benchmark.report.tables import bibliography, conventions, numbers, paper_table, render, significance_table
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.report.tables.all_tables import SECTION_OF, TABLES
from benchmark.report.tables.paper_table import PaperChoice
from benchmark.report.tables.render import Table
from benchmark.report.up_to_date import FOLDER, PAGE
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically

__all__ = ["FOLDER", "PAGE", "PaperChoice", "build", "check"]

RENDERERS = {"csv": render.to_csv, "md": render.to_markdown, "tex": render.to_latex}
#: Beside ``FOLDER``, below the study's folder. What may leave the house has a folder to itself, since what lies in the
#: other one, from whichever report, may not.
REDACTED = "report-redacted"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # a file's time in a zip file


def build(
    study: Path,
    choice: PaperChoice | None = None,
    reference: str | None = None,
    *,
    merged: Sequence[Path] = (),
    redact: bool = False,
    names: Mapping[str, str] = MappingProxyType({}),
    zipped: bool = False,
    plots: Sequence[Plot] = PLOTS,
    page_only: bool = False,
    tell: Callable[[str], None] = lambda sentence: None,
) -> list[Path]:
    """Write ``report/index.html``, ``tables/*``, ``tables.tex`` and ``{plots,panels}/*.{pdf,png}`` of a study.

    The same records give the same bytes.

    Args:
        study: ``results/<study>``.
        choice: what the table for a paper shows. It is kept, and ``None`` takes the kept one; without one there is no
            such table.
        reference: the model that the others are compared with. It is kept, and ``None`` takes the kept one, else
            EAL-ICNet.
        merged: studies that are reported as one; ``study`` is then the folder that gets the report.
        redact: write a report that may leave the house, see ``redact.py``, into ``report-redacted/`` instead.
        names: old and new names of datasets and studies, in a redacted report.
        zipped: write a redacted report into one file, ``report-redacted.zip``, in place of the folder.
        plots: the kinds of plots that it gets.
        page_only: write no files of plots and panels, which take most of the time and which the page does not need.
        tell: called with a sentence for each thing that is left out.

    Returns:
        The written files.

    Raises:
        UserError: no study there, nothing in it to report, a broken file in it, a reference that it does not have, or
            studies that must not be merged.
    """
    folder = study / (REDACTED if redact else FOLDER)
    usual = reference is None and plots is PLOTS  # as `run` builds it
    inputs = up_to_date.digest_inputs(study) if usual and not (merged or redact or page_only) else None
    results = _read(study, merged, redact, names, tell)
    if reference is not None:
        reference = check_method(reference, dict.fromkeys(run.record.model for run in results.runs))
        keep_method(study, reference)
    method = reference or kept_method(study)
    with conventions.naming(results.networks.values(), method):
        files, shown = _texts(study, results, choice, method, names)
        if redact:
            files.pop(paper_table.CHOICE, None)
        if choice is not None and choice.cite and (uncited := _uncited(shown)):
            tell(
                f"--cite: no paper of {', '.join(uncited)} is known, so there the LaTeX rows cite none; a network of "
                "your own names its paper by the class attribute `citation`, set before training"
            )
        for file in results.strangers:
            tell(f"{file}: left out; run the study again, and it is made anew")
        drawings = []
        for plot, stem, figure in _figures(results, plots):
            if not page_only:
                files |= {f"plots/{stem}.{kind}": plot_style.save(figure, kind) for kind in plot.kinds}
            drawings.append(Drawing.of(plot, stem, figure))
        sheets = _sheets(study, results, tell, show=not redact and not merged)
        files |= {} if page_only else panels.files(sheets)
        content = _page(study, results, shown, drawings, sheets, files, method, redact, names)
        if zipped:
            write_atomically(study / f"{REDACTED}.zip", _zip(files | {PAGE: content}))
            return [study / f"{REDACTED}.zip"]
        # Files of an image that may no longer be shown, and of a setting or a table that is no longer there.
        earlier = [file for file in (folder / "panels").glob("[!.]*") if panels.is_panel(file.name)]
        for plot, kind in itertools.product(PLOTS, ("pdf", "png")):
            earlier += (folder / "plots").glob(f"{plot.table}.*{kind}")
        of_tables = [f"{name}.{kind}" for name in SECTION_OF for kind in RENDERERS]
        earlier += [folder / "tables" / file for file in (*of_tables, "references.bib")]
        if redact:  # names that were replaced since may be in the names of any of its files
            earlier += [file for part in ("plots", "tables") for file in (folder / part).glob("[!.]*")]
        for path in () if page_only else earlier:
            if f"{path.parent.name}/{path.name}" not in files:
                path.unlink(missing_ok=True)
        for name, file_content in files.items():
            write_atomically(folder / name, file_content)
        write_atomically(folder / PAGE, content)
    if inputs is not None:
        up_to_date.seal(study, inputs, (*files, PAGE))
    return [folder / name for name in (*files, PAGE)]


def check(
    study: Path,
    merged: Sequence[Path] = (),
    *,
    redact: bool = False,
    names: Mapping[str, str] = MappingProxyType({}),
    plots: Sequence[Plot] = PLOTS,
    tell: Callable[[str], None] = lambda sentence: None,
) -> list[str]:
    """Compare page and tables on disk with what the records give, and these with their counts; nothing is written.

    Of plots and pictures in the page it compares all texts, with names and values, and not the shapes. The table for a
    paper is the one that was chosen when the report was written.

    Args:
        study: as for ``build``, like ``merged`` and ``redact``.
        merged: studies that are reported as one.
        redact: check the report that may leave the house.
        names: as for ``build``.
        plots: as for ``build``.
        tell: as for ``build``.

    Returns:
        One sentence per file that is missing (of a packed study only the page), differs (other than plots) or should
        not be there, per record whose
        metrics are not those of its counts per image, per stress test or ensemble that cannot be read, and per test
        dataset whose runs, or methods without training, were tested on different images.

    Raises:
        UserError: as ``build``.
    """
    folder = study / (REDACTED if redact else FOLDER)
    results = _read(study, merged, redact, names, tell)
    method = kept_method(study)
    with conventions.naming(results.networks.values(), method):
        files, shown = _texts(study, results, None, method, names)
        files.pop(paper_table.CHOICE, None)  # an input; earlier releases wrote fewer fields
        figures = list(_figures(results, plots, texts_alone=True))
        drawings = [Drawing.of(*figure) for figure in figures]
        plot_files = [folder / "plots" / f"{stem}.{kind}" for plot, stem, _ in figures for kind in plot.kinds]
        sheets = _sheets(study, results, lambda sentence: None, show=not redact and not merged)
        page = _page(study, results, shown, drawings, sheets, files, method, redact, names)
        files[PAGE] = texts_only(page)
    sources = [(source, read_study(source)) for source in merged] or [(study, results)]
    wrong = [line for folder, part in sources for line in contradictions(folder, part)]
    wrong += [line for _, part in sources for line in (*part.broken_stress, *part.broken_ensembles)]
    wrong += [f"{folder}/{file}; left out" for folder, part in sources for file in part.strangers]
    wrong += [f"{folder}: {line}" for folder, part in sources for line in divided(part)]
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            wrong += [f"{path}: missing"] * (name == PAGE or not is_packed(study))
        elif (texts_only if name == PAGE else bytes)(path.read_bytes()) != content:
            wrong.append(f"{path}: differs from the records")
    wrong += [f"{path}: missing" for path in plot_files if not (path.is_file() or is_packed(study))]
    orphans = sorted(path for path in (folder / "tables").glob("[!.]*") if f"tables/{path.name}" not in files)
    return wrong + [f"{path}: belongs to no table of this report" for path in orphans]


def _read(
    study: Path, merged: Sequence[Path], redact: bool, names: Mapping[str, str], tell: Callable[[str], None]
) -> StudyResults:
    results = merge.merge(merged, redact=redact, tell=tell) if merged else read_study(study, tell)
    results = redact_study(results) if redact else results
    # A link's name is in the title, and its target's in what merges say.
    called = (name for folder in (study, *merged) for name in (folder.name, folder.resolve().name) if name)
    return rename_study(results, names, called) if names else results


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file of one folder; the same files give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file_content in sorted(files.items()):
            archive.writestr(
                zipfile.ZipInfo(f"{REDACTED}/{name}", EARLIEST), file_content, compress_type=zipfile.ZIP_DEFLATED
            )
    return content.getvalue()


def _sheets(study: Path, results: StudyResults, tell: Callable[[str], None], *, show: bool) -> list[Sheet]:
    """Return the panels; none in a report that may leave the house, or of several studies."""
    return list(panels.sheets(study, results, scores(results, ACCURACY).blocks, tell)) if show else []


def _page(
    study: Path, results: StudyResults, shown: list[Table], drawings: list[Drawing], sheets: list[Sheet],
    files: Iterable[str], reference: str, redact: bool, names: Mapping[str, str],
) -> bytes:  # fmt: skip
    name = renamed(study.name or study.resolve().name, names)
    if redact and results.sources:  # the folder of several studies may be called after their parents
        name = "+".join(results.sources)
    return html.to_html(name, results, shown, drawings, files, sheets, reference, redacted=redact, renamed=bool(names))


def _figures(
    results: StudyResults, plots: Sequence[Plot], *, texts_alone: bool = False
) -> Iterator[tuple[Plot, str, Figure]]:
    named = merge.for_figures(results)
    for plot in plots:
        draw = (texts_alone and plot.draw_texts) or plot.draw
        yield from ((plot, stem, figure) for stem, figure in draw(named))


def _texts(
    study: Path, results: StudyResults, choice: PaperChoice | None, reference: str, names: Mapping[str, str]
) -> tuple[dict[str, bytes], list[Table]]:
    """Return everything but plots and page, by path below ``report/``, and the tables that were printed."""
    tables = {entry.name: entry.make(results) for entry in TABLES}
    filled = [merge.with_origin(table, results) for table in tables.values() if table.blocks]
    if not filled and results.broken:
        raise UserError(f"{study}: nothing to report, since every record is broken; {results.broken[0].reason}")
    if not filled:
        raise UserError(f"{study}: holds neither runs nor efficiency figures to report; start `benchmark run` first")
    printed = {table.name: _rendered(table) for table in filled}
    shown = list(filled)
    for compared in significance_table.written(results, tables["accuracy"].blocks, reference):
        shown.append(merge.with_origin(compared.table, results))
        printed[compared.table.name] = _rendered(shown[-1]) | {"csv": compared.to_csv()}
    counted = [*filled, *_costs(results)]
    custom, chosen = _custom(study / FOLDER / paper_table.CHOICE, results, choice, names)
    if custom is not None and chosen is not None:
        counted.append(merge.with_origin(custom, results))
        shown.append(paper_table.widen(counted[-1]) if chosen.layout == "wide" else counted[-1])
        # The CSV file is for programs and stays one line per figure.
        printed[custom.name] = _rendered(shown[-1]) | {"csv": render.to_csv(counted[-1])}
    files = {f"tables/{name}.{kind}": text.encode() for name, texts in printed.items() for kind, text in texts.items()}
    reduction = results.protocol.report.reduction if results.protocol else ""
    files["tables/numbers.tex"] = numbers.macros(counted, reduction).encode()
    used = bibliography.keys(dict.fromkeys(row.key for table in filled for block in table.blocks for row in block.rows))
    if used:
        files["tables/references.bib"] = bibliography.bibtex(used).encode()
    cited = bibliography.thebibliography(used) if used and chosen is not None and chosen.cite else ""
    files["tables.tex"] = render.latex_document(printed, cited).encode()
    if chosen is not None:
        files[paper_table.CHOICE] = (chosen.model_dump_json(indent=1) + "\n").encode()
    return files, shown


def _uncited(tables: Iterable[Table]) -> list[str]:
    """Return the networks in the table for a paper that cite no paper."""
    rows = (row for table in tables if table.name == paper_table.NAME for block in table.blocks for row in block.rows)
    return list(dict.fromkeys(row.label for row in rows if row.ranked and not row.cite))


def _rendered(table: Table) -> dict[str, str]:
    return {kind: to_text(table) for kind, to_text in RENDERERS.items()}


def _costs(results: StudyResults) -> Iterator[Table]:
    """Yield each dataset's efficiency figures under the dataset's own name, for the numbers in a text."""
    figures = paper_table.figures(list(paper_table.COSTS), "image")
    for base in scores(results, ACCURACY).blocks:
        block = paper_table.compose(results, base, figures, {row.key for row in base.rows})
        yield Table("costs", "Efficiency", (block,))


def _custom(
    file: Path, results: StudyResults, choice: PaperChoice | None, names: Mapping[str, str]
) -> tuple[Table | None, PaperChoice | None]:
    """Return the table for a paper, from what is asked now or was kept, and what it was made from."""

    def table(chosen: PaperChoice) -> Table:
        printed = (
            entry.model_copy(update={field: renamed(getattr(entry, field), names) for field in ("dataset", "source")})
            for entry in chosen.printed
        )
        datasets = chosen.datasets and tuple(renamed(name, names) for name in chosen.datasets)
        return paper_table.table(results, chosen.model_copy(update={"printed": tuple(printed), "datasets": datasets}))

    if choice is not None:
        return table(choice), choice
    if (kept := paper_table.kept_choice(file)) is None:
        return None, None
    try:
        return table(kept), kept
    except UserError as error:
        raise UserError(f"{file}: no longer fits the study ({error}); delete it or choose again") from error

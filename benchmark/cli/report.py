"""Defines the verbs ``report`` and ``diff``, which read the records of studies."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmark.cli import completion
from benchmark.cli.options import Reference, Results
from benchmark.records.user_folders import find_study, study_folder
from benchmark.utils.errors import UserError
from benchmark.utils.names import distinct_names
from benchmark.utils.words import counted

REPORT_PARTS = ("table", "plot", "panel")


def report(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="Studies: names below --results, or paths; several become one report.",
            autocompletion=completion.studies,
        ),
    ],
    results: Results = Path("results"),
    study: Annotated[
        str | None, typer.Option(help="Name of the folder for the report of several studies; default: A+B.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Comma list of metrics (also miou.pooled) and costs (params, macs, fps, ...).")
    ] = None,
    reference: Reference = None,
    models: Annotated[str | None, typer.Option(help="Rows: names, groups or wildcards; default: all.")] = None,
    datasets: Annotated[
        str | None, typer.Option(help="Comma list of datasets, or of transfers (omc-on-miic); default: all.")
    ] = None,
    digits: Annotated[
        int | None, typer.Option(min=0, max=6, help="Decimals of percentages and counts; default: 2 and 1.")
    ] = None,
    layout: Annotated[
        Literal["long", "wide"] | None, typer.Option(help="Datasets below each other or side by side.")
    ] = None,
    reduction: Annotated[
        Literal["image", "pooled"] | None, typer.Option(help="Reduction of metrics over images.")
    ] = None,
    extra: Annotated[
        Path | None, typer.Option(help="CSV of figures from other papers: model,dataset,metric,value,source[,std,n].")
    ] = None,
    cite: Annotated[bool, typer.Option("--cite", help="Cite each network's paper in the LaTeX rows.")] = False,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Write a report that may leave the house, without pictures, image names, messages and paths.",
        ),
    ] = False,
    rename: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="With --redact: a table old = new of names of datasets and studies."),
    ] = None,
    zipped: Annotated[bool, typer.Option("--zip", help="With --redact: one zip file in place of a folder.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit 1 if page, tables, records and counts per image disagree."),
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print the path of every file written.")] = False,
) -> None:
    """Write page, tables and plots again, and tables for a paper.

    Everything follows from the records. Several studies become one report in a new folder if their settings, data and
    code agree. They may differ in models, in repeats (also of another base seed) and in the machines of measurements.
    The studies stay unchanged.
    """
    from benchmark.cli.progress import open_console
    from benchmark.report import build
    from benchmark.report.redact import read_new_names
    from benchmark.report.tables import literature_table

    gc.set_threshold(100_000)  # searching the records of thousands of runs for garbage would take a fifth of the time
    console = open_console()
    options = {
        **{"--columns": columns, "--models": models, "--datasets": datasets, "--digits": digits, "--layout": layout},
        **{"--reduction": reduction, "--extra": extra, "--cite": cite or None},
    }
    choices = [flag for flag, value in options.items() if value is not None]
    chosen = [*choices, *(["--reference"] if reference else [])]
    if check and chosen:
        raise UserError(
            f"--check with {', '.join(chosen)}: compares a report with what it was made from, the kept choice of a "
            "table for a paper included, and takes no other; leave out one or the other"
        )
    for flag, present in {"--rename": rename is not None, "--zip": zipped}.items():
        if present and not redact:
            raise UserError(f"{flag}: is for reports that leave the house; add --redact, or leave it out")
    if check and zipped:
        raise UserError(
            "--check with --zip: compares the folder of a report, which holds the files of the zip; write it with the "
            "same --rename and without --zip, then check that"
        )
    new_names = read_new_names(rename) if rename else {}
    named = [find_study(results, text, "STUDY") for text in studies]
    folders = list({folder.resolve(): folder for folder in named}.values())
    names = distinct_names(folders)
    if study is not None and len(folders) == 1:
        raise UserError(f"--study {study}: names the folder for a report of several studies, found only {names[0]}")
    choice = None
    if choices:
        choice = build.PaperChoice(
            columns=None if columns is None else tuple(columns.split(",")),
            models=models,
            datasets=None if datasets is None else tuple(name.strip() for name in datasets.split(",")),
            digits=digits,
            layout=layout or "long",
            reduction=reduction,
            cite=cite,
            printed=literature_table.read(extra) if extra else (),
        )

    def tell(sentence: str) -> None:
        open_console(stderr=True).print(f"benchmark: {sentence}")

    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no study there; expected a folder that `benchmark run` made")
    merged = folders if len(folders) > 1 else []
    report_folder = _merged_folder(results, names, study) if merged else folders[0]
    if not check:
        paths = build.build(
            report_folder, choice, reference, merged=merged, redact=redact, names=new_names, zipped=zipped, tell=tell
        )
        console.print("\n".join(map(str, paths)) if zipped else _written(paths))
        if verbose and not zipped:
            console.print("\n".join(map(str, paths)))
        return
    contradictions = build.check(report_folder, merged, redact=redact, names=new_names, tell=tell)
    for line in contradictions:
        console.print(line)
    if not contradictions:
        console.print(
            f"{', '.join(names)}: page and tables are what the records give, and records what their counts give"
        )
    raise typer.Exit(1 if contradictions else 0)


def _written(paths: Sequence[Path]) -> str:
    """Say which file of a report to open, and what else was written."""
    from benchmark.report.tables import paper_table
    from benchmark.report.up_to_date import PAGE

    page = next(path for path in paths if path.name == PAGE)
    shown = [path for path in paths if path.suffix in (".csv", ".pdf", ".png")]
    stems = {kind: {path.stem for path in shown if path.parent.name == f"{kind}s"} for kind in REPORT_PARTS}
    parts = [counted(len(of_kind), kind) for kind, of_kind in stems.items() if of_kind]
    paper = [f"Table for a paper: {path}" for path in paths if path.name == f"{paper_table.NAME}.tex"]
    return "\n".join([f"Report: {page}", f"Beside it: {', '.join(parts)}; -v lists all files", *paper])


def _merged_folder(results: Path, names: list[str], study: str | None) -> Path:
    """Return the folder of a report of several studies; refuse the folder of a study."""
    report_folder = study_folder(results, study or "+".join(sorted(names)).replace("/", "-"))
    if any((report_folder / own).exists() for own in ("protocol.toml", "runs", "efficiency", "packed")):
        raise UserError(
            f"{report_folder}: is a study itself; choose another --study NAME for the report of {', '.join(names)}"
        )
    return report_folder


def diff(
    first: Annotated[
        str,
        typer.Argument(
            metavar="STUDY_A", help="A study: a name below --results, or a path.", autocompletion=completion.studies
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="STUDY_B", help="Another study.", autocompletion=completion.studies)],
    results: Results = Path("results"),
) -> None:
    """Show what differs between two studies.

    Settings, data, code, environment, runs and numbers are compared. Exit code 0 if the studies share finished runs
    and all of these have the same metrics to the last bit; 1 if not; 2 if the studies cannot be compared.
    """
    from benchmark.cli.progress import open_console
    from benchmark.report.diff import compare_studies, describe

    comparison = compare_studies(find_study(results, first, "STUDY_A"), find_study(results, second, "STUDY_B"))
    open_console().print(describe(comparison, first, second))
    raise typer.Exit(0 if comparison.identical else 1)

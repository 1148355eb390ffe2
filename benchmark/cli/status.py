"""Defines the ``status`` verb: shows a study from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.options import Results
from benchmark.records.user_folders import find_study
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


def status(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STUDY]...", help="Studies; default: all of --results.", autocompletion=completion.studies
        ),
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Show done, running, failed and missing runs of studies.

    Another process may work in a study meanwhile.
    """
    names = studies or sorted(file.parent.name for file in results.glob("[!.]*/protocol.toml") if file.is_file())
    if not names:
        raise UserError(f"--results {results}: no study there; expected a folder that `benchmark run` made")
    problems = []
    for name in names:  # a broken study does not hide the others
        try:
            folder = find_study(results, name, "STUDY")
            if not (folder / "protocol.toml").is_file():
                raise UserError(f"{folder}: no study there; expected a folder that `benchmark run` made")
            typer.echo("\n".join(_lines(folder)))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(" | ".join(problems))


def _lines(folder: Path) -> Iterator[str]:
    from benchmark.records.asked_runs import is_running, unfinished_runs
    from benchmark.records.history import read_rounds
    from benchmark.records.store import Store
    from benchmark.report.up_to_date import FOLDER, PAGE

    store = Store(folder)
    records, broken = store.survey()
    rows: dict[tuple[str, str], list[tuple[str, int]]] = {}
    remarks = []
    for path, record in records:
        state = "running" if is_running(path, record) else {"ok": "done"}.get(record.status, record.status)
        rows.setdefault(("+".join(record.train), record.model), []).append((state, record.repeat))
        name = f"{'+'.join(record.train)} {record.model} repeat {record.repeat}"
        if state == "running":
            rounds = read_rounds(path)
            last = f"round {rounds[-1].round}, step {rounds[-1].steps}" if rounds else "first round"
            losses = (rounds[-1].validation_loss, rounds[-1].train_loss) if rounds else (None, None)
            kind, loss = ("training", losses[1]) if losses[0] is None else ("validation", losses[0])
            remarks.append(f"{name}: running, {last}" + (f", {kind} loss {loss:.4f}" if loss is not None else ""))
        elif record.failure is not None:
            remarks.append(f"{name}: failed ({record.failure.kind}: {record.failure.message})")
    for run in unfinished_runs(folder, records, [run.folder for run in broken]):
        if run.state == "not begun":
            rows.setdefault(("+".join(run.train), run.model), []).append(("missing", run.repeat))
    remarks += [f"broken record: {run.reason}" for run in broken]
    states = [state for runs in rows.values() for state, _ in runs]
    yield f"{folder.name}: {_counted(states) or 'no run yet'}"
    width = max((len(" ".join(row)) for row in rows), default=0)
    for (train, model), runs in rows.items():
        yield f"  {f'{train} {model}':<{width}}  {_counted([state for state, _ in runs])}"
    yield from (f"  {remark}" for remark in remarks)
    yield f"  Claims of living processes: {len(store.claimed())}"
    page = folder / FOLDER / PAGE
    yield f"  Report: {page}" if page.is_file() else f"  Report: none yet; `report {folder.name}` makes it"


def _counted(states: list[str]) -> str:
    order = ("done", "running", "interrupted", "failed", "missing")
    return ", ".join(f"{states.count(state)} {state}" for state in order if state in states)

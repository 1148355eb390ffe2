"""Repeats a recorded run and compares the numbers, for ``run --reproduce``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from benchmark.devices.hardware_slots import hardware_of
from benchmark.records.user_folders import DATA_ROOT, check_data_root, study_folder
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.report.reproduced import Comparison
    from benchmark.study.reproduce_run import Original

#: Flags of ``run`` for places and devices; the record sets all others.
ALLOWED = {"models", "datasets", "protocol", "study", "results", "data_root", "cache", "device", "threads"}
ALLOWED |= {"execution", "timeout"}


def flags_given(context: typer.Context) -> dict[str, Any]:
    """Return the flags of the command line by the names of their parameters."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def words_given(context: typer.Context, without: Collection[str]) -> list[str]:
    """Return the flags of the command line as words that can be typed again.

    Args:
        context: the call.
        without: names of parameters that are left out.
    """
    given, words = flags_given(context), list[str]()
    for parameter in context.command.params:
        name = parameter.name
        if name in given and name not in without:
            value = given[name]
            words += [parameter.secondary_opts[0]] if value is False else [parameter.opts[0]]
            words += [] if isinstance(value, bool) else [str(value)]
    return words


def repeat_run(file: Path, flags: Mapping[str, Any], console: Console) -> int:
    """Repeat the run of a record and print the comparison; return 0 if the numbers are identical, 1 if not.

    Raises:
        UserError: the run cannot be repeated, or ``flags`` would change it.
    """
    from benchmark.cli.study_display import StudyDisplay
    from benchmark.executors.local import LocalExecutor
    from benchmark.report.reproduced import compare
    from benchmark.study import reproduce_run
    from benchmark.study.execute import execute
    from benchmark.study.probe_networks import probe_study

    if other := sorted(f"--{name.strip('_').replace('_', '-')}" for name in flags.keys() - ALLOWED - {"reproduce"}):
        raise UserError(f"{', '.join(other)}: does not go with --reproduce, which repeats what the record says")
    original = reproduce_run.Original.read(file)
    data_root = flags.get("data_root", DATA_ROOT)
    check_data_root(data_root)
    hardware = hardware_of(flags.get("device", original.device), flags.get("threads", original.threads))
    with contextlib.ExitStack() as stack:
        if "study" in flags:
            folder = study_folder(flags.get("results", Path("results")), flags["study"])
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reproduce-"))) / "study"
        choices: dict[str, Any] = {name: flags.get(name) for name in ("models", "datasets", "protocol", "execution")}
        study = reproduce_run.build(
            *(original, folder, data_root, flags.get("cache") or data_root / ".cache", hardware),
            **choices,
        )
        plan = reproduce_run.plan(original, study)
        probe_study(study, plan, console.print)
        display = StudyDisplay(console, plan)
        with display:
            execute(study, plan, LocalExecutor(hardware.slots[:1], timeout_s=flags.get("timeout")), display.show)
        if display.failures:
            return 1
        outcome = compare(original.record, original.file, original.study, folder)
    console.print(to_text(original, outcome))
    return 0 if outcome.identical else 1


def to_text(original: Original, outcome: Comparison) -> str:
    """Write a comparison for a terminal."""
    import pandas as pd

    name = f"{'+'.join(original.record.train)} {original.record.model} repeat {original.record.repeat}"
    lines = [f"{name}: {'identical' if outcome.identical else 'different'}"]
    for test, images in outcome.images.items():
        counts = (
            "no counts beside the record" if images is None else f"{images} of {counted(outcome.tested[test], 'image')}"
        )
        lines.append(f"  {test}: {counts}{' with other counts' if images is not None else ''}")
    total = sum(len(values) for by in original.record.metrics.values() for values in by.values())
    rounding = " by rounding alone" if outcome.figures and all(figure.rounding for figure in outcome.figures) else ""
    lines.append(f"  {len(outcome.figures)} of {total} metrics differ{rounding}")
    if outcome.figures:
        rows = []
        for figure in outcome.figures:
            recorded, now = figure.recorded, figure.now
            values = ["-" if value is None else repr(value) for value in (recorded, now)]
            difference = "-" if recorded is None or now is None else f"{now - recorded:+.3g}"
            rows.append((figure.test, figure.reduction, figure.name, *values, difference))
        table = pd.DataFrame(rows, columns=["tested on", "reduction", "metric", "recorded", "now", "difference"])
        lines += [f"  {line}" for line in table.to_string(index=False).splitlines()]
    if outcome.notes:
        lines += ["what else differs (recorded | now)", *(f"  {note}" for note in outcome.notes)]
    return "\n".join(lines)

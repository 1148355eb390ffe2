"""Defines ``list`` and ``explain``: print models, datasets, protocols, metrics and costs."""

from __future__ import annotations

import functools
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from benchmark.cli import completion
from benchmark.cli.options import DataRoot
from benchmark.records.user_folders import DATA_ROOT, check_data_root
from benchmark.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table

    from benchmark.config.protocol import Protocol
    from benchmark.config.registry import ModelEntry
    from benchmark.data.specs import DatasetSpec
    from benchmark.metrics import Metric
    from benchmark.records.costs import Cost

PRESET_WIDTH = 8  # the shown presets fit into 80 columns, and most of their values into one line
UNSHOWN = "standins"  # measures how hard the stand-ins are, and trains on no user's data
METRIC_UNITS = {"fraction": "%", "count": "", "bits": "bits"}


def list_(
    topic: Annotated[Literal["models", "datasets", "protocols", "metrics"], typer.Argument(help="Topic to list.")],
    names: Annotated[
        str | None,
        typer.Argument(
            help="Names, groups or wildcards of models, such as reviewers or smp/unet/*; default: all registered.",
            autocompletion=completion.models,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print all details.")] = False,
    data_root: DataRoot = DATA_ROOT,
) -> None:
    """List models, datasets, protocols, or metrics and costs."""
    from benchmark.cli.progress import open_console

    if names is not None and topic != "models":
        raise UserError(f"list {topic} {names!r}: only models are chosen by names; leave {names!r} out")
    console = open_console()
    if topic == "datasets":
        console.print(_datasets(data_root, console.width, verbose=verbose))
    elif topic == "models":
        console.print(_models(names, console.width, verbose=verbose))
    elif topic == "metrics":
        console.print(_definitions(console.width) if verbose else _metrics())
    elif verbose:
        console.print(_settings(console.width))
    else:
        console.print(_protocols())


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        number = column in ("params", "GMAC 512²", "multiple of")
        # A name must stay whole, so that it can be copied.
        whole = column in ("name", "setting", "params", "GMAC 512²")
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=whole)
    return table


def _models(names: str | None, width: int, *, verbose: bool) -> Table | str:
    """Return a table of networks, or a paragraph of this width for each."""
    from benchmark.config import registry, smp_names

    table = _table("name", "shown as", "params", "GMAC 512²", "family", "multiple of")
    if names is None:
        entries = [entry for entry in registry.models().values() if verbose or "." not in entry.name]
    else:
        entries = registry.select(names, figures=False, most=None)
    if sum(bool(entry.packages) for entry in entries) > smp_names.MOST:  # figures of all would take minutes
        return "\n".join(smp_names.typed(**entry.kwargs) if entry.packages else entry.name for entry in entries)
    unusable, paragraphs = [], []
    for listed in entries:
        try:
            entry = registry.measured(listed)
        except UserError as error:
            unusable.append(str(error))
            continue
        params = f"{entry.params:,}" if entry.params is not None else "?"
        if verbose:
            gmacs = ", ".join(f"{_gmacs(entry, side)} GMAC at {side}×{side}" for side in (512, 1024))
            paragraphs.append(_paragraph(entry.name, [f"{params} params; {gmacs}", *_details(entry)], width))
        else:
            figures = (params, _gmacs(entry, 512))
            table.add_row(entry.name, entry.display, *figures, entry.family, str(entry.multiple))
    notes = [
        "params at one input channel and one class; MACs of convolution, linear, matmul; groups: "
        f"{', '.join(registry.GROUPS)}; any network of smp: smp/ARCHITECTURE/ENCODER (list models 'smp/unet/*')",
        *unusable,
    ]
    if verbose:
        return "\n\n".join([*paragraphs, *(textwrap.fill(note, width) for note in notes)])
    table.caption = "\n".join(notes)
    return table


def _gmacs(entry: ModelEntry, side: int) -> str:
    gmacs = entry.gmacs(side, side)
    return "?" if gmacs is None else f"{gmacs:.4g}"


def _details(entry: ModelEntry) -> list[str]:
    """Return the long facts of a network; a variant shares most of them with its parent."""
    from benchmark.config.smp_names import REVIEWERS

    if "." in entry.name:
        return [f"{entry.display}: {', '.join(f'{name}={value}' for name, value in entry.kwargs.items())}"]
    first = f"{entry.display}; {entry.family}; sizes in multiples of {entry.multiple}; {entry.target}"
    why = f"reviewers: {REVIEWERS[entry.name]}" if entry.name in REVIEWERS else ""
    published = entry.published.describe() if entry.published else ""
    return list(filter(None, [first, entry.paper, published, why]))


def _datasets(data_root: Path, width: int, *, verbose: bool) -> Table | str:
    """Return a table of datasets, or a paragraph of this width for each."""
    from benchmark.data.datasets import choose, names_of_all

    check_data_root(data_root)
    table, paragraphs = _table("name", "shown as", "foreground", "images"), []
    for name in names_of_all(data_root):
        try:
            (spec,) = choose([name], data_root).values()
        except UserError as error:  # a broken TOML file
            table.add_row(name, "", "", str(error))
            paragraphs.append(_paragraph(name, [str(error)], width))
            continue
        standin = name != spec.name
        shown = f"{spec.shown} stand-in" if standin else spec.shown
        images = _images(name, spec, data_root)
        table.add_row(name, shown, spec.target, images)
        facts = [f"{shown}; foreground: {spec.target}; images: {images}", *([] if standin else _origin(spec))]
        paragraphs.append(_paragraph(name, facts, width))
    return "\n\n".join(paragraphs) if verbose else table


def _origin(spec: DatasetSpec) -> list[str]:
    """Describe a dataset with its sources, their licences and its citation."""
    sources = dict.fromkeys(f"{file.address}, {file.licence or 'licence not stated'}" for file in spec.source)
    return list(filter(None, [spec.about, *sources, spec.citation and f"cite: {spec.citation}"]))


def _images(name: str, spec: DatasetSpec, data_root: Path) -> str:
    """Say what a dataset's folder holds, or what replaces it."""
    from benchmark.data.datasets import locate
    from benchmark.data.pairs import find_pairs
    from benchmark.data.specs import SUFFIX
    from benchmark.data.synthetic import STANDINS

    root, reading = locate(name, spec, data_root)
    if not os.path.lexists(root):
        return (
            "drawn"
            if name != spec.name
            else f"none; {name}{SUFFIX} stands in"
            if name in STANDINS
            else f"no folder {root}"
        )
    try:
        return f"{len(find_pairs(root, reading)):,} with labels in {root}"
    except UserError as error:
        return str(error)


def _protocols() -> Table:
    from benchmark.config.protocol import PRESETS, load_protocol

    shown = [name for name in PRESETS if name != UNSHOWN]
    table = _table("setting", *shown)
    table.collapse_padding = True
    for column in table.columns[1:]:
        column.min_width = PRESET_WIDTH
    for rows in zip(*(describe(load_protocol(name)) for name in shown), strict=True):
        values = [value for _, value, _ in rows]
        if len(set(values)) > 1 and rows[0][0] != "name":
            table.add_row(rows[0][0], *values)
    table.caption = f"settings in which the presets differ; -v for all, and for {UNSHOWN}"
    return table


def _settings(width: int) -> str:
    """Return a paragraph for every setting of the protocols, wrapped to a width."""
    from benchmark.config.protocol import PRESETS, load_protocol

    paragraphs = []
    for rows in zip(*(describe(load_protocol(name)) for name in PRESETS), strict=True):
        path, value, meaning = rows[0]
        values = [f"{preset} {row[1]}" for preset, row in zip(PRESETS, rows, strict=True)]
        if len({row[1] for row in rows}) == 1:
            values = [f"all presets {value}"]
        paragraphs.append(_paragraph(path, (meaning, "; ".join(values)), width))
    return "\n\n".join(paragraphs)


def _paragraph(title: str, texts: Sequence[str], width: int) -> str:
    """Return a title and texts below it, wrapped to a width."""
    # An address stays whole, so that it can be copied.
    fill = functools.partial(textwrap.fill, break_long_words=False, break_on_hyphens=False)
    wrapped = (fill(text, width, initial_indent="  ", subsequent_indent="  ") for text in texts)
    return "\n".join([title, *wrapped])


def describe(chosen: Protocol) -> list[tuple[str, str, str]]:
    """Return (path, value, type and meaning) of every setting, for ``list protocols -v``."""
    from benchmark.config.protocol import Protocol, setting_paths, settings_group

    rows = []
    for path in setting_paths(Protocol):
        model: type[BaseModel] = Protocol
        value: Any = chosen
        for key in path.split("."):
            info = model.model_fields[key]
            value = getattr(value, key)
            model = settings_group(info.annotation) or model
        meaning = " - ".join(filter(None, [_type_name(info.annotation), info.description]))
        rows.append((path, _value(value), meaning))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(str(choice) for choice in arguments)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(_type_name(choice) for choice in arguments)
    if annotation in (NoneType, Ellipsis):
        return "none" if annotation is NoneType else "..."
    name: str = annotation.__name__
    return f"{name}[{', '.join(_type_name(argument) for argument in arguments)}]" if arguments else name


def _metrics() -> Table:
    table = _table("name", "shown as", "unit", "better")
    for entry in _metrics_and_costs():
        table.add_row(entry.name, entry.display, METRIC_UNITS.get(entry.unit, entry.unit), _better(entry))
    return table


def _definitions(width: int) -> str:
    """Return a paragraph for every metric and cost, wrapped to a width."""
    paragraphs = []
    for entry in _metrics_and_costs():
        facts = filter(None, [entry.display, METRIC_UNITS.get(entry.unit, entry.unit), _better(entry)])
        paragraphs.append(_paragraph(f"{entry.name}: {', '.join(facts)}", [entry.definition], width))
    return "\n\n".join(paragraphs)


def _metrics_and_costs() -> list[Metric | Cost]:
    from benchmark.metrics import METRICS
    from benchmark.records.costs import COSTS

    return [*METRICS.values(), *COSTS.values()]


def _better(entry: Metric | Cost) -> str:
    return {True: "higher", False: "lower", None: ""}[entry.higher_is_better]


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A metric, such as aji, or a cost, such as fps, latency or memory; `list metrics` names all.",
            autocompletion=completion.metrics,
        ),
    ],
) -> None:
    """Explain a metric or a cost: its formula and conventions."""
    from benchmark import metrics
    from benchmark.cli.progress import open_console
    from benchmark.records.costs import COSTS

    console = open_console()
    width = min(console.width, 100)
    known = dict.fromkeys([*metrics.METRICS, *COSTS, *(cost.topic for cost in COSTS.values())])
    shown = {entry.display.casefold(): entry.name for entry in _metrics_and_costs()} | {
        key.casefold(): key for key in known
    }
    name = shown.get(name.casefold(), name)  # tables print mIoU for miou
    costs = [cost for cost in COSTS.values() if name in (cost.name, cost.topic)]
    if name in metrics.METRICS:
        lines = _about_metric(metrics.METRICS[name], width)
    elif costs:
        lines = _about_costs(costs, width)
    else:
        raise UserError(f"no metric or cost {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    console.print("\n".join(lines))


def _about_metric(metric: Metric, width: int) -> list[str]:
    from benchmark import metrics

    unit = {"count": "a count", "bits": "bits per pixel"}.get(metric.unit, "a fraction in [0, 1], printed in percent")
    parts = [
        ("Formula", metric.formula),
        *([("Empty", metric.empty)] if metric.empty else []),
        ("No value", metrics.NOTHING_TO_JUDGE),
        ("Counts", f"{', '.join(metric.columns)} in images.<dataset>.csv"),
        *(("Reduction", f"{reduction} ({metrics.REDUCTIONS[reduction]})") for reduction in metric.reductions),
    ]
    return [
        *textwrap.wrap(f"{metric.display} ({metric.name}): {unit}; {_better(metric)} is better", width),
        "",
        *textwrap.wrap(metric.definition, width),
        "",
        *(line for title, text in parts for line in _part(title, text, width)),
    ]


def _part(title: str, text: str, width: int) -> list[str]:
    """Wrap a text beside its title."""
    return textwrap.wrap(text, width, initial_indent=f"{title + ':':<12}", subsequent_indent=" " * 12)


def _about_costs(costs: Sequence[Cost], width: int) -> list[str]:
    from benchmark.records.costs import MEASURED_BY

    lines = []
    for cost in costs:
        better = "ranks nothing" if cost.higher_is_better is None else f"{_better(cost)} is better"
        unit = f"printed in {cost.unit}" if cost.unit else "a number"
        lines += textwrap.wrap(f"{cost.display} ({cost.name}): {unit}; {better}", width)
        lines += textwrap.wrap(cost.definition, width, initial_indent="  ", subsequent_indent="  ")
    sections = {"Measured": "; ".join(dict.fromkeys(cost.measured for cost in costs)), "Where": MEASURED_BY}
    for title, text in sections.items():
        lines += ["", *_part(title, text, width)]
    return [*lines, "", *_part("Files", f"tables/efficiency.*; `report STUDY --columns {costs[0].name}`", width)]

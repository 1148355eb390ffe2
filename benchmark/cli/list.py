"""Defines ``list`` and ``explain``: print models, datasets, protocols and metrics."""

from __future__ import annotations

import textwrap
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from benchmark.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table

    from benchmark.config.protocol import Protocol
    from benchmark.config.registry import ModelEntry


def list_(
    topic: Annotated[Literal["models", "datasets", "protocols", "metrics"], typer.Argument(help="Topic to list.")],
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print all details.")] = False,
) -> None:
    """List models, datasets, protocols or metrics."""
    from benchmark.cli.progress import open_console

    tables = {"models": _models, "datasets": _datasets, "protocols": _protocols, "metrics": _metrics}
    open_console().print(tables[topic](verbose))


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        # A name must stay whole, so that it can be copied.
        table.add_column(
            column,
            justify="right" if column in ("params", "GMAC 512²", "GMAC 1024²", "multiple of") else "left",
            overflow="fold",
            no_wrap=column in ("name", "setting"),
        )
    return table


def _models(verbose: bool) -> Table:
    from benchmark.config import registry

    figures = ("params", "GMAC 512²")
    short, long = ("shown as", *figures, "family", "multiple of"), (*figures, "GMAC 1024²", "what")
    table = _table("name", *(long if verbose else short))
    for entry in registry.models().values():
        if "." in entry.name and not verbose:
            continue
        params = f"{entry.params:,}" if entry.params is not None else "?"
        cells = (params, _gmacs(entry, 512))
        if verbose:
            table.add_row(entry.name, *cells, _gmacs(entry, 1024), _details(entry))
        else:
            table.add_row(entry.name, entry.display, *cells, entry.family, str(entry.multiple))
    table.caption = (
        "params at one input channel and one class; MACs of convolution, linear, matmul; groups: all, lightweight, ic"
    )
    return table


def _gmacs(entry: ModelEntry, side: int) -> str:
    gmacs = entry.gmacs(side, side)
    return "?" if gmacs is None else f"{gmacs:.4g}"


def _details(entry: ModelEntry) -> str:
    """Return the long facts of a network; a variant shares most of them with its parent."""
    if "." in entry.name:
        return f"{entry.display}: {', '.join(f'{name}={value}' for name, value in entry.kwargs.items())}"
    first = f"{entry.display}; {entry.family}; sizes in multiples of {entry.multiple}; {entry.target}"
    return "\n".join([first, entry.paper, *([entry.published.describe()] if entry.published else [])])


def _datasets(verbose: bool) -> Table:
    from benchmark.data.specs import KNOWN, SUFFIX

    table = _table("name", "shown as", "foreground", *(["what"] if verbose else []))
    for entry in KNOWN.values():
        table.add_row(entry.name, entry.shown, entry.target, *([entry.about] if verbose else []))
        table.add_row(entry.name + SUFFIX, f"{entry.shown} stand-in", entry.target, *(["synthetic"] if verbose else []))
    return table


def _protocols(verbose: bool) -> Table:
    from benchmark.config.protocol import PRESETS, load_protocol

    loaded = [load_protocol(name) for name in PRESETS]
    table = _table("setting", *PRESETS, *(["type and meaning"] if verbose else []))
    for rows in zip(*(describe(preset) for preset in loaded), strict=True):
        values = [value for _, value, _ in rows]
        if verbose or len(set(values)) > 1:
            table.add_row(rows[0][0], *values, *([rows[0][2]] if verbose else []))
    if not verbose:
        table.caption = "settings in which the presets differ; -v for all"
    return table


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
        rows.append((path, "none" if value is None else str(value), meaning))
    return rows


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(str(choice) for choice in arguments)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(_type_name(choice) for choice in arguments)
    if annotation is NoneType:
        return "none"
    name: str = annotation.__name__
    return f"{name}[{', '.join(_type_name(argument) for argument in arguments)}]" if arguments else name


def _metrics(verbose: bool) -> Table:
    from benchmark import metrics

    table = _table("name", "shown as", "better", *(["definition"] if verbose else []))
    for name, metric in metrics.METRICS.items():
        better = "higher" if metric.higher_is_better else "lower"
        table.add_row(name, metric.display, better, *([metric.definition] if verbose else []))
    return table


def explain(
    metric: Annotated[str, typer.Argument(help="Name of a metric, such as aji; `list metrics` names all.")],
) -> None:
    """Explain a metric: its formula and conventions."""
    from benchmark import metrics
    from benchmark.cli.progress import open_console

    if metric not in metrics.METRICS:
        raise UserError(
            f"no metric {metric!r}{did_you_mean(metric, metrics.METRICS)} (known: {', '.join(metrics.METRICS)})"
        )
    entry = metrics.METRICS[metric]
    better = "higher" if entry.higher_is_better else "lower"
    unit = {"count": "a count", "bits": "bits per pixel"}.get(entry.unit, "a fraction in [0, 1], printed in percent")
    lines = [
        f"{entry.display} ({entry.name}): {unit}; {better} is better",
        "",
        *textwrap.wrap(entry.definition, 100),
        "",
        f"Formula:    {entry.formula}",
        *([f"Empty:      {entry.empty}"] if entry.empty else []),
        f"No value:   {metrics.NOTHING_TO_JUDGE}",
        f"Counts:     {', '.join(entry.columns)} in images.<dataset>.csv",
        *(f"Reduction:  {reduction} ({metrics.REDUCTIONS[reduction]})" for reduction in entry.reductions),
    ]
    open_console().print("\n".join(lines))

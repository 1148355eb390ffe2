"""What ``benchmark list`` prints: models, datasets, protocols and metrics as terminal tables."""

from __future__ import annotations

import textwrap
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from rich.table import Table

from benchmark import metrics
from benchmark.config import protocol, registry
from benchmark.config.protocol import Protocol
from benchmark.data.specs import KNOWN, SUFFIX
from benchmark.utils.errors import UserError, did_you_mean


def table(topic: str, *, verbose: bool) -> Table:
    """Return the table of a topic.

    Args:
        topic: ``models``, ``datasets``, ``protocols`` or ``metrics``.
        verbose: all columns, and for models also the variants.
    """
    return {"models": _models, "datasets": _datasets, "protocols": _protocols, "metrics": _metrics}[topic](verbose)


def _table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False)
    for column in columns:
        # A name must stay whole, so that it can be copied.
        made.add_column(
            column,
            justify="right" if column in ("params", "GMAC 512²", "GMAC 1024²", "multiple of") else "left",
            overflow="fold",
            no_wrap=column in ("name", "setting"),
        )
    return made


def _models(verbose: bool) -> Table:
    figures = ("params", "GMAC 512²")
    short, long = ("shown as", *figures, "family", "multiple of"), (*figures, "GMAC 1024²", "what")
    made = _table("name", *(long if verbose else short))
    for entry in registry.models().values():
        if "." in entry.name and not verbose:
            continue
        params = f"{entry.params:,}" if entry.params is not None else "?"
        cells = (params, _gmacs(entry, 512))
        if verbose:
            made.add_row(entry.name, *cells, _gmacs(entry, 1024), _what(entry))
        else:
            made.add_row(entry.name, entry.display, *cells, entry.family, str(entry.multiple))
    made.caption = (
        "params at one input channel and one class; MACs of convolution, linear, matmul; groups: all, lightweight, ic"
    )
    return made


def _gmacs(entry: registry.ModelEntry, side: int) -> str:
    gmacs = entry.gmacs(side, side)
    return "?" if gmacs is None else f"{gmacs:.4g}"


def _what(entry: registry.ModelEntry) -> str:
    """Return what is too long for a column of its own; a variant shares most of it with its parent."""
    if "." in entry.name:
        return f"{entry.display}: {', '.join(f'{name}={value}' for name, value in entry.kwargs.items())}"
    first = f"{entry.display}; {entry.family}; sizes in multiples of {entry.multiple}; {entry.target}"
    return "\n".join([first, entry.paper, *([entry.published.describe()] if entry.published else [])])


def _datasets(verbose: bool) -> Table:
    made = _table("name", "shown as", "foreground", *(["what"] if verbose else []))
    for entry in KNOWN.values():
        made.add_row(entry.name, entry.shown, entry.target, *([entry.about] if verbose else []))
        made.add_row(entry.name + SUFFIX, f"{entry.shown} stand-in", entry.target, *(["synthetic"] if verbose else []))
    return made


def _protocols(verbose: bool) -> Table:
    loaded = [protocol.load(name) for name in protocol.PRESETS]
    made = _table("setting", *protocol.PRESETS, *(["type and meaning"] if verbose else []))
    for rows in zip(*(describe(preset) for preset in loaded), strict=True):
        values = [value for _, value, _ in rows]
        if verbose or len(set(values)) > 1:
            made.add_row(rows[0][0], *values, *([rows[0][2]] if verbose else []))
    if not verbose:
        made.caption = "settings in which the presets differ; -v for all"
    return made


def describe(chosen: Protocol) -> list[tuple[str, str, str]]:
    """Return (path, value, type and meaning) of every setting, for ``list protocols -v``."""
    rows = []
    for path in protocol.paths(Protocol):
        model: type[BaseModel] = Protocol
        value: Any = chosen
        for key in path.split("."):
            info = model.model_fields[key]
            value = getattr(value, key)
            model = protocol.submodel(info.annotation) or model
        rows.append(
            (
                path,
                "none" if value is None else str(value),
                " - ".join(filter(None, [_type_name(info.annotation), info.description])),
            )
        )
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
    made = _table("name", "shown as", "better", *(["definition"] if verbose else []))
    for name, metric in metrics.METRICS.items():
        better = "higher" if metric.higher_is_better else "lower"
        made.add_row(name, metric.display, better, *([metric.definition] if verbose else []))
    return made


def explain(name: str) -> str:
    """Return a metric's definition, formula and conventions as plain text.

    Raises:
        UserError: no such metric.
    """
    if name not in metrics.METRICS:
        raise UserError(
            f"no metric {name!r}{did_you_mean(name, metrics.METRICS)} (known: {', '.join(metrics.METRICS)})"
        )
    metric = metrics.METRICS[name]
    better = "higher" if metric.higher_is_better else "lower"
    unit = {"count": "a count", "bits": "bits per pixel"}.get(metric.unit, "a fraction in [0, 1], printed in percent")
    lines = [
        f"{metric.display} ({metric.name}): {unit}; {better} is better",
        "",
        *textwrap.wrap(metric.definition, 100),
        "",
        f"Formula:    {metric.formula}",
        *([f"Empty:      {metric.empty}"] if metric.empty else []),
        f"No value:   {metrics.NOTHING_TO_JUDGE}",
        f"Counts:     {', '.join(metric.columns)} in images.<dataset>.csv",
        *(f"Reduction:  {reduction} ({metrics.REDUCTIONS[reduction]})" for reduction in metric.reductions),
    ]
    return "\n".join(lines)

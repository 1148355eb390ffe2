"""Reads figures of other papers from a CSV file, for rows that rank nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmark import metrics
from benchmark.report.tables.conventions import display
from benchmark.report.tables.render import Cell, Row
from benchmark.utils.errors import UserError, did_you_mean

REQUIRED = ("model", "dataset", "metric", "value", "source")
OPTIONAL = ("std", "n")
MARK = "†"
CONVENTION = f"{MARK} As printed in other papers, with their data splits, training and evaluation; not ranked."


class LiteratureEntry(BaseModel):
    """One figure of another paper.

    Attributes:
        where: file and line that it came from, for messages.
        metric: a metric's name; ``miou.pooled`` where the source says how it is taken over images.
        value: as stored, like ``std``: a fraction in [0, 1], a count, or bits.
        n: repeats that the source averages over.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    where: str
    model: str
    dataset: str
    metric: str
    value: float
    source: str
    std: float | None = None
    n: int | None = None


def read(file: Path) -> tuple[LiteratureEntry, ...]:
    """Read ``model,dataset,metric,value,source[,std,n]``; fractions are in percent, as papers print them.

    Raises:
        UserError: the file cannot be read, or a line is not what it should be; names file and line.
    """
    try:
        text = file.read_text("utf-8-sig")  # spreadsheets put a byte order mark first
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [([field.strip() for field in fields], reader.line_num) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--extra {file}: cannot be read ({error}); expected a CSV file in UTF-8") from error
    header = lines[0][0] if lines else []
    if not set(REQUIRED) <= set(header) <= {*REQUIRED, *OPTIONAL} or len(set(header)) < len(header):
        raise UserError(
            f"{file}: line 1 names the columns {', '.join(header) or '(none)'}; expected {','.join(REQUIRED)} "
            f"and perhaps {' and '.join(OPTIONAL)}, separated by commas"
        )
    entries: dict[tuple[str, str, str, str], LiteratureEntry] = {}
    for fields, number in lines[1:]:
        if not any(fields):
            continue
        where = f"{file.name}: line {number}"
        if len(fields) != len(header):
            raise UserError(f"{where}: {len(fields)} fields under {len(header)} columns; quote text with commas")
        entry = _entry(where, dict(zip(header, fields, strict=True)))
        other = entries.setdefault((entry.model, entry.dataset, entry.metric, entry.source), entry)
        if other is not entry:
            raise UserError(f"{where}: repeats {other.where}; keep one of the two")
    if not entries:
        raise UserError(f"{file}: no line below the header; expected one figure a line")
    rates = [entry.value for entry in entries.values() if _is_high_rate(entry)]
    if rates and 0 < max(rates) <= 0.01:
        raise UserError(f"{file}: no value above 1; expected percent, as papers print them: 91.3, not 0.913")
    return tuple(entries.values())


def _entry(where: str, fields: dict[str, str]) -> LiteratureEntry:
    if blank := [name for name in REQUIRED if not fields[name]]:
        raise UserError(f"{where}: {blank[0]} is blank; every figure needs {', '.join(REQUIRED)}")
    name, _, reduction = fields["metric"].partition(".")
    if name not in metrics.METRICS:
        raise UserError(
            f"{where}: no metric {name!r}{did_you_mean(name, metrics.METRICS)}; `benchmark list metrics` names them "
            "(speed and cost depend on size and device, so they are not taken from papers)"
        )
    metric = metrics.METRICS[name]
    if reduction and reduction not in metric.reductions:
        raise UserError(f"{where}: metric {fields['metric']!r}: {name} is taken {' or '.join(metric.reductions)}")
    digits, most, expected = {
        "fraction": (-2, 100.0, "percent between 0 and 100"),
        "count": (0, math.inf, "a count of 0 or more"),
        "bits": (0, math.inf, "bits of 0 or more"),
    }[metric.unit]
    value = _number(where, "value", fields["value"], (0, most), expected)
    std = _number(where, "std", fields["std"], (0, most), expected) if fields.get("std") else None
    n = _number(where, "n", fields["n"], (1, math.inf), "a whole number of repeats") if fields.get("n") else None
    if n is not None and n != int(n):
        raise UserError(f"{where}: n {fields['n']!r}: expected a whole number of repeats")
    figures = {"value": float(value.scaleb(digits)), "std": None if std is None else float(std.scaleb(digits))}
    return LiteratureEntry.model_validate(fields | figures | {"where": where, "n": None if n is None else int(n)})


def _number(where: str, name: str, text: str, between: tuple[float, float], expected: str) -> Decimal:
    try:
        value = Decimal(text)  # so that 91.3 percent is stored as 0.913
    except InvalidOperation:
        value = Decimal("nan")
    if not (value.is_finite() and between[0] <= value <= between[1]):
        raise UserError(f"{where}: {name} {text!r}: expected {expected}")
    return value


def _is_high_rate(entry: LiteratureEntry) -> bool:
    """Tell whether the figure of a useful network would be far above 1 percent."""
    metric = metrics.METRICS[entry.metric.partition(".")[0]]
    return metric.unit == "fraction" and metric.higher_is_better


def check_datasets(entries: Sequence[LiteratureEntry], known: Sequence[str]) -> None:
    """Raise a UserError for figures on data without a block; a stand-in is not the dataset it stands in for."""
    for entry in entries:
        if entry.dataset not in known:
            raise UserError(
                f"{entry.where}: no results on {entry.dataset!r} here, only on {', '.join(known)}; "
                "figures on other data do not stand beside them"
            )


def rows(entries: Sequence[LiteratureEntry], dataset: str, columns: Mapping[tuple[str, str], str]) -> Iterator[Row]:
    """Yield one row per model and source with a figure among a dataset's columns, (metric, reduction) -> column key.

    Raises:
        UserError: a metric stands there under both reductions, and the line does not say which one it means.
    """
    sources = list(dict.fromkeys(entry.source for entry in entries))
    grouped: dict[tuple[str, str], dict[str, LiteratureEntry]] = {}
    for entry in entries:
        name, _, reduction = entry.metric.partition(".")
        keys = [key for (metric, how), key in columns.items() if metric == name and reduction in ("", how)]
        if entry.dataset != dataset or not keys:
            continue
        if len(keys) > 1:
            raise UserError(f"{entry.where}: metric {name!r} could be {' or '.join(keys)}; name one of them")
        grouped.setdefault((entry.model, entry.source), {})[keys[0]] = entry
    for (model, source), by_column in grouped.items():
        number = sources.index(source) + 1 if len(sources) > 1 else ""
        repeats = sorted({entry.n for entry in by_column.values() if entry.n is not None})
        yield Row(
            f"literature{number}.{model}",
            f"{display(model)[0]} {MARK}{number}",
            "literature",
            {key: Cell(entry.value, entry.std, entry.n or 1) for key, entry in by_column.items()},
            ranked=False,
            remark=f"as printed in {source}" + (f", n = {' or '.join(map(str, repeats))}" if repeats else ""),
        )

"""Tables latency and memory by size, number format and device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from benchmark.records.efficiency_record import DType
from benchmark.report.read import Measurement, Setting, StudyResults
from benchmark.report.tables.conventions import VALUE_MARKS, display, in_order
from benchmark.report.tables.efficiency_table import EFFICIENCY, about_hindered, cost, memory_methods
from benchmark.report.tables.render import Block, Row, Table

FIGURES = ("latency_p50_ms", "fps", "forward_peak_bytes")
SETTINGS_PER_BLOCK = 4  # with three figures each as many as a page is wide


def overview(study: StudyResults) -> Table:
    """Return one block per device, whose columns are grouped by size and number format; empty for a single setting."""
    if len({measurement.setting for measurement in study.efficiency}) < 2:
        return Table("profile", "Latency and memory")
    blocks = (
        _block(machine, dict(list(columns.items())[start : start + SETTINGS_PER_BLOCK]))
        for machine, columns in by_machine(study).items()
        for start in range(0, len(columns), SETTINGS_PER_BLOCK)
    )
    return Table("profile", "Latency and memory", tuple(blocks))


Measured = Mapping[str, Measurement]  # by model


def by_machine(study: StudyResults) -> dict[Setting, dict[Setting, Measured]]:
    """Group measurements by device, then by size and number format."""
    return grouped(study, lambda setting: replace(setting, height=0, width=0, dtype="", precision=""))


def grouped(study: StudyResults, shared: Callable[[Setting], Setting]) -> dict[Setting, dict[Setting, Measured]]:
    """Group figures by what they share, then by size and number format, in order; ``shared`` blanks what may differ."""
    dtypes = get_args(DType)
    groups: dict[Setting, dict[Setting, dict[str, Measurement]]] = {}
    for measurement in sorted(
        study.efficiency, key=lambda measurement: (measurement.setting.pixels, dtypes.index(measurement.setting.dtype))
    ):
        group = groups.setdefault(shared(measurement.setting), {})
        group.setdefault(measurement.setting, {})[measurement.record.model] = measurement
    ordered = sorted(groups, key=lambda group: (group.channels, group.device, group.form, group))
    return {group: dict(groups[group]) for group in ordered}


def pointer(names: Sequence[str]) -> str:
    """Return the remark of a row whose measurements at these settings carry warnings."""
    return f"warnings, told in the efficiency table, at {', '.join(names)}" if names else ""


def name_of(setting: Setting) -> str:
    """Return size and number format in words."""
    return f"{setting.size} {setting.dtype}"


def key_of(setting: Setting, figure: str) -> str:
    """Return the key of a setting's column."""
    return f"{figure}.{setting.height}x{setting.width}.{setting.dtype}"


def _block(machine: Setting, columns: Mapping[Setting, Measured]) -> Block:
    printed = {column.key: column for column in EFFICIENCY}
    models = in_order({model for measured in columns.values() for model in measured})
    shown = [
        (setting, printed[figure])
        for setting, measured in columns.items()
        for figure in FIGURES
        if any(figure in measurement.figures for measurement in measured.values())
    ]
    by_column = ("height", "width", "dtype", "precision")
    return Block(
        key="-".join(filter(None, (replace(machine, height=0, width=0, dtype="").key, *map(name_of, columns)))),
        title=f"Latency and memory on {machine.describe()}",
        facts={name: value for name, value in machine.facts.items() if name not in by_column},
        conventions=tuple(_conventions(machine, columns)),
        columns=(
            printed["params"],
            *(replace(column, key=key_of(setting, column.key), group=name_of(setting)) for setting, column in shown),
        ),
        rows=tuple(_row(model, columns) for model in models),
    )


def _row(model: str, columns: Mapping[Setting, Measured]) -> Row:
    cells, warned = {}, []
    for setting, measured in columns.items():
        if model in measured:
            measurement = measured[model]
            cells["params"] = cost(measurement, "params")
            shown = [figure for figure in FIGURES if figure in measurement.figures]
            cells |= {key_of(setting, figure): cost(measurement, figure) for figure in shown}
            warned += [name_of(setting)] * bool(measurement.warnings)
    return Row(model, *display(model), cells, remark=pointer(warned))


def _conventions(machine: Setting, columns: Mapping[Setting, Measured]) -> Iterator[str]:
    everything = [measurement for measured in columns.values() for measurement in measured.values()]
    yield "p50: median latency at batch 1; FPS = 1000 / p50."
    yield from about_forward(everything)
    for precision in sorted({setting.precision for setting in columns if setting.precision}):
        yield f"float32 kernels: {precision}."
    yield "Weights and input are in the number format of the column."
    yield from about_hindered(everything)
    yield machine.remainder
    yield VALUE_MARKS


def about_forward(measurements: Iterable[Measurement]) -> Iterator[str]:
    """Say what the peak memory of a forward is, once per way of taking it."""
    for method in memory_methods(measurements):
        # The second half tells of training steps, which are not shown here.
        yield f"Forward: peak memory of one forward pass at batch 1: {method.partition(';')[0]}."

"""Tables how latency and memory grow with the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.report.read import Setting, StudyResults
from benchmark.report.tables.conventions import VALUE_MARKS, display, in_order
from benchmark.report.tables.efficiency_table import EFFICIENCY, about_hindered, cost
from benchmark.report.tables.profile_table import Measured, about_forward, grouped, key_of, pointer
from benchmark.report.tables.render import Block, Cell, Column, Row, Table

SIZES = 3  # fewer tell a slope, but not whether it stays the same
SIZES_SHOWN = 5  # with two figures each as many as a page is wide
ATTENTION = "eal_icnet"  # and its variants


@dataclass(frozen=True)
class Growing:
    """A figure whose growth is shown, by its key among a measurement's figures and by the name of its panel."""

    key: str
    name: str

    @property
    def column(self) -> Column:
        """The text in tables."""
        return next(column for column in EFFICIENCY if column.key == self.key)


FIGURES = (
    Growing("latency_p50_ms", "Latency at batch 1, p50 (ms)"),
    Growing("forward_peak_bytes", "Peak memory of one forward pass (MiB)"),
)


def table(study: StudyResults) -> Table:
    """Return one block per device and number format with figures at three sizes or more."""
    return Table("growth", "Growth with image size", tuple(_block(*group) for group in groups(study)))


def groups(study: StudyResults) -> Iterator[tuple[Setting, dict[Setting, Measured]]]:
    """Yield what figures share beside the size, and the figures by size, small to large."""
    for shared, sizes in grouped(study, lambda setting: replace(setting, height=0, width=0)).items():
        if len({setting.pixels for setting in sizes}) >= SIZES:
            yield shared, sizes


def exponent(small: Setting, large: Setting, before: float, after: float) -> float:
    """Return by which power of the number of pixels a figure grows from one size to another; 1 is in proportion."""
    return math.log(after / before) / math.log(large.pixels / small.pixels)


def _block(shared: Setting, sizes: Mapping[Setting, Measured]) -> Block:
    shown = list(sizes)[-SIZES_SHOWN:]
    models = in_order({model for setting in shown for model in sizes[setting]})
    rows = tuple(_row(model, sizes, shown) for model in models)
    filled = {key for row in rows for key in row.cells}
    columns = [
        *(replace(f.column, key=key_of(setting, f.key), group=setting.size) for setting in shown for f in FIGURES),
        *(Column(f"{f.key}.exponent", f.column.title, higher_is_better=None, group="Exponent") for f in FIGURES),
    ]
    return Block(
        key="-".join((shared.key, *(setting.size for setting in shown))),
        title=f"Growth with image size on {shared.describe()}",
        facts={name: value for name, value in shared.facts.items() if name not in ("height", "width")},
        conventions=tuple(_conventions(shared, sizes, shown, models)),
        columns=tuple(column for column in columns if column.key in filled),
        rows=rows,
    )


def _row(model: str, sizes: Mapping[Setting, Measured], shown: Sequence[Setting]) -> Row:
    by_setting = {setting: sizes[setting][model] for setting in shown if model in sizes[setting]}
    cells = {
        key_of(setting, figure.key): cost(measured, figure.key)
        for setting, measured in by_setting.items()
        for figure in FIGURES
        if figure.key in measured.figures
    }
    small, large = shown[-2:]
    for figure in FIGURES:
        before, after = (cells.get(key_of(setting, figure.key)) for setting in (small, large))
        if before is None or after is None or before.hindered or after.hindered:
            continue
        if min(before.mean, after.mean) > 0:
            cells[f"{figure.key}.exponent"] = Cell(exponent(small, large, before.mean, after.mean))
    warned = [setting.size for setting, measured in by_setting.items() if measured.warnings]
    return Row(model, *display(model), cells, remark=pointer(warned))


def _conventions(
    shared: Setting, sizes: Mapping[Setting, Measured], shown: Sequence[Setting], models: Sequence[str]
) -> Iterator[str]:
    small, large = shown[-2:]
    everything = [measured for setting in shown for measured in sizes[setting].values()]
    yield "p50: median latency at batch 1."
    yield from about_forward(everything)
    yield (
        f"Exponent: log(ratio of the figures) / log(ratio of the pixels) from {small.size} to {large.size}; "
        "1: in proportion to the number of pixels."
    )
    if any(model.partition(".")[0] == ATTENTION for model in models):
        yield (
            "EAL-ICNet's position attention compares every position of its map with every other one, so that its part "
            "of the time grows with the square of the pixels (exponent 2); its memory does not, since the matrix is "
            "never held."
        )
    if len(shown) < len(sizes):
        yield f"The {len(shown)} largest of {len(sizes)} sizes."
    if shared.precision:
        yield f"float32 kernels: {shared.precision}."
    yield from about_hindered(everything)
    yield shared.remainder
    yield VALUE_MARKS

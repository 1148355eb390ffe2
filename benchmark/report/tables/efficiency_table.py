"""Tables the networks' cost: one block per device, input size and number format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set

from benchmark.records.costs import COSTS
from benchmark.records.efficiency_record import ENERGY_SECONDS
from benchmark.report.read import Measurement, Setting, StudyResults
from benchmark.report.tables.conventions import VALUE_MARKS, display, in_order
from benchmark.report.tables.render import HINDERED, Block, Cell, Column, Row, Table

UNUSED_NAMES = 3  # of parameters, in a remark; the file of the measurement has all
EFFICIENCY = tuple(
    Column(cost.name, cost.display, cost.higher_is_better, cost.scale, cost.digits, cost.unit)
    for cost in COSTS.values()
)
#: Figures that other work on the device changes.
TIMED = {cost.name for cost in COSTS.values() if cost.topic in ("latency", "throughput", "energy")}


def cost(measured: Measurement, figure: str) -> Cell:
    """Return the cell of a figure, marked where it was taken while something else had the device."""
    return Cell(measured.figures[figure], hindered=measured.hindered and figure in TIMED)


def about_hindered(measurements: Iterable[Measurement]) -> Iterator[str]:
    """Say what the mark of hindered figures means, where there are any."""
    if any(measured.hindered for measured in measurements):
        yield f"{HINDERED}: taken while something else had the device, as said below the table; never ranked."


def memory_methods(measurements: Iterable[Measurement]) -> list[str]:
    """Return the ways in which peak memory was taken, in words."""
    return sorted({measured.record.memory.method for measured in measurements if measured.record.memory})


def efficiency(study: StudyResults) -> Table:
    """Return one block per setting: figures of another device, input, number format or thread count share no column."""
    settings = sorted({measurement.setting for measurement in study.efficiency})
    return Table("efficiency", "Efficiency", tuple(_efficiency_block(study, setting) for setting in settings))


def _efficiency_block(study: StudyResults, setting: Setting) -> Block:
    by_model = {measured.record.model: measured for measured in study.efficiency if measured.setting == setting}
    shown = {key for measured in by_model.values() for key in measured.figures}
    return Block(
        key=setting.key,
        title=f"Efficiency at {setting.size} on {setting.describe()}",
        facts=setting.facts,
        conventions=(*efficiency_conventions(list(by_model.values()), setting, shown), VALUE_MARKS),
        columns=tuple(column for column in EFFICIENCY if column.key in shown),
        rows=tuple(
            Row(
                name,
                *display(name),
                {key: cost(by_model[name], key) for key in by_model[name].figures},
                remark="; ".join((*_unused(by_model[name]), *by_model[name].warnings)),
            )
            for name in in_order(by_model)
        ),
    )


def _unused(measured: Measurement) -> Iterator[str]:
    if names := list(measured.record.unused_params):
        more = f" and {len(names) - UNUSED_NAMES} more" if len(names) > UNUSED_NAMES else ""
        yield f"never take part in the forward pass: {', '.join(names[:UNUSED_NAMES])}{more}"


def efficiency_conventions(found: Sequence[Measurement], setting: Setting, shown: Set[str]) -> Iterator[str]:
    """Say what the shown efficiency figures are."""
    if "params" in shown:
        unused = "; Unused: those that it never does" if "unused_params" in shown else ""
        yield f"Params: {COSTS['params'].definition}{unused}."
    if shown & {"macs", "flops"}:
        flops = f"; FLOPs = {COSTS['flops'].definition}" if "flops" in shown else ""
        yield f"MACs: {COSTS['macs'].definition}{flops}."
    if shown & {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms"}:
        yield "p50, p90, p99: percentiles of the latency at batch 1; FPS = 1000 / p50."
    elif "fps" in shown:
        yield f"FPS = {COSTS['fps'].definition}."
    if "images_per_second" in shown:
        yield f"Images/s: {COSTS['images_per_second'].definition}."
    if shown & {"forward_peak_bytes", "train_step_peak_bytes"}:
        for method in memory_methods(found):
            yield f"Memory of one forward pass and of one training step at batch 1: {method}."
    batches = {"energy_j_per_image": "at batch 1", "energy_j_per_image_batch": "at the best Batch"}
    if energy := [batch for key, batch in batches.items() if key in shown]:
        yield (
            f"Energy: joules per image {' and '.join(energy)}, of the whole GPU, idle power included, over at least "
            f"{ENERGY_SECONDS:g} s."
        )
    if setting.precision:
        yield f"float32 kernels: {setting.precision}."
    if shown & TIMED:
        yield from about_hindered(found)
    yield setting.remainder

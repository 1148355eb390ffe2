"""Tables measured latency against what the device allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from benchmark.records.efficiency_record import Limits
from benchmark.report.read import Measurement, Setting, StudyResults
from benchmark.report.tables.conventions import VALUE_MARKS, display, in_order
from benchmark.report.tables.efficiency_table import EFFICIENCY, about_hindered, cost
from benchmark.report.tables.profile_table import Measured, grouped
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.words import counted

COLUMNS = (
    *(column for column in EFFICIENCY if column.key == "macs"),
    Column("bytes_moved", "Bytes", higher_is_better=False, scale=1e-6, digits=1, unit="MB"),
    Column("macs_per_byte", "MACs/byte", higher_is_better=None, digits=1),
    *(column for column in EFFICIENCY if column.key == "latency_p50_ms"),
    Column("limit_ms", "Limit", higher_is_better=None, digits=2, unit="ms"),
    Column("ridge_ratio", "Binds", higher_is_better=None),
    Column("limit_share", "Share", higher_is_better=None, scale=100.0, digits=1, unit="%"),
)
#: The last of them, where the others do not stand beside it.
SHARE = replace(COLUMNS[-1], title="Roofline share")


@dataclass(frozen=True)
class Roof:
    """The best that a device reached in one number format, at any input size.

    Other work on a machine only lowers a measurement, so the best of several is the device's own. Each is a median.
    """

    taken: tuple[Limits, ...]

    @property
    def macs_per_second(self) -> float:
        """The best of the matrix products."""
        return max(limits.macs_per_second for limits in self.taken)

    @property
    def bytes_per_second(self) -> float:
        """The best of the copies."""
        return max(limits.bytes_per_second for limits in self.taken)

    @property
    def ridge(self) -> float:
        """MACs per byte from which on arithmetic takes longer than memory."""
        return self.macs_per_second / self.bytes_per_second

    def limit_ms(self, macs: int, moved: int) -> float:
        """Return the shortest time of so many MACs and bytes (Williams et al., CACM 2009).

        It is formed from a network's totals, as the plot is. The sum of each operator's own limit would be larger, but
        holds only where operators run one after another; this one holds whatever runs at the same time.
        """
        return 1e3 * max(macs / self.macs_per_second, moved / self.bytes_per_second)

    def attained_at(self, macs_per_byte: float) -> float:
        """Return the most MACs per second at an intensity: the roof's height."""
        return min(self.macs_per_second, macs_per_byte * self.bytes_per_second)


def table(study: StudyResults) -> Table:
    """Return one block per setting that has limits."""
    return Table("roofline", "Roofline", tuple(_block(*setting) for setting in settings_with_limits(study)))


def settings_with_limits(study: StudyResults) -> Iterator[tuple[Setting, Measured, Roof]]:
    """Yield settings with those measurements that have bytes and limits (older ones have none), and the roof."""
    counted = replace(
        study, efficiency=tuple(measurement for measurement in study.efficiency if measurement.record.bytes_moved)
    )
    for settings in grouped(counted, lambda setting: replace(setting, height=0, width=0, channels=0)).values():
        everything = [measurement.record.limits for measured in settings.values() for measurement in measured.values()]
        if taken := tuple(limits for limits in everything if limits):
            yield from ((setting, measured, Roof(taken)) for setting, measured in settings.items())


def _block(setting: Setting, by_model: Measured, roof: Roof) -> Block:
    return Block(
        key=setting.key,
        title=f"Roofline at {setting.size} on {setting.describe()}",
        facts=setting.facts,
        conventions=tuple(_conventions(setting, by_model, roof)),
        columns=COLUMNS,
        rows=tuple(row_of(name, by_model[name], roof) for name in in_order(by_model)),
    )


def row_of(name: str, measured: Measurement, roof: Roof) -> Row:
    """Return a network's figures beside the limit of its device."""
    record = measured.record
    moved = record.bytes_moved or 0
    limit_ms = roof.limit_ms(record.macs, moved)
    ratio = record.macs / moved / roof.ridge
    cells = {
        "macs": Cell(record.macs),
        "bytes_moved": Cell(moved),
        "macs_per_byte": Cell(record.macs / moved),
        "latency_p50_ms": cost(measured, "latency_p50_ms"),
        "limit_ms": Cell(limit_ms),
        "ridge_ratio": Cell(ratio, text="compute" if ratio >= 1 else "memory"),
        "limit_share": Cell(limit_ms / record.latency.p50_ms, hindered=measured.hindered),
    }
    return Row(name, *display(name), cells, remark="warnings, told in the efficiency table" * bool(measured.warnings))


def _conventions(setting: Setting, by_model: Measured, roof: Roof) -> Iterator[str]:
    yield "Limit: the larger of MACs / peak and Bytes / bandwidth. Share: Limit / p50; p50: median latency at batch 1."
    yield _limits(roof)
    yield (
        f"Bytes: every operator reads its inputs and weights and writes its outputs once, in {setting.dtype}; "
        "operators are not fused, views are free, attention never writes its matrix."
    )
    caches = "caches keep what one operator hands to the next, or convolutions are faster than this product"
    yield f"A Share above 100 %: {caches}."
    yield f"Binds: compute from {roof.ridge:.1f} MACs/byte on, memory below."
    if setting.precision:
        yield f"float32 kernels: {setting.precision}; the peak is that of the convolutions' precision."
    yield from about_hindered(by_model.values())
    yield setting.remainder
    yield VALUE_MARKS


def _limits(roof: Roof) -> str:
    products = median(limits.macs_per_second for limits in roof.taken) / 1e9
    copies = median(limits.bytes_per_second for limits in roof.taken) / 1e9
    several = len(roof.taken) > 1
    return (
        f"Peak: {roof.macs_per_second / 1e9:.1f} GMAC/s{f' (median {products:.1f})' * several}, a product of square "
        f"matrices; bandwidth: {roof.bytes_per_second / 1e9:.1f} GB/s{f' (median {copies:.1f})' * several}, a copy, "
        f"read + written; {'the best of ' * several}{counted(len(roof.taken), 'measurement')}, "
        f"{'each ' * several}just before a latency with the same threads and number format."
    )

"""Efficiency of a network: parameters, multiply-accumulates, traffic, latency, throughput, peak memory and energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.efficiency.records import (
    BatchThroughput,
    Conditions,
    DType,
    EfficiencyRecord,
    EfficiencySettings,
    Form,
    Latency,
    Limits,
    Memory,
    Origin,
    Throughput,
)

if TYPE_CHECKING:
    from benchmark.efficiency.measuring import measure

__all__ = [
    "BatchThroughput",
    "Conditions",
    "DType",
    "EfficiencyRecord",
    "EfficiencySettings",
    "Form",
    "Latency",
    "Limits",
    "Memory",
    "Origin",
    "Throughput",
    "measure",
]


def __getattr__(name: str) -> Any:  # what a module's attribute is depends on its name
    """Import ``measure`` when it is first asked for: a report reads records through this package and needs no torch."""
    if name == "measure":
        from benchmark.efficiency.measuring import measure

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

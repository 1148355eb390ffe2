"""Metrics on numpy arrays: integer counts of images, and ratios and reductions of counts."""

from benchmark.metrics.all_metrics import METRICS
from benchmark.metrics.connections import connection_counts, net_of_each_via
from benchmark.metrics.counting import CONNECTION_COLUMNS, COUNT_COLUMNS, count_image
from benchmark.metrics.definitions import BUILTIN, NOTHING_TO_JUDGE, PIXELS, REDUCTIONS, Metric, Reduction
from benchmark.metrics.electrical import FAULTS, fault_map, fault_places, not_counted
from benchmark.metrics.reductions import judged, ratios, reduce, reduce_sets
from benchmark.metrics.vias import via_counts, via_counts_from_masks, via_fault_map

__all__ = [
    "BUILTIN",
    "CONNECTION_COLUMNS",
    "COUNT_COLUMNS",
    "FAULTS",
    "METRICS",
    "NOTHING_TO_JUDGE",
    "PIXELS",
    "REDUCTIONS",
    "Metric",
    "Reduction",
    "connection_counts",
    "count_image",
    "fault_map",
    "fault_places",
    "judged",
    "net_of_each_via",
    "not_counted",
    "ratios",
    "reduce",
    "reduce_sets",
    "via_counts",
    "via_counts_from_masks",
    "via_fault_map",
]

"""Ratios of images and reductions of test sets, formed from integer counts by the table of metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.metrics.table import BOTH, METRICS, PIXELS, Counts, Metric, Reduction, Values


def judged(counts: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Tell of each image, (N,), whether any of its pixels was counted; true where the pixels' columns are absent."""
    if not counts.keys() >= set(PIXELS):
        return np.ones(len(next(iter(counts.values()), ())), np.bool_)
    found: npt.NDArray[np.bool_] = np.any([counts[name] > 0 for name in PIXELS], axis=0)
    return found


def ratios(counts: Counts) -> dict[str, Values]:
    """Return each metric of each image, (N,) float64.

    Args:
        counts: integer columns of length N; a metric whose columns are absent is absent.

    Returns:
        Values by metric; NaN where a metric has no value on an image, as none has on one without a counted pixel.

    Raises:
        ValueError: a column is not of integers.
    """
    return _compute(counts, METRICS.values())


def _compute(counts: Counts, wanted: Iterable[Metric]) -> dict[str, Values]:
    for name, column in counts.items():
        if column.dtype.kind not in "iu":
            raise ValueError(f"column {name!r} holds {column.dtype}; expected integers (leave blank columns out)")
    return _formed({name: column.astype(np.int64) for name, column in counts.items()}, wanted)


def _formed(wide: Mapping[str, npt.NDArray[Any]], wanted: Iterable[Metric]) -> dict[str, Values]:
    known = judged(wide)
    computable = [metric for metric in wanted if wide.keys() >= set(metric.columns)]
    return {metric.name: np.where(known, metric.compute(wide), np.nan) for metric in computable}


def reduce(counts: Counts, reduction: Reduction) -> dict[str, float]:
    """Reduce the integer columns of N images to one value per metric.

    Args:
        counts: integer columns of length N; blank ones left out.
        reduction: ``image``, the mean over the images that have a value; ``pooled``, the formula on the summed counts.
            The two can differ by more than ten points on the same predictions.

    Returns:
        The metrics that the reduction applies to and that have a value; others are absent, so that NaN never leaves.

    Raises:
        ValueError: there is no image, a column is not of integers, or there is no such reduction.
    """
    if reduction not in BOTH:
        raise ValueError(f"unknown reduction {reduction!r}; expected one of {', '.join(BOTH)}")
    lengths = {len(column) for column in counts.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"expected columns of one common positive length, got lengths {sorted(lengths)}")
    wanted = [metric for metric in METRICS.values() if reduction in metric.reductions]
    formed = _compute(counts, wanted)
    if reduction == "pooled":
        # Summed as Python integers, which do not overflow: the nanobits of ten billion pixels would not fit int64.
        formed = _formed({name: np.array([float(sum(column.tolist()))]) for name, column in counts.items()}, wanted)
    means: dict[str, float] = {}
    for name, values in formed.items():
        present = values[~np.isnan(values)]
        if len(present):
            means[name] = math.fsum(present) / len(present)  # exact, so that the order of images changes no digit
    return means

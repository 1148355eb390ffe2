"""Computes the ratios of images and the reductions of test sets from integer counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.metrics.all_metrics import METRICS
from benchmark.metrics.definitions import BOTH, PIXELS, Counts, Metric, Reduction, Values


def judged(counts: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Return of each image, (N,), whether any of its pixels was counted; true where the pixels' columns are absent."""
    if not counts.keys() >= set(PIXELS):
        return np.ones(len(next(iter(counts.values()), ())), np.bool_)
    has_pixels: npt.NDArray[np.bool_] = np.any([counts[name] > 0 for name in PIXELS], axis=0)
    return has_pixels


def ratios(counts: Counts, chosen: Mapping[str, Metric] = METRICS) -> dict[str, Values]:
    """Return each metric of each image, (N,) float64.

    Args:
        counts: integer columns of length N; a metric whose columns are absent is absent.
        chosen: the metrics by name; also those of installed packages by default.

    Returns:
        Values by metric; NaN where a metric has no value on an image, as none has on one without a counted pixel.

    Raises:
        ValueError: a column is not of integers.
    """
    _require_integers(counts)
    return _compute({name: column.astype(np.int64) for name, column in counts.items()}, chosen.values())


def _require_integers(counts: Counts) -> None:
    for name, column in counts.items():
        if column.dtype.kind not in "iu":
            raise ValueError(f"column {name!r} holds {column.dtype}; expected integers (leave blank columns out)")


def _compute(counts: Mapping[str, npt.NDArray[Any]], metrics: Iterable[Metric]) -> dict[str, Values]:
    has_value = judged(counts)
    computable = [metric for metric in metrics if counts.keys() >= set(metric.columns)]
    return {metric.name: np.where(has_value, metric.compute(counts), np.nan) for metric in computable}


def reduce(counts: Counts, reduction: Reduction, chosen: Mapping[str, Metric] = METRICS) -> dict[str, float]:
    """Reduce the integer columns of N images to one value per metric.

    Args:
        counts: integer columns of length N; blank ones left out.
        reduction: ``image``, the mean over the images that have a value; ``pooled``, the formula on the summed counts.
            The two can differ by more than ten points on the same predictions.
        chosen: the metrics by name; also those of installed packages by default.

    Returns:
        The metrics that the reduction applies to and that have a value; others are absent, so that NaN never leaves.

    Raises:
        ValueError: there is no image, a column is not of integers, or there is no such reduction.
    """
    return reduce_sets([counts], reduction, chosen)[0]


def reduce_sets(
    sets: Sequence[Counts], reduction: Reduction, chosen: Mapping[str, Metric] = METRICS
) -> list[dict[str, float]]:
    """Reduce several sets of N images each at once: as :func:`reduce` of each, but faster for small N.

    Args:
        sets: the integer columns of each set; all have the same columns and the same N.
        reduction: as for :func:`reduce`.
        chosen: as for :func:`reduce`.

    Raises:
        ValueError: as :func:`reduce`.
    """
    if reduction not in BOTH:
        raise ValueError(f"unknown reduction {reduction!r}; expected one of {', '.join(BOTH)}")
    lengths = {len(column) for counts in sets for column in counts.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"expected columns of one common positive length, got lengths {sorted(lengths)}")
    for counts in sets:
        _require_integers(counts)
    if reduction == "pooled":
        # Summed as Python integers, which do not overflow: the nanobits of ten billion pixels do not fit int64.
        columns = {name: np.array([float(sum(counts[name].tolist())) for counts in sets]) for name in sets[0]}
    else:
        columns = {name: np.concatenate([counts[name].astype(np.int64) for counts in sets]) for name in sets[0]}
    means: list[dict[str, float]] = [{} for _ in sets]
    for name, values in _compute(columns, [m for m in chosen.values() if reduction in m.reductions]).items():
        for of_set, of_images in zip(means, values.reshape(len(sets), -1).tolist(), strict=True):
            present = [value for value in of_images if not math.isnan(value)]
            if present:
                of_set[name] = math.fsum(present) / len(present)  # exact, so that the order of images changes no digit
    return means

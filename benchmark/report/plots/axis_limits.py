"""Chooses ends of axes that one diverged run does not stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Tukey's outer fence (Exploratory Data Analysis, 1977): values further out than so many interquartile ranges are far.
FENCE = 3.0
LEAST_VALUES = 5  # fewer have no telling quartiles
#: Far values are cut off if they stretch the axis by more than this factor.
STRETCH = 2.0


def usual_range(values: Sequence[float], start: float = math.inf) -> tuple[float, float]:
    """Return the least and the greatest value, without far ones that take more than half of the axis.

    Args:
        values: at least one; logarithms for a logarithmic axis.
        start: the axis reaches down to it in any case.

    Example:
        >>> usual_range([89.5, 90.0, 90.2, 90.7, 92.0, 52.0])
        (89.5, 92.0)
    """
    low, high = float(min(values)), float(max(values))
    if len(values) < LEAST_VALUES:
        return low, high
    first, third = np.quantile(values, (0.25, 0.75))
    reach = FENCE * (third - first)
    usual = [float(value) for value in values if first - reach <= value <= third + reach]
    length = max(usual) - min(*usual, start)
    if length == 0 or high - min(low, start) <= STRETCH * length:
        return low, high
    return min(usual), max(usual)


def with_bars(bars: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return the usual range of means, widened by their bars.

    On either side it grows by its own length or that of the median bar at most, whichever is longer.

    Args:
        bars: mean, lower end and upper end of each, at least one.
    """
    low, high = usual_range([mean for mean, _, _ in bars])
    ends = [end for mean, *ends_of_bar in bars if low <= mean <= high for end in ends_of_bar if np.isfinite(end)]
    lengths = [top - bottom for _, bottom, top in bars if np.isfinite(top - bottom)]
    reach = max(high - low, float(np.median(lengths or [0.0]))) or np.inf
    return max(min(low, *ends), low - reach), min(max(high, *ends), high + reach)

"""Limits of axes: far values do not stretch them, few values are all usual."""

from __future__ import annotations

import math

import pytest

from benchmark.report.plots.axis_limits import usual_range, with_bars
from benchmark.report.plots.plot_style import tick_text

USUAL = [89.5, 90.0, 90.2, 90.7, 92.0]


def test_one_diverged_value_is_not_usual() -> None:
    assert usual_range([*USUAL, 52.0]) == (89.5, 92.0)
    assert usual_range([*USUAL, 1e6]) == (89.5, 92.0)


@pytest.mark.parametrize("values", [USUAL, [1.0], [1.0, 1e6], [5.0] * 8, [5.0] * 8 + [6.0], [*USUAL, 93.0]])
def test_all_other_values_are(values: list[float]) -> None:
    assert usual_range(values) == (min(values), max(values))


def test_start_of_the_axis_counts() -> None:
    assert usual_range([5.0] * 8 + [100.0], 0.0) == (5.0, 5.0)
    assert usual_range([5.0] * 8 + [9.0], 0.0) == (5.0, 9.0)


def test_one_huge_bar_is_cut() -> None:
    bars = [(value, value - 1, value + 1) for value in USUAL]
    assert with_bars([*bars, (91.0, 90.0, 141.0), (10.0, 0.0, 20.0)]) == (88.5, 94.5)


def test_usual_bars_of_close_means_are_shown_whole() -> None:
    assert with_bars([(5.0, 4.0, 7.0)]) == (4.0, 7.0)
    assert with_bars([(90.0, 88.0, 92.0), (90.05, 88.0, 92.0)]) == (88.0, 92.0)
    assert with_bars([(90.0, math.nan, math.nan), (91.0, 90.5, 91.5)])[1] == 91.5


def test_labels_of_ticks_are_short() -> None:
    assert [tick_text(value) for value in (0.001, 0.5, 1.0, 5e4, 1e5, 2e-7)] == [
        *("0.001", "0.5", "1", "50000", "1e5", "2e-07")
    ]

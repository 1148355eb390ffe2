"""Tests over repeats against scipy, textbooks and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmark.metrics import significance


def test_paired_t_is_scipys_test_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    values, reference = rng.normal(0.9, 0.02, (5, 4, 3)), rng.normal(0.9, 0.02, (5, 1, 3))

    result = significance.paired_t(values, reference)

    assert result.p.shape == (5, 4)
    for study, model in np.ndindex(5, 4):
        expected = stats.ttest_rel(values[study, model], reference[study, 0])
        interval = expected.confidence_interval(0.95)
        assert result.p[study, model] == pytest.approx(expected.pvalue)
        assert (result.low[study, model], result.high[study, model]) == pytest.approx((interval.low, interval.high))
        assert result.mean[study, model] == pytest.approx(np.mean(values[study, model] - reference[study, 0]))


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_trainings_that_share_images_widen_the_variance(folds: int) -> None:
    rng = np.random.default_rng(folds)
    values, reference = rng.normal(0.9, 0.02, (2, folds))
    shared = 1 / (folds - 1)

    result = significance.paired_t(values, reference, test_to_training=shared)

    differences = values - reference
    error = math.sqrt((1 / folds + shared) * differences.var(ddof=1))  # Nadeau and Bengio 2003, equation 16
    reach = stats.t.isf(0.025, folds - 1) * error
    assert float(result.p) == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, folds - 1))
    assert (float(result.low), float(result.high)) == pytest.approx((result.mean - reach, result.mean + reach))
    least, _ = significance.effects_in_reach(folds, 1, test_to_training=shared)
    assert least == pytest.approx(stats.t.isf(0.025, folds - 1) * math.sqrt(1 / folds + shared))
    independent = significance.paired_t(values, reference)
    assert float(independent.p) < float(result.p)
    assert float(significance.paired_t(values, reference, test_to_training=0.0).p) == float(independent.p)


@pytest.mark.parametrize(
    ("values", "reference", "mean"),
    [
        ([0.9], [0.8], 0.1),  # one pair
        ([0.9, 0.9, 0.9], [0.9, 0.9, 0.9], 0.0),
        ([0.3, 0.5, 0.7], [0.1, 0.3, 0.5], 0.2),  # equal but for rounding, where scipy has p = 1e-32
        ([3.0, 4.0], [1.0, 2.0], 2.0),
    ],
)
def test_one_pair_or_equal_differences_give_no_test(values: list[float], reference: list[float], mean: float) -> None:
    result = significance.paired_t(values, reference)

    assert float(result.mean) == pytest.approx(mean)
    assert np.isnan([result.p, result.low, result.high]).all()


def test_untestable_rows_change_no_other_row() -> None:
    result = significance.paired_t([[0.9, 0.9, 0.9], [0.9, 0.8, 0.9]], [0.7, 0.7, 0.7])

    assert np.isnan(result.p[0])
    assert result.p[1] == pytest.approx(stats.ttest_rel([0.9, 0.8, 0.9], [0.7, 0.7, 0.7]).pvalue)


def test_holm_of_a_textbook_example() -> None:
    """Four tests, as in the articles on Holm's method: times 4, 3, 2, 1, never below an earlier one."""
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_equals_closed_bonferroni_test(p: list[float]) -> None:
    """Holm's adjusted p of a hypothesis is the largest Bonferroni p of all intersections that contain it."""
    m = len(p)
    subsets = [subset for size in range(1, m + 1) for subset in itertools.combinations(range(m), size)]
    closed = [
        max(min(1.0, len(subset) * min(p[index] for index in subset)) for subset in subsets if own in subset)
        for own in range(m)
    ]
    assert significance.holm(p) == pytest.approx(closed)


def test_holm_counts_untestable_rows_along_last_axis() -> None:
    result = significance.holm([[0.01, math.nan, 0.02], [0.02, 0.5, 0.01]])

    assert result[0] == pytest.approx([0.03, math.nan, 0.04], nan_ok=True)
    assert result[1] == pytest.approx([0.04, 0.5, 0.03])


def test_detectable_effects_match_threshold_and_power() -> None:
    needed, true_effect = significance.effects_in_reach(3, family=10)
    rng = np.random.default_rng(0)

    # Differences with mean m and standard deviation 1 (ddof = 1): m - 1, m, m + 1.
    for factor, significant in ((0.999, False), (1.001, True)):
        mean = factor * needed
        p = stats.ttest_1samp([mean - 1, mean, mean + 1], 0).pvalue
        assert (10 * p < 0.05) == significant
    drawn = rng.normal(true_effect, 1, (20_000, 3))
    assert np.mean(10 * significance.paired_t(drawn, 0.0).p < 0.05) == pytest.approx(0.8, abs=0.01)


def test_smallest_p_and_clusters_required_by_holm() -> None:
    assert significance.least_rank_p(3) == stats.wilcoxon([1.0, 2.0, 3.0]).pvalue == 0.25
    assert significance.clusters_needed(10) == 9
    for family in range(1, 40):
        needed = significance.clusters_needed(family)
        assert family * significance.least_sign_flip_p(needed) < 0.05 <= family * significance.least_rank_p(needed - 1)
    assert significance.least_sign_flip_p(17) == 1e-4


@given(st.integers(2, 7), st.integers(0, 2**32))
def test_items_share_a_group_only_without_difference(size: int, seed: int) -> None:
    upper = np.triu(np.random.default_rng(seed).random((size, size)) < 0.4, 1)
    different = upper | upper.T

    groups = significance.alike(different)

    for i, j in itertools.combinations(range(size), 2):
        assert any({i, j} <= set(group) for group in groups) == (not different[i, j])
    assert not any(set(one) < set(two) for one in groups for two in groups)
    assert {item for group in groups for item in group} == set(range(size))

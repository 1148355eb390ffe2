"""The table of metrics, per-image ratios and the two reductions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmark.metrics import (
    CONNECTION_COLUMNS,
    COUNT_COLUMNS,
    METRICS,
    PIXELS,
    Reduction,
    connection_counts,
    count_image,
    judged,
    ratios,
    reduce,
    reduce_sets,
    via_counts_from_masks,
)


def columns_of(images: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(images):
        truth = rng.random((24, 24)) < 0.3
        prediction = truth ^ (rng.random((24, 24)) < 0.1)
        rows.append(counted(truth, prediction))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_counts_follow_order_of_columns() -> None:
    assert tuple(columns_of()) == (*COUNT_COLUMNS, *CONNECTION_COLUMNS)


def test_table_is_consistent() -> None:
    assert list(METRICS)[:6] == ["miou", "mpa", "dice", "aji", "aji_plus", "fg_iou"]
    for name, metric in METRICS.items():
        assert metric.name == name
        assert set(metric.columns) <= {*COUNT_COLUMNS, *CONNECTION_COLUMNS}
        assert metric.definition.endswith(".")
        assert metric.range == ((0.0, 1.0) if metric.unit == "fraction" else (0.0, np.inf))
        assert bool(metric.empty) == (metric.unit != "count")
        assert metric.higher_is_better == (metric.unit == "fraction" and not name.endswith("_error_rate"))
    assert len({metric.display for metric in METRICS.values()}) == len(METRICS)


def test_only_the_declared_columns_are_used() -> None:
    counts = columns_of()
    for name, metric in METRICS.items():
        alone = ratios({column: counts[column] for column in metric.columns})[name]
        np.testing.assert_array_equal(alone, ratios(counts)[name])


def test_fractions_stay_within_their_range() -> None:
    for name, values in ratios(columns_of(20)).items():
        low, high = METRICS[name].range
        assert values.dtype == np.float64
        assert values.shape == (20,)
        assert ((values >= low) & (values <= high)).all(), name


def test_image_is_mean_and_pooled_is_ratio_of_sums() -> None:
    counts = {"tp": np.array([90, 1]), "fp": np.array([10, 0]), "fn": np.array([0, 9]), "tn": np.array([0, 90])}
    image, pooled = reduce(counts, "image"), reduce(counts, "pooled")
    assert image["fg_iou"] == pytest.approx((0.9 + 0.1) / 2)
    assert pooled["fg_iou"] == pytest.approx(91 / 110)
    assert image["dice"] == pytest.approx((180 / 190 + 2 / 11) / 2)
    assert pooled["miou"] == pytest.approx((91 / 110 + 90 / 109) / 2)
    assert pooled["mpa"] == pytest.approx((91 / 100 + 90 / 100) / 2)


def test_one_image_reduces_to_itself() -> None:
    one = {name: column[:1] for name, column in columns_of().items()}
    for name, value in reduce(one, "image").items():
        assert reduce(one, "pooled")[name] == pytest.approx(value, abs=1e-15)
        assert ratios(one)[name][0] == value


def test_sums_over_64_bits_are_exact() -> None:
    """Nanobits of a large test set: each image's fit, their sum does not."""
    pixels = 2**32
    counts = {name: np.full(2, number) for name, number in {"tp": pixels, "fp": 0, "fn": 0, "tn": 0}.items()}
    counts["vi_split_nbit"] = np.full(2, 2 * 10**9 * pixels - 1)
    assert int(counts["vi_split_nbit"].sum()) < 0  # numpy's own sum has gone round
    assert reduce(counts, "pooled")["vi_split"] == reduce(counts, "image")["vi_split"] == pytest.approx(2.0, abs=1e-15)


def counted(truth: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None = None) -> dict[str, int]:
    counts = count_image(truth, prediction, ignore=ignore, border_px=3, min_area_px=2, cldice=True)
    counts |= via_counts_from_masks(truth, prediction, ignore=ignore)
    layers = truth, prediction, truth, prediction  # as tracks and as vias
    return counts | connection_counts(*layers, ignore=ignore, border_px=3, min_area_px=2)


def joined(*images: dict[str, int]) -> dict[str, np.ndarray]:
    return {name: np.array([image[name] for image in images]) for name in images[0]}


@pytest.mark.parametrize("name", METRICS)
def test_image_without_counted_pixel_has_no_metric(name: str) -> None:
    rng = np.random.default_rng(1)
    truth, prediction = rng.random((24, 24)) < 0.3, rng.random((24, 24)) < 0.3
    some, void = counted(truth, prediction), counted(truth, prediction, ignore=np.ones_like(truth))
    both = joined(void, some, void)
    assert judged(both).tolist() == [False, True, False]
    assert np.isnan(ratios(both)[name]).tolist() == [True, False, True]
    for reduction in METRICS[name].reductions:
        assert reduce(both, reduction)[name] == reduce(joined(some), reduction)[name]
        assert name not in reduce(joined(void, void), reduction)


def test_empty_truth_and_prediction_agree() -> None:
    nothing, full = np.zeros((24, 24), bool), np.ones((24, 24), bool)
    alone, wrong = joined(counted(nothing, nothing)), joined(counted(nothing, nothing), counted(nothing, full))
    for name in ("dice", "aji", "aji_plus", "fg_iou", "boundary_f1", "cldice"):
        assert reduce(alone, "image")[name] == reduce(alone, "pooled")[name] == 1.0
        assert reduce(wrong, "image")[name] == 0.5


def test_rates_without_nets_or_vias_have_no_value() -> None:
    nothing = np.zeros((24, 24), bool)
    rates = {"net_error_rate", "net_precision", "net_recall", "net_f1", "via_precision", "via_recall", "via_f1"}
    rates.add("connection_error_rate")
    alone = joined(counted(nothing, nothing))
    assert all(np.isnan(ratios(alone)[name]).all() for name in rates)
    assert not rates & reduce(alone, "pooled").keys()


def test_order_of_images_changes_nothing() -> None:
    counts = columns_of(40)
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(40)
        assert reduce({name: column[order] for name, column in counts.items()}, "image") == reduce(counts, "image")


@pytest.mark.parametrize("reduction", ["image", "pooled"])
def test_sets_are_reduced_together_as_each_alone(reduction: Reduction) -> None:
    counts = columns_of(24)
    for name in PIXELS:
        counts[name][[1, 8, 9]] = 0  # one image of the first set, all of the fifth
    sets = [{name: column[start : start + 2] for name, column in counts.items()} for start in range(0, 24, 2)]
    together = reduce_sets(sets, reduction)
    assert together == [reduce(columns, reduction) for columns in sets]
    assert together[4] == {}
    assert len(set(map(repr, together))) == 12


def test_narrow_integers_do_not_overflow() -> None:
    counts = {name: np.array([100, 100], np.uint8) for name in ("tp", "fp", "fn", "tn")}
    assert ratios(counts)["dice"].tolist() == [0.5, 0.5]
    assert reduce(counts, "pooled")["miou"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("counts", "reduction", "message"),
    [
        ({"tp": np.array([1])}, "mean", "unknown reduction 'mean'"),
        ({"tp": np.array([], int)}, "image", "common positive length"),
        ({}, "image", "common positive length"),
        ({"tp": np.array([1]), "fp": np.array([1, 2])}, "pooled", "common positive length"),
        ({"opens": np.array([np.nan])}, "pooled", "'opens' holds float64"),
    ],
)
def test_bad_columns_are_refused(counts: dict[str, np.ndarray], reduction: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reduce(counts, reduction)  # type: ignore[arg-type]


def test_neither_torch_nor_pandas_is_imported() -> None:
    code = "import sys, benchmark.metrics; print(sorted({'torch', 'pandas', 'skimage'} & set(sys.modules)))"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"

"""AJI and AJI+ against brute force, their properties, and their speed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given

from benchmark.metrics.components import Mask, Overlap
from benchmark.metrics.instances import aji_plus_terms, aji_terms, best_of_each, instance_counts
from tests.benchmark.metrics.layouts import damaged, tracks
from tests.benchmark.metrics.reference import brute_aji, brute_aji_plus, loop_terms, masks_of
from tests.benchmark.metrics.strategies import mask_pairs


@given(mask_pairs())
def test_aji_equals_brute_force(pair: tuple[Mask, Mask]) -> None:
    assert aji_terms(Overlap.of(*pair)) == brute_aji(*pair)


@given(mask_pairs(max_side=9))
def test_aji_plus_equals_brute_force(pair: tuple[Mask, Mask]) -> None:
    truths, components = (len(masks_of(mask)) for mask in pair)
    assume((components + 1) ** truths <= 3000)
    assert aji_plus_terms(Overlap.of(*pair)) == brute_aji_plus(*pair)


def test_dense_blocks_need_the_assignment() -> None:
    """Crossing stripes overlap all with all: no greedy choice would do."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        truth, prediction = np.zeros((2, 16, 16), bool)
        for at in (0, 4, 9, 13):
            truth[at : at + rng.integers(1, 4), : rng.integers(5, 17)] = True
            prediction[: rng.integers(5, 17), at : at + rng.integers(1, 4)] = True
        overlap = Overlap.of(truth, prediction)
        assert len(overlap.truth_index) > 4
        assert aji_plus_terms(overlap) == brute_aji_plus(truth, prediction)
        assert aji_terms(overlap) == brute_aji(truth, prediction)


@given(mask_pairs())
def test_bounds_and_symmetry(pair: tuple[Mask, Mask]) -> None:
    truth, prediction = pair
    counts = instance_counts(Overlap.of(truth, prediction))
    shared, either = np.count_nonzero(truth & prediction), np.count_nonzero(truth | prediction)
    # No component of G is counted twice, and the union is covered at least once.
    assert 0 <= counts["ajip_num"] <= shared
    assert 0 <= counts["aji_num"] <= shared
    assert counts["ajip_den"] >= either
    assert counts["aji_den"] >= either
    assert counts["ajip_num"] <= counts["ajip_den"]
    assert aji_plus_terms(Overlap.of(prediction, truth)) == (counts["ajip_num"], counts["ajip_den"])
    itself = np.count_nonzero(truth)
    assert set(instance_counts(Overlap.of(truth, truth)).values()) == {itself}


@given(mask_pairs())
def test_aji_plus_does_not_depend_on_the_order_of_components(pair: tuple[Mask, Mask]) -> None:
    """Mirrored and transposed masks number their components otherwise."""
    expected = aji_plus_terms(Overlap.of(*pair))
    for turned in (lambda m: m[::-1], lambda m: m[:, ::-1], lambda m: m.T):
        assert aji_plus_terms(Overlap.of(*(turned(mask) for mask in pair))) == expected


def test_aji_is_not_symmetric() -> None:
    truth, prediction = np.zeros((2, 1, 12), bool)
    truth[0, :5] = truth[0, 6:12] = True
    prediction[0, :12] = True
    assert aji_terms(Overlap.of(truth, prediction)) == (11, 24)  # the one component serves both nets
    assert aji_terms(Overlap.of(prediction, truth)) == (6, 17)


def test_aji_plus_matches_component_once_and_aji_twice() -> None:
    truth, prediction = np.zeros((2, 1, 12), bool)
    truth[0, :5] = truth[0, 6:12] = True
    prediction[0, :12] = True
    assert aji_plus_terms(Overlap.of(truth, prediction)) == (6, 17)


def test_ties_of_iou_prefer_larger_intersection() -> None:
    """A net of 10 px: one component shares 4 of 10 px, the other 6 of 15; the IoUs are equal as integers."""
    truth, prediction = np.zeros((2, 3, 17), bool)
    truth[0, :10] = True
    prediction[0, :4] = True  # 4 / 10
    prediction[0, 5:10] = True  # 5 px in the net ...
    prediction[1, 9:14] = True  # ... and 5 outside: 5 / 15
    assert aji_terms(Overlap.of(truth, prediction)) == (4, 10 + 10)
    prediction[0, :11] = True
    prediction[0, 4] = prediction[0, 3] = False
    prediction[0, 10] = False
    # Now 3 / 10 against 5 / 15: the larger IoU is the second's, with the larger intersection.
    assert aji_terms(Overlap.of(truth, prediction)) == (5, 15 + 3)
    truth, prediction = np.zeros((2, 3, 17), bool)
    truth[0, :10] = True
    prediction[0, :3] = True  # 3 / 10
    prediction[0, 4:10] = True  # 6 / 20 with 10 px below: equal, and larger
    prediction[1, 6:16] = True
    assert aji_terms(Overlap.of(truth, prediction)) == (6, 20 + 3)
    assert aji_plus_terms(Overlap.of(truth, prediction)) == (6, 20 + 3)


def test_ties_of_aji_plus_prefer_larger_intersection() -> None:
    """One pair of 3/12, or two pairs of 1/8 each: the one shares 3 px, the two share 2."""
    truth = np.array([[0, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    prediction = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 0, 1]], bool)
    assert aji_plus_terms(Overlap.of(truth, prediction)) == (3, 15)
    assert aji_plus_terms(Overlap.of(prediction, truth)) == (3, 15)


def test_ties_prefer_first_in_raster_order() -> None:
    """Two nets share two equal components: which is used decides what is left over."""
    truth, prediction = np.zeros((2, 3, 7), bool)
    truth[:, 0] = truth[:, 6] = True
    truth[1] = True  # an H: one net of 11 px
    prediction[0, 0] = prediction[2, 0] = prediction[0, 6] = True
    overlap = Overlap.of(truth, prediction)
    assert overlap.prediction.count == 3
    assert aji_terms(overlap) == (1, 11 + 2) == brute_aji(truth, prediction)


def test_near_ties_are_compared_as_integers() -> None:
    """IoUs that differ in the eighth digit, with a third one far away."""
    group = np.array([0, 0, 0, 1, 1])
    shared = np.array([33_333_333, 10_000_000, 33_333_334, 1, 2])
    union = np.array([99_999_999, 30_000_000, 100_000_002, 3, 6])
    # All of group 0 are exactly 1/3: the larger intersection wins; so it does in group 1.
    assert best_of_each(group, shared, union).tolist() == [2, 4]
    assert best_of_each(group, shared, union + np.array([0, 0, 1, 0, 1])).tolist() == [0, 3]
    assert best_of_each(group[:0], shared[:0], union[:0]).tolist() == []


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize(("side", "rows", "columns", "speed_up"), [(512, 10, 6, 15), (1024, 20, 12, 35)])
def test_much_faster_than_a_loop_over_components(side: int, rows: int, columns: int, speed_up: float) -> None:
    """Labelling included, in turns."""
    truth = tracks(side, rows, columns, margin=side // rows // 4)
    prediction = damaged(truth, rows * columns // 4, seed=0)
    assert len(masks_of(truth)) == rows * columns
    counts = instance_counts(Overlap.of(truth, prediction))
    assert tuple(counts.values()) == loop_terms(truth, prediction)
    # In a fresh process glibc returns each large block to the system, which only the loop's many masks pay for. Once
    # it has seen one of 30 MB freed, as in any long-lived process, it keeps them.
    np.ones(30 * 2**20, np.uint8).sum()
    loop, ours = [], []
    for _ in range(15):
        loop.append(seconds(lambda: loop_terms(truth, prediction)))
        ours += [seconds(lambda: instance_counts(Overlap.of(truth, prediction))) for _ in range(3)]
    assert np.median(loop) / np.median(ours) >= speed_up


def test_noise_stays_affordable() -> None:
    """An untrained network's output: tens of thousands of components against sixty nets."""
    truth = tracks(512, 10, 6, margin=12)
    noise = np.random.default_rng(0).random(truth.shape) < 0.2
    overlap = Overlap.of(truth, noise)
    assert overlap.prediction.count > 10_000
    assert min(seconds(lambda: instance_counts(Overlap.of(truth, noise))) for _ in range(3)) < 1.0

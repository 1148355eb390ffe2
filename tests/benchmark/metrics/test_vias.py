"""Vias: merging, one-to-one matching within the true radius, and masks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given

from benchmark.metrics import reduce, via_counts, via_counts_from_masks, via_fault_map
from benchmark.metrics.components import Mask
from benchmark.metrics.vias import merge_discs
from tests.benchmark.metrics.strategies import mask_pairs


def discs(centres: list[tuple[int, int]], radius: int = 5, side: int = 64) -> Mask:
    y, x = np.mgrid[:side, :side]
    mask = np.zeros((side, side), bool)
    for cy, cx in centres:
        mask |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    return mask


def counted(
    truth: list[list[float]], prediction: list[list[float]], radii: list[float], predicted_radius: float = 0.5
) -> tuple[int, int, int]:
    predicted_radii = np.full(len(prediction), predicted_radius)
    counts = via_counts(
        np.reshape(truth, (-1, 2)), np.reshape(prediction, (-1, 2)), np.array(radii, float), predicted_radii
    )
    return counts["via_true"], counts["via_predicted"], counts["via_matched"]


def test_matching_distance_includes_true_radius() -> None:
    assert counted([[0, 0]], [[3, 4]], [5.0]) == (1, 1, 1)
    assert counted([[0, 0]], [[3, 4]], [4.999]) == (1, 1, 0)


def test_matching_is_one_to_one() -> None:
    assert counted([[0, 0]], [[0, 1], [0, -1]], [5.0]) == (1, 2, 1)
    assert counted([[0, 0], [0, 8]], [[0, 4]], [5.0, 5.0]) == (2, 1, 1)


def test_more_matches_are_preferred_to_nearest_match() -> None:
    """The prediction at 4 is nearest to the true via at 6, which alone can reach the one at 12."""
    assert counted([[0, 0], [0, 6]], [[0, 4], [0, 12]], [5.0, 6.0]) == (2, 2, 2)


def test_near_fragments_are_one_via() -> None:
    assert counted([[0, 0], [0, 4]], [[0, 2]], [5.0, 5.0]) == (1, 1, 1)
    assert counted([[0, 0], [0, 5]], [[0, 2]], [5.0, 5.0]) == (2, 1, 1)  # as far as the radius, not closer
    # A sliver at the rim of a via neither moves it by much nor shrinks its reach.
    assert counted([[0, 0], [0, 9]], [[0, -10]], [11.0, 3.0]) == (1, 1, 1)


def test_near_predicted_fragments_are_one_via() -> None:
    assert counted([[0, 0]], [[0, 1], [0, -1]], [5.0], predicted_radius=2.5) == (1, 1, 1)
    assert counted([[0, 0]], [[0, 1], [0, -1]], [5.0], predicted_radius=2.0) == (1, 2, 1)  # not closer


@given(mask_pairs(max_side=14))
def test_truth_against_itself_has_no_via_fault(pair: tuple[Mask, Mask]) -> None:
    truth, ignore = pair
    counts = via_counts_from_masks(truth, truth, ignore=ignore)
    assert counts["via_true"] == counts["via_predicted"] == counts["via_matched"]
    kept = truth & ~ignore
    assert not via_fault_map(kept, kept).any()


def test_true_via_in_two_pieces_matches_its_own_mask() -> None:
    place = [(32, 32)]
    cut = discs(place, radius=9) & ~discs(place, radius=5) | discs(place, radius=2)  # a rim and what shines within
    assert via_counts_from_masks(cut, cut) == {"via_true": 1, "via_predicted": 1, "via_matched": 1}
    assert not via_fault_map(cut, cut).any()


def test_empty_truth_or_prediction() -> None:
    assert counted([], [], []) == (0, 0, 0)
    assert counted([[1, 1]], [], [2.0]) == (1, 0, 0)
    assert counted([], [[1, 1]], []) == (0, 1, 0)


def test_no_assignment_matches_more() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        # Nine places 20 px apart, so that nothing is merged; reach 12 px, so that predictions contend.
        places = (
            np.stack(np.meshgrid([0, 20, 40], [0, 20, 40]), -1).reshape(-1, 2)[rng.permutation(9)[:5]].astype(float)
        )
        predicted = rng.uniform(0, 40, (6, 2))
        within = np.linalg.norm(places[:, None] - predicted[None], axis=-1) <= 12
        most = max(sum(within[i, k] for i, k in enumerate(order)) for order in permutations(range(6), 5))
        assert counted(places.tolist(), predicted.tolist(), [12.0] * 5) == (5, 6, most)


def test_masks() -> None:
    truth = discs([(15, 15), (15, 45), (45, 15)])
    prediction = discs([(17, 16), (15, 45), (45, 45)], radius=4)
    assert via_counts_from_masks(truth, prediction) == {"via_true": 3, "via_predicted": 3, "via_matched": 2}
    ignore = np.zeros_like(truth)
    ignore[30:] = True
    assert via_counts_from_masks(truth, prediction, ignore=ignore) == {
        "via_true": 2,
        "via_predicted": 2,
        "via_matched": 2,
    }
    empty = np.zeros_like(truth)
    assert via_counts_from_masks(empty, empty) == {"via_true": 0, "via_predicted": 0, "via_matched": 0}


def test_radius_of_mask_equals_radius_of_disc() -> None:
    truth = discs([(30, 30)], radius=10)
    assert via_counts_from_masks(truth, discs([(30, 39)], radius=2))["via_matched"] == 1
    assert via_counts_from_masks(truth, discs([(30, 42)], radius=2))["via_matched"] == 0


def test_rates() -> None:
    counts = {"via_true": np.array([3, 5]), "via_predicted": np.array([3, 1]), "via_matched": np.array([2, 0])}
    assert reduce(counts, "pooled") == pytest.approx(
        {"via_precision": 0.5, "via_recall": 0.25, "via_f1": 1 / 3, "via_missed": 6.0, "via_false": 2.0}
    )


@pytest.mark.parametrize(
    ("centres", "radii", "message"),
    [
        (np.zeros((2, 2)), np.ones(3), r"expected centres \(N, 2\)"),
        (np.zeros((1, 3)), np.ones(1), r"expected centres \(N, 2\)"),
        (np.zeros((1, 2)), np.zeros(1), "expected positive radii"),
    ],
)
def test_bad_arguments_are_refused(centres: np.ndarray, radii: np.ndarray, message: str) -> None:
    nothing = np.zeros((0, 2)), np.zeros(0)
    with pytest.raises(ValueError, match=f"true vias: {message}"):
        via_counts(centres, nothing[0], radii, nothing[1])
    with pytest.raises(ValueError, match=f"predicted vias: {message}"):
        via_counts(nothing[0], centres, nothing[1], radii)


def test_pieces_of_a_via_become_one() -> None:
    centres, radii, via = merge_discs(np.array([[10.0, 10], [13, 10], [30, 10], [35, 10]]), np.array([5.0, 3, 4, 4]))
    # Centres 3 apart, less than 5: mean weighted by 25 and 9. The other two are 5 apart, more than 4.
    np.testing.assert_allclose(centres, [[(25 * 10 + 9 * 13) / 34, 10], [30, 10], [35, 10]])
    np.testing.assert_array_equal(radii, [5, 4, 4])
    np.testing.assert_array_equal(via, [0, 0, 1, 2])
    assert merge_discs(np.zeros((0, 2)), np.zeros(0)).centres.shape == (0, 2)

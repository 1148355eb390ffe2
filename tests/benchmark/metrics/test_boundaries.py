"""Boundary counts and F1 against torchmetrics' edges and surface distances, scipy's distances, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import ndimage
from torchmetrics.functional.segmentation.utils import mask_edges, surface_distance

from benchmark.metrics import count_image, ratios
from benchmark.metrics.boundaries import TOLERANCE_PX, boundary, boundary_counts
from benchmark.metrics.components import Mask
from tests.benchmark.metrics.layouts import damaged, window
from tests.benchmark.metrics.strategies import SPECIAL, mask_pairs, special


def f1_of(truth: Mask, prediction: Mask, ignore: Mask | None = None) -> float:
    counts = count_image(truth, prediction, ignore=ignore)
    return float(ratios({name: np.array([value]) for name, value in counts.items()})["boundary_f1"][0])


def torchmetrics_counts(truth: Mask, prediction: Mask) -> list[int]:
    """Counts as in boundary_counts, of masks that keep away from the image's edges."""
    edges = mask_edges(torch.from_numpy(truth), torch.from_numpy(prediction), crop=False)
    of_truth, of_prediction = (edge.bool() for edge in edges)
    counts = []
    for one, other in ((of_truth, of_prediction), (of_prediction, of_truth)):
        counts += [int(one.sum()), int((surface_distance(one, other) <= TOLERANCE_PX).sum()) if one.any() else 0]
    return counts


def scipy_counts(truth: Mask, prediction: Mask, known: Mask) -> list[int]:
    """Counts as in boundary_counts, by erosion and distance transforms."""
    edges = [mask & ~ndimage.binary_erosion(mask | ~known, border_value=1) for mask in (truth, prediction)]
    counts = []
    for one, other in (edges, edges[::-1]):
        near = ndimage.distance_transform_edt(~other) <= TOLERANCE_PX if other.any() else np.zeros_like(other)
        counts += [int(one.sum()), int((one & near).sum())]
    return counts


@given(mask_pairs())
def test_torchmetrics_agrees_away_from_edges(pair: tuple[Mask, Mask]) -> None:
    height, width = pair[0].shape
    # Square, because torchmetrics 1.9 takes the distances of other masks from wrong places.
    truth, prediction = (np.pad(mask, ((4, 16 - height), (4, 16 - width))) for mask in pair)
    assert list(boundary_counts(truth, prediction).values()) == torchmetrics_counts(truth, prediction)


@given(mask_pairs())
def test_scipy_agrees_up_to_edges_and_ignored_regions(pair: tuple[Mask, Mask]) -> None:
    ignore = special("stripes", *pair[0].shape) & special("comb", *pair[0].shape)
    for known in (np.ones_like(ignore), ~ignore):
        truth, prediction = (mask & known for mask in pair)
        assert list(boundary_counts(truth, prediction, ~known).values()) == scipy_counts(truth, prediction, known)


@pytest.mark.parametrize("seed", range(2))
def test_tracks(seed: int) -> None:
    truth = window(seed, 256)
    prediction = damaged(truth, 30, seed)
    known = np.ones_like(truth)
    assert list(boundary_counts(truth, prediction).values()) == scipy_counts(truth, prediction, known)
    assert 0.5 < f1_of(truth, prediction) < 1


@given(mask_pairs())
def test_f1_is_symmetric_and_bounded(pair: tuple[Mask, Mask]) -> None:
    assert 0 <= f1_of(*pair) <= 1
    assert f1_of(*pair) == f1_of(*pair[::-1])
    assert f1_of(pair[0], pair[0]) == 1


@pytest.mark.parametrize(("grown", "expected"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_outline_may_lie_two_pixels_off(grown: int, expected: float) -> None:
    truth, prediction = np.zeros((2, 60, 60), bool)
    truth[20:40] = True
    prediction[20 - grown : 40 + grown] = True
    assert f1_of(truth, prediction) == expected


def test_harmonic_mean_by_hand() -> None:
    """Two tracks, one found: recall 1/2, precision 1."""
    truth = np.zeros((60, 60), bool)
    truth[10:14] = truth[40:44] = True
    prediction = truth.copy()
    prediction[30:] = False
    assert boundary_counts(truth, prediction) == {
        "boundary_true": 240, "boundary_true_hit": 120, "boundary_predicted": 120, "boundary_predicted_hit": 120,
    }  # fmt: skip
    assert f1_of(truth, prediction) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", SPECIAL)
def test_boundary_is_part_of_mask_and_none_of_a_full_image(name: str) -> None:
    mask = special(name, 9, 14)
    edge = boundary(mask)
    assert not (edge & ~mask).any()
    assert edge.any() == (mask.any() and not mask.all())


def test_edge_of_ignored_region_is_no_boundary() -> None:
    truth = np.zeros((30, 60), bool)
    truth[10:20] = True
    ignore = np.zeros_like(truth)
    ignore[:, 30:] = True
    edge = boundary(truth & ~ignore, ignore)
    assert edge.sum() == 60
    assert not edge[11:19].any()


def test_masks_without_boundary() -> None:
    nothing, full = np.zeros((9, 9), bool), np.ones((9, 9), bool)
    half = np.arange(81).reshape(9, 9) < 40
    assert f1_of(nothing, nothing) == f1_of(full, full) == 1.0
    assert f1_of(half, nothing) == f1_of(nothing, half) == f1_of(full, nothing) == 0.0

"""Counts the true, predicted and matched vias of an image.

On either side, vias closer to each other than the larger of their radii are fragments of one via and are merged first.
Both sides follow this rule, so the truth scored against itself has no fault.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from benchmark.metrics.components import Components, Integers, Mask
from benchmark.metrics.electrical import FAULTS

Points = npt.NDArray[np.float64]


def via_counts(
    truth_centres: Points, predicted_centres: Points, truth_radii: Points, predicted_radii: Points
) -> dict[str, int]:
    """Match predicted vias to true ones, one to one, after fragments on either side are merged.

    A predicted via may match a true one whose centre is at most the true radius away; the matching with the most pairs
    counts.

    Args:
        truth_centres: (N, 2) centres in pixels.
        predicted_centres: (M, 2) centres in pixels.
        truth_radii: (N,) radii in pixels, positive.
        predicted_radii: (M,) radii in pixels, positive.

    Returns:
        ``via_true`` and ``via_predicted``, both after merging, and ``via_matched``.

    Raises:
        ValueError: the shapes are not those above, or a radius is not positive.
    """
    for side, centres, radii in (
        ("true", truth_centres, truth_radii),
        ("predicted", predicted_centres, predicted_radii),
    ):
        if centres.shape != (len(radii), 2):
            raise ValueError(f"{side} vias: expected centres (N, 2) and radii (N,), got {centres.shape}, {radii.shape}")
        if not (radii > 0).all():
            raise ValueError(f"{side} vias: expected positive radii, got {radii.min()}")
    return _counts(merge_discs(truth_centres, truth_radii), merge_discs(predicted_centres, predicted_radii))


class MergedVias(NamedTuple):
    """The vias of one side after fragments are merged."""

    centres: Points  # (N, 2) in pixels, mean of the fragments by area
    radii: Points  # (N,) in pixels, the largest of the fragments
    via: Integers  # (F,) via of each fragment


def match(true: MergedVias, predicted: MergedVias, preference: Integers | None = None) -> tuple[Integers, Integers]:
    """Return the true and the predicted vias of a matching with the most pairs.

    Args:
        true: of the truth; its radii limit the distances.
        predicted: of the prediction.
        preference: (N, M), at least 0; of the matchings with the most pairs, the one with the greatest sum counts. Sums
            must stay below 2**53.
    """
    worth = (cdist(true.centres, predicted.centres) <= true.radii[:, None]).astype(np.float64)
    if preference is not None:
        # A pair more is worth more than all preferences together.
        worth *= preference + (1 + min(worth.shape) * preference.max(initial=0))
    row, column = linear_sum_assignment(worth, maximize=True)
    matched = worth[row, column] > 0
    return row[matched], column[matched]


def _counts(true: MergedVias, predicted: MergedVias) -> dict[str, int]:
    matched, _ = match(true, predicted)
    return {"via_true": len(true.radii), "via_predicted": len(predicted.radii), "via_matched": len(matched)}


def via_counts_from_masks(truth: Mask, prediction: Mask, *, ignore: Mask | None = None) -> dict[str, int]:
    """Count vias as :func:`via_counts` does; each component of the ``(H, W)`` bool masks is a via.

    Its centre is the centroid, and its radius that of the disc of equal area. Ignored pixels are background.
    """
    if ignore is not None:
        truth, prediction = truth & ~ignore, prediction & ~ignore
    return _counts(merged_vias(Components.of(truth)), merged_vias(Components.of(prediction)))


def via_fault_map(truth: Mask, prediction: Mask) -> npt.NDArray[np.uint8]:
    """Return the ``(H, W)`` map of the vias that :func:`via_counts_from_masks` leaves unmatched.

    Codes are those of :func:`~benchmark.metrics.electrical.fault_map`; only ``missed`` and ``false`` occur.
    """
    of_truth, of_prediction = Components.of(truth), Components.of(prediction)
    true, predicted = merged_vias(of_truth), merged_vias(of_prediction)
    matched_true, matched_predicted = match(true, predicted)
    faults = np.zeros(truth.shape, np.uint8)
    faults[of_truth.paint(~np.isin(true.via, matched_true))] = FAULTS.index("missed")
    faults[of_prediction.paint(~np.isin(predicted.via, matched_predicted))] = FAULTS.index("false")
    return faults


def merged_vias(fragments: Components) -> MergedVias:
    """Merge components as :func:`merge_discs` merges discs of their centroids and areas."""
    return merge_discs(fragments.centroids(), np.sqrt(fragments.area_px / np.pi))


def merge_discs(centres: Points, radii: Points) -> MergedVias:
    """Merge discs whose centres, (F, 2), lie closer than the larger of their radii, (F,)."""
    via = _groups(centres, radii)
    area = radii**2
    total = np.bincount(via, area)
    merged = [np.bincount(via, area * centres[:, axis]) / total for axis in (0, 1)]
    largest = np.zeros(len(total))
    np.maximum.at(largest, via, radii)
    return MergedVias(np.stack(merged, axis=1), largest, via)


def _groups(centres: Points, radii: Points) -> Integers:
    """Number the sets of discs that are fragments of one via, (N,)."""
    if len(centres) == 0:
        return np.zeros(0, np.int64)
    close = cdist(centres, centres) < np.maximum(radii[:, None], radii[None, :])
    return connected_components(close, directed=False)[1].astype(np.int64)

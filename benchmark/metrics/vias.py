"""Counts the true, predicted and matched vias of an image.

On either side, vias closer to each other than the larger of their radii are fragments of one via and are merged first.
Both sides follow this rule, so the truth scored against itself has no fault.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    return _match((truth_centres, truth_radii), (predicted_centres, predicted_radii)).counts


@dataclass(frozen=True, eq=False)
class _Matching:
    """Indices of merged vias: of each true via, of each predicted via, and of the matched vias of both sides."""

    true: Integers
    predicted: Integers
    matched_true: Integers
    matched_predicted: Integers

    @property
    def counts(self) -> dict[str, int]:
        """As :func:`via_counts` returns them."""
        true, predicted = (int(groups.max(initial=-1)) + 1 for groups in (self.true, self.predicted))
        return {"via_true": true, "via_predicted": predicted, "via_matched": len(self.matched_true)}


def _match(truth: tuple[Points, Points], prediction: tuple[Points, Points]) -> _Matching:
    """Match vias, each side as its centres and radii."""
    for side, (centres, radii) in (("true", truth), ("predicted", prediction)):
        if centres.shape != (len(radii), 2):
            raise ValueError(f"{side} vias: expected centres (N, 2) and radii (N,), got {centres.shape}, {radii.shape}")
        if not (radii > 0).all():
            raise ValueError(f"{side} vias: expected positive radii, got {radii.min()}")
    (true_centres, reach), (predicted_centres, _) = merge_discs(*truth), merge_discs(*prediction)
    within = cdist(true_centres, predicted_centres) <= reach[:, None]
    true, predicted = linear_sum_assignment(within, maximize=True)
    matched = within[true, predicted]
    return _Matching(_groups(*truth), _groups(*prediction), true[matched], predicted[matched])


def via_counts_from_masks(truth: Mask, prediction: Mask, *, ignore: Mask | None = None) -> dict[str, int]:
    """Count vias as :func:`via_counts` does; each component of the ``(H, W)`` bool masks is a via.

    Its centre is the centroid, and its radius that of the disc of equal area. Ignored pixels are background.
    """
    if ignore is not None:
        truth, prediction = truth & ~ignore, prediction & ~ignore
    return _match(_discs(Components.of(truth)), _discs(Components.of(prediction))).counts


def via_fault_map(truth: Mask, prediction: Mask) -> npt.NDArray[np.uint8]:
    """Return the ``(H, W)`` map of the vias that :func:`via_counts_from_masks` leaves unmatched.

    Codes are those of :func:`~benchmark.metrics.electrical.fault_map`; only ``missed`` and ``false`` occur.
    """
    true, predicted = Components.of(truth), Components.of(prediction)
    matching = _match(_discs(true), _discs(predicted))
    faults = np.zeros(truth.shape, np.uint8)
    faults[true.paint(~np.isin(matching.true, matching.matched_true))] = FAULTS.index("missed")
    faults[predicted.paint(~np.isin(matching.predicted, matching.matched_predicted))] = FAULTS.index("false")
    return faults


def _discs(vias: Components) -> tuple[Points, Points]:
    """Return centroids and radii of the discs of equal area."""
    return vias.centroids(), np.sqrt(vias.area_px / np.pi)


def merge_discs(centres: Points, radii: Points) -> tuple[Points, Points]:
    """Merge discs whose centres lie closer than the larger radius: mean centre by area, and the largest radius."""
    group = _groups(centres, radii)
    area = radii**2
    total = np.bincount(group, area)
    merged = [np.bincount(group, area * centres[:, axis]) / total for axis in (0, 1)]
    largest = np.zeros(len(total))
    np.maximum.at(largest, group, radii)
    return np.stack(merged, axis=1), largest


def _groups(centres: Points, radii: Points) -> Integers:
    """Number the sets of discs that are fragments of one via, (N,)."""
    if len(centres) == 0:
        return np.zeros(0, np.int64)
    close = cdist(centres, centres) < np.maximum(radii[:, None], radii[None, :])
    return connected_components(close, directed=False)[1].astype(np.int64)

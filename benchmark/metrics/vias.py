"""Vias of one image: true, predicted and matched ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from benchmark.metrics.components import Components, Integers, Mask
from benchmark.metrics.electrical import FAULTS

Points = npt.NDArray[np.float64]


def via_counts(truth_centres: Points, predicted_centres: Points, truth_radii: Points) -> dict[str, int]:
    """Match predicted vias to true ones, one to one.

    True vias closer to each other than the larger of their radii are fragments of one and are merged first. A predicted
    via may match a true one whose centre is at most the true radius away; the matching with the most pairs counts.

    Args:
        truth_centres: (N, 2) centres in pixels.
        predicted_centres: (M, 2) centres in pixels.
        truth_radii: (N,) radii in pixels, positive.

    Returns:
        ``via_true`` (after merging), ``via_predicted``, ``via_matched``; what is missed or false follows from them.

    Raises:
        ValueError: the shapes are not those above, or a radius is not positive.
    """
    group, _, predicted = _match(truth_centres, predicted_centres, truth_radii)
    true = int(group.max(initial=-1)) + 1
    return {"via_true": true, "via_predicted": len(predicted_centres), "via_matched": len(predicted)}


def _match(
    truth_centres: Points, predicted_centres: Points, truth_radii: Points
) -> tuple[Integers, Integers, Integers]:
    """Return the merged via of each true one, (N,), and which merged and predicted ones are matched, (K,)."""
    if truth_centres.shape != (len(truth_radii), 2) or predicted_centres.shape != (len(predicted_centres), 2):
        raise ValueError(
            f"expected centres (N, 2) and (M, 2) and radii (N,), got {truth_centres.shape}, "
            f"{predicted_centres.shape} and {truth_radii.shape}"
        )
    if not (truth_radii > 0).all():
        raise ValueError(f"expected positive radii, got {truth_radii.min()}")
    centres, radii = merge_discs(truth_centres, truth_radii)
    within = cdist(centres, predicted_centres) <= radii[:, None]
    true, predicted = linear_sum_assignment(within, maximize=True)
    matched = within[true, predicted]
    return _groups(truth_centres, truth_radii), true[matched], predicted[matched]


def via_counts_from_masks(truth: Mask, prediction: Mask, *, ignore: Mask | None = None) -> dict[str, int]:
    """As :func:`via_counts`, each component of the ``(H, W)`` bool masks being a via.

    Its centre is the centroid, its radius that of the disc of equal area. Ignored pixels are background in both masks.
    """
    if ignore is not None:
        truth, prediction = truth & ~ignore, prediction & ~ignore
    return via_counts(*_discs(Components.of(truth), Components.of(prediction)))


def via_fault_map(truth: Mask, prediction: Mask) -> npt.NDArray[np.uint8]:
    """Return where the vias are that :func:`via_counts_from_masks` leaves unmatched.

    Codes are those of :func:`~benchmark.metrics.electrical.fault_map`; only ``missed`` and ``false`` occur.
    """
    true, predicted = Components.of(truth), Components.of(prediction)
    group, matched_groups, matched = _match(*_discs(true, predicted))
    faults = np.zeros(truth.shape, np.uint8)
    faults[true.paint(~np.isin(group, matched_groups))] = FAULTS.index("missed")
    faults[predicted.paint(~np.isin(np.arange(predicted.count), matched))] = FAULTS.index("false")
    return faults


def _discs(true: Components, predicted: Components) -> tuple[Points, Points, Points]:
    return true.centroids(), predicted.centroids(), np.sqrt(true.area_px / np.pi)


def merge_discs(centres: Points, radii: Points) -> tuple[Points, Points]:
    """Merge discs whose centres lie closer than the larger radius: mean centre by area, and the largest radius."""
    if len(centres) == 0:
        return centres, radii
    group = _groups(centres, radii)
    count = int(group.max()) + 1
    area = radii**2
    total = np.bincount(group, area, count)
    merged = [np.bincount(group, area * centres[:, axis], count) / total for axis in (0, 1)]
    largest = np.zeros(count)
    np.maximum.at(largest, group, radii)
    return np.stack(merged, axis=1), largest


def _groups(centres: Points, radii: Points) -> Integers:
    """Number the sets of discs that touch each other closely enough to be one, (N,)."""
    if len(centres) == 0:
        return np.zeros(0, np.int64)
    close = cdist(centres, centres) < np.maximum(radii[:, None], radii[None, :])
    return connected_components(close, directed=False)[1].astype(np.int64)

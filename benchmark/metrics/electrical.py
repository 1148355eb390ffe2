"""Electrical correctness of one image: opens, shorts, missed and false nets.

After the electrically significant difference of J. Cryptographic Engineering 2025, doi:10.1007/s13389-025-00385-5: a
net is a connected component of the ground truth, and what counts is which nets the prediction joins, cuts, loses or
invents, however few pixels that takes.

Predicted components below the least area are noise, with one exception: a net that no larger component hits is found by
the largest smaller one. A small net that is found is therefore found, and the truth scored against itself has no fault,
whatever the sizes of its nets and whatever an ignore mask leaves of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmark.metrics.components import Mask, Overlap, openings

#: Width of the border band and least area of a predicted component; both are fields of a protocol.
BORDER_PX = 35
MIN_AREA_PX = 35

#: Codes of :func:`fault_map`, later ones painted over earlier ones.
FAULTS = ("none", "missed", "false", "open", "short")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is wrong with which net and which predicted component of one image.

    Attributes:
        interior: (nets,) the net reaches the interior; only such nets are judged.
        open: (nets,) interior and hit by several components.
        missed: (nets,) interior and hit by none.
        counted: (components,) large enough, or all that shows a net; the others are noise.
        judged: (components,) counted, and reaches the interior or hits an interior net.
        false: (components,) counted, reaches the interior and hits no net at all.
        extra_nets: (components,) how many interior nets it joins beyond the first; 0 unless it reaches the interior.
        correct: number of components that hit exactly one interior net which no other component hits.
    """

    interior: Mask
    open: Mask
    missed: Mask
    counted: Mask
    judged: Mask
    false: Mask
    extra_nets: npt.NDArray[np.int64]
    correct: int


def judge(overlap: Overlap, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX) -> Verdict:
    """Compare the nets of a ground truth with the components of a prediction.

    Args:
        overlap: the image's components.
        border_px: width of the band along the edges; what lies in it alone is not judged.
        min_area_px: smaller predicted components are dropped before anything is counted, but for the largest one of
            each net that no larger one hits.
    """
    nets, components = overlap.truth, overlap.prediction
    interior = nets.reach_interior(border_px)
    counted = _counted(overlap, min_area_px)
    inside = counted & components.reach_interior(border_px)

    pairs = counted[overlap.predicted_index]
    net, component = overlap.truth_index[pairs], overlap.predicted_index[pairs]
    on_interior = interior[net]
    hits = np.bincount(component[on_interior], minlength=components.count)
    touches = np.bincount(component, minlength=components.count)
    hit_by = np.bincount(net, minlength=nets.count)
    return Verdict(
        interior=interior,
        open=interior & (hit_by > 1),
        missed=interior & (hit_by == 0),
        counted=counted,
        judged=inside | (hits > 0),
        false=inside & (touches == 0),
        extra_nets=np.where(inside, np.maximum(hits - 1, 0), 0),
        correct=int(np.count_nonzero(on_interior & (hits[component] == 1) & (hit_by[net] == 1))),
    )


def _counted(overlap: Overlap, min_area_px: int) -> Mask:
    """Return which predicted components, (components,), are no noise.

    They are those of the least area and, for each net that none of these hits, the largest smaller one that shares a
    pixel with it; of equal ones the first in raster order.
    """
    area = overlap.prediction.area_px
    counted = area >= min_area_px
    found = np.zeros(overlap.truth.count, np.bool_)
    found[overlap.truth_index[counted[overlap.predicted_index]]] = True
    pairs = ~found[overlap.truth_index]
    net, component = overlap.truth_index[pairs], overlap.predicted_index[pairs]
    # Pairs of a net come in the raster order of their components, which a stable sort keeps among equals.
    order = np.lexsort((-area[component], net))
    counted[component[order[openings(net[order])]]] = True
    return counted


def electrical_counts(
    overlap: Overlap, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX
) -> dict[str, int]:
    """Count one image's faults; arguments as :func:`judge`.

    Returns:
        ``nets`` (interior ones), ``components`` (predicted ones that reach the interior or hit an interior net),
        ``opens, shorts, missed, false, correct``: all that the rates need, which are formed from sums over images.
    """
    verdict = judge(overlap, border_px=border_px, min_area_px=min_area_px)
    return {
        "nets": int(np.count_nonzero(verdict.interior)),
        "components": int(np.count_nonzero(verdict.judged)),
        "opens": int(np.count_nonzero(verdict.open)),
        "shorts": int(verdict.extra_nets.sum()),
        "missed": int(np.count_nonzero(verdict.missed)),
        "false": int(np.count_nonzero(verdict.false)),
        "correct": verdict.correct,
    }


def not_counted(
    truth: Mask, prediction: Mask, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX
) -> dict[str, int]:
    """Count what :func:`judge` leaves out of an image.

    Returns:
        ``shorts, opens, false, missed``: those that would be faults if nothing lay in the border band; ``specks``:
        predicted components that are noise.
    """
    overlap = Overlap.of(truth, prediction)
    inside, everywhere = (
        electrical_counts(overlap, border_px=border, min_area_px=min_area_px) for border in (border_px, 0)
    )
    left_out = {name: everywhere[name] - inside[name] for name in ("shorts", "opens", "false", "missed")}
    return left_out | {"specks": int(np.count_nonzero(~_counted(overlap, min_area_px)))}


def fault_map(
    truth: Mask, prediction: Mask, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX
) -> npt.NDArray[np.uint8]:
    """Return where the faults are, as ``(H, W)`` codes into :data:`FAULTS`.

    Missed and open nets are painted with the truth's pixels, false and joining components with the prediction's.
    """
    overlap = Overlap.of(truth, prediction)
    verdict = judge(overlap, border_px=border_px, min_area_px=min_area_px)
    layers = {
        "missed": overlap.truth.paint(verdict.missed),
        "false": overlap.prediction.paint(verdict.false),
        "open": overlap.truth.paint(verdict.open),
        "short": overlap.prediction.paint(verdict.extra_nets > 0),
    }
    faults = np.zeros(truth.shape, np.uint8)
    for name, layer in layers.items():
        faults[layer] = FAULTS.index(name)
    return faults


def fault_places(truth: Mask, prediction: Mask, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX) -> Mask:
    """Return the pixels, ``(H, W)`` bool, at which a look at each fault of an image shows why it is one.

    Missed nets and false components are there whole; of an open net, which may cross the image, where one predicted
    piece of it ends being the nearest and another begins, and of a joining component the same between the nets.
    """
    overlap = Overlap.of(truth, prediction)
    verdict = judge(overlap, border_px=border_px, min_area_px=min_area_px)
    nets, components = overlap.truth, overlap.prediction
    cuts = _seams(nets.paint(verdict.open), components.paint(verdict.counted))
    bridges = _seams(components.paint(verdict.extra_nets > 0), nets.paint(verdict.interior))
    return nets.paint(verdict.missed) | components.paint(verdict.false) | cuts | bridges


def _seams(whole: Mask, pieces: Mask) -> Mask:
    """Return the pixels of ``whole`` beside one whose nearest of the ``pieces`` within ``whole`` is another."""
    labels, count = ndimage.label(pieces, np.ones((3, 3)))
    labels[~whole] = 0
    seams = np.zeros(whole.shape, np.bool_)
    if count == 0 or not labels.any():
        return seams
    rows, columns = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    nearest = labels[rows, columns]
    left, right, most = slice(None, -1), slice(1, None), slice(None)
    # Each pixel's neighbour to the right, below, and below on either side: nets are connected by corners too.
    for here, there in (
        ((most, left), (most, right)),
        ((left, most), (right, most)),
        ((left, left), (right, right)),
        ((left, right), (right, left)),
    ):
        apart = whole[here] & whole[there] & (nearest[here] != nearest[there])
        seams[here] |= apart
        seams[there] |= apart
    return seams

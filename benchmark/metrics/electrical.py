"""Counts the opens, shorts, missed and false nets of an image.

After the electrically significant difference of J. Cryptographic Engineering 2025, doi:10.1007/s13389-025-00385-5: a
net is a connected component of the ground truth, and the faults are the nets that the prediction joins, cuts, loses or
invents, however few pixels that takes.

Predicted components below the least area are noise, with an exception: if no larger component hits a net, the largest
smaller component counts. So small nets can be found, and the truth scored against itself has no fault, whatever the
sizes of its nets and the ignore mask.
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

#: Codes of :func:`fault_map`; later codes are painted over earlier codes.
FAULTS = ("none", "missed", "false", "open", "short")


@dataclass(frozen=True, eq=False)
class Verdict:
    """The faults of the nets and of the predicted components of an image."""

    interior: Mask  # (nets,) the net reaches the interior; only such nets are judged
    open: Mask  # (nets,) interior and hit by several components
    missed: Mask  # (nets,) interior and hit by none
    counted: Mask  # (components,) no noise
    judged: Mask  # (components,) counted, and reaches the interior or hits an interior net
    false: Mask  # (components,) counted, reaches the interior and hits no net at all
    # (components,) interior nets that it joins beyond the first; 0 unless it reaches the interior
    extra_nets: npt.NDArray[np.int64]
    correct: int  # number of components that hit exactly one interior net, a net that no other component hits


def judge(overlap: Overlap, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX) -> Verdict:
    """Compare the nets of a ground truth with the components of a prediction.

    Args:
        overlap: the image's components.
        border_px: width of the band along the edges; nets and components inside of it are not judged.
        min_area_px: least area of a predicted component; smaller ones are noise, with the exception above.
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
    """Return which predicted components are no noise; of equally large ones the first in raster order counts."""
    area = overlap.prediction.area_px
    counted = area >= min_area_px
    is_hit = np.zeros(overlap.truth.count, np.bool_)
    is_hit[overlap.truth_index[counted[overlap.predicted_index]]] = True
    pairs = ~is_hit[overlap.truth_index]
    net, component = overlap.truth_index[pairs], overlap.predicted_index[pairs]
    # Pairs of a net come in the raster order of their components, which a stable sort keeps among equals.
    order = np.lexsort((-area[component], net))
    counted[component[order[openings(net[order])]]] = True
    return counted


def electrical_counts(
    overlap: Overlap, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX
) -> dict[str, int]:
    """Count an image's faults; arguments as :func:`judge`.

    Returns:
        ``nets`` (interior ones), ``components`` (judged ones), ``opens, shorts, missed, false, correct``.
    """
    v = judge(overlap, border_px=border_px, min_area_px=min_area_px)
    counts = {"nets": v.interior, "components": v.judged, "opens": v.open, "shorts": v.extra_nets}
    counts |= {"missed": v.missed, "false": v.false}
    return {name: int(values.sum()) for name, values in counts.items()} | {"correct": v.correct}


def not_counted(
    truth: Mask, prediction: Mask, *, border_px: int = BORDER_PX, min_area_px: int = MIN_AREA_PX
) -> dict[str, int]:
    """Count the parts of an image that :func:`judge` leaves out.

    Returns:
        ``shorts, opens, false, missed``: further faults without a border band; ``specks``: components that are noise.
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
    """Return an ``(H, W)`` map of faults, as codes into :data:`FAULTS`.

    Missed and open nets have the truth's pixels; false and joining components have the prediction's.
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
    """Return the pixels, ``(H, W)`` bool, that show the cause of each fault of an image.

    Missed nets and false components are there whole. An open net, which may cross the image, is there along the seam
    between its predicted pieces, and a joining component along the seam between the nets that it joins.
    """
    overlap = Overlap.of(truth, prediction)
    verdict = judge(overlap, border_px=border_px, min_area_px=min_area_px)
    nets, components = overlap.truth, overlap.prediction
    cuts = _seams(nets.paint(verdict.open), components.paint(verdict.counted))
    bridges = _seams(components.paint(verdict.extra_nets > 0), nets.paint(verdict.interior))
    return nets.paint(verdict.missed) | components.paint(verdict.false) | cuts | bridges


def _seams(whole: Mask, pieces: Mask) -> Mask:
    """Return the pixels of ``whole`` that have a neighbour with another nearest piece."""
    labels, count = ndimage.label(pieces, np.ones((3, 3)))
    labels[~whole] = 0
    seams = np.zeros(whole.shape, np.bool_)
    if count == 0 or not labels.any():
        return seams
    rows, columns = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    nearest = labels[rows, columns]
    low, high, every = slice(None, -1), slice(1, None), slice(None)
    # Each pixel's neighbour to the right, below, and below on either side: nets are connected by corners too.
    pairs = ((every, low), (every, high)), ((low, every), (high, every)), ((low, low), (high, high))
    for pixel, neighbour in (*pairs, ((low, high), (high, low))):
        apart = whole[pixel] & whole[neighbour] & (nearest[pixel] != nearest[neighbour])
        seams[pixel] |= apart
        seams[neighbour] |= apart
    return seams

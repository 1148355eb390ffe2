"""Counts an image; every metric follows from these integers."""

from __future__ import annotations

from benchmark.metrics.betti import betti_counts
from benchmark.metrics.boundaries import boundary_counts
from benchmark.metrics.components import Mask, Overlap
from benchmark.metrics.electrical import BORDER_PX, MIN_AREA_PX, electrical_counts
from benchmark.metrics.information import information_counts
from benchmark.metrics.instances import instance_counts
from benchmark.metrics.pixel import pixel_counts
from benchmark.metrics.skeletons import skeleton_counts

#: Order of the integer columns in ``images.<test>.csv``; a column that does not apply to a target stays blank.
COUNT_COLUMNS = (
    *("ignored", "tp", "fp", "fn", "tn"),
    *("aji_num", "aji_den", "ajip_num", "ajip_den"),
    *("boundary_true", "boundary_true_hit", "boundary_predicted", "boundary_predicted_hit"),
    *("vi_split_nbit", "vi_merge_nbit", "betti0_error", "betti1_error"),
    *("skeleton_true", "skeleton_true_hit", "skeleton_predicted", "skeleton_predicted_hit"),
    *("nets", "components", "opens", "shorts", "missed", "false", "correct"),
    *("via_true", "via_predicted", "via_matched"),
)
#: The columns that follow if tracks and vias of an image are known; other files do not have them.
CONNECTION_COLUMNS = ("vias_right", "vias_stray", "vias_crossed", "vias_lost", "vias_unjudged")


def count_image(
    truth: Mask,
    prediction: Mask,
    *,
    ignore: Mask | None = None,
    border_px: int = BORDER_PX,
    min_area_px: int = MIN_AREA_PX,
    electrical: bool = True,
    cldice: bool = False,
) -> dict[str, int]:
    """Count an image; keys are :data:`COUNT_COLUMNS` without the via columns, in that order.

    Args:
        truth: (H, W) bool, true on circuit.
        prediction: (H, W) bool.
        ignore: (H, W) bool, pixels that are background in both masks and are left out of ``tn``.
        border_px: width of the border band of the electrical counts.
        min_area_px: least area of a predicted component in the electrical counts.
        electrical: count the electrical keys; off on via targets, which have no nets but
            :func:`~benchmark.metrics.vias.via_counts_from_masks`.
        cldice: count the keys of the skeletons, which take a hundred times as long as all others.

    Raises:
        ValueError: the arrays are not bool or differ in shape.
    """
    ignored = 0
    if ignore is not None:
        if ignore.shape != truth.shape or ignore.dtype != bool:
            raise ValueError(f"expected an ignore mask {truth.shape} of bool, got {ignore.shape} of {ignore.dtype}")
        truth, prediction, ignored = truth & ~ignore, prediction & ~ignore, int(ignore.sum())
    overlap = Overlap.of(truth, prediction)
    counts = pixel_counts(overlap, ignored) | instance_counts(overlap) | boundary_counts(truth, prediction, ignore)
    counts |= information_counts(overlap, ignored) | betti_counts(overlap)
    if cldice:
        counts |= skeleton_counts(truth, prediction)
    if electrical:
        counts |= electrical_counts(overlap, border_px=border_px, min_area_px=min_area_px)
    return counts

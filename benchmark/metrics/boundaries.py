"""Counts the boundary pixels of an image, from which the boundary F1 is formed.

Csurka et al., BMVC 2013, doi:10.5244/C.27.32, Section 3.2; tolerance in pixels as in Perazzi et al., CVPR 2016 (DAVIS).
"""

from __future__ import annotations

import numpy as np

from benchmark.metrics.components import Mask

#: How far a boundary may lie from the other mask's boundary, in pixels: truths drawn by hand are no better.
TOLERANCE_PX = 2
BESIDE = ((-1, 0), (0, -1), (0, 1), (1, 0))
_REACH = range(-TOLERANCE_PX, TOLERANCE_PX + 1)
NEAR = tuple((dy, dx) for dy in _REACH for dx in _REACH if dy * dy + dx * dx <= TOLERANCE_PX**2)


def boundary_counts(truth: Mask, prediction: Mask, ignore: Mask | None = None) -> dict[str, int]:
    """Count the boundary pixels of both masks, and those within :data:`TOLERANCE_PX` of the other's boundary.

    Args:
        truth: (H, W) bool, without ignored pixels.
        prediction: (H, W) bool, without ignored pixels.
        ignore: (H, W) bool, pixels about which nothing is known.

    Returns:
        ``boundary_true, boundary_true_hit, boundary_predicted, boundary_predicted_hit``, in pixels.
    """
    boundaries = {"true": boundary(truth, ignore), "predicted": boundary(prediction, ignore)}
    counts = {}
    for name, other in (("true", "predicted"), ("predicted", "true")):
        counts[f"boundary_{name}"] = int(np.count_nonzero(boundaries[name]))
        counts[f"boundary_{name}_hit"] = int(np.count_nonzero(boundaries[name] & _moved(boundaries[other], NEAR)))
    return counts


def boundary(mask: Mask, ignore: Mask | None = None) -> Mask:
    """Return the foreground pixels with a background pixel above, below, left or right of them, (H, W) bool.

    An image's edge is no boundary, nor is the edge of an ignored region: nothing is known of what lies beyond.
    """
    background = ~mask if ignore is None else ~(mask | ignore)
    return mask & _moved(background, BESIDE)


def _moved(mask: Mask, steps: tuple[tuple[int, int], ...]) -> Mask:
    """Return the union of a mask's copies, each moved by (dy, dx)."""
    height, width = mask.shape
    # A frame keeps the rows apart, so that a step is a step along one axis.
    framed = np.zeros((height + 2 * TOLERANCE_PX, width + TOLERANCE_PX), np.bool_)
    framed[TOLERANCE_PX:-TOLERANCE_PX, :width] = mask
    pixels, union = framed.ravel(), np.zeros(framed.size, np.bool_)
    first, last = TOLERANCE_PX * framed.shape[1], (TOLERANCE_PX + height) * framed.shape[1]
    for dy, dx in steps:
        step = dy * framed.shape[1] + dx
        union[first:last] |= pixels[first - step : last - step]
    return union.reshape(framed.shape)[TOLERANCE_PX:-TOLERANCE_PX, :width]

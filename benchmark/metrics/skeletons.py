"""Counts the skeleton pixels of an image, from which clDice is formed.

Shit et al., CVPR 2021, arXiv:2003.07311, Section 3, on binary skeletons; the soft loss is not used.
"""

from __future__ import annotations

import numpy as np

from benchmark.metrics.components import Mask


def skeleton_counts(truth: Mask, prediction: Mask) -> dict[str, int]:
    """Count the pixels of both skeletons (Zhang and Suen 1984), and those that lie on the other mask.

    Skeletons take a hundred times as long as all other counts together; the thicker the foreground, the longer.

    Args:
        truth: (H, W) bool.
        prediction: (H, W) bool.

    Returns:
        ``skeleton_true, skeleton_true_hit`` (on the prediction), ``skeleton_predicted, skeleton_predicted_hit`` (on
        the truth), in pixels.
    """
    from skimage.morphology import skeletonize  # slow to import

    counts = {}
    for name, mask, other in (("true", truth, prediction), ("predicted", prediction, truth)):
        skeleton = skeletonize(mask)
        counts[f"skeleton_{name}"] = int(np.count_nonzero(skeleton))
        counts[f"skeleton_{name}_hit"] = int(np.count_nonzero(skeleton & other))
    return counts

"""Skeleton counts of one image, from which clDice is formed.

Shit et al., CVPR 2021, arXiv:2003.07311, Section 3: the figure itself on binary skeletons, not the soft loss.
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
    from skimage.morphology import skeletonize  # slow to import, and only needed here

    true, predicted = skeletonize(truth), skeletonize(prediction)
    return {
        "skeleton_true": int(np.count_nonzero(true)),
        "skeleton_true_hit": int(np.count_nonzero(true & prediction)),
        "skeleton_predicted": int(np.count_nonzero(predicted)),
        "skeleton_predicted_hit": int(np.count_nonzero(predicted & truth)),
    }

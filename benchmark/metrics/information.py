"""Computes the variation of information between two segmentations of an image.

Meilă, J. Multivariate Analysis 2007, doi:10.1016/j.jmva.2006.11.013; names of the halves: Nunez-Iglesias et al., PLoS
ONE 2013, doi:10.1371/journal.pone.0071715. A segment is a component, or the background as a whole.
"""

from __future__ import annotations

import math

import numpy as np

from benchmark.metrics.components import Integers, Overlap

#: Entropies are stored in billionths of a bit, so that their sums are exact in any order.
NBIT = 1e-9


def information_counts(overlap: Overlap, ignored: int = 0) -> dict[str, int]:
    """Return ``vi_split_nbit, vi_merge_nbit``: conditional entropies, summed over pixels, in nanobits.

    Split is H(P|G), the entropy of a pixel's predicted segment given its true segment; merge is H(G|P).

    Args:
        overlap: the image's components; ignored pixels are background in both masks.
        ignored: number of ignored pixels.
    """
    g_area, p_area, shared = overlap.truth.area_px, overlap.prediction.area_px, overlap.intersection_px
    counted = overlap.truth.shape[0] * overlap.truth.shape[1] - ignored
    g_ground, p_ground = counted - g_area.sum(), counted - p_area.sum()
    # Pixels that a component shares with the other mask's background, and that both backgrounds share.
    g_left, p_left = g_area.copy(), p_area.copy()
    np.subtract.at(g_left, overlap.truth_index, shared)
    np.subtract.at(p_left, overlap.predicted_index, shared)
    cells = np.concatenate([shared, g_left, p_left, [p_ground - g_left.sum()]])
    of_g = np.concatenate([g_area[overlap.truth_index], g_area, np.full(len(p_area), g_ground), [g_ground]])
    of_p = np.concatenate([p_area[overlap.predicted_index], np.full(len(g_area), p_ground), p_area, [p_ground]])
    return {"vi_split_nbit": _entropy_nbit(cells, of_g), "vi_merge_nbit": _entropy_nbit(cells, of_p)}


def _entropy_nbit(cells: Integers, segments: Integers) -> int:
    """Sum ``cell * log2(segment / cell)``, in nanobits."""
    filled = cells > 0
    cells, segments = cells[filled], segments[filled]
    # Rounded once, so that the order of the components does not matter.
    return round(math.fsum((cells * np.log2(segments / cells)).tolist()) / NBIT)

"""Numerator and denominator of the aggregated Jaccard indices AJI and AJI+ over connected components.

AJI: Kumar et al., IEEE TMI 2017, doi:10.1109/TMI.2017.2677499, Algorithm 1. AJI+, one-to-one, comes
from the evaluation of HoVer-Net: Graham et al., Medical Image Analysis 2019, doi:10.1016/j.media.2019.101563.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmark.metrics.components import Integers, Labels, Overlap


def instance_counts(overlap: Overlap) -> dict[str, int]:
    """Return ``aji_num, aji_den, ajip_num, ajip_den`` of one image, in pixels."""
    aji_num, aji_den = aji_terms(overlap)
    ajip_num, ajip_den = aji_plus_terms(overlap)
    return {"aji_num": aji_num, "aji_den": aji_den, "ajip_num": ajip_num, "ajip_den": ajip_den}


def aji_terms(overlap: Overlap) -> tuple[int, int]:
    """Return AJI's numerator and denominator.

    Each truth component takes the predicted one of highest IoU, which may serve several; ties go to the larger
    intersection, then to the component that comes first in raster order. The intersections make the numerator; the
    unions, the truth components that nothing overlaps and the predicted ones never taken make the denominator.
    """
    best = _best_of_each(overlap.truth_index, overlap.intersection_px, overlap.union_px)
    numerator = overlap.intersection_px[best].sum()
    lonely = np.delete(overlap.truth.area_px, overlap.truth_index[best])
    unused = np.delete(overlap.prediction.area_px, overlap.predicted_index[best])
    return int(numerator), int(overlap.union_px[best].sum() + lonely.sum() + unused.sum())


def aji_plus_terms(overlap: Overlap) -> tuple[int, int]:
    """Return AJI+'s numerator and denominator.

    As AJI, under the one-to-one assignment of highest total IoU; equal totals go to the larger intersection, which
    makes the value unique. Components left over on either side add their area to the denominator.
    """
    numerator = overlap.intersection_px[_assignment(overlap)].sum()
    # Under one-to-one matching the unions and the areas left over sum to all areas less what the pairs share.
    return int(numerator), int(overlap.truth.area_px.sum() + overlap.prediction.area_px.sum() - numerator)


def _best_of_each(group: Labels, intersection: Integers, union: Integers) -> Integers:
    """Return the pair of highest IoU of each group; ties: larger intersection, then the earlier pair.

    A knock-out: neighbours of the same group meet until one is left, so that the rounds grow with the logarithm of the
    largest group. IoUs are compared as cross-multiplied integers, which fit int64 up to images of 3e9 pixels.

    Args:
        group: (K,) group of each pair, ascending.
        intersection: (K,) shared pixels.
        union: (K,) pixels of the union.
    """
    left = np.arange(len(group))
    while True:
        members = group[left]
        opening = np.flatnonzero(np.diff(members, prepend=-1))
        seat = np.arange(len(left)) - np.repeat(opening, np.diff(opening, append=len(left)))
        challenger = np.flatnonzero(seat % 2)
        if len(challenger) == 0:
            return left
        a, b = left[challenger - 1], left[challenger]
        iou_a, iou_b = intersection[a] * union[b], intersection[b] * union[a]
        b_wins = (iou_b > iou_a) | ((iou_b == iou_a) & (intersection[b] > intersection[a]))
        left = np.delete(left, challenger - b_wins)


def _assignment(overlap: Overlap) -> Integers:
    """Return the pairs of the one-to-one assignment of highest total IoU.

    The overlap graph falls into blocks that cannot compete with each other. A block with one component on a side has
    room for one pair, its best; the rest, few and small, go to the Hungarian method.
    """
    g, p = overlap.truth_index, overlap.predicted_index
    truths, nodes = overlap.truth.count, overlap.truth.count + overlap.prediction.count
    graph = coo_array((np.ones(len(g)), (g, truths + p)), shape=(nodes, nodes))
    blocks, block = connected_components(graph, directed=False)
    single = (np.bincount(block[:truths], minlength=blocks) < 2) | (np.bincount(block[truths:], minlength=blocks) < 2)
    order = np.argsort(block[g], kind="stable")
    easy = order[single[block[g[order]]]]
    hard = order[~single[block[g[order]]]]
    chosen = [easy[_best_of_each(block[g[easy]], overlap.intersection_px[easy], overlap.union_px[easy])]]
    if len(hard):
        borders = np.flatnonzero(np.diff(block[g[hard]])) + 1
        chosen += [_hungarian(overlap, pairs) for pairs in np.split(hard, borders)]
    return np.concatenate(chosen)


def _hungarian(overlap: Overlap, pairs: Integers) -> Integers:
    """Choose among the pairs of one block by scipy's linear sum assignment."""
    truths, row = np.unique(overlap.truth_index[pairs], return_inverse=True)
    predictions, column = np.unique(overlap.predicted_index[pairs], return_inverse=True)
    shared = overlap.intersection_px[pairs]
    weight = np.zeros((len(truths), len(predictions)))
    # The second term only decides between equal totals: it stays below 1e-9 in sum, and for blocks of up to 1e6 pixels
    # one pixel of it stays above the rounding of float64.
    weight[row, column] = shared / overlap.union_px[pairs] + 1e-9 * shared / shared.sum()
    pair_at = np.full(weight.shape, -1)
    pair_at[row, column] = pairs
    matched: Integers = pair_at[linear_sum_assignment(weight, maximize=True)]
    return matched[matched >= 0]

"""Computes numerator and denominator of the aggregated Jaccard indices AJI and AJI+.

AJI: Kumar et al., IEEE TMI 2017, doi:10.1109/TMI.2017.2677499, Algorithm 1. AJI+, one-to-one, comes
from the evaluation of HoVer-Net: Graham et al., Medical Image Analysis 2019, doi:10.1016/j.media.2019.101563.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmark.metrics.components import Integers, Overlap, openings


def instance_counts(overlap: Overlap) -> dict[str, int]:
    """Return ``aji_num, aji_den, ajip_num, ajip_den`` of an image, in pixels."""
    terms = (*aji_terms(overlap), *aji_plus_terms(overlap))
    return dict(zip(("aji_num", "aji_den", "ajip_num", "ajip_den"), terms, strict=True))


def aji_terms(overlap: Overlap) -> tuple[int, int]:
    """Return AJI's numerator and denominator.

    Each truth component takes the predicted one of highest IoU, which may serve several; ties go to the larger
    intersection, then to the first component in raster order. The numerator is the sum of the intersections; the
    denominator sums the unions, the truth components without an overlap and the predicted components never taken.
    """
    best = best_of_each(overlap.truth_index, overlap.intersection_px, overlap.union_px)
    numerator = overlap.intersection_px[best].sum()
    unmatched = np.delete(overlap.truth.area_px, overlap.truth_index[best])
    unused = np.delete(overlap.prediction.area_px, overlap.predicted_index[best])
    return int(numerator), int(overlap.union_px[best].sum() + unmatched.sum() + unused.sum())


def aji_plus_terms(overlap: Overlap) -> tuple[int, int]:
    """Return AJI+'s numerator and denominator.

    As AJI, under the one-to-one assignment of highest total IoU; equal totals go to the larger intersection, which
    makes the value unique. Components left over on either side add their area to the denominator.
    """
    numerator = overlap.intersection_px[_assignment(overlap)].sum()
    # Under one-to-one matching the unions and the areas left over sum to all areas less what the pairs share.
    return int(numerator), int(overlap.truth.area_px.sum() + overlap.prediction.area_px.sum() - numerator)


def best_of_each(group: Integers, intersection: Integers, union: Integers) -> Integers:
    """Return the pair of highest IoU of each group; ties: larger intersection, then the earlier pair.

    Arrays are (K,), pixels. Float64 rounds equal IoUs alike, and distinguishes different IoUs up to unions of 2**26
    pixels: they differ by at least the inverse of the product of the unions.
    """
    order = np.lexsort((-intersection, -(intersection / union), group))
    return order[openings(group[order])]


def _assignment(overlap: Overlap) -> Integers:
    """Return the pairs of the one-to-one assignment of highest total IoU.

    The overlap graph falls into blocks that do not compete with each other. If one component is the only partner of
    all others in its block, the block has room for one pair, its best. The other blocks, few and small, are solved by
    the Hungarian method.
    """
    g, p, truths = overlap.truth_index, overlap.predicted_index, overlap.truth.count
    # A component is the centre of such a block if none of its partners has another.
    courted_g, courted_p = np.bincount(g)[g] > 1, np.bincount(p)[p] > 1
    g_centre, p_centre = np.bincount(g, courted_p)[g] == 0, np.bincount(p, courted_g)[p] == 0
    easy = np.flatnonzero(g_centre | p_centre)
    block = np.where(g_centre, g, truths + p)[easy]
    chosen = [easy[best_of_each(block, overlap.intersection_px[easy], overlap.union_px[easy])]]
    if len(easy) < len(g):
        chosen += [_hungarian(overlap, pairs) for pairs in _blocks(overlap, np.flatnonzero(~(g_centre | p_centre)))]
    return np.concatenate(chosen)


def _blocks(overlap: Overlap, pairs: Integers) -> list[Integers]:
    """Split pairs into the blocks of their overlap graph."""
    g, p = overlap.truth_index[pairs], overlap.predicted_index[pairs]
    nodes = overlap.truth.count + overlap.prediction.count
    graph = coo_array((np.ones(len(pairs)), (g, overlap.truth.count + p)), shape=(nodes, nodes))
    _, node_block = connected_components(graph, directed=False)
    block = node_block[g].astype(np.int64)
    order = np.argsort(block, kind="stable")
    return np.split(pairs[order], openings(block[order])[1:])


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

"""Plain, slow and independent AJI and AJI+: brute force with exact fractions, and a careful loop."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from benchmark.metrics.components import Mask

EIGHT = np.ones((3, 3), bool)


def masks_of(mask: Mask) -> list[Mask]:
    """One mask per 8-connected component, in raster order."""
    labels, count = ndimage.label(mask, EIGHT)
    return [labels == index + 1 for index in range(count)]


def area(mask: Mask) -> int:
    return int(mask.sum())


def brute_aji(truth: Mask, prediction: Mask) -> tuple[int, int]:
    """Kumar's Algorithm 1, every pair visited, with the tie rules: larger intersection, then earlier component."""
    components = masks_of(prediction)
    used: set[int] = set()
    numerator = denominator = 0
    for g in masks_of(truth):
        scored = [(Fraction(area(g & p), area(g | p)), area(g & p), -index) for index, p in enumerate(components)]
        iou, shared, minus_index = max(scored, default=(Fraction(0), 0, 0))
        if iou == 0:
            denominator += area(g)
            continue
        used.add(-minus_index)
        numerator += shared
        denominator += area(g | components[-minus_index])
    denominator += sum(area(p) for index, p in enumerate(components) if index not in used)
    return numerator, denominator


def brute_aji_plus(truth: Mask, prediction: Mask) -> tuple[int, int]:
    """Every partial one-to-one assignment; the highest total IoU wins, then the larger intersection."""
    truths, components = masks_of(truth), masks_of(prediction)
    shared = [[area(g & p) for p in components] for g in truths]
    union = [[area(g | p) for p in components] for g in truths]
    best = (Fraction(-1), 0, 0)
    for choice in product(range(-1, len(components)), repeat=len(truths)):
        pairs = [(i, k) for i, k in enumerate(choice) if k >= 0]
        taken = {k for _, k in pairs}
        if len(taken) < len(pairs):
            continue
        left_over = sum(area(truths[i]) for i, k in enumerate(choice) if k < 0)
        left_over += sum(area(p) for k, p in enumerate(components) if k not in taken)
        total = sum((Fraction(shared[i][k], union[i][k]) for i, k in pairs), Fraction(0))
        best = max(best, (total, sum(shared[i][k] for i, k in pairs), sum(union[i][k] for i, k in pairs) + left_over))
    return best[1], best[2]


def loop_terms(truth: Mask, prediction: Mask) -> tuple[int, int, int, int]:
    """Terms of AJI and AJI+ as a careful programmer loops: each mask made once, only overlapping pairs visited.

    What the harness's speed is measured against; ``count_nonzero`` is numpy's fastest way to sum a mask.
    """
    truth_labels, truth_count = ndimage.label(truth, EIGHT)
    predicted_labels, predicted_count = ndimage.label(prediction, EIGHT)
    truths = [truth_labels == index + 1 for index in range(truth_count)]
    components = [predicted_labels == index + 1 for index in range(predicted_count)]
    truth_areas = [np.count_nonzero(g) for g in truths]
    areas = [np.count_nonzero(p) for p in components]
    shared = np.zeros((truth_count, predicted_count), np.int64)
    union = np.ones((truth_count, predicted_count), np.int64)
    for i, g in enumerate(truths):
        for label in np.unique(predicted_labels[g]):
            if label:
                shared[i, label - 1] = np.count_nonzero(g & components[label - 1])
                union[i, label - 1] = truth_areas[i] + areas[label - 1] - shared[i, label - 1]
    iou = shared / union
    numerator = denominator = 0
    used = set()
    for i in range(truth_count):
        k = int(np.argmax(iou[i]))
        if shared[i, k]:
            used.add(k)
            numerator += int(shared[i, k])
            denominator += int(union[i, k])
        else:
            denominator += truth_areas[i]
    denominator += sum(a for k, a in enumerate(areas) if k not in used)
    matched = int(shared[linear_sum_assignment(iou, maximize=True)].sum())
    return numerator, denominator, matched, sum(truth_areas) + sum(areas) - matched

"""Drawn layouts: tracks of known geometry, the stage on which faults are staged."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import ndimage

from benchmark.metrics.components import Mask
from tests.benchmark.metrics.reference import EIGHT

# Measured on HY5SYN's labels: routing pitch 45 px, track width 22 px, median track length 147 px.
PITCH, WIDTH, LENGTH = 45, 22, 147


def tracks(side: int, rows: int, columns: int, *, margin: int) -> Mask:
    """Draw ``rows * columns`` equal bars on a square; each fills its cell less ``margin`` to every side."""
    mask = np.zeros((side, side), np.bool_)
    height, width = side // rows, side // columns
    for row in range(rows):
        for column in range(columns):
            top, left = row * height, column * width
            mask[top + margin : top + height - margin, left + margin : left + width - margin] = True
    return mask


def damaged(truth: Mask, faults: int, seed: int) -> Mask:
    """Shift a layout by a pixel or two and flip small rectangles: cuts, bridges, speckles and ragged edges."""
    rng = np.random.default_rng(seed)
    prediction = np.roll(truth, (1, 2), (0, 1))
    for y, x in rng.integers(0, truth.shape[0], (faults, 2)):
        prediction[y : y + 9, x : x + 3] ^= True
    return prediction


def window(seed: int, side: int = 1024) -> Mask:
    """A HY5SYN-like window: horizontal tracks on a routing grid, 5 px apart at the least."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.bool_)
    for top in range(10, side - WIDTH, PITCH):
        left = 0
        while left < side:
            right = left + int(rng.lognormal(np.log(LENGTH), 0.8))
            if rng.random() < 0.6:
                mask[top : top + WIDTH, left:right] = True
            left = right + int(rng.integers(5, PITCH))
    return mask


def with_bridge(truth: Mask, width: int = 5) -> Mask:
    """Join two nets by a straight bridge over the narrowest gap that lies well within the image and touches no third.

    Raises:
        AssertionError: no two nets face each other.
    """
    gaps = []
    for transposed in (False, True):
        labels, _ = ndimage.label(truth.T if transposed else truth, EIGHT)
        for left in range(60, labels.shape[1] - 60, width):
            clear = ~labels[:, left - 1 : left + width + 1].any(axis=1)
            edges = np.flatnonzero(np.diff(clear))
            for above, last in pairwise(edges.tolist()):
                ends = labels[[above, last + 1], left : left + width]
                faces = (ends == ends[:, :1]).all() and ends.all() and ends[0, 0] != ends[1, 0]
                if clear[last] and faces and above > 60 and last < labels.shape[0] - 60:
                    gaps.append((last - above, transposed, above + 1, last + 1, left))
    assert gaps, "no two nets face each other"
    _, transposed, top, bottom, left = min(gaps)
    bridged = truth.copy()
    (bridged.T if transposed else bridged)[top:bottom, left : left + width] = True
    return bridged


def with_cut(truth: Mask, width: int = 2, least_px: int = 35) -> Mask:
    """Cut through a track well within the image, at the first place where that leaves two pieces large enough.

    Raises:
        AssertionError: there is no such place; a net with a loop has none.
    """
    for transposed in (False, True):
        upright = truth.T if transposed else truth
        labels, _ = ndimage.label(upright, EIGHT)
        for left in range(60, upright.shape[1] - 60, 16):
            edges = np.flatnonzero(np.diff(upright[:, left], prepend=False))
            for top, bottom in zip(edges[::2], edges[1::2], strict=False):
                if not (top > 60 and bottom < upright.shape[0] - 60 and bottom - top < PITCH):
                    continue
                cut = upright.copy()
                cut[top:bottom, left : left + width] = False
                net = labels == labels[top, left]
                areas = np.bincount(ndimage.label(cut & net, EIGHT)[0].ravel())[1:]
                if len(areas) == 2 and areas.min() >= least_px:
                    return cut.T if transposed else cut
    raise AssertionError("no track to cut")

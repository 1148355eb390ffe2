"""Drawn layouts: tracks of known geometry, the stage on which faults are staged."""

from __future__ import annotations

import numpy as np

from benchmark.metrics.components import Mask

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

"""Finds the square of an image in which most networks have errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.fault_overlay import Mask


def part_corner(marks: Sequence[Mask], side: int) -> tuple[int, int]:
    """Return top and left of the square that the panel enlarges for all networks.

    In its middle is the square of half its side in which most networks have an error; of equal ones, the one with the
    most marks, then the first in raster order. Without any mark, it is the middle of the image.

    Args:
        marks: ``(H, W)`` of each network, true at its errors.
        side: of the square, at most ``min(H, W)``.
    """
    height, width = marks[0].shape
    inner = max(side // 2, 1)
    windows = [_window_sums(mark, inner) for mark in marks]
    amount = np.sum(windows, axis=0)
    if not amount.any():
        return (height - side) // 2, (width - side) // 2
    networks = np.sum([window > 0 for window in windows], axis=0)
    best = np.argmax(networks * (int(amount.max()) + 1) + amount)
    corner = np.array(np.unravel_index(best, amount.shape))
    within = np.argwhere(np.any([mark[corner[0] :, corner[1] :][:inner, :inner] for mark in marks], axis=0))
    middle = corner + (within.min(axis=0) + within.max(axis=0) + 1) // 2
    top, left = np.clip(middle - side // 2, 0, (height - side, width - side)).tolist()
    return top, left


def _window_sums(mark: Mask, side: int) -> NDArray[np.int64]:
    """Return how many pixels of a mask each square holds, by its top left corner, ``(H - side + 1, W - side + 1)``."""
    total = np.pad(mark.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    sums: NDArray[np.int64] = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return sums

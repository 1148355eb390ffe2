"""Finds 16-bit images that automatic levels leave with little contrast, and proposes levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIDDLE = (0.05, 0.95)  # a data bar is rarely more than a tenth of an image
LEAST_FILLED = 64  # gray values of 256; an ordinary micrograph's middle fills more than half
TRIMMED = (0.001, 0.01, 0.05)  # share of the values at either end that a proposal leaves out; the least that helps


@dataclass(frozen=True)
class Squeeze:
    """The few gray values that levels leave to most pixels, and levels that leave more."""

    filled: int  # gray values of 256 that the middle 90 % of the pixels fill
    better: tuple[int, int] | None  # levels that give the image under an overlay a quarter of them, if any do

    def message(self, remedy: str) -> str:
        """Return a sentence for the user.

        Args:
            remedy: what to do, with ``{low}`` and ``{high}`` in place of the levels.
        """
        low, high = self.better or ("LOW", "HIGH")
        return (
            f"automatic levels: the middle 90 % of the pixels fill {self.filled} of 256 gray values, as happens under "
            f"a data bar, a scale or a saturated frame: {remedy.format(low=low, high=high)}"
        )


def squeeze(counts: NDArray[np.int64], low: float, high: float) -> Squeeze | None:
    """Return how far levels squeeze an image, or ``None`` where its middle fills a quarter of the gray values.

    The proposal leaves out the lowest and the highest value: an overlay's ground and print.

    Args:
        counts: ``(65536,)``, how often each value occurs.
        low: the value that becomes 0.
        high: the value that becomes 255.
    """
    filled = _filled(counts, low, high)
    if filled >= LEAST_FILLED:
        return None
    inner = counts.copy()
    inner[np.flatnonzero(counts)[[0, -1]]] = 0
    for share in TRIMMED if inner.any() else ():
        bottom, top = quantiles(inner, (share, 1 - share))
        if bottom < top and _filled(inner, bottom, top) >= LEAST_FILLED:
            return Squeeze(round(filled), (bottom, top))
    return Squeeze(round(filled), None)


def _filled(counts: NDArray[np.int64], low: float, high: float) -> float:
    bottom, top = np.clip(quantiles(counts, MIDDLE), low, high)
    return float(top - bottom) / (high - low) * 255


def quantiles(counts: NDArray[np.int64], shares: tuple[float, float]) -> tuple[int, int]:
    """Return the values below which two shares of all values lie; ``counts`` is ``(65536,)``, of each value."""
    below = np.cumsum(counts)
    bottom, top = np.searchsorted(below, np.ceil(np.array(shares) * below[-1])).tolist()
    return bottom, top

"""Small masks for hypothesis: random ones of any density, and those that break shortcuts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmark.metrics.components import Mask

SPECIAL = ("empty", "full", "pixel", "checkerboard", "stripes", "frame", "corner", "comb", "rake", "rings", "net")


def special(name: str, height: int, width: int) -> Mask:
    y, x = np.mgrid[:height, :width]
    edge = (y == 0) | (x == 0) | (y == height - 1) | (x == width - 1)
    masks = {
        "empty": np.zeros((height, width), bool),
        "full": np.ones((height, width), bool),
        "pixel": (y == height // 2) & (x == width // 2),
        "checkerboard": (y + x) % 2 == 0,
        "stripes": x % 2 == 0,
        "frame": edge,
        "corner": (y == height - 1) & (x == width - 1),
        "comb": (x % 2 == 0) | (y == height - 1),  # one component, known only in its last row
        "rake": (x % 2 == 0) | (y == 0),
        "rings": np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) % 2 == 0,
        "net": (x % 2 == 0) | (y % 3 == 0),
    }
    return masks[name]


@st.composite
def mask_pairs(draw: st.DrawFn, max_side: int = 12) -> tuple[Mask, Mask]:
    """Two masks of the same shape."""
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))

    def one() -> Mask:
        if draw(st.booleans()):
            return special(draw(st.sampled_from(SPECIAL)), height, width)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        return rng.random((height, width)) < draw(st.sampled_from([0.1, 0.25, 0.4, 0.6, 0.9]))

    first = one()
    if draw(st.booleans()):
        return first, one()
    return first, first ^ draw(arrays.arrays(np.bool_, (height, width), elements=st.booleans(), fill=st.just(False)))

"""Masks that are hard on outlines, and what a layout library makes of polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.predict.polygons.pieces import FIFTHS

gdstk = pytest.importorskip("gdstk", reason="needs gdstk: pip install -e '.[layouts]'")

EIGHT = np.ones((3, 3), int)
Mask = NDArray[np.bool_]
Points = NDArray[np.int64]

noise = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: st.one_of(
        arrays(np.bool_, shape),
        arrays(np.bool_, shape, elements=st.sampled_from([True, True, True, False])),  # full of holes
    )
)


def blobs(seed: int, height: int, width: int, scale: float = 2) -> Mask:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), scale) > 0


def comb(teeth: int) -> Mask:
    mask = np.zeros((6, 4 * teeth), np.bool_)
    mask[1:3] = True
    mask[3:5, ::4] = True
    return mask


@st.composite
def tracks(draw: st.DrawFn) -> Mask:
    """Ragged tracks of 1 px and more with gaps of 1 px and more, straight or askew, some with holes or bridges."""
    seed, slope = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 0.1, 0.3, 0.5, 1, -1, 2.5]))
    width, gap = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:30, :40]
    across = (y + slope * x) / np.hypot(1, slope) + draw(st.sampled_from([0, 0.5, 1])) * rng.integers(0, 2, (1, 40))
    mask: Mask = across % (width + gap) < width
    for _ in range(draw(st.integers(0, 3))):
        top, left = rng.integers(0, 28), rng.integers(0, 36)
        mask[top : top + rng.integers(1, 4), left : left + rng.integers(1, 6)] = bool(rng.integers(0, 2))
    return mask


masks = st.one_of(noise, tracks(), st.builds(blobs, st.integers(0, 2**32 - 1), st.just(25), st.just(30)))


def count(mask: Mask) -> int:
    return int(ndimage.label(mask, EIGHT)[1])


def merged(polygons: Sequence[gdstk.Polygon], unit: float = 1.0) -> list[gdstk.Polygon]:
    """Return the polygons that are left when those that touch are joined.

    They are grown by a hair of 1/10,000 of the unit first: gdstk's union (Clipper 6) sometimes leaves polygons apart
    that share an edge.
    """
    return gdstk.offset(polygons, 1e-4 * unit, use_union=True, precision=1e-6 * unit)


def polygons_of(paths: Sequence[Points]) -> list[gdstk.Polygon]:
    return [gdstk.Polygon(path.astype(float).tolist()) for path in paths]


def area(path: Points) -> float:
    """Return what a path surrounds, positive where that is on its right with y downwards."""
    x, y = path.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def pixels_in(paths: Sequence[Points], shape: tuple[int, int]) -> Mask:
    """Pixels whose centres lie in one of the paths, by matplotlib; a hair to the right of the centres, off any edge."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel() + 0.5 + 1e-4, y.ravel() + 0.5 + 1e-7], axis=1) * FIFTHS
    inside = np.zeros(len(centres), np.bool_)
    for path in paths:
        inside |= Outline(np.concatenate([path, path[:1]]), closed=True).contains_points(centres)
    return inside.reshape(shape)

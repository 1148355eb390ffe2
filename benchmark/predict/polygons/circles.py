"""Covers the vias of a mask with circles that draw exactly their pixels."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.formats.svg import SvgLabel, rasterise
from benchmark.metrics.components import Components
from benchmark.predict.polygons.outlines import Mask

#: Pixels of a component; larger ones are no vias but faults of a network, and their search would take seconds.
MOST_AREA = 2**14
#: A circle of this radius around a pixel's centre draws this pixel alone; a radius of 0 is refused by readers.
SINGLE_PIXEL = 0.25

Circles = NDArray[np.float64]


def circles_of(mask: Mask) -> tuple[Circles, int]:
    """Return circles ``(n, 3)`` that together draw exactly the pixels of a ``(H, W)`` mask of vias.

    A predicted via is rarely a disc. Its first circle is the largest inside of it, and the others fill what is left: a
    drawn disc is one circle. Circles are drawn as HY5SYN's labels are read.

    Returns:
        x and y of the centre, the first pixel's centre being 0, and the radius, all whole or half pixels, via by via in
        raster order; and the number of components above :data:`MOST_AREA`, which are discs of equal area instead.
    """
    circles, large = [], 0
    for left, top, via in Components.of(mask).cuts():
        if (area := np.count_nonzero(via)) > MOST_AREA:
            y, x = (float(places.mean()) for places in np.nonzero(via))
            own = rounded(np.array([[x, y, np.sqrt(area / np.pi)]]), mask.shape).tolist()
            large += 1
        else:
            own = _cover(via)
        circles += [(left + x, top + y, radius) for x, y, radius in own]
    return np.array(circles, np.float64).reshape(-1, 3), large


def rounded(discs: NDArray[np.float64], shape: tuple[int, ...]) -> Circles:
    """Round discs ``(n, 3)`` to pixels, with radii of at least one and at most half the longer side of the image."""
    whole: Circles = np.rint(discs)
    whole[:, 2] = whole[:, 2].clip(1, max(max(shape) // 2, 1))
    return whole


def _cover(via: Mask) -> list[tuple[float, float, float]]:
    """Return x, y and radius of circles inside of a via ``(h, w)`` that cover it, the largest first."""
    left = via.copy()  # pixels that no circle covers yet
    distance = ndimage.distance_transform_edt(np.pad(via, 1))[1:-1, 1:-1]  # to the nearest pixel outside
    circles = []
    for diameter in range(int(2 * distance.max()) + 1, -1, -1):
        disc, beyond = _disc(diameter)
        gains = []
        for y, x in np.argwhere((distance >= beyond) & ndimage.maximum_filter(left, diameter + 2)).tolist():
            top, start = y - diameter // 2, x - diameter // 2
            part = np.s_[top : top + diameter + 1, start : start + diameter + 1]
            if min(top, start) >= 0 and via[part].shape == disc.shape and via[part][disc].all():
                gains.append((np.count_nonzero(left[part] & disc), part))
        for _, part in sorted(gains, key=lambda gain: -gain[0]):
            if (left[part] & disc).any():
                left[part] &= ~disc
                radius = diameter / 2
                circles.append((part[1].start + radius, part[0].start + radius, radius or SINGLE_PIXEL))
        if not left.any():
            break
    return circles


@functools.cache
def _disc(diameter: int) -> tuple[Mask, float]:
    """Return the pixels ``(d + 1, d + 1)`` of a drawn circle, and from its middle to the nearest pixel outside."""
    circle = [diameter / 2, diameter / 2, diameter / 2 or SINGLE_PIXEL]
    disc = rasterise(SvgLabel((diameter + 1, diameter + 1), (), np.array([circle]), outline_inside=True)).via
    outside = ndimage.distance_transform_edt(np.pad(disc, 1))
    return disc, float(outside[diameter // 2 + 1, diameter // 2 + 1])

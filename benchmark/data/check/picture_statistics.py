"""Measures pictures with their masks: widths, pitch, contrast, noise and blur.

The figures tell how near a stand-in comes to a real dataset; no study depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data import packs
from benchmark.data.check.survey import Survey
from benchmark.data.formats.images import UInt8Array, read_image
from benchmark.data.tiling import BoolMask, windows_of
from benchmark.utils.threads import in_order
from benchmark.utils.words import counted as in_words

MOST_WINDOWS, WINDOW_PX, SEED = 40, 512, 0
NAMES = (
    *("foreground width, px", "gap width, px", "pitch, px", "contrast", "noise, gray levels"),
    *("foreground texture, gray levels", "background texture, gray levels", "blur, px"),
)

OPPOSITE = -0.8  # cosine of the angle between the ways to both edges, at most: 143 degrees
STEEP = 0.2  # of a track's cut, along which pitch is measured: rows and columns, not diagonals
AWAY_PX = 4  # from an edge, where noise is measured: an edge is blurred, and a mask drawn by hand is off by 1-2 px
LEAST_PIXELS = 100  # of which noise is measured
KERNEL = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32)  # Immerkaer's; the squares add up to 36
AROUND_PX = 2  # sigma of the mean from which texture differs
# Median absolute difference of white noise of unit variance and this mean, in which each pixel has a share itself.
MAD = 0.6745 * math.sqrt(1 - 2 / (2 * math.pi * AROUND_PX**2) + 1 / (4 * math.pi * AROUND_PX**2))
ROOM_PX, STEP_PX = 4, 0.25  # of an edge profile: reach to either side, without another edge, and distance of its points
SHIFT_PX = 2  # that a mask's outline may be off; masks drawn by hand are off by 1-2 px
LEAST_PROFILES, MOST_PROFILES = 20, 500

Float = NDArray[np.float64]
Index = NDArray[np.signedinteger[Any]]


class PictureStatistics(NamedTuple):
    """Figures of a dataset's windows."""

    windows: int  # measured
    of: int  # in all
    values: Mapping[str, Float]  # name of :data:`NAMES` -> one value per pixel of centre line, or one per window

    def summary(self, name: str) -> str:
        """Return median, 5 % and 95 % quantile, ``8.0 (4.0 to 22.5)``, or ``-`` where nothing could be measured."""
        values = self.values[name]
        if not values.size:
            return "-"
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
        digits = 2 if name == "contrast" else 1
        return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def __str__(self) -> str:
        """Return the number of windows, as a row of ``data verify``."""
        return f"{self.windows} of {in_words(self.of, 'window')}"


def measure_survey(survey: Survey, most: int = MOST_WINDOWS) -> PictureStatistics:
    """Measure at most ``most`` windows of up to 512x512 px, drawn with a fixed seed from all images without fault."""
    windows = []
    for index, check in enumerate(survey.checks):
        if not check.faults and check.header.shape:
            side = min(WINDOW_PX, *check.header.shape)
            corners = windows_of(check.header.shape, side, partial=False)
            windows += [(index, np.s_[top : top + side, left : left + side]) for _, _, top, left in corners]
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(windows))[:most])
    of_image: dict[int, list[tuple[slice, slice]]] = {}
    for number in drawn.tolist():
        of_image.setdefault(windows[number][0], []).append(windows[number][1])

    def measure_image(index: int) -> list[dict[str, Float]]:
        pair = survey.scan.pairs[index]
        gray = read_image(pair.image, 1, survey.levels)[..., 0]
        label, ignored = packs.read_masks(pair, survey.folder.target, gray.shape)[0]
        return [measure(gray[window], label.mask[window], ~ignored[window]) for window in of_image[index]]

    measured = [values for image in in_order(measure_image, of_image) for values in image]
    pooled = {name: np.concatenate([np.zeros(0), *(values[name] for values in measured)]) for name in NAMES}
    return PictureStatistics(len(measured), len(windows), pooled)


def measure(gray: UInt8Array, mask: BoolMask, counted: BoolMask) -> dict[str, Float]:
    """Measure a window; a figure that it does not show has no value.

    - **Width** of foreground and gaps, px: distance of the nearest edges on either side, at each pixel of the centre
      lines. A width is unknown and left out if an ignored pixel or the window's border is nearer.
    - **Pitch**, px: distance of the centre lines of two neighbouring tracks along a row or a column.
    - **Contrast**: (f - b) / (f + b) of the medians f of the foreground and b of the background (Michelson 1927); light
      of another brightness does not change it. It is below 0 if the foreground is darker.
    - **Noise**, gray levels: standard deviation by the kernel of Immerkaer (Computer Vision and Image Understanding 64,
      1996), at least 4 px from the mask's edges. Noise that runs over several pixels, as after JPEG, cancels in part.
    - **Texture**, gray levels: median absolute difference of a pixel and the mean around it (Gaussian of 2 px), at
      least 4 px from the mask's edges. White noise has the same texture as noise; grains, contacts and edges of other
      layers add to it.
    - **Blur**, px: sigma of the Gaussian that blurs an ideal step to the height and the steepest slope of the mean
      profile across edges. Each profile is first moved to its own crossing of half the height, by at most 2 px.
      Sharpening lowers the value. A profile reaches 4 px to either side, so that 2 px are measured as 1.9 and 3 px
      as 2.4. Tracks narrower than 7 px and gaps narrower than 6 px have no profile.

    Args:
        gray: ``(H, W)`` uint8.
        mask: ``(H, W)`` bool, true on the foreground.
        counted: ``(H, W)`` bool, false on ignored pixels.

    Returns:
        By the names of :data:`NAMES`.
    """
    values = {name: np.zeros(0) for name in NAMES}
    sides = (mask & counted, ~mask & counted)
    if not all(side.any() for side in sides):
        return values
    known = ndimage.distance_transform_edt(np.pad(counted, 1))[1:-1, 1:-1]
    fields = [ndimage.distance_transform_edt(~other, return_indices=True) for other in reversed(sides)]
    (inside, _), (outside, _) = fields
    spans = [_spans(*field, side & (field[0] <= known)) for field, side in zip(fields, sides, strict=True)]
    widths, gaps = (np.hypot(*(far - near)) - 1 for near, far in spans)
    pitch = [_pitches(mask, counted, *spans[0]), _pitches(mask.T, counted.T, *(end[::-1] for end in spans[0]))]
    light, dark = (float(np.median(gray[side])) for side in sides)
    contrast = (light - dark) / (light + dark) if light + dark else 0.0
    noise = _noise(gray, mask, np.minimum(np.where(mask, inside, outside), known) > AWAY_PX)
    blur = _blur(gray, mask, inside, outside, known, 1 if light >= dark else -1)
    measured = (widths, gaps, np.concatenate(pitch), [contrast], *noise, blur)
    return {name: np.asarray(value, np.float64) for name, value in zip(NAMES, measured, strict=True)}


def _spans(distance: Float, nearest: Index, side: BoolMask) -> tuple[Index, Index]:
    """Return the pixels ``(2, n)`` beyond both ends of each cut across a centre line.

    A pixel lies on a centre line if the nearest edges of it and of its neighbour, one step away from its own edge, lie
    opposite each other: the integer medial axis (Hesselink and Roerdink, IEEE TPAMI 30, 2008) without its branches to
    corners.

    Args:
        distance: ``(H, W)``, to the other class.
        nearest: ``(2, H, W)``, row and column of the other class's nearest pixel.
        side: ``(H, W)``, the pixels to look at.
    """
    # A centre line is higher than the pixels around it; the flanks, which are most pixels, are even.
    ridge = distance - ndimage.uniform_filter(distance, 3) > 0.1
    pixel = np.array(np.nonzero(side & ridge))
    near = nearest[:, *pixel]
    step = pixel + np.rint((pixel - near) / distance[*pixel]).astype(np.intp)
    inner = ((step >= 0) & (step < np.array(side.shape)[:, None])).all(axis=0)
    pixel, near, step = pixel[:, inner], near[:, inner], step[:, inner]
    far, here, there = nearest[:, *step], distance[*pixel], distance[*step]
    # Two pixels share the centre line of an even width: the first of them counts.
    earlier = (pixel[0] < step[0]) | ((pixel[0] == step[0]) & (pixel[1] < step[1]))
    first = (here > there) | ((here == there) & earlier)
    opposite = ((near - pixel) * (far - step)).sum(axis=0) <= OPPOSITE * here * there
    centre = first & (opposite | (there == 0))
    return near[:, centre], far[:, centre]


def _pitches(mask: BoolMask, counted: BoolMask, near: Index, far: Index) -> Float:
    """Return the distances along rows of the centre lines of tracks with one gap between them, which is counted."""
    rise, run = np.abs(far - near)
    row, column = ((near + far) / 2)[:, rise <= STEEP * run]
    row = row.astype(np.intp)
    order = np.lexsort((column, row))
    row, column = row[order], column[order]
    ends = np.cumsum((np.diff(mask.astype(np.int8), axis=1) < 0) + 2 * ~counted[:, 1:], axis=1)
    passed = np.diff(ends[row, column.astype(np.intp) - 1])
    pitches: Float = np.diff(column)[(np.diff(row) == 0) & (passed == 1)]
    return pitches


def _noise(gray: UInt8Array, mask: BoolMask, away: BoolMask) -> list[list[float]]:
    """Return the noise, and the texture of foreground and background; of few pixels ``away`` from edges nothing."""
    image, share = gray.astype(np.float32), away.astype(np.float32)
    response = np.abs(ndimage.convolve(image, KERNEL)) * math.sqrt(math.pi / 2) / 6
    # The two sides of an edge lie too far apart to enter each other's mean.
    weight, total = (ndimage.gaussian_filter(part, AROUND_PX, truncate=3) for part in (share, image * share))
    difference = np.abs(image - total / np.maximum(weight, 1e-6)) / MAD
    figures = ((np.mean, response, away), (np.median, difference, away & mask), (np.median, difference, away & ~mask))
    return [
        [float(figure(values[pixels]))] if np.count_nonzero(pixels) >= LEAST_PIXELS else []
        for figure, values, pixels in figures
    ]


def _blur(gray: UInt8Array, mask: BoolMask, inside: Float, outside: Float, known: Float, sign: float) -> list[float]:
    """Return sigma of the mean edge profile, or nothing where too few edges have room.

    Args:
        gray: ``(H, W)`` uint8.
        mask: ``(H, W)`` bool.
        inside: ``(H, W)``, distance to the background.
        outside: ``(H, W)``, distance to the foreground.
        known: ``(H, W)``, distance to the nearest ignored pixel or to the border.
        sign: 1 if the foreground is brighter, else -1.
    """
    edge = np.array(np.nonzero(mask & (inside < 1.5) & (known > ROOM_PX + SHIFT_PX + 1)))
    if not edge.size:
        return []
    inwards = np.array(np.gradient(ndimage.gaussian_filter(mask.astype(np.float32), 2)))[:, *edge]
    normal = inwards / np.maximum(np.hypot(*inwards), 1e-6)
    inner, outer = (np.rint(edge + way * ROOM_PX * normal).astype(np.intp) for way in (1, -1))
    free = np.flatnonzero((inside[*inner] >= ROOM_PX - 1) & (outside[*outer] >= ROOM_PX - 1))
    free = free[np.linspace(0, len(free) - 1, min(len(free), MOST_PROFILES)).astype(np.intp)]
    edge, normal = edge[:, free, None], normal[:, free, None]
    offsets = np.arange(-ROOM_PX, ROOM_PX, STEP_PX)
    # Blurred, so that the crossing follows the edge and not the noise of a pixel. The outline runs half a pixel outside
    # of the foreground's outermost pixels.
    image = sign * gray.astype(np.float64)
    profiles = ndimage.map_coordinates(ndimage.gaussian_filter(image, 1), edge + normal * (offsets - 0.5), order=1)
    above = profiles - (profiles[:, :1] + profiles[:, -1:]) / 2
    crossing = (above[:, :-1] <= 0) & (above[:, 1:] > 0) & (np.abs(offsets[:-1]) <= SHIFT_PX)
    crossed = crossing.any(axis=1)
    if np.count_nonzero(crossed) < LEAST_PROFILES:
        return []
    shift = offsets[np.where(crossing, np.abs(offsets[:-1]), np.inf).argmin(axis=1)]
    profiles = ndimage.map_coordinates(image, edge + normal * (offsets - 0.5 + shift[:, None]))
    profile = profiles[crossed].mean(axis=0)
    slopes = np.diff(profile)
    steepest = int(np.argmax(slopes))
    # The rise begins and ends where the profile falls: at a rim, at an overshoot or in noise.
    falls = np.flatnonzero(slopes <= 0)
    left = max(falls[falls < steepest], default=-1) + 1
    right = min(falls[falls > steepest], default=len(slopes))
    height, slope = profile[right] - profile[left], slopes[steepest] / STEP_PX
    return [float(height / slope / math.sqrt(2 * math.pi))] if slope > 0 else []

"""Turns a stage's channels into one picture and finds the patch to enlarge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage
from skimage.transform import resize_local_mean

from benchmark.data.formats.images import UInt8Array, to_channels

Channel = Literal["principal", "variance"]
FloatArray = NDArray[np.floating]

#: The map of a stage in the words of a caption.
CHANNELS: dict[Channel, str] = {
    "principal": "the first principal component of a stage's channels (share of their variance in brackets), signed "
    "so that it correlates positively with the image's brightness",
    "variance": "the channel of a stage that varies most over the image (numbered from 0)",
}
#: Conventions in the words of a caption.
BUSIEST = "the square of a quarter of the image's shorter side (at least 32 px) with the most gradient energy (Sobel)"
DEPTH = "the image's own 0.1 % and 99.9 % percentiles become black and white"
LEAST_PATCH = 32  # pixels; four of a map at 1/8


@dataclass(frozen=True)
class Patch:
    """A square of an image, pixels; ``x`` and ``y`` are its upper left corner's, from the image's."""

    x: int
    y: int
    side: int

    def fits(self, height: int, width: int) -> bool:
        """Tell whether the square is not empty and lies inside an image."""
        inside = self.x + self.side <= width and self.y + self.side <= height
        return self.side > 0 and min(self.x, self.y) >= 0 and inside


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage's map.

    Attributes:
        name: its module.
        channels: number of channels.
        component: the channel or principal component that is shown.
        values: ``(h, w)`` float, in standard deviations from the mean over what the image covers; 0 for a flat map.
        covered: height and width that the map is stretched over, image pixels: the image's and its padding.
    """

    name: str
    channels: int
    component: str
    values: FloatArray
    covered: tuple[int, int]

    @property
    def scale(self) -> str:
        """The map's sides as a share of the image's: ``1/8``."""
        shares = [f"1/{whole / side:.3g}" for whole, side in zip(self.covered, self.values.shape, strict=True)]
        return shares[0] if shares[0] == shares[1] else " by ".join(shares)

    @property
    def facts(self) -> str:
        """Scale, channels and size: ``1/8 · 128 ch · 12×12``."""
        height, width = self.values.shape
        return f"{self.scale} · {self.channels} ch · {height}×{width}"


@dataclass(frozen=True)
class Encoder:
    """The display name of a network, the label of its run, and its stages in the order of the forward."""

    display: str
    label: str
    stages: tuple[Stage, ...]


def pad(pixels: UInt8Array, multiple: int) -> UInt8Array:
    """Mirror an image ``(H, W, C)`` at its right and lower edge until its sides divide."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")


def stage(name: str, features: FloatArray, padded: UInt8Array, size: tuple[int, int], channel: Channel) -> Stage:
    """Reduce a stage's maps to one; see :data:`CHANNELS`.

    ``features`` are ``(channels, h, w)`` of the padded image ``(H, W, C)``; ``size`` is height and width of the image
    without padding, which takes no part in any statistic.
    """
    channels, height, width = features.shape
    seen = np.s_[: math.ceil(height * size[0] / padded.shape[0]), : math.ceil(width * size[1] / padded.shape[1])]
    features = features.astype(np.float64)
    values_of = features[:, *seen].reshape(channels, -1)
    if channel == "variance":
        chosen = int(values_of.var(axis=1).argmax())
        projection, component = features[chosen], f"channel {chosen}"
    else:
        brightness = resize_local_mean(to_channels(padded, 1)[..., 0].astype(np.float64), (height, width))[seen]
        loadings, share = principal(values_of, brightness.ravel())
        projection, component = np.tensordot(loadings, features, axes=1), f"PC 1 ({100 * share:.0f} %)"
    spread = projection[seen].std()
    covered = padded.shape[0], padded.shape[1]
    # In a flat map, rounding alone would become a pattern.
    if spread <= 1e-6 * np.abs(projection[seen]).max():
        return Stage(name, channels, "flat", np.zeros((height, width)), covered)
    return Stage(name, channels, component, (projection - projection[seen].mean()) / spread, covered)


def principal(values: FloatArray, brightness: FloatArray) -> tuple[FloatArray, float]:
    """Return the first principal component of channels.

    The component of values ``(channels, pixels)`` correlates positively with the brightness ``(pixels,)``; without
    correlation its largest loading is positive.

    Returns:
        The loadings ``(channels,)``, of length 1, and the component's share of the variance (0 without variance).
    """
    centred = values - values.mean(axis=1, keepdims=True)
    scatter = centred @ centred.T
    last = len(scatter) - 1
    (power,), vectors = linalg.eigh(scatter, subset_by_index=(last, last))
    loadings: FloatArray = vectors[:, 0]
    along = float((loadings @ centred) @ (brightness - brightness.mean())) or loadings[np.abs(loadings).argmax()]
    total = float(np.trace(scatter))
    return (loadings if along > 0 else -loadings), (float(power) / total if total else 0.0)


def busiest(pixels: UInt8Array) -> Patch:
    """Return the patch of pixels ``(H, W, C)`` with the most gradient energy: summed squared Sobel gradients.

    Its side is a quarter of the image's shorter side, at least :data:`LEAST_PATCH` if the image is so large. Of equal
    patches it takes the upmost, then the leftmost; integers have no rounding.
    """
    gray = to_channels(pixels, 1)[..., 0].astype(np.int64)
    shorter = min(gray.shape)
    side = max(shorter // 4, min(LEAST_PATCH, shorter))
    energy = ndimage.sobel(gray, 0) ** 2 + ndimage.sobel(gray, 1) ** 2
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    patches = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.unravel_index(patches.argmax(), patches.shape)
    return Patch(int(x), int(y), side)

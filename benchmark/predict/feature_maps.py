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

#: What stands for the channels of a stage, as a caption says it.
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
        """Tell whether it is a square inside an image."""
        inside = self.x + self.side <= width and self.y + self.side <= height
        return self.side > 0 and min(self.x, self.y) >= 0 and inside


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage's map.

    Attributes:
        name: the module that returned it.
        channels: how many it has.
        what: what stands for them here.
        values: ``(h, w)`` float, in standard deviations from the mean over what the image covers; 0 for a flat map.
        covered: height and width that the map is stretched over, image pixels: the image's and its padding.
    """

    name: str
    channels: int
    what: str
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
    """The stages of one trained network.

    Attributes:
        display: the network's name.
        label: the run that trained it.
        stages: in the order of the image's way through them.
    """

    display: str
    label: str
    stages: tuple[Stage, ...]


def pad(pixels: UInt8Array, multiple: int) -> UInt8Array:
    """Mirror an image ``(H, W, C)`` at its right and lower edge until its sides divide."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")


def stage(name: str, features: FloatArray, padded: UInt8Array, size: tuple[int, int], channel: Channel) -> Stage:
    """Reduce a stage's maps to one.

    Args:
        name: the stage's.
        features: ``(channels, h, w)``, of the padded image.
        padded: what the network saw, ``(H, W, C)``.
        size: height and width of the image without padding; what lies beyond takes no part in any statistic.
        channel: what stands for all of them; see :data:`CHANNELS`.
    """
    channels, height, width = features.shape
    seen = np.s_[: math.ceil(height * size[0] / padded.shape[0]), : math.ceil(width * size[1] / padded.shape[1])]
    features = features.astype(np.float64)
    values_of = features[:, *seen].reshape(channels, -1)
    if channel == "variance":
        chosen = int(values_of.var(axis=1).argmax())
        shown, what = features[chosen], f"channel {chosen}"
    else:
        brightness = resize_local_mean(to_channels(padded, 1)[..., 0].astype(np.float64), (height, width))[seen]
        loadings, share = principal(values_of, brightness.ravel())
        shown, what = np.tensordot(loadings, features, axes=1), f"PC 1 ({100 * share:.0f} %)"
    spread = shown[seen].std()
    # Where every pixel is alike, rounding alone would be blown up to a pattern.
    if spread <= 1e-6 * np.abs(shown[seen]).max():
        return Stage(name, channels, "flat", np.zeros((height, width)), (padded.shape[0], padded.shape[1]))
    standard = (shown - shown[seen].mean()) / spread
    return Stage(name, channels, what, standard, (padded.shape[0], padded.shape[1]))


def principal(values: FloatArray, brightness: FloatArray) -> tuple[FloatArray, float]:
    """Return the first principal component of channels.

    Args:
        values: ``(channels, pixels)``.
        brightness: ``(pixels,)``, which the component shall correlate positively with; where it does not correlate at
            all, the largest loading is positive.

    Returns:
        The loadings ``(channels,)``, of length 1, and the component's share of the variance (0 where there is none).
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
    """Return the patch of the most gradient energy: squared Sobel gradients of the brightness, summed.

    Its side is a quarter of the image's shorter one, at least :data:`LEAST_PATCH` where there are so many. Of equals,
    the upmost and then the leftmost is taken; integers leave no rounding to decide.

    Args:
        pixels: ``(H, W, C)``.
    """
    gray = to_channels(pixels, 1)[..., 0].astype(np.int64)
    shorter = min(gray.shape)
    side = max(shorter // 4, min(LEAST_PATCH, shorter))
    energy = ndimage.sobel(gray, 0) ** 2 + ndimage.sobel(gray, 1) ** 2
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    patches = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.unravel_index(patches.argmax(), patches.shape)
    return Patch(int(x), int(y), side)

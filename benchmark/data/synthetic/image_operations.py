"""Operations on images from which effects are built."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Float = NDArray[np.float32]
Box = tuple[slice, slice]


def to_uint8(image: Float) -> NDArray[np.uint8]:
    """Round gray levels and clip them to 0-255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def blur(image: Float | NDArray[np.bool_], sigma: float | tuple[float, float]) -> Float:
    """Blur ``(H, W)`` by a Gaussian, cut off at 3 sigma; a large sigma works on a coarser grid."""
    image = image.astype(np.float32, copy=False)
    largest = max(sigma) if isinstance(sigma, tuple) else sigma
    if largest >= 8:
        # A blur of 8 px and more leaves no detail that a grid of a quarter of sigma could not hold.
        height, width = image.shape
        step = int(largest / 4)
        small = resize(image, (max(height // step, 1), max(width // step, 1)))
        return resize(ndimage.gaussian_filter(small, largest / step, truncate=3), (height, width))
    blurred: Float = ndimage.gaussian_filter(image, sigma, truncate=3)
    return blurred


def resize(image: Float, size: tuple[int, ...]) -> Float:
    """Resample ``(H, W)`` to a height and width; shrinking averages, enlarging is smooth."""
    method = Image.Resampling.BOX if size[0] < image.shape[0] else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(image).resize((size[1], size[0]), method), np.float32)


def smooth_field(rng: Generator, shape: tuple[int, ...], sigma: float) -> Float:
    """Return ``(H, W)`` Gaussian noise of unit variance, correlated over ``sigma`` pixels."""
    step = max(sigma / 3, 1)
    rows, columns = (int(side / step) + 20 for side in shape)
    coarse = ndimage.gaussian_filter(rng.standard_normal((rows, columns), dtype=np.float32), sigma / step, truncate=3)
    coarse /= np.sqrt(1 / (4 * np.pi)) / (sigma / step)  # the standard deviation of white noise after the blur
    return resize(np.ascontiguousarray(coarse[8:-8, 8:-8]), shape)


def shift_rows(image: Float, dx: Float) -> Float:
    """Move row i of ``(H, W)`` to the right by ``dx[i]`` pixels; the border pixel is repeated."""
    last = image.shape[1] - 1
    source = np.arange(last + 1, dtype=np.float32) - dx[:, None]
    left = np.floor(source)
    index = np.clip(left.astype(np.int32), 0, last)
    near = np.take_along_axis(image, index, axis=1)
    far = np.take_along_axis(image, np.minimum(index + 1, last), axis=1)
    shifted: Float = near + (source - left) * (far - near)
    return shifted


def add_spot(image: Float, centre: tuple[float, float], profile: Callable[[Float], Float], reach: float) -> None:
    """Add ``profile(distance in px)`` to the pixels within ``reach`` of (x, y); ``(H, W)`` or ``(H, W, C)``."""
    low = [max(int(at - reach), 0) for at in centre]
    high = [min(int(at + reach) + 2, side) for at, side in zip(centre, image.shape[1::-1], strict=True)]
    if low[0] >= high[0] or low[1] >= high[1]:
        return
    y, x = np.ogrid[low[1] : high[1], low[0] : high[0]]
    distance = np.hypot(y - centre[1], x - centre[0]).astype(np.float32)
    spot = np.where(distance <= reach, profile(distance), 0).astype(np.float32)
    image[low[1] : high[1], low[0] : high[0]] += spot if image.ndim == 2 else spot[..., None]


def segment_distance(
    shape: tuple[int, ...], middle: tuple[float, float], half: tuple[float, float], margin: float
) -> tuple[Box, Float]:
    """Return the box around the segment ``middle`` ± ``half`` (x, y), and the distance of its pixels from the segment.

    The box reaches ``margin`` pixels beyond the segment; distances are in pixels.
    """
    start, end = np.subtract(middle, half), np.add(middle, half)
    low, high = np.minimum(start, end) - margin, np.maximum(start, end) + margin
    left, top = np.maximum(low, 0).astype(int).tolist()
    right, bottom = np.minimum(np.maximum(high + 1, 0), (shape[1], shape[0])).astype(int).tolist()
    box = slice(top, max(bottom, top)), slice(left, max(right, left))
    y, x = np.ogrid[box]
    along = end - start
    t = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along @ along), 1e-6)
    t = np.clip(t, 0, 1)
    distance = np.hypot(x - start[0] - t * along[0], y - start[1] - t * along[1])
    return box, distance.astype(np.float32)

"""What both appearances share: the scene under the microscope, operations on images, and common effects."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmark.data.synthetic.raster import Raster

Generator = np.random.Generator
Float = NDArray[np.float32]
Strengths = dict[str, float]


@dataclass
class Scene:
    """An image on its way from masks to gray values; effects change it in place.

    Attributes:
        raster: the exact masks; no effect writes to them.
        image: ``(H, W)`` or ``(H, W, 3)`` float32. SEM: gray levels 0-255; optical: linear light 0-1 until the stage
            ``encode``.
        track: ``(H, W)`` float32 in [0, 1], how far a pixel is covered as the microscope sees it, roughness included.
        style: what differs between the data sets of one appearance.
        contrast: tracks above background, gray levels (SEM).
        oxide: linear RGB light of bare oxide (optical).
        metal: linear RGB light of a plain track (optical).
        gamma: exponent of the camera's response (optical); 2.2 is that of displays.
        forced: how many times its hardest strength the effect that is at work has; ``None`` for as much as it draws.
    """

    raster: Raster
    image: Float
    track: Float
    style: Any  # SemStyle or OpticalStyle: each appearance reads its own
    contrast: float = 0.0
    oxide: Float = field(default_factory=lambda: np.zeros(3, np.float32))
    metal: Float = field(default_factory=lambda: np.ones(3, np.float32))
    gamma: float = 2.2
    forced: float | None = None

    def strength(self, drawn: float, hardest: float) -> float:
        """Return the strength of the effect that is at work: the drawn one, or so many times the hardest."""
        return float(drawn) if self.forced is None else self.forced * hardest


#: Of strengths; raised by hand where one comes to mean something else, as a stand-in's version is for its images.
CONVENTION = 1


@dataclass(frozen=True)
class Stress:
    """One kind of effect made so many times as strong as the hardest that its stand-in draws; all else as drawn.

    Attributes:
        name: a key of the stand-in's ``stresses``.
        strength: 1 is the hard end of what is drawn; amplitudes (blur in pixels, standard deviations, shares of the
            light) are in proportion to it.
    """

    name: str
    strength: float

    def __str__(self) -> str:
        """Return ``clouds-0.5``: what files are called."""
        return f"{self.name}-{self.strength:g}"


# An effect draws its strength, applies it and returns it. One that draws "none this time" returns strength 0.
Effect = Callable[[Scene, Generator], Strengths]


# The stages that are no switch: painting background, tracks and vias, and turning light into gray levels.
FIXED = frozenset({"levels", "vias", "encode"})


def render(
    effects: Mapping[str, Effect],
    raster: Raster,
    style: object,
    stream: Callable[[str], Generator],
    off: frozenset[str],
    channels: int,
    forced: Mapping[str, float] = MappingProxyType({}),
) -> tuple[NDArray[np.uint8], dict[str, Strengths]]:
    """Draw a window.

    Args:
        effects: name to effect, in the order of application, :data:`FIXED` ones among them.
        raster: the masks of the window.
        style: what the effects want to know of the data set.
        stream: gives each effect a random stream of its own, so that switching one off changes no other.
        off: names of effects to leave out.
        channels: 1 or 3.
        forced: effect -> how many times its hardest strength it has, in place of what it draws.

    Returns:
        The image, uint8 of shape ``(H, W)`` or ``(H, W, 3)``, and each applied effect's strengths.
    """
    # One plane per channel in memory: arithmetic with an (H, W) array then runs along rows, three times as fast.
    planes = np.zeros((channels, *raster.track.shape), np.float32)
    image = planes[0] if channels == 1 else np.moveaxis(planes, 0, -1)
    # A pixel of an edge is covered in part: 0.6 px is the blur of a square pixel and its neighbours.
    track = blur(raster.track.astype(np.float32), 0.6)
    scene = Scene(raster, image, track, style)
    strengths: dict[str, Strengths] = {}
    for name, effect in effects.items():
        if name not in off:
            scene.forced = forced.get(name)
            strengths[name] = effect(scene, stream(name))
    return to_uint8(scene.image), strengths


def to_uint8(image: Float) -> NDArray[np.uint8]:
    """Round gray levels and clip them to 0-255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def blur(image: Float, sigma: float | tuple[float, float]) -> Float:
    """Gaussian blur, cut off at 3 sigma; a large sigma works on a coarser grid."""
    largest = max(sigma) if isinstance(sigma, tuple) else sigma
    if largest >= 8:
        # A blur of 8 px and more leaves nothing that a grid of a quarter of sigma could not hold.
        height, width = image.shape
        step = int(largest / 4)
        small = resize(image, (max(height // step, 1), max(width // step, 1)))
        return resize(ndimage.gaussian_filter(small, largest / step, truncate=3), (height, width))
    blurred: Float = ndimage.gaussian_filter(image, sigma, truncate=3)
    return blurred


def resize(image: Float, size: tuple[int, int]) -> Float:
    """Resample ``(H, W)`` to a height and width; shrinking averages, enlarging is smooth."""
    shrink = size[0] < image.shape[0]
    method = Image.Resampling.BOX if shrink else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(image).resize((size[1], size[0]), method), np.float32)


def smooth_field(rng: Generator, height: int, width: int, sigma: float) -> Float:
    """Return Gaussian noise of unit variance, correlated over ``sigma`` pixels."""
    step = max(sigma / 3, 1)
    rows, columns = int(height / step) + 20, int(width / step) + 20
    coarse = ndimage.gaussian_filter(rng.standard_normal((rows, columns), dtype=np.float32), sigma / step, truncate=3)
    coarse /= np.sqrt(1 / (4 * np.pi)) / (sigma / step)  # the standard deviation of white noise after the blur
    inner = coarse[8 : rows - 8, 8 : columns - 8]
    return resize(np.ascontiguousarray(inner), (height, width))


def shift_rows(image: Float, dx: Float) -> Float:
    """Move row i of ``(H, W)`` to the right by ``dx[i]`` pixels; the border pixel is repeated."""
    width = image.shape[1]
    source = np.arange(width, dtype=np.float32) - dx[:, None]
    left = np.floor(source)
    part = source - left
    at = np.clip(left.astype(np.int32), 0, width - 1)
    near = np.take_along_axis(image, at, axis=1)
    far = np.take_along_axis(image, np.minimum(at + 1, width - 1), axis=1)
    moved: Float = near + part * (far - near)
    return moved


def add_spot(image: Float, centre: tuple[float, float], profile: Callable[[Float], Float], reach: float) -> None:
    """Add ``profile(distance in px)`` to the pixels within ``reach`` of (x, y); ``(H, W)`` or ``(H, W, C)``."""
    height, width = image.shape[:2]
    left, right = max(int(centre[0] - reach), 0), min(int(centre[0] + reach) + 2, width)
    top, bottom = max(int(centre[1] - reach), 0), min(int(centre[1] + reach) + 2, height)
    if left >= right or top >= bottom:
        return
    y, x = np.ogrid[top:bottom, left:right]
    distance = np.hypot(y - centre[1], x - centre[0]).astype(np.float32)
    added = np.where(distance <= reach, profile(distance), 0).astype(np.float32)
    image[top:bottom, left:right] += added if image.ndim == 2 else added[..., None]


def segment_distance(
    shape: tuple[int, ...], start: tuple[float, float], end: tuple[float, float], margin: float
) -> tuple[tuple[slice, slice], Float]:
    """Return the box around a segment (x, y) and each of its pixels' distance from the segment, pixels."""
    low, high = np.minimum(start, end) - margin, np.maximum(start, end) + margin
    left, top = np.maximum(low, 0).astype(int).tolist()
    right, bottom = np.minimum(np.maximum(high + 1, 0), (shape[1], shape[0])).astype(int).tolist()
    right, bottom = max(right, left), max(bottom, top)
    y, x = np.ogrid[top:bottom, left:right]
    along = np.subtract(end, start)
    t = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along @ along), 1e-6)
    t = np.clip(t, 0, 1)
    distance = np.hypot(x - start[0] - t * along[0], y - start[1] - t * along[1])
    return (slice(top, bottom), slice(left, right)), distance.astype(np.float32)


def seams(scene: Scene, rng: Generator, low: float, high: float) -> Strengths:
    """Steps in gain where two stage tiles were stitched: one vertical and one horizontal line, in half of all."""
    gain, present = rng.uniform(low, high), rng.random() < 0.5
    column, row = rng.random(2)
    sign = rng.choice([-1.0, 1.0], size=2)
    if not present:
        return {"gain": 0.0}
    height, width = scene.image.shape[:2]
    scene.image[:, int(column * width) :] *= np.float32(1 + sign[0] * gain)
    scene.image[int(row * height) :] *= np.float32(1 + sign[1] * gain)
    return {"gain": float(gain)}


def jpeg(scene: Scene, rng: Generator, worst: int) -> Strengths:
    """JPEG artefacts, quality from the worst to 95."""
    quality = int(rng.integers(worst, 96))
    with io.BytesIO() as buffer:
        Image.fromarray(to_uint8(scene.image)).save(buffer, "jpeg", quality=quality)
        scene.image = np.asarray(Image.open(buffer), np.float32)
    return {"quality": float(quality)}

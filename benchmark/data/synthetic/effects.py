"""Draws a layout's masks as an image by effects, each with a random strength."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.synthetic.image_operations import Float, blur, to_uint8
from benchmark.data.synthetic.raster import Raster

Strengths = dict[str, float]
#: Version of the strengths: raised by hand when a strength changes its meaning, as a stand-in's version is for images.
CONVENTION = 1
#: The stages that cannot be switched off: painting background, tracks and vias, and turning light into gray levels.
FIXED = frozenset({"levels", "vias", "encode"})


@dataclass
class Scene:
    """An image on its way from masks to gray values; effects change it in place."""

    raster: Raster  # the exact masks; no effect writes to them
    # ``(H, W)`` or ``(H, W, 3)`` float32. SEM: gray levels 0-255; optical: linear light 0-1 until the stage ``encode``.
    image: Float
    track: Float  # ``(H, W)`` float32 in [0, 1], the share of each pixel that tracks cover, roughness included
    style: Any  # ranges that differ between the data sets of one appearance (SemStyle or OpticalStyle)
    contrast: float = 0.0  # tracks above background, gray levels (SEM)
    oxide: Float = field(default_factory=lambda: np.zeros(3, np.float32))  # linear RGB light of bare oxide (optical)
    metal: Float = field(default_factory=lambda: np.ones(3, np.float32))  # linear RGB light of a plain track (optical)
    gamma: float = 2.2  # exponent of the camera's response (optical); 2.2 is that of displays
    # strength of the present effect as a multiple of its hardest strength; ``None``: the effect draws it
    forced: float | None = None

    def strength(self, drawn: float, hardest: float) -> float:
        """Return the present effect's strength: the drawn one, or a multiple of the hardest one."""
        return drawn if self.forced is None else self.forced * hardest


# An effect draws its strength, applies it and returns it; a strength of 0 means that the effect is absent this time.
Effect = Callable[[Scene, Generator], Strengths]


@dataclass(frozen=True)
class Stress:
    """One kind of effect at a multiple of its stand-in's hardest strength; all other effects stay as drawn.

    Attributes:
        name: a key of the stand-in's ``stresses``.
        strength: 1 is the hard end of the drawn range; amplitudes (blur in pixels, standard deviations, shares of the
            light) are in proportion to it.
    """

    name: str
    strength: float

    def __str__(self) -> str:
        """Return the name of files, such as ``clouds-0.5``."""
        return f"{self.name}-{self.strength:g}"


def by_name(*effects: Effect) -> Mapping[str, Effect]:
    """Return effects by the names of their functions, in the order of application."""
    return MappingProxyType({effect.__name__: effect for effect in effects})


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
        effects: name -> effect, in the order of application, :data:`FIXED` ones among them.
        raster: the masks of the window.
        style: the data set's ranges, which effects read.
        stream: returns a random stream for each effect, so that switching off an effect changes no other effect.
        off: names of effects to leave out.
        channels: 1 or 3.
        forced: effect -> strength as a multiple of its hardest strength, instead of the drawn strength.

    Returns:
        The image, uint8 of shape ``(H, W)`` or ``(H, W, 3)``, and each applied effect's strengths.
    """
    # One plane per channel in memory: arithmetic with an (H, W) array then runs along rows, three times as fast.
    planes = np.zeros((channels, *raster.track.shape), np.float32)
    image = planes[0] if channels == 1 else np.moveaxis(planes, 0, -1)
    # A pixel of an edge is covered in part: 0.6 px is the blur of a square pixel and its neighbours.
    scene = Scene(raster, image, blur(raster.track, 0.6), style)
    strengths: dict[str, Strengths] = {}
    for name, effect in effects.items():
        if name not in off:
            scene.forced = forced.get(name)
            strengths[name] = {key: float(value) for key, value in effect(scene, stream(name)).items()}
    return to_uint8(scene.image), strengths


def scattered(rng: Generator, shape: tuple[int, ...], per_megapixel: float) -> range:
    """Return a loop over things that lie at random in ``(H, W)``, a Poisson number of them."""
    height, width = shape
    return range(rng.poisson(per_megapixel * height * width / 1e6))


def random_point(rng: Generator, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return x and y of a point in ``(H, W)``."""
    height, width = shape
    return rng.uniform(0, width), rng.uniform(0, height)


def seams(scene: Scene, rng: Generator) -> Strengths:
    """Steps in gain between two stitched stage tiles: one vertical and one horizontal line, in half of the images."""
    gain, present = rng.uniform(*scene.style.seam_gain), rng.random() < 0.5
    column, row = rng.random(2)
    sign = rng.choice([-1.0, 1.0], size=2)
    if not present:
        return {"gain": 0.0}
    height, width = scene.track.shape
    scene.image[:, int(column * width) :] *= np.float32(1 + sign[0] * gain)
    scene.image[int(row * height) :] *= np.float32(1 + sign[1] * gain)
    return {"gain": gain}


def jpeg(scene: Scene, rng: Generator) -> Strengths:
    """JPEG artefacts, from the style's worst quality to 95."""
    quality = int(rng.integers(scene.style.worst_jpeg, 96))
    with io.BytesIO() as buffer:
        Image.fromarray(to_uint8(scene.image)).save(buffer, "jpeg", quality=quality)
        scene.image = np.asarray(Image.open(buffer), np.float32)
    return {"quality": quality}

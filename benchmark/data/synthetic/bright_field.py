"""Draws a layout as a bright-field microscope shows a die of one metal layer.

Ranges were chosen beside two public photographs, T84C00 and 54HC32: bright, grainy metal with a dark line along its
outer edge, contacts as rings and slots, and flat coloured regions below whose steps show in the metal. Values are those
of a display, 0 to 1, since such pictures come out of a camera sharpened and with its own response.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.synthetic.effects import Scene, Strengths, by_name, jpeg, random_point, scattered, seams
from benchmark.data.synthetic.image_operations import Float, add_spot, blur, segment_distance, smooth_field
from benchmark.data.synthetic.optical import camera, chromatic, encode


@dataclass(frozen=True)
class BrightFieldStyle:
    """Display values in [0, 1], each a range (low, high)."""

    field: tuple[float, float] = (0.45, 0.70)  # luma of the bare surface
    contrast: tuple[float, float] = (0.15, 0.35)  # metal above it
    brightest: float = 0.95  # metal is never above it
    seam_gain: tuple[float, float] = (0.01, 0.03)  # change of gain at a seam, as a share
    worst_jpeg: int = 70  # least quality of JPEG artefacts


STYLE = BrightFieldStyle()


def levels(scene: Scene, rng: Generator) -> Strengths:
    """Paint surface and metal; never switched off."""
    scene.gamma = 1.0  # values are a display's from the start
    field, contrast = rng.uniform(*scene.style.field), rng.uniform(*scene.style.contrast)
    metal = min(field + contrast, scene.style.brightest)
    scene.oxide, scene.metal = _tint(rng, field, 0.15), _tint(rng, metal, 0.08)
    for channel in range(scene.image.shape[-1]):
        difference = scene.metal[channel] - scene.oxide[channel]
        scene.image[..., channel] = scene.oxide[channel] + difference * scene.track
    return {"field": field, "metal": metal}


def regions(scene: Scene, rng: Generator) -> Strengths:
    """Flat regions of other colours beside the metal: diffusion and polysilicon, each with a darker outline."""
    strengths: Strengths = {}
    for name, shapes in _below(scene):
        change, outline, soft = rng.uniform(-0.15, 0.15), rng.uniform(0, 0.25), blur(shapes, 0.8)
        tint = _tint(rng, 1.0, 0.3)
        beside = 1 - scene.track
        for channel, hue in enumerate(tint):
            inside = np.float32(change + 0.3 * scene.oxide[channel] * (hue - 1))
            scene.image[..., channel] += beside * (inside * soft - np.float32(outline) * _edge(soft))
        strengths |= {f"{name}_change": change, f"{name}_outline": outline}
    return strengths


def steps(scene: Scene, rng: Generator) -> Strengths:
    """Metal runs over the edges of what lies below: dark lines of up to 30 % across it."""
    strengths: Strengths = {}
    for name, shapes in _below(scene):
        depth = rng.uniform(0, 0.30)
        scene.image -= (np.float32(depth) * _edge(blur(shapes, rng.uniform(0.8, 1.6))) * scene.track)[..., None]
        strengths[name] = depth
    return strengths


def grain(scene: Scene, rng: Generator) -> Strengths:
    """Grains and pits of the metal, in six of ten images; pits are rings of 1-4 px radius."""
    if rng.random() > 0.6:
        return {"sigma": 0.0, "per_megapixel": 0.0}
    sigma, density = rng.uniform(0.005, 0.06), rng.uniform(0, 4000)
    texture = np.float32(sigma) * smooth_field(rng, scene.track.shape, rng.uniform(0.5, 1.5))
    for _ in scattered(rng, scene.track.shape, density):
        radius, depth = np.float32(rng.uniform(1, 4)), np.float32(rng.uniform(0.1, 0.3))

        def pit(distance: Float, radius: np.float32 = radius, depth: np.float32 = depth) -> Float:
            ring: Float = -depth * np.exp(-0.5 * (distance - radius) ** 2)
            return ring

        add_spot(texture, random_point(rng, texture.shape), pit, float(radius) + 4)
    scene.image += (texture * scene.track)[..., None]
    return {"sigma": sigma, "per_megapixel": density}


def vias(scene: Scene, rng: Generator) -> Strengths:
    """Paint contacts: a dark ring around a dent of another colour, darker or slightly brighter; never switched off."""
    return _dents(scene, rng, scene.raster.via)


def slots(scene: Scene, rng: Generator) -> Strengths:
    """Long contacts, also in narrow metal, of which they leave 1-3 px at either side; none in a third of the images."""
    density, border = max(0.0, rng.uniform(-900, 1800)), rng.uniform(1, 3)
    mask, distance = np.zeros_like(scene.raster.track), _distance(scene.raster.track)
    centres = np.argwhere(distance < -3)
    for _ in range(rng.poisson(density * len(centres) / 1e6)):
        half, radius = float(np.exp(rng.uniform(np.log(2), np.log(40)))), rng.uniform(2.5, 6)
        along = (half, 0.0) if rng.random() < 0.5 else (0.0, half)
        y, x = centres[rng.integers(len(centres))].tolist()
        box, away = segment_distance(mask.shape, (x, y), along, radius)
        mask[box] |= away < radius
    mask &= distance < -border
    return {"per_megapixel": density, "border_px": border} | _dents(scene, rng, mask)


def rims(scene: Scene, rng: Generator) -> Strengths:
    """The slope of an edge reflects light out of the lens: a line 25-70 % darker outside, and a light one inside."""
    place, width, depth = rng.uniform(1.0, 2.0), rng.uniform(1.2, 2.0), rng.uniform(0.25, 0.70)
    inner, light = rng.uniform(2, 3.5), rng.uniform(0, 0.20)
    distance = _distance(scene.raster.track)
    dark = np.float32(depth) * np.exp(-0.5 * ((distance - np.float32(place)) / np.float32(width)) ** 2)
    bright = np.float32(light) * np.exp(-0.5 * ((distance + np.float32(inner)) / np.float32(1.2)) ** 2)
    scene.image *= ((1 - dark) * (1 + bright))[..., None]
    return {"place_px": place, "width_px": width, "depth": depth, "light": light}


def psf(scene: Scene, rng: Generator) -> Strengths:
    """The lens: Gaussian of 0.4-1.3 px."""
    sigma = scene.strength(rng.uniform(0.4, 1.3), 1.3)
    _each_channel(scene, sigma)
    return {"sigma_px": sigma}


def unevenness(scene: Scene, rng: Generator) -> Strengths:
    """Light and film vary over the field by 0-8 % (standard deviation)."""
    sigma = scene.strength(rng.uniform(0, 0.08), 0.08)
    scene.image *= (1 + np.float32(sigma) * smooth_field(rng, scene.track.shape, 60))[..., None]
    return {"sigma": sigma}


def sharpening(scene: Scene, rng: Generator) -> Strengths:
    """The camera's unsharp mask, in six of ten images: edges overshoot."""
    amount, sigma = rng.uniform(0, 1.5), rng.uniform(1.5, 3.0)
    if rng.random() > 0.6:
        return {"amount": 0.0, "sigma_px": sigma}
    sharp = scene.image.copy()
    _each_channel(scene, sigma)
    scene.image += np.float32(1 + amount) * (sharp - scene.image)
    return {"amount": amount, "sigma_px": sigma}


def _below(scene: Scene) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield name and mask of each layer below the metal."""
    yield "diffusion", scene.raster.decoration
    yield "poly", scene.raster.lower


def _dents(scene: Scene, rng: Generator, mask: NDArray[np.bool_]) -> Strengths:
    depth, width, dent = rng.uniform(0.1, 0.5), rng.uniform(1, 2), rng.uniform(-0.4, 0.15)
    if mask.any():
        ring = np.exp(-0.5 * (_distance(mask) / np.float32(width)) ** 2)
        soft, tint = blur(mask, 1.0), _tint(rng, 1.0, 0.5)
        for channel, hue in enumerate(tint):
            change = np.float32(dent * hue) * soft - np.float32(depth) * ring
            scene.image[..., channel] += change * scene.track
    return {"depth": depth, "width_px": width, "dent": dent}


def _tint(rng: Generator, value: float, spread: float) -> Float:
    """Return red, green and blue around a value, off by up to a share of it."""
    return np.float32(value) * (1 + rng.uniform(-spread, spread, 3)).astype(np.float32)


def _edge(soft: Float) -> Float:
    """Return 1 on the outline of a blurred mask and 0 away from it."""
    return 4 * soft * (1 - soft)


def _distance(mask: NDArray[np.bool_]) -> Float:
    """Return each pixel's distance from the mask's outline in pixels, below 0 inside."""
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    distance: Float = np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)
    return distance


def _each_channel(scene: Scene, sigma: float) -> None:
    for channel in range(scene.image.shape[-1]):
        scene.image[..., channel] = blur(np.ascontiguousarray(scene.image[..., channel]), sigma)


EFFECTS = by_name(
    *(levels, regions, steps, grain, vias, slots, rims),  # of the sample
    *(psf, chromatic, unevenness),  # of light and lens
    *(sharpening, seams, encode, camera, jpeg),  # of camera, stitching and file
)

# Name of a stress -> the effects that it forces; uneven light takes the place of clouds.
STRESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"clouds": ("unevenness",), "defocus": ("psf",), "noise": ("camera",)}
)

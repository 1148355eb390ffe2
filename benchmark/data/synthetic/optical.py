"""Draws a layout as an optical microscope shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmark.data.synthetic.effects import Scene, Strengths, by_name, jpeg, random_point, scattered, seams
from benchmark.data.synthetic.image_operations import Float, add_spot, blur, smooth_field


@dataclass(frozen=True)
class OpticalStyle:
    """Display values in [0, 1], each a range (low, high), before light and lens change them."""

    substrate: tuple[float, float]  # luma of the oxide
    contrast: tuple[float, float]  # brightness of tracks above the oxide
    via: tuple[float, float]  # how much darker vias are than their track, as a share
    seam_gain: tuple[float, float] = (0.01, 0.03)  # change of gain at a seam, as a share
    worst_jpeg: int = 60  # least quality of JPEG artefacts


OMC = OpticalStyle(substrate=(0.29, 0.32), contrast=(0.17, 0.21), via=(0.15, 0.45))

# Colours are chosen as display values and turned into light with the usual display gamma.
DISPLAY_GAMMA = 2.2
# Red, green and blue light: the blur of a lens grows with the wavelength.
WAVELENGTH_RATIO = (1.2, 1.0, 0.83)
# Green light of 540 nm returns after 540 / (2 x 1.46) nm of oxide.
OXIDE_PERIOD_NM = 185.0


def levels(scene: Scene, rng: Generator) -> Strengths:
    """Paint oxide and tracks; never switched off."""
    substrate, contrast = rng.uniform(*scene.style.substrate), rng.uniform(*scene.style.contrast)
    scene.oxide, scene.metal = _colour(rng, substrate, 0.10), _colour(rng, substrate + contrast, 0.06)
    scene.image[:] = scene.oxide
    _add(scene.image, scene.metal - scene.oxide, scene.track)
    lights = {"oxide": scene.oxide, "metal": scene.metal}
    channels = {f"{name}_{c}": v for name, light in lights.items() for c, v in zip("rgb", light, strict=True)}
    return {"substrate": substrate, "contrast": contrast, **channels}


def reflectance(scene: Scene, rng: Generator) -> Strengths:
    """Nets that hold 30-50 % of the metal stand out 3-4 times as far from the oxide, as thicker or smoother metal does.

    This defeats a global threshold, which falls between bright and plain tracks. A network sees a pixel's surroundings,
    in which both kinds of tracks are brighter than the oxide.
    """
    share = rng.uniform(0.3, 0.5)
    area = np.bincount(scene.raster.nets.ravel())
    order = 1 + rng.permutation(area.size - 1)
    # By area and not by number: a plate or a small window's three nets would otherwise be all bright or all plain.
    reached = np.cumsum(area[order]) - area[order] / 2
    bright = order[reached < share * area[1:].sum()]
    extra = np.zeros(area.size, np.float32)
    extra[bright] = rng.uniform(2.0, 3.0, bright.size)
    _add(scene.image, scene.metal - scene.oxide, blur(extra[scene.raster.nets], 0.6))
    return {"share": share, "nets": bright.size}


def vias(scene: Scene, rng: Generator) -> Strengths:
    """Paint vias, darker than their track; never switched off."""
    depth = rng.uniform(*scene.style.via)
    if scene.raster.via.any():
        scene.image *= (1 - np.float32(depth) * blur(scene.raster.via, 0.8))[..., None]
    return {"depth": depth}


def _colour(rng: Generator, value: float, spread: float) -> Float:
    """Return linear RGB light of a display value, its channels off by up to a share of it."""
    display = np.clip(value * (1 + rng.uniform(-spread, spread, 3)), 0.02, 0.95)
    return (display**DISPLAY_GAMMA).astype(np.float32)


def _add(image: Float, colour: Float, weight: Float) -> None:
    """Add linear RGB light to an image, weighted by ``(H, W)``; one plane at a time runs along rows."""
    for channel, value in enumerate(colour):
        image[..., channel] += value * weight


def _show_through(scene: Scene, cover: Float, tint: NDArray[np.float64]) -> None:
    """Mix tinted metal into the pixels that no track covers, weighted by ``(H, W)``."""
    weight = cover * (1 - scene.track)
    scene.image += weight[..., None] * (scene.metal * tint.astype(np.float32) - scene.image)


def lower(scene: Scene, rng: Generator) -> Strengths:
    """The layer below, across and out of focus, with 0.1-0.5 of the tracks' brightness."""
    weight, sigma, tint = 0.1 + 0.4 * rng.beta(1, 3), rng.uniform(1, 4), rng.uniform(0.8, 1.2, 3)
    _show_through(scene, np.float32(weight) * blur(scene.raster.lower, sigma), tint)
    return {"weight": weight, "sigma_px": sigma}


def decoration(scene: Scene, rng: Generator) -> Strengths:
    """Unlabelled shapes under the tracks: a plain track's light, give or take 15 %, and softer edges."""
    weight, sigma = rng.uniform(0.8, 1.0), rng.uniform(1.5, 3)
    tint = rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, 3)
    _show_through(scene, np.float32(weight) * blur(scene.raster.decoration, sigma), tint)
    return {"weight": weight, "sigma_px": sigma}


def rims(scene: Scene, rng: Generator) -> Strengths:
    """Track edges scatter light out of the lens: a dark line of 20-45 % along each."""
    depth = rng.uniform(0.20, 0.45)
    soft = blur(scene.track, 1.0)
    scene.image *= (1 - np.float32(4 * depth) * soft * (1 - soft))[..., None]
    return {"depth": depth}


def film(scene: Scene, rng: Generator) -> Strengths:
    """Interference in the oxide: its thickness, and with it the hue, drifts by 5-20 % over the field."""
    thickness, change = rng.uniform(300, 900), rng.uniform(0.05, 0.20)
    depth = scene.strength(rng.uniform(0.01, 0.05), 0.05)
    drift = np.clip(smooth_field(rng, scene.track.shape, 120), -2, 2)
    nm = np.float32(thickness) * (1 + np.float32(change / 2) * drift)
    for channel, ratio in enumerate(WAVELENGTH_RATIO):
        wave = np.cos(nm * np.float32(2 * np.pi / (OXIDE_PERIOD_NM * ratio)))
        scene.image[..., channel] *= 1 + np.float32(depth) * wave
    return {"thickness_nm": thickness, "change": change, "depth": depth}


def dust(scene: Scene, rng: Generator) -> Strengths:
    """Out-of-focus particles: dark discs of 5-40 px radius; on average 4 per million pixels."""
    density, depth = rng.uniform(0, 8), rng.uniform(0.1, 0.4)
    shade = np.zeros_like(scene.track)
    for _ in scattered(rng, shade.shape, density):
        radius = np.float32(drawn := rng.uniform(5, 40))

        def airy_disc(distance: Float, radius: np.float32 = radius) -> Float:
            """A disc with a soft edge and one faint ring, as a particle far from focus."""
            disc = 1 / (1 + np.exp(1.5 * (distance - radius)))
            ring: Float = disc * (0.75 + 0.25 * np.cos(2 * np.pi * (radius - distance) / np.maximum(radius / 2, 4)))
            return ring

        add_spot(shade, random_point(rng, shade.shape), airy_disc, drawn + 6)
    scene.image *= 1 - np.float32(depth) * np.clip(shade, 0, 1)[..., None]
    return {"per_megapixel": density, "depth": depth}


def specular(scene: Scene, rng: Generator) -> Strengths:
    """Small spots that reflect the lamp; on average 10 per million pixels."""
    density = rng.uniform(0, 20)
    for _ in scattered(rng, scene.track.shape, density):
        radius = np.float32(rng.uniform(1.5, 5))

        def spot(distance: Float, radius: np.float32 = radius) -> Float:
            light: Float = np.float32(0.6) * np.exp(-0.5 * (distance / radius) ** 2)
            return light

        add_spot(scene.image, random_point(rng, scene.track.shape), spot, 3 * float(radius))
    return {"per_megapixel": density}


def psf(scene: Scene, rng: Generator) -> Strengths:
    """The lens: Gaussian of 1-3 px, times the wavelength's ratio in each channel; sharp images are commoner."""
    sigma = scene.strength(1 + 2 * rng.beta(1, 5), 3)
    for channel, ratio in enumerate(WAVELENGTH_RATIO):
        scene.image[..., channel] = blur(np.ascontiguousarray(scene.image[..., channel]), sigma * ratio)
    return {"sigma_px": sigma}


def chromatic(scene: Scene, rng: Generator) -> Strengths:
    """Red and blue fall 0.2-1.5 px apart, each half of that from green."""
    shift, angle = rng.uniform(0.2, 1.5), rng.uniform(0, 2 * np.pi)
    for channel, side in ((0, 0.5), (2, -0.5)):
        dx, dy = side * shift * np.cos(angle), side * shift * np.sin(angle)
        scene.image[..., channel] = _shift(scene.image[..., channel], dx, dy)
    return {"shift_px": shift, "angle": angle}


def _shift(image: Float, dx: float, dy: float) -> Float:
    """Move ``(H, W)`` by less than a pixel each way, bilinear; the border pixel is repeated."""
    for axis, d in ((1, dx), (0, dy)):
        neighbour = np.roll(image, 1 if d > 0 else -1, axis)
        edge: list[slice | int] = [slice(None), slice(None)]
        edge[axis] = 0 if d > 0 else -1
        neighbour[tuple(edge)] = image[tuple(edge)]
        image = image + np.float32(abs(d)) * (neighbour - image)
    return image


def vignette(scene: Scene, rng: Generator) -> Strengths:
    """The corners are 5-30 % darker than the brightest point, which lies off the middle."""
    depth, centre = scene.strength(rng.uniform(0.05, 0.30), 0.30), rng.uniform(0.35, 0.65, 2)
    height, width = scene.track.shape
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.linspace(0, 1, width, dtype=np.float32)[None] - np.float32(centre[1])
    squared = x**2 + y**2
    scene.image *= (1 - np.float32(depth) * squared / squared.max())[..., None]
    return {"depth": depth}


def gamma(scene: Scene, rng: Generator) -> Strengths:
    """The camera's response, exponent 1 / 1.8 to 1 / 2.4."""
    scene.gamma = rng.uniform(1.8, 2.4)
    return {"exponent": scene.gamma}


def encode(scene: Scene, rng: Generator) -> Strengths:
    """Turn light into gray levels; never switched off."""
    # From here on, the channels of a pixel lie side by side, as a camera sends them and a file holds them.
    scene.image = np.ascontiguousarray(255 * np.clip(scene.image, 0, 1) ** np.float32(1 / scene.gamma))
    return {}


def camera(scene: Scene, rng: Generator) -> Strengths:
    """Camera noise of 0.8-2.5 gray levels in each channel."""
    sigma = scene.strength(rng.uniform(0.8, 2.5), 2.5)
    scene.image += np.float32(sigma) * rng.standard_normal(scene.image.shape, dtype=np.float32)
    return {"sigma_gray": sigma}


EFFECTS = by_name(
    *(levels, reflectance, vias, lower, decoration, rims, film),  # of the sample
    *(specular, psf, dust, chromatic, vignette),  # of light and lens
    *(seams, gamma, encode, camera, jpeg),  # of stitching, camera and file
)

# Name of a stress -> the effects that it forces; uneven light takes the place of clouds.
STRESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"clouds": ("film", "vignette"), "defocus": ("psf",), "noise": ("camera",)}
)

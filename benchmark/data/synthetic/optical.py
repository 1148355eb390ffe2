"""How an optical microscope shows a layout: colours, what shines through, lens, camera and dirt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmark.data.synthetic.effects import (
    Effect,
    Float,
    Generator,
    Scene,
    Strengths,
    add_spot,
    blur,
    jpeg,
    seams,
    smooth_field,
)


@dataclass(frozen=True)
class OpticalStyle:
    """Display values in [0, 1], each a range (low, high), before light and lens change them.

    Attributes:
        substrate: luma of the oxide.
        contrast: how much brighter tracks are.
        via: how much darker vias are than their track, as a share.
    """

    substrate: tuple[float, float]
    contrast: tuple[float, float]
    via: tuple[float, float]


OMC = OpticalStyle(substrate=(0.29, 0.32), contrast=(0.17, 0.21), via=(0.15, 0.45))

# Colours are chosen as display values and turned into light with the usual display gamma.
DISPLAY_GAMMA = 2.2
# Blue, green and red light: the blur of a lens grows with the wavelength. Order R, G, B.
WAVELENGTH_RATIO = (1.2, 1.0, 0.83)
# Green light of 540 nm returns after 540 / (2 x 1.46) nm of oxide.
OXIDE_PERIOD_NM = 185.0


def levels(scene: Scene, rng: Generator) -> Strengths:
    """Paint oxide and tracks; never switched off."""
    style: OpticalStyle = scene.style
    substrate, contrast = rng.uniform(*style.substrate), rng.uniform(*style.contrast)
    oxide, metal = _colour(rng, substrate, 0.10), _colour(rng, substrate + contrast, 0.06)
    scene.oxide, scene.metal = oxide, metal
    scene.image[:] = oxide
    _add(scene.image, metal - oxide, scene.track)
    return {
        "substrate": float(substrate), "contrast": float(contrast),
        **{f"oxide_{c}": float(v) for c, v in zip("rgb", oxide, strict=True)},
        **{f"metal_{c}": float(v) for c, v in zip("rgb", metal, strict=True)},
    }  # fmt: skip


def reflectance(scene: Scene, rng: Generator) -> Strengths:
    """Nets that hold 30-50 % of the metal stand out 3-4 times as far from the oxide, as thicker or smoother metal does.

    This is what defeats a global threshold: it falls between bright and plain tracks. To a network that looks at what
    surrounds a pixel, both are brighter than the oxide.
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
    return {"share": float(share), "nets": float(bright.size)}


def vias(scene: Scene, rng: Generator) -> Strengths:
    """Paint vias, darker than their track; never switched off."""
    style: OpticalStyle = scene.style
    depth = rng.uniform(*style.via)
    if scene.raster.via.any():
        scene.image *= (1 - np.float32(depth) * blur(scene.raster.via.astype(np.float32), 0.8))[..., None]
    return {"depth": float(depth)}


def _colour(rng: Generator, value: float, spread: float) -> NDArray[np.float32]:
    """Return linear RGB light of a display value, its channels off by up to a share of it."""
    display = np.clip(value * (1 + rng.uniform(-spread, spread, 3)), 0.02, 0.95)
    return (display**DISPLAY_GAMMA).astype(np.float32)


def _add(image: Float, colour: Float, weight: Float) -> None:
    """Add linear RGB light to an image, weighted by ``(H, W)``; one plane at a time runs along rows."""
    for channel, value in enumerate(colour):
        image[..., channel] += value * weight


def lower(scene: Scene, rng: Generator) -> Strengths:
    """The layer below, across and out of focus, with 0.1-0.5 of the tracks' brightness."""
    weight, sigma, tint = 0.1 + 0.4 * rng.beta(1, 3), rng.uniform(1, 4), rng.uniform(0.8, 1.2, 3)
    below = np.float32(weight) * blur(scene.raster.lower.astype(np.float32), sigma) * (1 - scene.track)
    scene.image += below[..., None] * (scene.metal * tint.astype(np.float32) - scene.image)
    return {"weight": float(weight), "sigma_px": float(sigma)}


def decoration(scene: Scene, rng: Generator) -> Strengths:
    """Unlabelled shapes under the tracks: a plain track's light, give or take 15 %, and softer edges."""
    weight, sigma = rng.uniform(0.8, 1.0), rng.uniform(1.5, 3)
    tint = rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, 3)
    shapes = np.float32(weight) * blur(scene.raster.decoration.astype(np.float32), sigma) * (1 - scene.track)
    scene.image += shapes[..., None] * (scene.metal * tint.astype(np.float32) - scene.image)
    return {"weight": float(weight), "sigma_px": float(sigma)}


def rims(scene: Scene, rng: Generator) -> Strengths:
    """Track edges scatter light out of the lens: a dark line of 20-45 % along each."""
    depth = rng.uniform(0.20, 0.45)
    soft = blur(scene.track, 1.0)
    scene.image *= (1 - np.float32(4 * depth) * soft * (1 - soft))[..., None]
    return {"depth": float(depth)}


def film(scene: Scene, rng: Generator) -> Strengths:
    """Interference in the oxide: its thickness, and with it the hue, drifts by 5-20 % over the field."""
    thickness, change = rng.uniform(300, 900), rng.uniform(0.05, 0.20)
    depth = scene.strength(rng.uniform(0.01, 0.05), 0.05)
    height, width = scene.track.shape
    nm = np.float32(thickness) * (1 + np.float32(change / 2) * np.clip(smooth_field(rng, height, width, 120), -2, 2))
    for channel, ratio in enumerate(WAVELENGTH_RATIO):
        wave = np.cos(nm * np.float32(2 * np.pi / (OXIDE_PERIOD_NM * ratio)))
        scene.image[..., channel] *= 1 + np.float32(depth) * wave
    return {"thickness_nm": float(thickness), "change": float(change), "depth": float(depth)}


def dust(scene: Scene, rng: Generator) -> Strengths:
    """Out-of-focus particles: dark discs of 5-40 px radius; on average 4 per million pixels."""
    density, depth = rng.uniform(0, 8), rng.uniform(0.1, 0.4)
    height, width = scene.track.shape
    shade = np.zeros_like(scene.track)
    for _ in range(rng.poisson(density * height * width / 1e6)):
        radius = float(rng.uniform(5, 40))
        place = (rng.uniform(0, width), rng.uniform(0, height))
        add_spot(shade, place, partial(_airy_disc, radius=np.float32(radius)), radius + 6)
    scene.image *= 1 - np.float32(depth) * np.clip(shade, 0, 1)[..., None]
    return {"per_megapixel": float(density), "depth": float(depth)}


def _airy_disc(distance: Float, radius: np.float32) -> Float:
    """A disc with a soft edge and one faint ring, as a particle far from focus."""
    disc = 1 / (1 + np.exp(1.5 * (distance - radius)))
    ring: Float = disc * (0.75 + 0.25 * np.cos(2 * np.pi * (radius - distance) / np.maximum(radius / 2, 4)))
    return ring


def specular(scene: Scene, rng: Generator) -> Strengths:
    """Small spots that reflect the lamp; on average 10 per million pixels."""
    density = rng.uniform(0, 20)
    height, width = scene.track.shape
    for _ in range(rng.poisson(density * height * width / 1e6)):
        radius = np.float32(rng.uniform(1.5, 5))
        place = (rng.uniform(0, width), rng.uniform(0, height))
        add_spot(scene.image, place, partial(_bright_spot, radius=radius), 3 * float(radius))
    return {"per_megapixel": float(density)}


def _bright_spot(distance: Float, radius: np.float32) -> Float:
    spot: Float = np.float32(0.6) * np.exp(-0.5 * (distance / radius) ** 2)
    return spot


def psf(scene: Scene, rng: Generator) -> Strengths:
    """The lens: Gaussian of 1-3 px, times the wavelength's ratio in each channel; sharp images are commoner."""
    sigma = scene.strength(1 + 2 * rng.beta(1, 5), 3)
    for channel, ratio in enumerate(WAVELENGTH_RATIO):
        scene.image[..., channel] = blur(np.ascontiguousarray(scene.image[..., channel]), float(sigma * ratio))
    return {"sigma_px": float(sigma)}


def chromatic(scene: Scene, rng: Generator) -> Strengths:
    """Red and blue fall 0.2-1.5 px apart, each half of that from green."""
    shift, angle = rng.uniform(0.2, 1.5), rng.uniform(0, 2 * np.pi)
    for channel, side in ((0, 0.5), (2, -0.5)):
        dx, dy = side * shift * np.cos(angle), side * shift * np.sin(angle)
        scene.image[..., channel] = _shift(scene.image[..., channel], float(dx), float(dy))
    return {"shift_px": float(shift), "angle": float(angle)}


def _shift(image: Float, dx: float, dy: float) -> Float:
    """Move ``(H, W)`` by less than a pixel each way, bilinear."""
    moved = image
    for axis, d in ((1, dx), (0, dy)):
        neighbour = np.roll(moved, 1 if d > 0 else -1, axis)
        edge: list[slice | int] = [slice(None), slice(None)]
        edge[axis] = 0 if d > 0 else -1
        neighbour[tuple(edge)] = moved[tuple(edge)]
        moved = moved + np.float32(abs(d)) * (neighbour - moved)
    return moved


def vignette(scene: Scene, rng: Generator) -> Strengths:
    """The corners are 5-30 % darker than the brightest point, which lies off the middle."""
    depth, centre = scene.strength(rng.uniform(0.05, 0.30), 0.30), rng.uniform(0.35, 0.65, 2)
    height, width = scene.track.shape
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.linspace(0, 1, width, dtype=np.float32)[None] - np.float32(centre[1])
    squared = x**2 + y**2
    scene.image *= (1 - np.float32(depth) * squared / squared.max())[..., None]
    return {"depth": float(depth)}


def gamma(scene: Scene, rng: Generator) -> Strengths:
    """The camera's response, exponent 1 / 1.8 to 1 / 2.4."""
    scene.gamma = float(rng.uniform(1.8, 2.4))
    return {"exponent": scene.gamma}


def encode(scene: Scene, rng: Generator) -> Strengths:
    """Turn light into gray levels; never switched off."""
    # From here on as a camera sends it and a file holds it: the channels of a pixel side by side.
    scene.image = np.ascontiguousarray(255 * np.clip(scene.image, 0, 1) ** np.float32(1 / scene.gamma))
    return {}


def camera(scene: Scene, rng: Generator) -> Strengths:
    """Camera noise of 0.8-2.5 gray levels in each channel."""
    sigma = scene.strength(rng.uniform(0.8, 2.5), 2.5)
    scene.image += np.float32(sigma) * rng.standard_normal(scene.image.shape, dtype=np.float32)
    return {"sigma_gray": float(sigma)}


# In the order of application: sample, light, lens, stitching, camera, file.
EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "levels": levels,
        "reflectance": reflectance,
        "vias": vias,
        "lower": lower,
        "decoration": decoration,
        "rims": rims,
        "film": film,
        "specular": specular,
        "psf": psf,
        "dust": dust,
        "chromatic": chromatic,
        "vignette": vignette,
        "seams": partial(seams, low=0.01, high=0.03),
        "gamma": gamma,
        "encode": encode,
        "camera": camera,
        "jpeg": partial(jpeg, worst=60),
    }
)

# What a stand-in can be stressed by, and the effects that it then forces; light that is uneven takes the clouds' place.
STRESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"clouds": ("film", "vignette"), "defocus": ("psf",), "noise": ("camera",)}
)

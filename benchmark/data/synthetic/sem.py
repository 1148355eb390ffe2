"""Draws a layout as a scanning electron microscope shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from scipy import fft

from benchmark.data.synthetic.effects import Scene, Strengths, by_name, jpeg, random_point, scattered, seams
from benchmark.data.synthetic.image_operations import Float, add_spot, blur, segment_distance, shift_rows, smooth_field


@dataclass(frozen=True)
class SemStyle:
    """Gray levels of a data set, each a range (low, high) within 0-255."""

    background: tuple[float, float]  # the dielectric
    contrast: tuple[float, float]  # tracks above background
    via: tuple[float, float]  # the bright part of vias
    via_glow: tuple[float, float]  # Gaussian over which vias fade, pixels
    annulus: bool  # vias are bright rings with a dark core; otherwise bright discs in a dark ring
    seam_gain: tuple[float, float] = (0.01, 0.05)  # change of gain at a seam, as a share
    worst_jpeg: int = 70  # least quality of JPEG artefacts


# Measured on frames of HY5SYN; for MIIC around the published means of 59 and 146.
# The vias of a printed HY5SYN window are overexposed and fall from nine to one tenth over about 12 px.
HY5SYN = SemStyle(background=(35, 65), contrast=(8, 40), via=(170, 330), via_glow=(3.5, 5.0), annulus=False)
MIIC = SemStyle(background=(52, 66), contrast=(77, 97), via=(185, 245), via_glow=(1.5, 3.0), annulus=True)

# Roughness moves an edge where a blur has made it a ramp, so by up to about three times this blur.
EDGE_SIGMA_PX = 1.5
# The largest standard deviation of the roughness noise that is drawn.
ROUGHEST_PX = 2.0
# Edges in HY5SYN frames are smooth below about 5 px; a Gaussian of this width leaves half of the amplitude there.
RESIST_SIGMA_PX = 1.2
# The period of the roughness noise in larger frames; after so many correlation lengths the repetition is invisible.
ROUGHNESS_TILE_PX = 1024


def roughness(scene: Scene, rng: Generator) -> Strengths:
    """Line-edge roughness: edges wander with the spectrum PSD0 / (1 + (2πfξ)^(2H+1)), H = 0.5.

    The mask stays the drawn shape, as an annotator's polygon or a layout file is. In two dimensions a field whose
    cuts have that spectrum has the power spectrum (1 + (2πfξ)²)^-(H+1). The resist's blur removes finer details. The
    standard deviation is 0.5-2 px; small ones are commoner.
    """
    sigma, length = scene.strength(0.5 + 1.5 * rng.beta(1, 3), ROUGHEST_PX), rng.uniform(3, 10)
    height, width = scene.track.shape
    rows, columns = min(height, ROUGHNESS_TILE_PX), min(width, ROUGHNESS_TILE_PX)
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    squared = (2 * np.pi) ** 2 * (fy**2 + fx**2)
    amplitude = ((1 + length**2 * squared) ** -0.75 * np.exp(-squared * RESIST_SIGMA_PX**2 / 2)).astype(np.float32)
    noise = fft.irfft2(fft.rfft2(rng.standard_normal((rows, columns), dtype=np.float32)) * amplitude, (rows, columns))
    noise *= np.float32(sigma / noise.std())
    noise = np.tile(noise, (-(-height // rows), -(-width // columns)))[:height, :width]
    # Near an edge, distance = (blurred mask - 1/2) / slope, and a Gaussian's ramp has the slope 1 / (sigma sqrt(2π)).
    # Stronger noise than is ever drawn gets a wider ramp, so that edges move in proportion to it.
    edge = EDGE_SIGMA_PX * max(sigma / ROUGHEST_PX, 1)
    ramp = blur(scene.raster.track, edge)
    distance = (ramp - np.float32(0.5)) * np.float32(edge * np.sqrt(2 * np.pi))
    away = (ramp < 0.01) | (ramp > 0.99)
    scene.track = np.clip(np.where(away, distance, distance + noise) + np.float32(0.5), 0, 1)
    return {"sigma_px": sigma, "correlation_px": length}


def levels(scene: Scene, rng: Generator) -> Strengths:
    """Paint background, tracks and vias; never switched off."""
    style: SemStyle = scene.style
    background, contrast, via = rng.uniform(*style.background), rng.uniform(*style.contrast), rng.uniform(*style.via)
    glow, ring = rng.uniform(*style.via_glow), rng.uniform(0.2, 0.6)
    scene.contrast = contrast
    scene.image[:] = np.float32(background) + np.float32(contrast) * scene.track
    if scene.raster.via.any():
        disc = blur(scene.raster.via, glow)
        scene.image -= np.float32(2 * ring * contrast) * np.maximum(blur(disc, 3) - disc, 0)
        scene.image += (np.float32(via) - scene.image) * disc
        if style.annulus:
            core = blur(scene.raster.core, 1.0)
            scene.image += (np.float32(background) - scene.image) * np.float32(0.9) * core
    return {"background": background, "contrast": contrast, "via": via, "via_glow_px": glow, "via_ring": ring}


def ghost(scene: Scene, rng: Generator) -> Strengths:
    """The layer below, blurred, with 3-20 % of the tracks' contrast."""
    weight, sigma = rng.uniform(0.03, 0.20), rng.uniform(2, 6)
    below = blur(scene.raster.lower, sigma)
    scene.image += np.float32(weight * scene.contrast) * below * (1 - scene.track)
    return {"weight": weight, "sigma_px": sigma}


def edges(scene: Scene, rng: Generator) -> Strengths:
    """Electrons escape more easily at edges: about +16 % of the contrast 2 px inside, -19 % up to 4 px outside."""
    inside, outside = rng.uniform(0.10, 0.22), rng.uniform(0.13, 0.25)
    # Track minus its blur at 2.5 px is +0.21 at 2 px inside an edge and the opposite at 2 px outside.
    detail = (scene.track - blur(scene.track, 2.5)) / np.float32(0.21)
    detail *= np.where(detail > 0, np.float32(inside), np.float32(outside))
    scene.image += np.float32(scene.contrast) * detail
    return {"inside": inside, "outside": outside}


def grains(scene: Scene, rng: Generator) -> Strengths:
    """Short bright ticks across tracks, seen in HY5SYN frames; 0-40 per million pixels."""
    density, gain = rng.uniform(0, 40), rng.uniform(0.3, 1.0)
    for _ in scattered(rng, scene.track.shape, density):
        middle, angle, half = random_point(rng, scene.track.shape), rng.uniform(0, np.pi), rng.uniform(5, 16)
        reach = (half * np.cos(angle), half * np.sin(angle))
        box, distance = segment_distance(scene.track.shape, middle, reach, 4)
        tick = np.float32(gain * scene.contrast) * np.exp(-(distance**2) / 3)
        scene.image[box] += tick * scene.track[box]
    return {"per_megapixel": density, "gain": gain}


def residue(scene: Scene, rng: Generator) -> Strengths:
    """Patches that delayering left: dielectric nearly as bright as tracks, over 0-4 % of a third of the images."""
    share, gain, present = rng.uniform(0.005, 0.04), rng.uniform(0.3, 0.9), rng.random() < 1 / 3
    size = rng.uniform(10, 25)
    if not present:
        return {"share": 0.0}
    field = smooth_field(rng, scene.track.shape, size)
    patch = np.clip((field - np.quantile(field[::8, ::8], 1 - share)) * 4, 0, 1)
    scene.image += np.float32(gain * scene.contrast) * patch * (1 - scene.track)
    return {"share": share, "gain": gain, "size_px": size}


def scratches(scene: Scene, rng: Generator) -> Strengths:
    """Long thin scratches, bright or dark, in a quarter of the images."""
    count, gain, present = int(rng.integers(1, 4)), rng.uniform(0.3, 1.0), rng.random() < 0.25
    for _ in range(count if present else 0):
        middle, angle = random_point(rng, scene.track.shape), rng.uniform(0, np.pi)
        half, thick, sign = rng.uniform(50, 300), rng.uniform(0.7, 2), rng.choice([-0.5, 1.0])
        reach = (half * np.cos(angle), half * np.sin(angle))
        box, distance = segment_distance(scene.track.shape, middle, reach, 8)
        profile = np.exp(-0.5 * (distance / np.float32(thick)) ** 2)
        scene.image[box] += np.float32(sign * gain * scene.contrast) * profile
    return {"count": count if present else 0, "gain": gain}


def dust(scene: Scene, rng: Generator) -> Strengths:
    """Particles of 2-8 px radius, brighter or darker than tracks; on average 6 per million pixels."""
    density = rng.uniform(0, 12)
    for _ in scattered(rng, scene.track.shape, density):
        radius, level = np.float32(rng.uniform(2, 8)), np.float32(rng.choice([-0.7, 1.5]) * scene.contrast)

        def soft_disc(distance: Float, radius: np.float32 = radius, level: np.float32 = level) -> Float:
            disc: Float = level / (1 + np.exp(2 * (distance - radius)))
            return disc

        add_spot(scene.image, random_point(rng, scene.track.shape), soft_disc, float(radius) + 4)
    return {"per_megapixel": density}


def clouds(scene: Scene, rng: Generator) -> Strengths:
    """Uneven yield over the field: smooth gain and offset, correlated over 100-400 px."""
    gain, offset = scene.strength(rng.uniform(0.03, 0.12), 0.12), scene.strength(rng.uniform(1, 8), 8)
    sigma = rng.uniform(100, 400)
    scene.image *= 1 + np.float32(gain) * np.clip(smooth_field(rng, scene.track.shape, sigma), -2, 2)
    scene.image += np.float32(offset) * np.clip(smooth_field(rng, scene.track.shape, sigma), -2, 2)
    return {"gain": gain, "offset_gray": offset, "sigma_px": sigma}


def charging(scene: Scene, rng: Generator) -> Strengths:
    """The beam leaves charge: along the scan, a dark tail follows bright features and decays over 20-150 px."""
    from scipy import signal  # a second, which only drawing has to spend

    depth, decay = rng.uniform(0, 0.12), rng.uniform(20, 150)
    keep = np.float32(np.exp(-1 / decay))
    excess = np.maximum(scene.image - np.median(scene.image[::8, ::8]), 0)
    tail = signal.lfilter(np.array([1 - keep], np.float32), np.array([1, -keep], np.float32), excess, axis=1)
    scene.image -= np.float32(depth) * tail * (1 - scene.track)
    return {"depth": depth, "decay_px": decay}


def psf(scene: Scene, rng: Generator) -> Strengths:
    """The beam: Gaussian of 0.5-1.2 px; one image in six is defocused, to 3 px at most; axes differ by up to 25 %."""
    sharp, defocus, astigmatism = rng.uniform(0.5, 1.2), rng.uniform(1.2, 3.0), rng.uniform(0.75, 1.0)
    sigma = scene.strength(defocus if rng.random() < 1 / 6 else sharp, 3.0)
    ratio = astigmatism if rng.random() < 0.5 else 1 / astigmatism
    scene.image = blur(scene.image, (float(sigma * np.sqrt(ratio)), float(sigma / np.sqrt(ratio))))
    return {"sigma_px": sigma, "astigmatism": ratio}


def drift(scene: Scene, rng: Generator) -> Strengths:
    """The stage moves during the scan: up to 1.5 px sideways, slowly over the rows."""
    amplitude, phase, turns = rng.uniform(0, 1.5), rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.0)
    t = np.linspace(0, 1, scene.image.shape[0], dtype=np.float32)
    wave = np.sin(np.float32(2 * np.pi * turns) * t + np.float32(phase))
    scene.image = shift_rows(scene.image, np.float32(amplitude) * wave)
    return {"amplitude_px": amplitude, "turns": turns}


def jitter(scene: Scene, rng: Generator) -> Strengths:
    """Each row starts 0.2-0.5 px (1 sigma) early or late."""
    sigma = rng.uniform(0.2, 0.5)
    starts = rng.standard_normal(len(scene.image), dtype=np.float32)
    scene.image = shift_rows(scene.image, np.float32(sigma) * starts)
    return {"sigma_px": sigma}


def shot(scene: Scene, rng: Generator) -> Strengths:
    """Shot noise with Fano factor 1.9 at 25-60 electrons per gray level: variance = 1.9 gray / electrons."""
    electrons = rng.uniform(25, 60)
    if scene.forced is not None:  # twice as much noise comes from a quarter of the electrons
        electrons = 25 / scene.forced**2
    sigma = np.sqrt(np.maximum(scene.image, 0) * np.float32(1.9 / electrons))
    scene.image += sigma * rng.standard_normal(scene.image.shape, dtype=np.float32)
    return {"electrons_per_gray": electrons, "fano": 1.9}


def read(scene: Scene, rng: Generator) -> Strengths:
    """Read noise of 0.6-3.5 gray levels; with few frames averaged (half of the images) a part is common to a row."""
    sigma, row_share = scene.strength(rng.uniform(0.6, 3.5), 3.5), rng.uniform(0.1, 0.4)
    row_share = 0.0 if rng.random() < 0.5 else row_share
    scene.image += np.float32(sigma) * rng.standard_normal(scene.image.shape, dtype=np.float32)
    scene.image += np.float32(sigma * row_share) * rng.standard_normal((scene.image.shape[0], 1), dtype=np.float32)
    return {"sigma_gray": sigma, "row_share": row_share}


EFFECTS = by_name(
    *(roughness, levels, ghost, edges, grains, residue, scratches, dust),  # of the sample
    *(clouds, charging, psf, drift, jitter, seams),  # of beam, scan and stitching
    *(shot, read, jpeg),  # of detector and file
)

# Name of a stress -> the effects that it forces.
STRESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"clouds": ("clouds",), "defocus": ("psf",), "noise": ("shot", "read"), "roughness": ("roughness",)}
)

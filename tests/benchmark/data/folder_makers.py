"""Small dataset folders on disk for the tests of the data layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(seed: int, height: int = 64, width: int | None = None, channels: int = 1) -> NDArray[np.uint8]:
    """Noise, so that every pixel tells where it came from."""
    rng = np.random.default_rng(seed)
    shape = (height, width or height) + ((channels,) if channels > 1 else ())
    return rng.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def add_pair(folder: Path, stem: str, image: NDArray[np.uint8]) -> None:
    """Write an image and as its label the pixels above 127, so that a test can derive one from the other."""
    gray = image if image.ndim == 2 else image[..., 0]
    save(folder / "image" / f"{stem}.png", image)
    save(folder / "label" / f"{stem}.png", np.where(gray > 127, 255, 0).astype(np.uint8))


def make_folder(root: Path, stems: Iterable[str], height: int = 64, width: int | None = None) -> Path:
    for seed, stem in enumerate(stems):
        add_pair(root, stem, picture(seed, height, width))
    return root


def write_pairs(
    root: Path, count: int, size: int = 64, label: Callable[[np.ndarray], np.ndarray] = lambda m: m
) -> None:
    """Write images of a bright bar each, with masks that ``label`` may spoil."""
    rng = np.random.default_rng(0)
    for folder in ("image", "label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        mask = np.zeros((size, size), np.uint8)
        mask[:, rng.integers(8, 24) : rng.integers(32, 56)] = 255
        image = np.clip(mask * 0.5 + rng.normal(60, 20, mask.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "image" / f"{index}.png")
        Image.fromarray(label(mask)).save(root / "label" / f"{index}.png")

"""Provides the image that an exported file is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.datasets import standin, target_of
from benchmark.data.formats.images import UInt8Array, percentile_levels, read_depth, read_image, sized
from benchmark.data.packs import draw_tile
from benchmark.data.specs import KNOWN, SUFFIX
from benchmark.predict.export.export_formats import Array
from benchmark.records.store import Store
from benchmark.records.weights import TrainedNetwork
from benchmark.utils.errors import UserError


def picture(study: Path, trained: TrainedNetwork, file: Path | None) -> tuple[str, Array] | None:
    """Return the name and the centre ``(1, C, H, W)`` in [0, 1] of an image, of the training's size.

    The image is the user's ``file``, or else the first test image of a stand-in that the network was trained on;
    ``None`` without both.

    Raises:
        UserError: the file cannot be read or is smaller than the training's inputs.
    """
    side = trained.input_size
    if file is not None:
        levels = percentile_levels([file]) if read_depth(file) == 16 else None
        pixels = read_image(file, trained.channels, levels)
        if min(pixels.shape[:2]) < side:
            raise UserError(
                f"--image {file}: {sized(pixels.shape)} pixels; expected at least {side}x{side}, what "
                f"{trained.label} was trained at: name a larger one"
            )
        return file.name, _centre(pixels, side)
    return next(_drawn_again(study, trained), None)


def test_pictures(study: Path, trained: TrainedNetwork) -> list[Array]:
    """Return all test images of the stand-ins that a network was trained on, as :func:`picture` does."""
    return [pixels for _, pixels in _drawn_again(study, trained)]


def _drawn_again(study: Path, trained: TrainedNetwork) -> Iterator[tuple[str, Array]]:
    """Yield the test images of stand-ins among the training sets, if today's drawings are the same."""
    protocol = trained.protocol
    for name in trained.train:
        entry = KNOWN.get(name.removesuffix(SUFFIX))
        split = Store(study).read_split(name, trained.record.repeat if trained.record else 0)
        if name.endswith(SUFFIX) and entry is not None and split is not None:
            source = standin(entry, target_of(entry, protocol), protocol)
            if split.get("fingerprint") == [source.fingerprint]:
                for image in split["test"]:
                    yield f"{name} {image}", _centre(draw_tile(source, protocol, image), trained.input_size)


def _centre(pixels: UInt8Array, side: int) -> Array:
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    window = pixels[top : top + side, left : left + side]
    return np.ascontiguousarray(window.transpose(2, 0, 1)[None], np.float32) / np.float32(255)

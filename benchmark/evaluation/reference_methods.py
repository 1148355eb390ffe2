"""Segments test images without training: Otsu threshold, k-means, all background."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.config.protocol import Protocol
from benchmark.data.formats.images import UInt8Array, to_channels
from benchmark.data.packs import Pack
from benchmark.data.splits import Tile
from benchmark.evaluation.counts import Row, count_layers, rows_by_test
from benchmark.evaluation.tested_windows import read_block, tested_blocks

Method = Callable[[UInt8Array], NDArray[np.bool_]]

KMEANS_BLUR_PX = 3.0  # sigma of the blurred gray values, a third of a narrow track
KMEANS_ROUNDS = 20  # two clusters of gray values converge after about ten


def otsu(image: UInt8Array) -> NDArray[np.bool_]:
    """Classify pixels above the image's Otsu threshold (IEEE T-SMC 1979) as foreground."""
    from skimage.filters import threshold_otsu  # not above: most calls that import this module segment nothing

    gray = to_channels(image, 1)[..., 0]
    # An image of a single gray level has no threshold and no foreground.
    return gray > float(threshold_otsu(gray)) if gray.min() < gray.max() else np.zeros(gray.shape, dtype=bool)


def kmeans(image: UInt8Array) -> NDArray[np.bool_]:
    """Classify the brighter of two clusters of pixels as foreground (k-means, Lloyd, IEEE T-IT 1982).

    A pixel's features are its gray value and its blurred gray value; gray values alone would give Otsu's threshold.
    The clusters start at the darkest and the brightest pixel of the blurred image, so the result is deterministic.
    """
    from scipy import ndimage
    from scipy.cluster.vq import kmeans2

    gray = to_channels(image, 1)[..., 0].astype(np.float32)
    blurred = ndimage.gaussian_filter(gray, KMEANS_BLUR_PX)
    if blurred.min() == blurred.max():
        return np.zeros(gray.shape, dtype=bool)
    features = np.stack([gray.ravel(), blurred.ravel()], axis=1)
    start = features[[blurred.argmin(), blurred.argmax()]]
    centres, nearest = kmeans2(features, start, iter=KMEANS_ROUNDS, minit="matrix")
    brighter: NDArray[np.bool_] = (nearest == centres[:, 1].argmax()).reshape(gray.shape)
    return brighter


def background(image: UInt8Array) -> NDArray[np.bool_]:
    """Classify all pixels as background: the lower bound for trained networks."""
    return np.zeros(image.shape[:2], dtype=bool)


REFERENCE_METHODS: Mapping[str, Method] = {
    "otsu": otsu,
    "kmeans": kmeans,
    "background": background,
}


def score_reference(name: str, pack: Pack, indices: Sequence[int], protocol: Protocol) -> dict[str, list[Row]]:
    """Score a method of :data:`REFERENCE_METHODS` on the tested windows of the networks; each layer gets its mask."""
    counted: list[tuple[Tile, list[dict[str, int]]]] = []
    for block in tested_blocks(pack, indices, protocol):
        image, masks = read_block(pack, block, protocol)
        predictions = np.stack([REFERENCE_METHODS[name](image)] * len(pack.layers))
        counted.append((block.tile, count_layers(masks, predictions, pack.layers, protocol.evaluation)))
    return rows_by_test(pack, counted)

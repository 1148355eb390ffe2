"""Finds images that are equal or nearly equal, from small gray thumbnails.

Two images are near-duplicates where a perceptual hash (signs of their low frequencies) and the details of their
thumbnails both agree. The hash alone also joins repetitive layouts of one pitch; details alone would join empty areas
that share the microscope's shading, which is therefore removed first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.polynomial.polynomial import polyvander2d
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, sparse

from benchmark.data.formats.images import UInt8Array, to_channels
from benchmark.data.splits import Tile

SIDE = 32  # of a thumbnail, pixels
LOW = 8  # frequencies of the hash in each direction
# Measured on 300 windows of 512x512 and 128 more cut from 8 frames, of each of the four stand-ins. Copies (JPEG quality
# 70, brightness +-10 %, noise of 10 gray levels, shifted by 1 px across and down, or several at once) differ in at most
# 6 bits of 63 and correlate by 0.976 and more. Different windows differ in at least 14 bits and correlate by 0.888 at
# most, by 0.752 among those up to 20 bits apart; none of 1.5 million pairs was joined. A shift of 2 px is found in 93 %
# (miic) to 100 % of the images.
MOST_BITS = 10
LEAST_CORRELATION = 0.95
# Standard deviation of a thumbnail's details, gray levels. Below it rounding decides how much two thumbnails correlate,
# and images are joined only where their thumbnails are equal; copies are missed now and then up to 2.4. Empty fields
# have about 0.6 under any shading that a cubic surface describes; a narrow bright spot of 60 gray levels joins them.
LEAST_CONTRAST = 1.0
BLOCK = 256  # thumbnails compared at a time with all others: 25,000 take 2 s and 0.4 GB, if all are alike 50 s and 0.7

FloatArray = NDArray[np.float32]
Indices = NDArray[np.intp]

# An orthonormal basis (1024, 16) of the cubic surfaces over a thumbnail.
DOWN, RIGHT = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].reshape(2, -1)
SHADING: FloatArray = np.linalg.qr(polyvander2d(DOWN, RIGHT, [3, 3]))[0].astype(np.float32)


def thumbnail(image: UInt8Array) -> UInt8Array:
    """Shrink an image ``(H, W, C)`` uint8 to ``(32, 32)`` uint8, the area averages of its gray values."""
    gray = Image.fromarray(to_channels(image, 1)[..., 0])
    return np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BOX))


def clusters(thumbnails: UInt8Array) -> list[int]:
    """Return for each image the smallest index of its cluster, or its own index if it looks like no other.

    Clusters are chains, whose ends need not look alike.

    Args:
        thumbnails: ``(n, 32, 32)`` uint8.
    """
    first: dict[bytes, int] = {}
    labels = np.array([first.setdefault(small.tobytes(), index) for index, small in enumerate(thumbnails)], np.intp)
    count = len(labels)
    everything = np.arange(count)
    bits, details = _features(thumbnails)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        rows, columns = _alike(bits[block], details[block], bits[start:], details[start:])
        # Merged block by block: of thousands of equal images, all pairs would not fit in memory.
        ends = np.concatenate([rows + start, everything]), np.concatenate([columns + start, labels])
        graph = sparse.coo_array((np.ones(len(ends[0]), np.uint8), ends), shape=(count, count))
        component = sparse.csgraph.connected_components(graph, directed=False)[1]
        labels = np.unique(component, return_index=True)[1][component]
    clustered: list[int] = labels.tolist()
    return clustered


def clustered(tiles: Sequence[Tile], thumbnails: Sequence[UInt8Array]) -> list[Tile]:
    """Name each cluster of tiles that look alike after its first tile."""
    firsts = clusters(np.stack(thumbnails))
    sizes = Counter(firsts)
    return [
        replace(tile, cluster=tiles[first].name if sizes[first] > 1 else "")
        for tile, first in zip(tiles, firsts, strict=True)
    ]


def overlap(first: UInt8Array, second: UInt8Array) -> list[tuple[int, int]]:
    """Return the pairs (index in the first, index in the second) of images that look alike or are equal, ascending.

    Args:
        first: thumbnails ``(n, 32, 32)`` uint8.
        second: thumbnails ``(m, 32, 32)`` uint8.
    """
    equal: dict[bytes, list[int]] = defaultdict(list)
    for index, small in enumerate(second):
        equal[small.tobytes()].append(index)
    pairs = {(index, other) for index, small in enumerate(first) for other in equal.get(small.tobytes(), [])}
    ours, theirs = _features(first), _features(second)
    for start in range(0, len(first), BLOCK):
        block = slice(start, start + BLOCK)
        rows, columns = _alike(ours[0][block], ours[1][block], *theirs)
        pairs.update(zip((rows + start).tolist(), columns.tolist(), strict=True))
    return sorted(pairs)


def _features(thumbnails: UInt8Array) -> tuple[FloatArray, FloatArray]:
    """Return hashes ``(n, 63)`` of ±1, and details ``(n, 1024)`` of mean 0 and norm 1, all 0 where faint."""
    pixels = thumbnails.astype(np.float32)
    low = fft.dctn(pixels, axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(pixels), LOW * LOW)[:, 1:]
    bits = np.where(low > np.median(low, axis=1, keepdims=True), np.float32(1), np.float32(-1))
    details = pixels.reshape(len(pixels), SIDE * SIDE)
    details -= (details @ SHADING) @ SHADING.T
    norms = np.linalg.norm(details, axis=1, keepdims=True)
    details *= np.where(norms >= LEAST_CONTRAST * SIDE, 1 / np.maximum(norms, 1), 0)
    return bits, details


def _alike(
    bits: FloatArray, details: FloatArray, other_bits: FloatArray, other_details: FloatArray
) -> tuple[Indices, Indices]:
    """Return the indices of pairs, one from each set, whose hashes and details agree."""
    # A product of ±1 counts equal bits minus unequal ones, faster than any loop over XOR; numpy 1 counts no bits.
    near = bits @ other_bits.T >= bits.shape[1] - 2 * MOST_BITS
    rows, columns = near.any(axis=1).nonzero()[0], near.any(axis=0).nonzero()[0]
    agree = details[rows] @ other_details[columns].T >= LEAST_CORRELATION
    row, column = (near[np.ix_(rows, columns)] & agree).nonzero()
    return rows[row], columns[column]

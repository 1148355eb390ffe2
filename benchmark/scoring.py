"""Counts of a test set: made per image, written as CSV, reduced to the figures of a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from benchmark import metrics
from benchmark.data.datasets import Target
from benchmark.data.images import UInt8Array, to_channels
from benchmark.data.packs import Pack
from benchmark.protocol import Evaluation, Protocol

Row = Mapping[str, str | int]


def count(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], target: Target, settings: Evaluation
) -> dict[str, int]:
    """Return the integer terms of one image; via targets have via counts in place of opens and shorts."""
    counts = metrics.count_image(
        truth,
        prediction,
        border_px=settings.border_px,
        min_area_px=settings.min_area_px,
        electrical=target != "via",
    )
    return counts | metrics.via_counts_from_masks(truth, prediction) if target == "via" else counts


def columns_of(rows: Sequence[Row]) -> dict[str, NDArray[np.int64]]:
    """Return the integer terms that all rows have, as arrays."""
    names = [name for name in rows[0] if name not in ("image", "group")]
    return {name: np.array([row[name] for row in rows], dtype=np.int64) for name in names}


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Reduce rows both ways: the mean of per-image values, and the ratio of sums."""
    counts = columns_of(rows)
    return {reduction: metrics.reduce(counts, reduction) for reduction in get_args(metrics.Reduction)}


def to_csv(rows: Sequence[Row]) -> bytes:
    """Write rows as ``images.<test>.csv``: names, integer terms, then per-image ratios for readers."""
    counts = columns_of(rows)
    # Counts stand among the integer terms already; only per-image fractions are added.
    ratios = {name: values for name, values in metrics.ratios(counts).items() if name not in counts}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group", *counts, *ratios])
    for index, row in enumerate(rows):
        cells = [values[index].item() for values in (*counts.values(), *ratios.values())]
        writer.writerow([row["image"], row["group"], *("" if cell != cell else cell for cell in cells)])
    return text.getvalue().encode()


def otsu(image: UInt8Array) -> NDArray[np.bool_]:
    """Call everything brighter than the image's own Otsu threshold (IEEE T-SMC 1979) foreground."""
    gray = to_channels(image, 1)[..., 0]
    # An image of a single gray level has no threshold; nothing in it stands out.
    return gray > float(threshold_otsu(gray)) if gray.min() < gray.max() else np.zeros(gray.shape, dtype=bool)


def background(image: UInt8Array) -> NDArray[np.bool_]:
    """Call nothing foreground: what a method must beat to have learned anything."""
    return np.zeros(image.shape[:2], dtype=bool)


REFERENCES: Mapping[str, Callable[[UInt8Array], NDArray[np.bool_]]] = {"otsu": otsu, "background": background}


def score_reference(name: str, pack: Pack, indices: Sequence[int], target: Target, protocol: Protocol) -> list[Row]:
    """Score a method without training on the windows that the networks are tested on."""
    rows: list[Row] = []
    for index in indices:
        images, masks = pack.centre([index], protocol.input.size_for(pack.dataset))
        tile = pack.tiles[index]
        counts = count(masks[0] > 0, REFERENCES[name](images[0]), target, protocol.evaluation)
        rows.append({"image": tile.name, "group": tile.group, **counts})
    return rows

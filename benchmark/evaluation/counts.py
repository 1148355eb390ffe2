"""Counts of a test set: made per image, written as CSV, reduced to the figures of a record."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmark import BEHAVIOUR, metrics
from benchmark.config.protocol import Evaluation, Protocol
from benchmark.data.formats.images import UInt8Array, to_channels
from benchmark.data.packs import IGNORED, Pack
from benchmark.data.specs import Target

Row = Mapping[str, str | int]

#: The behaviour number of the harness from which a small component may find a net.
SMALL_NETS_FOUND = 3

# k-means sees a pixel's gray value and that of its surroundings, blurred by this much: a third of a narrow track.
KMEANS_BLUR_PX = 3.0
# Two clusters of gray values stand still after about ten rounds.
KMEANS_ROUNDS = 20


def count(mask: UInt8Array, prediction: NDArray[np.bool_], target: Target, settings: Evaluation) -> dict[str, int]:
    """Return the integer terms of one image; via targets have via counts in place of opens and shorts.

    Args:
        mask: ``(H, W)`` as in a pack: 0 background, 1 foreground, :data:`~benchmark.data.packs.IGNORED`.
        prediction: ``(H, W)``.
        target: what is foreground.
        settings: border and least area of the electrical counts.
    """
    truth, ignore = mask == 1, mask == IGNORED
    counts = metrics.count_image(
        truth,
        prediction,
        ignore=ignore,
        border_px=settings.border_px,
        min_area_px=settings.min_area_px,
        electrical=target != "via",
        cldice=settings.cldice,
    )
    return counts | metrics.via_counts_from_masks(truth, prediction, ignore=ignore) if target == "via" else counts


def limits_of_nets(settings: Evaluation, behaviours: Iterable[int] = (BEHAVIOUR,)) -> str:
    """Say which nets and components do not count, under the behaviour numbers of the harness that counted."""
    rule = (
        f"Nets that lie only in the outer {settings.border_px} px of an image, and predicted components below "
        f"{settings.min_area_px} px², do not count"
    )
    old = {number < SMALL_NETS_FOUND for number in behaviours}
    if old == {True}:
        return f"{rule}."
    since = f" (runs of behaviour number {SMALL_NETS_FOUND} on)" * (True in old)
    return f"{rule}, except{since} the largest such component of a net that no larger one hits."


def not_counted(mask: UInt8Array, prediction: NDArray[np.bool_], target: Target, settings: Evaluation) -> Counter[str]:
    """Return how many faults the border and the least area keep out of :func:`count`, by kind; of vias there are none.

    Arguments as :func:`count`.
    """
    if target == "via":
        return Counter()
    limits = {"border_px": settings.border_px, "min_area_px": settings.min_area_px}
    return Counter(metrics.not_counted(mask == 1, prediction & (mask != IGNORED), **limits))


def in_words(left_out: Mapping[str, int]) -> str:
    """Return counts of :func:`not_counted` as text, such as ``1 short, 2 specks``; blank where all are 0."""
    counted = ((number, name if number > 1 else name.removesuffix("s")) for name, number in left_out.items() if number)
    return ", ".join(f"{number} {name}" for number, name in counted)


def columns_of(rows: Sequence[Row]) -> dict[str, NDArray[np.int64]]:
    """Return the integer terms that all rows have, as arrays."""
    names = [name for name in rows[0] if name not in ("image", "group")]
    return {name: np.array([row[name] for row in rows], dtype=np.int64) for name in names}


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Reduce rows both ways: the mean of per-image values, and the ratio of sums."""
    counts = columns_of(rows)
    return {reduction: metrics.reduce(counts, reduction) for reduction in get_args(metrics.Reduction)}


def to_csv(rows: Sequence[Row]) -> bytes:
    """Write rows as ``images.<test>.csv``: names, integer terms, then per-image ratios for readers.

    Integer columns that do not apply (nets where vias are looked for) stay blank.
    """
    counts = columns_of(rows)
    # Counts stand among the integer terms already; only per-image fractions are added.
    ratios = {name: values for name, values in metrics.ratios(counts).items() if name not in counts}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group", *metrics.COUNT_COLUMNS, *ratios])
    for index, row in enumerate(rows):
        cells = [values[index].item() for values in ratios.values()]
        terms = (row.get(name, "") for name in metrics.COUNT_COLUMNS)
        writer.writerow([row["image"], row["group"], *terms, *("" if cell != cell else cell for cell in cells)])
    return text.getvalue().encode()


def otsu(image: UInt8Array) -> NDArray[np.bool_]:
    """Call everything brighter than the image's own Otsu threshold (IEEE T-SMC 1979) foreground."""
    from skimage.filters import threshold_otsu  # only the process that plans comes here; runs start sooner without

    gray = to_channels(image, 1)[..., 0]
    # An image of a single gray level has no threshold; nothing in it stands out.
    return gray > float(threshold_otsu(gray)) if gray.min() < gray.max() else np.zeros(gray.shape, dtype=bool)


def kmeans(image: UInt8Array) -> NDArray[np.bool_]:
    """Call the brighter of two clusters of pixels foreground (k-means, Lloyd, IEEE T-IT 1982).

    A pixel's features are its gray value and the blurred one: on gray values alone, two clusters are Otsu's threshold.
    The clusters start at the darkest and the brightest place, so that no chance is involved.
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
    """Call nothing foreground: what a method must beat to have learned anything."""
    return np.zeros(image.shape[:2], dtype=bool)


REFERENCES: Mapping[str, Callable[[UInt8Array], NDArray[np.bool_]]] = {
    "otsu": otsu,
    "kmeans": kmeans,
    "background": background,
}


def tested_side(pack: Pack, protocol: Protocol) -> int:
    """Return the side of the windows that are tested, pixels: the network's input, or the pack's whole tiles."""
    return pack.images.shape[1] if protocol.evaluation.window == "tile" else protocol.input.size_for(pack.dataset)


def score_reference(name: str, pack: Pack, indices: Sequence[int], target: Target, protocol: Protocol) -> list[Row]:
    """Score a method without training on the windows that the networks are tested on."""
    rows: list[Row] = []
    for index in indices:
        images, masks = pack.centre([index], tested_side(pack, protocol))
        tile = pack.tiles[index]
        counts = count(masks[0], REFERENCES[name](images[0]), target, protocol.evaluation)
        rows.append({"image": tile.name, "group": tile.group, **counts})
    return rows

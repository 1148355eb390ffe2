"""Counts the terms of the metrics per image and reduces them for a record."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmark import BEHAVIOUR, metrics
from benchmark.config.protocol import Evaluation, Protocol
from benchmark.config.targets import Target, is_via, tests_of
from benchmark.data.formats.images import UInt8Array
from benchmark.data.packs import IGNORED, Pack
from benchmark.data.splits import Tile

Row = Mapping[str, str | int]

#: From this behaviour number of the harness on, a small component may hit a net.
SMALL_NETS_FOUND = 3


def count_terms(
    mask: UInt8Array, prediction: NDArray[np.bool_], target: Target, settings: Evaluation
) -> dict[str, int]:
    """Return the integer terms of one image; vias get via counts in place of opens and shorts.

    Args:
        mask: ``(H, W)`` as in a pack: 0 background, 1 foreground, :data:`~benchmark.data.packs.IGNORED`.
        prediction: ``(H, W)``.
        target: meaning of the foreground.
        settings: border and least area of the electrical counts.
    """
    truth, ignore = mask == 1, mask == IGNORED
    counts = metrics.count_image(
        truth,
        prediction,
        ignore=ignore,
        border_px=settings.border_px,
        min_area_px=settings.min_area_px,
        electrical=not is_via(target),
        cldice=settings.cldice,
    )
    return counts | metrics.via_counts_from_masks(truth, prediction, ignore=ignore) if is_via(target) else counts


def count_layers(
    masks: UInt8Array, predictions: NDArray[np.bool_], layers: Sequence[str], settings: Evaluation
) -> list[dict[str, int]]:
    """Return the integer terms of one image for each of its layers, whose masks and predictions are ``(L, H, W)``.

    Terms of vias include their connections to the nets of the first layer that holds nets, if there is one. Pixels that
    either layer ignores count in no connection.
    """
    terms = [
        count_terms(mask, prediction, layer, settings)
        for mask, prediction, layer in zip(masks, predictions, layers, strict=True)
    ]
    nets = next((index for index, layer in enumerate(layers) if not is_via(layer)), None)
    for via in (index for index, layer in enumerate(layers) if is_via(layer) and nets is not None):
        terms[via] |= metrics.connection_counts(
            *(masks[nets] == 1, predictions[nets], masks[via] == 1, predictions[via]),
            ignore=(masks[nets] == IGNORED) | (masks[via] == IGNORED),
            border_px=settings.border_px,
            min_area_px=settings.min_area_px,
        )
    return terms


def rows_by_test(pack: Pack, counted: Iterable[tuple[Tile, Sequence[Mapping[str, int]]]]) -> dict[str, list[Row]]:
    """Return the rows of each test from every image's terms by layer; tests without images are left out."""
    images = list(counted)
    tests = tests_of(pack.dataset, "+".join(pack.layers))
    return {
        test: [{"image": tile.name, "group": tile.group, **terms[index]} for tile, terms in images]
        for index, test in enumerate(tests)
        if images
    }


def describe_net_limits(settings: Evaluation, behaviours: Iterable[int] = (BEHAVIOUR,)) -> str:
    """Describe the nets and components that do not count under the harness's behaviour numbers."""
    rule = (
        f"Nets that lie only in the outer {settings.border_px} px of an image, and predicted components below "
        f"{settings.min_area_px} px², do not count"
    )
    old = {number < SMALL_NETS_FOUND for number in behaviours}
    if old == {True}:
        return f"{rule}."
    since = f" (runs of behaviour number {SMALL_NETS_FOUND} on)" * (True in old)
    return f"{rule}, except{since} the largest such component of a net that no larger one hits."


def uncounted_faults(
    mask: UInt8Array, prediction: NDArray[np.bool_], target: Target, settings: Evaluation
) -> Counter[str]:
    """Return the number of faults by kind that border and least area keep out of :func:`count_terms`; none for vias."""
    if is_via(target):
        return Counter()
    limits = {"border_px": settings.border_px, "min_area_px": settings.min_area_px}
    return Counter(metrics.not_counted(mask == 1, prediction & (mask != IGNORED), **limits))


def faults_in_words(left_out: Mapping[str, int]) -> str:
    """Return counts of :func:`uncounted_faults` as text, such as ``1 short, 2 specks``; blank if all are 0."""
    return ", ".join(
        f"{number} {name if number > 1 else name.removesuffix('s')}" for name, number in left_out.items() if number
    )


def count_columns(rows: Sequence[Row]) -> dict[str, NDArray[np.int64]]:
    """Return the integer terms of the rows as arrays."""
    names = [name for name in rows[0] if name not in ("image", "group")]
    return {name: np.array([row[name] for row in rows], dtype=np.int64) for name in names}


def reduce_counts(
    rows: Sequence[Row], chosen: Mapping[str, metrics.Metric] = metrics.METRICS
) -> dict[str, dict[str, float]]:
    """Reduce rows to the mean of per-image values and to the ratio of sums; a record holds the built-in metrics."""
    counts = count_columns(rows)
    return {reduction: metrics.reduce(counts, reduction, chosen) for reduction in get_args(metrics.Reduction)}


def counts_csv(rows: Sequence[Row]) -> bytes:
    """Return the content of ``images.<test>.csv``: names, integer terms, then per-image ratios for readers.

    Cells that do not apply (such as nets on via targets) stay blank. Columns of connections exist if rows have them.
    """
    counts = count_columns(rows)
    names = [*metrics.COUNT_COLUMNS, *(name for name in metrics.CONNECTION_COLUMNS if name in counts)]
    ratios = {name: values for name, values in metrics.ratios(counts, metrics.BUILTIN).items() if name not in counts}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group", *names, *ratios])
    for row, *cells in zip(rows, *(values.tolist() for values in ratios.values()), strict=True):
        terms = (row.get(name, "") for name in names)
        writer.writerow([row["image"], row["group"], *terms, *("" if cell != cell else cell for cell in cells)])
    return text.getvalue().encode()


def window_side(pack: Pack, protocol: Protocol) -> int:
    """Return the side of the tested windows in pixels: the network's input, or the pack's whole tiles."""
    return pack.images.shape[1] if protocol.evaluation.window == "tile" else protocol.input.size_for(pack.dataset)

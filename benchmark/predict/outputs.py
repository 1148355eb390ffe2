"""Writes the files of a predicted image."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.formats.images import UInt8Array
from benchmark.evaluation.sliding_window import Probabilities
from benchmark.predict.overlay import Overlay
from benchmark.predict.polygons.outlines import count_corners
from benchmark.predict.rasters import Scratch, write_map
from benchmark.predict.settings import PredictSettings, folder_of
from benchmark.predict.shape_files import write_shapes
from benchmark.predict.written_files import WrittenFiles
from benchmark.utils.threads import in_order

MOST_TRACED_PIXELS = 2**29  # components are found in the whole mask, which takes two to four times half a gigabyte
MOST_CORNERS = 2**24  # each takes about 300 bytes while it is traced, so 5 GB, and as much again for layout files


def write(
    out: Path,
    stem: str,
    shape: tuple[int, int],
    rows: Iterable[tuple[UInt8Array, Probabilities]],
    settings: PredictSettings,
    begin: Callable[[], None] = lambda: None,
) -> WrittenFiles:
    """Write all files of an image but its manifest; each kind has a subfolder, and of masks each of several layers.

    ``rows`` come from :func:`benchmark.evaluation.sliding_window.probabilities` for an image of height and width
    ``shape``; ``begin`` is called after the last row, before the first file is written.

    Raises:
        UserError: the folder cannot be written; errors of ``rows`` pass through.
    """
    layers = settings.layers or ("",)
    written = WrittenFiles(foreground_px=dict.fromkeys(layers, 0))
    overlay = Overlay(shape, settings.channels, settings.layers) if settings.overlay else None
    with ExitStack() as stack:
        masks = {layer: stack.enter_context(Scratch(out, shape)) for layer in layers}
        maps = {layer: stack.enter_context(Scratch(out, shape)) for layer in layers if settings.probability}
        top = 0

        def add(row: tuple[UInt8Array, Probabilities]) -> None:
            nonlocal top
            image, values = row
            inside = values >= settings.threshold
            for layer, part, probability in zip(layers, inside, values, strict=True):
                written.foreground_px[layer] += int(np.count_nonzero(part))
                masks[layer].append(part.view(np.uint8))
                if settings.probability:
                    maps[layer].append(np.rint(probability * 255).clip(0, 255).astype(np.uint8))
            if overlay is not None:
                overlay.add(top, image, inside)
            top += len(image)

        for _ in in_order(add, rows, workers=1, held=1):
            pass  # a thread adds rows while this one predicts the next
        begin()
        for layer, mask in masks.items():
            written.files.append(write_map(out / folder_of("mask", layer) / stem, mask, 255))
        for layer, scratch in maps.items():
            written.files.append(write_map(out / folder_of("probability", layer) / stem, scratch))
        if overlay is not None:
            content = io.BytesIO()
            # A third of the usual level's time, which is more than all else but forwards takes, for 1 % more bytes.
            Image.fromarray(overlay.picture()).save(content, "png", compress_level=3)
            written.keep(out / "overlay" / f"{stem}.png", content.getvalue())
            written.colours = overlay.colours()
            if overlay.factor > 1:
                written.notes.append(f"overlay shrunk to 1/{overlay.factor}")
        _write_shapes(out, stem, shape, masks, settings, written)
    return written


def _write_shapes(
    out: Path,
    stem: str,
    shape: tuple[int, int],
    masks: Mapping[str, Scratch],
    settings: PredictSettings,
    written: WrittenFiles,
) -> None:
    """Write what is found in whole masks, if they are small enough."""
    if not (settings.polygons or settings.layouts or settings.vias or settings.layers):
        return
    named = "polygons, netlist and vias" if settings.layers else "polygons and vias"
    if shape[0] * shape[1] * len(masks) > MOST_TRACED_PIXELS:
        written.notes.append(f"above {MOST_TRACED_PIXELS // len(masks):,} pixels, no {named}: cut the image for them")
        return
    whole = {layer: mask.rows().view(np.bool_) for layer, mask in masks.items()}
    if (corners := sum(map(count_corners, whole.values()))) > MOST_CORNERS:
        written.notes.append(
            f"{corners:,} corners, above {MOST_CORNERS:,}, whose outlines would take gigabytes: no {named}; a mask so "
            "noisy may need another --threshold, or cut the image"
        )
        return
    write_shapes(out, stem, whole, settings, written)

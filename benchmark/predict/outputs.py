"""Writes the files of a predicted image."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.formats import svg
from benchmark.data.formats.images import UInt8Array
from benchmark.evaluation.sliding_window import Probabilities
from benchmark.metrics.components import Components
from benchmark.predict.overlay import Overlay
from benchmark.predict.polygons import gds_writer
from benchmark.predict.polygons.outlines import Integers, Mask, Polygon, count_corners, trace
from benchmark.predict.polygons.pieces import pieces_of
from benchmark.predict.polygons.simplify import simplified
from benchmark.predict.polygons.svg_writer import to_svg
from benchmark.predict.rasters import Scratch, write_map
from benchmark.predict.settings import PredictSettings
from benchmark.utils.files import write_atomically

MOST_TRACED_PIXELS = 2**29  # components are found in the whole mask, which takes two to four times half a gigabyte
MOST_CORNERS = 2**24  # each takes about 300 bytes while it is traced, so 5 GB, and as much again for layout files


@dataclass
class WrittenFiles:
    """An image's written files, notes for the user, and numbers of foreground pixels and of sought components."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    foreground_px: int = 0
    components: int | None = None


def write(
    out: Path,
    stem: str,
    shape: tuple[int, int],
    rows: Iterable[tuple[UInt8Array, Probabilities]],
    settings: PredictSettings,
    begin: Callable[[], None] = lambda: None,
) -> WrittenFiles:
    """Write all files of an image but its manifest; each kind has a subfolder.

    ``rows`` come from :func:`benchmark.evaluation.sliding_window.probabilities` for an image of height and width
    ``shape``; ``begin`` is called after the last row, before the first file is written.

    Raises:
        UserError: the folder cannot be written; errors of ``rows`` pass through.
    """
    written = WrittenFiles()
    overlay = Overlay(shape, settings.channels) if settings.overlay else None
    with Scratch(out, shape) as mask, Scratch(out, shape) as probability:
        top = 0
        for image, values in rows:
            inside = values >= settings.threshold
            written.foreground_px += int(np.count_nonzero(inside))
            mask.append(inside.view(np.uint8))
            if settings.probability:
                probability.append(np.rint(values * 255).clip(0, 255).astype(np.uint8))
            if overlay is not None:
                overlay.add(top, image, inside)
            top += len(values)
        begin()
        written.files.append(write_map(out / "mask" / stem, mask, 255))
        if settings.probability:
            written.files.append(write_map(out / "probability" / stem, probability))
        if overlay is not None:
            content = io.BytesIO()
            Image.fromarray(overlay.picture()).save(content, "png")
            _keep(written, out / "overlay" / f"{stem}.png", content.getvalue())
            if overlay.factor > 1:
                written.notes.append(f"overlay shrunk to 1/{overlay.factor}")
        if not (settings.polygons or settings.layouts or settings.vias):
            return written
        if shape[0] * shape[1] > MOST_TRACED_PIXELS:
            written.notes.append(f"above {MOST_TRACED_PIXELS:,} pixels, no polygons and vias: cut the image for them")
            return written
        whole = mask.rows().view(np.bool_)
        if (corners := count_corners(whole)) > MOST_CORNERS:
            written.notes.append(
                f"{corners:,} corners, above {MOST_CORNERS:,}, whose outlines would take gigabytes: no polygons and "
                "vias; a mask so noisy may need another --threshold, or cut the image"
            )
            return written
        _write_shapes(out, stem, whole, settings, written)
    return written


def _write_shapes(out: Path, stem: str, mask: Mask, settings: PredictSettings, written: WrittenFiles) -> None:
    """Write components as discs or polygons; in layout files, vias are polygons of their own layer."""
    discs, polygons = None, [] if settings.vias and not settings.layouts else trace(mask)
    written.components = len(polygons)
    if settings.vias:
        discs = discs_of(mask)
        written.components = len(discs)
        lines = ["x,y,r", *(f"{x:.2f},{y:.2f},{r:.2f}" for x, y, r in discs), ""]
        _keep(written, out / "vias" / f"{stem}.csv", "\n".join(lines).encode())
    if settings.polygons and not written.components:  # HY5SYN has no empty labels, and none is read
        written.notes.append("nothing predicted, so no SVG")
    elif settings.polygons:
        drawing = to_svg(mask.shape, polygons if discs is None else (), discs)
        _keep(written, out / "polygons" / f"{stem}.svg", drawing.encode())
        large = max(mask.shape) > svg.MOST_SIDE or len(drawing) > svg.MOST_BYTES
        if large or 2 * drawing.count(",") > svg.MOST_NUMBERS:
            written.notes.append("polygons of more points or a larger frame than are read back as a label")
    if settings.layouts:
        layer = settings.layouts.via if settings.vias else settings.layouts.track
        _write_layouts(out, stem, mask, polygons, settings.layouts, layer, written)


def _write_layouts(
    out: Path,
    stem: str,
    mask: Mask,
    polygons: list[Polygon],
    settings: gds_writer.Layouts,
    layer: gds_writer.Layer,
    written: WrittenFiles,
) -> None:
    """Write layout files of all formats; empty the list of polygons, since their pieces take as much memory."""
    if not settings.fits(mask.shape):
        written.notes.append(
            f"no {' and '.join(settings.formats)}: in units of {1 / settings.per_nm:g} nm, so large an image has "
            "coordinates of more than four bytes; give --nm-per-pixel fewer decimals, or cut the image"
        )
        return
    paths: list[Integers] = []
    polygons.reverse()
    while polygons:
        paths += pieces_of(polygons.pop(), gds_writer.MOST_POINTS)
    if settings.tolerance:
        paths = simplified(paths, mask, settings.tolerance)
    for ending in settings.formats:
        path = out / "polygons" / f"{stem}.{ending}"
        gds_writer.write(path, paths, mask.shape, settings, layer, stem)
        written.files.append(path)


def _keep(written: WrittenFiles, path: Path, content: bytes) -> None:
    write_atomically(path, content)
    written.files.append(path)


def discs_of(mask: Mask) -> NDArray[np.float64]:
    """Return the components ``(n, 3)`` of a ``(H, W)`` mask as x and y of their centroid and radius of equal area.

    As vias are in the via metric; pixels, the first pixel's centre being 0; in raster order of their first pixels.
    """
    components = Components.of(mask)
    if components.count == 0:
        return np.zeros((0, 3))
    return np.column_stack([components.centroids()[:, ::-1], np.sqrt(components.area_px / np.pi)])

"""The files that a predicted image leaves."""

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
from benchmark.metrics.components import Components
from benchmark.predict.overlay import Overlay
from benchmark.predict.polygons import gds_writer as layouts
from benchmark.predict.polygons.outlines import Integers, Mask, Polygon, count_corners, trace
from benchmark.predict.polygons.pieces import pieces_of
from benchmark.predict.polygons.simplify import simplified
from benchmark.predict.polygons.svg_writer import to_svg
from benchmark.predict.rasters import Scratch, write_map
from benchmark.predict.settings import PredictSettings
from benchmark.predict.sliding_window import Probabilities
from benchmark.utils.files import write_atomically

MOST_TRACED_PIXELS = 2**29  # components are found in the whole mask, which takes two to four times half a gigabyte
MOST_CORNERS = 2**24  # each takes about 300 bytes while it is traced, so 5 GB, and as much again for layout files


@dataclass
class WrittenFiles:
    """What was written.

    Attributes:
        files: all of them.
        notes: what a user should know.
        foreground_px: number of predicted pixels.
        components: number of predicted components; ``None`` where they were not looked for.
    """

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

    Args:
        out: the folder.
        stem: of all files.
        shape: height and width of the image.
        rows: made by :func:`benchmark.predict.sliding_window.probabilities`.
        settings: what is written.
        begin: called when all rows are there, before the first file is written.

    Raises:
        UserError: the place cannot be written, and whatever ``rows`` raises.
    """
    written = WrittenFiles()
    overlay = Overlay(shape, settings.channels) if settings.overlay else None
    with Scratch(out, shape) as mask, Scratch(out, shape) as probability:
        top = 0
        for image, found in rows:
            inside = found >= settings.threshold
            written.foreground_px += int(np.count_nonzero(inside))
            mask.append(inside.view(np.uint8))
            if settings.probability:
                probability.append(np.rint(found * 255).clip(0, 255).astype(np.uint8))
            if overlay is not None:
                overlay.add(top, image, inside)
            top += len(found)
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
    """Write components as discs or polygons; in layout files, vias are polygons too, in a layer of their own."""
    discs, polygons = None, [] if settings.vias and not settings.layouts else trace(mask)
    written.components = len(polygons)
    if settings.vias:
        discs = discs_of(mask)
        written.components = len(discs)
        lines = ["x,y,r", *(f"{x:.2f},{y:.2f},{r:.2f}" for x, y, r in discs), ""]
        _keep(written, out / "vias" / f"{stem}.csv", "\n".join(lines).encode())
    if settings.polygons:
        _write_svg(out, stem, to_svg(mask.shape, polygons if discs is None else (), discs), mask.shape, written)
    if settings.layouts:
        layer = settings.layouts.via if settings.vias else settings.layouts.track
        _write_layouts(out, stem, mask, polygons, settings.layouts, layer, written)


def _write_svg(out: Path, stem: str, drawn: str, shape: tuple[int, int], written: WrittenFiles) -> None:
    if not written.components:  # HY5SYN has no empty labels, and none is read
        written.notes.append("nothing predicted, so no SVG")
        return
    _keep(written, out / "polygons" / f"{stem}.svg", drawn.encode())
    if max(shape) > svg.MOST_SIDE or len(drawn) > svg.MOST_BYTES or 2 * drawn.count(",") > svg.MOST_NUMBERS:
        written.notes.append("polygons of more points or a larger frame than are read back as a label")


def _write_layouts(
    out: Path,
    stem: str,
    mask: Mask,
    polygons: list[Polygon],
    wanted: layouts.Layouts,
    layer: layouts.Layer,
    written: WrittenFiles,
) -> None:
    """Write layout files of all formats; the polygons are used up, since what is made of them takes as much memory."""
    if not wanted.fits(mask.shape):
        written.notes.append(
            f"no {' and '.join(wanted.formats)}: in units of {1 / wanted.per_nm:g} nm, so large an image has "
            "coordinates of more than four bytes; give --nm-per-pixel fewer decimals, or cut the image"
        )
        return
    paths: list[Integers] = []
    polygons.reverse()
    while polygons:
        paths += pieces_of(polygons.pop(), layouts.MOST_POINTS)
    if wanted.tolerance:
        paths = simplified(paths, mask, wanted.tolerance)
    for ending in wanted.formats:
        path = out / "polygons" / f"{stem}.{ending}"
        layouts.write(path, paths, mask.shape, wanted, layer, stem)
        written.files.append(path)


def _keep(written: WrittenFiles, path: Path, content: bytes) -> None:
    write_atomically(path, content)
    written.files.append(path)


def discs_of(mask: Mask) -> NDArray[np.float64]:
    """Return the components ``(n, 3)`` of a ``(H, W)`` mask as x and y of their centroid and radius of equal area.

    As vias are in the via metric; pixels, the first pixel's centre being 0; in raster order of their first pixels.
    """
    found = Components.of(mask)
    if found.count == 0:
        return np.zeros((0, 3))
    return np.column_stack([found.centroids()[:, ::-1], np.sqrt(found.area_px / np.pi)])

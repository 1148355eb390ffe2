"""Writes what is found in whole masks: polygons, vias, netlists and layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.config.targets import is_via
from benchmark.data.formats import svg
from benchmark.metrics.components import Components
from benchmark.predict.netlist import Netlist
from benchmark.predict.polygons import gds_writer
from benchmark.predict.polygons.circles import MOST_AREA, Circles, circles_of, rounded
from benchmark.predict.polygons.outlines import Integers, Mask, Polygon, trace
from benchmark.predict.polygons.pieces import pieces_of
from benchmark.predict.polygons.simplify import simplified
from benchmark.predict.polygons.svg_writer import NO_CIRCLES, to_svg
from benchmark.predict.settings import PredictSettings, folder_of
from benchmark.predict.written_files import WrittenFiles
from benchmark.utils.words import counted


def write_shapes(
    out: Path, stem: str, masks: Mapping[str, Mask], settings: PredictSettings, written: WrittenFiles
) -> None:
    """Write the components of each layer's ``(H, W)`` mask; a single layer's name is blank.

    In an SVG, vias of a single layer are discs, and of several layers circles that draw their exact pixels. In layout
    files they are polygons of their own layer.
    """
    polygons: dict[str, list[Polygon]] = {}
    circles: dict[str, Circles] = {}
    for layer, mask in masks.items():
        of_vias = is_via(layer) if layer else settings.vias
        polygons[layer] = [] if of_vias and not settings.layouts else trace(mask)
        written.components[layer] = len(polygons[layer])
        if of_vias and not settings.layers:
            discs = discs_of(mask)
            written.components[layer] = len(discs)
            lines = ["x,y,r", *(f"{x:.2f},{y:.2f},{r:.2f}" for x, y, r in discs), ""]
            written.keep(out / "vias" / f"{stem}.csv", "\n".join(lines).encode())
            circles[layer] = rounded(discs, mask.shape)
        elif of_vias:
            circles[layer], large = circles_of(mask) if settings.polygons else (NO_CIRCLES, 0)
            if large:
                components = counted(large, "component")
                written.notes.append(
                    f"{layer}: {components} above {MOST_AREA:,} pixels, drawn in the SVG as one disc each"
                )
    if settings.layers:
        netlist = Netlist.of(masks)
        written.components |= {layer: int((netlist.vias["layer"] == layer).sum()) for layer in circles}
        written.keep(out / "netlist" / f"{stem}.csv", netlist.nets_csv())
        written.keep(out / "netlist" / f"{stem}.json", netlist.to_json())
        if circles:
            written.keep(out / "vias" / f"{stem}.csv", netlist.vias_csv())
    if settings.polygons:
        for folder, layers in _drawings(settings.layers):
            _write_svg(
                out / folder / f"{stem}.svg", layers, next(iter(masks.values())).shape, polygons, circles, written
            )
    if settings.layouts:
        _write_layouts(out, stem, masks, polygons, settings, settings.layouts, written)


def _drawings(layers: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """Return the folders of SVGs and the layers in each.

    HY5SYN's schema tells tracks from vias. Layers of one kind, and metal, which holds the vias there, have SVGs of
    their own.
    """
    vias = sum(map(is_via, layers))
    if vias <= 1 and len(layers) - vias <= 1 and "metal" not in layers:
        return [("polygons", layers or ("",))]
    return [(folder_of("polygons", layer), (layer,)) for layer in layers]


def _write_svg(
    path: Path,
    layers: Sequence[str],
    shape: tuple[int, ...],
    polygons: Mapping[str, Sequence[Polygon]],
    circles: Mapping[str, Circles],
    written: WrittenFiles,
) -> None:
    """Write some layers as one SVG."""
    if not any(written.components[layer] for layer in layers):  # HY5SYN has no empty labels, and none is read
        kind = path.parent.name.partition("_")[2]
        written.notes.append(f"nothing predicted{kind and f' of {kind}'}, so no SVG")
        return
    height, width = shape
    outlined = chain.from_iterable(polygons[layer] for layer in layers if layer not in circles)
    discs = np.concatenate([NO_CIRCLES, *(circles[layer] for layer in layers if layer in circles)])
    drawing = to_svg((height, width), outlined, discs)
    written.keep(path, drawing.encode())
    large = max(shape) > svg.MOST_SIDE or len(drawing) > svg.MOST_BYTES
    if large or 2 * drawing.count(",") + 3 * len(discs) > svg.MOST_NUMBERS:
        written.notes.append("polygons of more points or a larger frame than are read back as a label")


def _write_layouts(
    out: Path,
    stem: str,
    masks: Mapping[str, Mask],
    polygons: Mapping[str, list[Polygon]],
    settings: PredictSettings,
    layouts: gds_writer.Layouts,
    written: WrittenFiles,
) -> None:
    """Write layout files of all formats; empty the lists of polygons, since their pieces take as much memory."""
    height, width = next(iter(masks.values())).shape
    if not layouts.fits((height, width)):
        written.notes.append(
            f"no {' and '.join(layouts.formats)}: in units of {1 / layouts.per_nm:g} nm, so large an image has "
            "coordinates of more than four bytes; give --nm-per-pixel fewer decimals, or cut the image"
        )
        return
    paths: dict[gds_writer.Layer, list[Integers]] = {}
    for layer, of_layer in polygons.items():
        pieces: list[Integers] = []
        of_layer.reverse()
        while of_layer:
            pieces += pieces_of(of_layer.pop(), gds_writer.MOST_POINTS)
        if layouts.tolerance:
            pieces = simplified(pieces, masks[layer], layouts.tolerance)
        paths[layouts.number(layer or ("via" if settings.vias else "track"))] = pieces
    for ending in layouts.formats:
        path = out / "polygons" / f"{stem}.{ending}"
        gds_writer.write(path, paths, (height, width), layouts, stem)
        written.files.append(path)


def discs_of(mask: Mask) -> NDArray[np.float64]:
    """Return the components ``(n, 3)`` of a ``(H, W)`` mask as x and y of their centroid and radius of equal area.

    As vias are in the via metric; pixels, the first pixel's centre being 0; in raster order of their first pixels.
    """
    components = Components.of(mask)
    if components.count == 0:
        return np.zeros((0, 3))
    return np.column_stack([components.centroids()[:, ::-1], np.sqrt(components.area_px / np.pi)])

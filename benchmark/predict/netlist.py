"""Lists the nets and vias of predicted layers, and where they meet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.config.targets import is_via
from benchmark.metrics.components import Components, Mask
from benchmark.metrics.connections import net_of_each_via

SCHEMA = 1
BOX = ("left", "top", "right", "bottom")
NET_COLUMNS = ("net", "layer", *BOX, "area_px", "length_px", "vias")
VIA_COLUMNS = ("via", "layer", "x", "y", "r", "area_px")
PLACE = "net_"  # of the column for a layer of nets
BAND = 1024  # rows whose skeleton is made at a time, so that a large mask needs little more memory
#: Rows beside a band that its skeleton sees too. Thinning takes a pixel from either side of a track in each of its
#: rounds and looks a pixel farther, so tracks up to about this width have the skeleton of the whole mask.
MARGIN = 128


@dataclass(frozen=True, eq=False)
class Netlist:
    """The nets and vias of an image, a row each.

    Attributes:
        size: height and width of the image.
        nets: ``net`` (from 1), ``layer``, ``left, top, right, bottom`` (the bounding box in pixels, behind the last
            pixel on the right and below), ``area_px``, ``length_px`` and ``vias``, the number of vias on it.
        vias: ``via`` (from 1), ``layer``, ``x`` and ``y`` of the centroid (the first pixel's centre is 0), ``r`` (of
            the disc of equal area), ``area_px``, and for each layer of nets ``net_<layer>``: the net that the via lies
            on, 0 for none.
    """

    size: tuple[int, int]
    nets: pd.DataFrame
    vias: pd.DataFrame

    @classmethod
    def of(cls, masks: Mapping[str, Mask]) -> Netlist:
        """List the components of ``(H, W)`` bool masks by layer; layers called ``via…`` or ``contact…`` hold vias.

        Nets and vias are 8-connected components. A via lies on the net that it shares the most pixels with, as in
        :func:`~benchmark.metrics.connections.net_of_each_via`.
        """
        nets: list[pd.DataFrame] = []
        before: dict[str, int] = {}  # nets of earlier layers
        for layer in (layer for layer in masks if not is_via(layer)):
            before[layer] = sum(len(table) for table in nets)
            nets.append(_nets(layer, masks[layer], before[layer]))
        vias = [_vias(layer, masks, before) for layer in masks if is_via(layer)]
        all_nets, all_vias = _joined(nets, NET_COLUMNS), _joined(vias, VIA_COLUMNS)
        all_vias["via"] = np.arange(1, len(all_vias) + 1)
        counts = np.zeros(len(all_nets) + 1, np.int64)
        for name in _places(all_vias):
            counts += np.bincount(all_vias[name], minlength=len(counts))
        all_nets["vias"] = counts[1:]
        height, width = next(iter(masks.values())).shape
        return cls((height, width), all_nets, all_vias)

    def nets_csv(self) -> bytes:
        """Return the nets as CSV."""
        return self.nets.to_csv(index=False, lineterminator="\n", float_format="%.2f").encode()

    def vias_csv(self) -> bytes:
        """Return the vias as CSV; the cell of a via on no net stays empty."""
        places = {name: self.vias[name].astype(str).replace("0", "") for name in _places(self.vias)}
        return self.vias.assign(**places).to_csv(index=False, lineterminator="\n", float_format="%.2f").encode()

    def to_json(self) -> bytes:
        """Return nets and vias as JSON, one a line; a net lists its vias, and ``null`` is the net of a via on none."""
        on: dict[int, list[int]] = {}
        for name in _places(self.vias):
            for via, net in zip(self.vias["via"].tolist(), self.vias[name].tolist(), strict=True):
                on.setdefault(net, []).append(via)
        nets = (row | {"vias": on.get(row["net"], [])} for row in _rows(self.nets))
        vias = (row | {name: row[name] or None for name in _places(self.vias)} for row in _rows(self.vias))
        head = json.dumps({"schema": SCHEMA, "height": self.size[0], "width": self.size[1]})[:-1]
        lists = [",\n".join(map(json.dumps, rows)) for rows in (nets, vias)]
        return f'{head},\n"nets": [\n{lists[0]}\n],\n"vias": [\n{lists[1]}\n]}}\n'.encode()


def _places(vias: pd.DataFrame) -> list[str]:
    """Return the columns that tell the net of each via."""
    return [name for name in vias.columns if name.startswith(PLACE)]


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows with lengths rounded to hundredths, without a list of all of them."""
    columns = [table[name].round(2).tolist() if table[name].dtype == float else table[name].tolist() for name in table]
    return (dict(zip(table.columns, row, strict=True)) for row in zip(*columns, strict=True))


def _nets(layer: str, mask: Mask, before: int) -> pd.DataFrame:
    """Return the rows of a layer's nets, numbered after those before."""
    components = Components.of(mask)
    boxes = dict(zip(BOX, components.boxes().T, strict=True))
    numbers = np.arange(before + 1, before + components.count + 1)
    sizes = {"area_px": components.area_px, "length_px": lengths_px(mask, components)}
    return pd.DataFrame({"net": numbers, "layer": layer, **boxes, **sizes}, columns=NET_COLUMNS)


def _vias(layer: str, masks: Mapping[str, Mask], before: Mapping[str, int]) -> pd.DataFrame:
    """Return the rows of a layer's vias; ``before`` counts the nets before those of each layer of nets."""
    components = Components.of(masks[layer])
    centres = components.centroids()
    nets = {}
    for other, count in before.items():
        net = net_of_each_via(masks[other], masks[layer])
        nets[f"{PLACE}{other}"] = np.where(net < 0, 0, net + count + 1)
    sizes = {"r": np.sqrt(components.area_px / np.pi), "area_px": components.area_px}
    place = {"x": centres[:, 1], "y": centres[:, 0]}
    return pd.DataFrame({"layer": layer, **place, **sizes, **nets}, columns=[*VIA_COLUMNS, *nets])


def lengths_px(mask: Mask, components: Components, band: int = BAND) -> np.ndarray:
    """Return the length of each component's skeleton, (count,) float64 in pixels.

    Skeletons are Zhang and Suen's (1984). A step to a neighbour beside, above or below counts 1, a diagonal one the
    root of 2; a diagonal between two steps around the corner does not count.

    Args:
        mask: ``(H, W)`` bool.
        components: of the mask.
        band: rows whose skeleton is made at a time.
    """
    from skimage.morphology import skeletonize  # slow to import

    total = np.zeros(components.count)
    for top in range(0, len(mask), band):
        first, last = max(top - MARGIN, 0), min(top + band, len(mask))
        thin = np.pad(skeletonize(mask[first : last + MARGIN].copy()), ((0, 1), (1, 1)))
        here, below = thin[top - first : last - first], thin[top - first + 1 : last - first + 1]
        right, left = np.roll(here, -1, 1), np.roll(here, 1, 1)
        steps = np.stack([
            here & right,
            here & below,
            here & np.roll(below, -1, 1) & ~right & ~below,
            here & np.roll(below, 1, 1) & ~left & ~below,
        ])  # fmt: skip
        for weight, kinds in ((1.0, steps[:2]), (2**0.5, steps[2:])):
            for step in kinds:
                row, column = np.nonzero(step[:, 1:-1])
                position = (row + top) * (mask.shape[1] + 1) + column
                run = np.searchsorted(components.starts, position, side="right") - 1
                total += weight * np.bincount(components.labels[run], minlength=components.count)
    return total

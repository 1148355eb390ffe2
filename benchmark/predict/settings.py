"""Holds the settings of a prediction and of its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmark.data import specs
from benchmark.data.datasets import target_of
from benchmark.predict.polygons.gds_writer import Layouts
from benchmark.records.weights import TrainedNetwork

FORMAT = 1  # raised when the same settings give other files


@dataclass(frozen=True)
class PredictSettings:
    """All settings that decide the files of a prediction.

    Attributes:
        network: label of the trained network, such as ``omc-syn/unet/0``, or ``omc-syn/unet/0,2`` for an ensemble.
        weights: sha256 of its weights, of an ensemble's files one after the other.
        tile: side of the tiles, pixels.
        overlap: least overlap of neighbours, pixels.
        dtype: number format of convolutions and matrix products.
        threshold: least probability of foreground.
        levels: the values of 16-bit images that become black and white; ``None`` for each image's own percentiles.
        vias: whether components are listed and drawn as discs; of several layers, their names tell.
        polygons: whether an SVG is written.
        layers: the network's, in the order of its logits; none for a single layer.
    """

    network: str
    weights: str
    channels: Literal[1, 3]
    tile: int
    overlap: int
    threshold: float
    dtype: Literal["float32", "bfloat16"] = "float32"
    levels: tuple[float, float] | None = None
    vias: bool = False
    probability: bool = False
    polygons: bool = True
    overlay: bool = True
    layouts: Layouts | None = None
    format: int = FORMAT
    layers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a manifest holds them."""
        fields = asdict(self) | {"levels": list(self.levels) if self.levels else None}
        del fields["layouts"], fields["layers"]  # folders of versions without layout files or layers continue
        fields |= {"layouts": self.layouts.to_json()} if self.layouts else {}
        return fields | ({"layers": list(self.layers)} if self.layers else {})


def folder_of(kind: str, layer: str) -> str:
    """Return the folder of a kind of files: ``mask``, or of one of several layers ``mask_via``."""
    return f"{kind}_{layer}" if layer else kind


def finds_vias(trained: TrainedNetwork) -> bool:
    """Tell whether a network was trained for vias, by the counts of its test, or else by its datasets."""

    if trained.record is None:
        return False  # unknown
    metrics = trained.record.metrics

    def of_vias(name: str) -> bool:
        if name in metrics:
            return any("via_f1" in values for values in metrics[name].values())
        known = specs.KNOWN.get(name.removesuffix(specs.SUFFIX))
        return known is not None and target_of(known, trained.protocol) == "via"

    return all(map(of_vias, trained.train))

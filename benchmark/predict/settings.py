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
    """Everything that a prediction depends on beside the image.

    Attributes:
        network: label of the trained network, such as ``omc-syn/unet/0``.
        weights: sha256 of its weights.
        channels: that it takes.
        tile: side of the tiles.
        overlap: that neighbours share at least.
        dtype: in which convolutions and matrix products compute.
        threshold: from which probability on a pixel is foreground.
        levels: the values of 16-bit images that become black and white; ``None`` for each image's own percentiles.
        vias: whether components are listed, and drawn, as discs.
        probability: whether probabilities are written.
        polygons: whether an SVG is.
        overlay: whether a picture is.
        layouts: how layout files are; ``None`` for none.
        format: of the files.
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

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest holds."""
        fields = asdict(self) | {"levels": list(self.levels) if self.levels else None}
        del fields["layouts"]  # a folder without any goes on from what versions that wrote none have left
        return fields | ({"layouts": self.layouts.to_json()} if self.layouts else {})


def finds_vias(trained: TrainedNetwork) -> bool:
    """Tell whether a network was trained for vias, by what its test counted, or else by its datasets."""

    def of_vias(name: str) -> bool:
        if name in trained.record.metrics:
            return any("via_f1" in values for values in trained.record.metrics[name].values())
        known = specs.KNOWN.get(name.removesuffix(specs.SUFFIX))
        return known is not None and target_of(known, trained.protocol) == "via"

    return all(map(of_vias, trained.record.train))

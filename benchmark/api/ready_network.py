"""Predicts images with a trained network of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from benchmark.data.formats.images import Pixels
from benchmark.devices.hardware_slots import hardware_of
from benchmark.evaluation.sliding_window import probabilities
from benchmark.evaluation.tiles import TileGrid
from benchmark.predict.fused_network import fuse_members
from benchmark.predict.reader import open_source
from benchmark.predict.tile_choice import OVERLAP, TileTrial, tiles_per_forward
from benchmark.records.weights import TrainedNetwork, label_of

BAR_AFTER_S = 3.0  # a shorter prediction shows no bar


@dataclass(frozen=True, eq=False)
class ReadyNetwork:
    """A trained network, or several repeats whose probabilities are averaged, ready for images of any size.

    Attributes:
        members: the runs that it comes from, each with weights and protocol; one, or those that are averaged.
        module: the network in eval mode; maps images ``(N, C, H, W)`` in [0, 1] to logits ``(N, L, H, W)`` of L layers,
            or to the mean probabilities of several members.
        device: where it computes.
    """

    members: tuple[TrainedNetwork, ...]
    module: nn.Module
    device: torch.device

    @classmethod
    def of(cls, members: Sequence[TrainedNetwork], device: str = "auto") -> ReadyNetwork:
        """Build a trained network, or several that are averaged, on a device."""
        torch_device = torch.device(hardware_of(device, None).device)
        return cls(tuple(members), fuse_members(members, torch_device), torch_device)

    @property
    def trained(self) -> TrainedNetwork:
        """The run that it comes from, the first of several."""
        return self.members[0]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that it marks, in the order of the logits; none for a single layer."""
        return self.trained.layers

    def __repr__(self) -> str:
        """Return the run's name, with all repeats that are averaged, and the device."""
        return f"<{label_of(self.members)} on {self.device}>"

    def probability(
        self,
        image: Pixels | Path | str,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        batch: int | None = None,
    ) -> Any:  # an array or, by layer, a dict of arrays
        """Return each pixel's probability of foreground, by overlapping tiles; a bar shows how far a long call is.

        Args:
            image: a file, or pixels ``(H, W)`` or ``(H, W, 3)`` of uint8 or uint16; 16 bits become 8 between the
                image's own percentiles.
            tile: side of the tiles in pixels; by default the largest that agrees with those of the training.
            overlap: least number of pixels that neighbouring tiles share; a quarter of a tile by default.
            batch: tiles of a forward; chosen by the tile's side by default.

        Returns:
            ``(H, W)`` float32 in [0, 1]; of a network of several layers, such an array for each by name.

        Raises:
            UserError: the image cannot be read, or the tile does not fit the network.
        """
        picture = Path(image) if isinstance(image, str | Path) else np.asarray(image)
        trained, channels = self.trained, self.trained.channels
        multiple, threshold = trained.entry.multiple, trained.protocol.evaluation.threshold
        layers = max(1, len(self.layers))
        with open_source(picture) as source:  # refuses other pixels before any work
            if tile is None:
                trial = TileTrial(
                    *(self.module, trained.input_size, multiple, channels, threshold, self.device, batch),
                    source.levels,
                    layers,
                )
                tile = trial.choose([picture]).side
            grid = TileGrid.of(source.shape, tile, tile // OVERLAP if overlap is None else overlap, multiple)

            def advance(tiles: int) -> None:
                bar.update(tiles)

            with tqdm(total=len(grid), unit="tile", delay=BAR_AFTER_S) as bar:
                rows = probabilities(
                    self.module,
                    source,
                    grid,
                    channels=channels,
                    batch=batch or tiles_per_forward(tile),
                    device=self.device,
                    layers=layers,
                    progress=advance,
                )
                values = np.concatenate([values for _, values in rows], axis=1)
        return dict(zip(self.layers, values, strict=True)) if self.layers else values[0]

    def predict(
        self,
        image: Pixels | Path | str,
        *,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        batch: int | None = None,
    ) -> Any:  # an array or, by layer, a dict of arrays
        """Return the mask ``(H, W)`` of an image, or a mask for each layer by name, as the verb ``predict`` writes it.

        Args:
            image: as for :meth:`probability`, like ``tile``, ``overlap`` and ``batch``.
            threshold: least probability of foreground; by default the protocol's.
            tile: side of the tiles.
            overlap: of neighbouring tiles.
            batch: tiles of a forward.

        Example:
            >>> masks = study.network("unet").predict("scans/die.tif")  # doctest: +SKIP
            >>> masks["via"]                                            # doctest: +SKIP
        """
        least = self.trained.protocol.evaluation.threshold if threshold is None else threshold
        probability = self.probability(image, tile=tile, overlap=overlap, batch=batch)
        if isinstance(probability, dict):
            return {layer: values >= least for layer, values in probability.items()}
        return probability >= least

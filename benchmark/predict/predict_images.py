"""Predicts images one after another, skips finished ones and lists broken ones."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmark import __version__
from benchmark.data.formats.images import Levels
from benchmark.devices.precision import float32_precision
from benchmark.evaluation.sliding_window import probabilities
from benchmark.evaluation.tiles import TileGrid
from benchmark.predict import manifest, outputs
from benchmark.predict.fused_network import as_written
from benchmark.predict.reader import BrokenImageError, open_source
from benchmark.predict.runtimes import runtime_of
from benchmark.predict.settings import PredictSettings


@dataclass(frozen=True)
class ImageOutcome:
    """The outcome of an image.

    Attributes:
        status: ``predicted``, ``finished`` (by an earlier call) or ``broken`` (also too large for the memory).
        notes: facts for the user; the reason of a broken image.
        own_levels: whether its 16 bits were mapped between its own percentiles.
    """

    image: Path
    status: str
    notes: tuple[str, ...] = ()
    shape: tuple[int, int] = (0, 0)
    tiles: int = 0
    seconds: float = 0.0
    own_levels: bool = False


@dataclass(frozen=True, eq=False)
class PredictionJob:
    """A call: the network or ensemble on its device, the settings, and the folder of the results.

    ``multiple`` divides the sides of the network's inputs; a forward takes ``batch`` tiles.
    """

    network: nn.Module
    settings: PredictSettings
    multiple: int
    device: torch.device
    batch: int
    out: Path

    def run(
        self,
        images: Sequence[Path],
        progress: Callable[[Path, int, int], None] = lambda image, done, total: None,
        done: Callable[[ImageOutcome], None] = lambda outcome: None,
    ) -> list[ImageOutcome]:
        """Predict images of different stems; report an image's finished and all tiles, and every image's outcome.

        Raises:
            UserError: a failure of every other image too, such as a folder that cannot be written; before any work,
                an image whose name has results of another image.
        """
        checked: set[Path] = set()
        manifest.check(self.out, self.settings, checked)
        for image in images:
            with contextlib.suppress(BrokenImageError):  # reported below, in the order of images
                if manifest.is_known(self.out, image.stem):
                    manifest.is_finished(self.out, image, manifest.digest(image))
        outcomes = []
        for image in images:
            began = time.perf_counter()
            try:
                outcome = self._predict(image, progress, began, checked)
            except BrokenImageError as error:
                outcome = ImageOutcome(image, "broken", (str(error),))
            except MemoryError:
                note = f"{image}: not enough memory; cut it, or leave out what takes it: --no-polygons"
                outcome = ImageOutcome(image, "broken", (note,))
            outcomes.append(outcome)
            done(outcome)
        return outcomes

    def _predict(
        self, image: Path, progress: Callable[[Path, int, int], None], began: float, checked: set[Path]
    ) -> ImageOutcome:
        content = manifest.digest(image)
        if manifest.is_finished(self.out, image, content):
            return ImageOutcome(image, "finished")
        settings = self.settings
        with open_source(image, Levels(*settings.levels) if settings.levels else None) as source:
            grid = TileGrid.of(source.shape, settings.tile, settings.overlap, self.multiple)
            finished = 0

            def advance(tiles: int) -> None:
                nonlocal finished
                finished += tiles
                progress(image, finished, len(grid))

            progress(image, 0, len(grid))
            rows = probabilities(
                self.network, source, grid,
                channels=settings.channels, batch=self.batch, device=self.device, layers=max(1, len(settings.layers)),
                progress=advance,
            )  # fmt: skip
            begin = functools.partial(manifest.begin, self.out, image, content, settings, checked)
            written = outputs.write(self.out, image.stem, source.shape, rows, settings, begin)
            if source.levels and source.levels.squeeze:
                written.notes.append(source.levels.squeeze.message("use --levels {low},{high}"))
            if source.transparent:
                written.notes.append("transparent pixels, of which the stored colours were seen")
            facts = {
                "version": __version__,
                "image": {
                    "file": image.name,
                    "sha256": content,
                    "height": source.shape[0],
                    "width": source.shape[1],
                    "bits": source.depth,
                    "levels": [source.levels.low, source.levels.high] if source.levels else None,
                    "read": "in parts" if source.streamed else "whole",
                },
                "tiles": len(grid),
                "overlap": grid.rows.shared,
                **computing(self.network, self.device),
                **written.facts(),
                "notes": written.notes,
            }
        manifest.write(self.out, image.stem, settings, facts, written.files)
        seconds, own_levels = time.perf_counter() - began, source.depth == 16 and settings.levels is None
        return ImageOutcome(image, "predicted", tuple(written.notes), source.shape, len(grid), seconds, own_levels)


def computing(network: nn.Module, device: torch.device) -> dict[str, str]:
    """Return a manifest's facts: device, runtime, rounding of a GPU and reason for unchanged layers."""
    rounding = {"float32_precision": float32_precision()} if device.type == "cuda" else {}
    return (
        {"device": device.type}
        | runtime_of(network)
        | rounding
        | ({"as_written": reason} if (reason := as_written(network)) else {})
    )

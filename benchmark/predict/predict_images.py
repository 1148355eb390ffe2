"""Predicts images one after another, skips finished ones and lists broken ones."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark import __version__
from benchmark.data.formats.images import Levels
from benchmark.devices.precision import float32_precision
from benchmark.predict import manifest, outputs
from benchmark.predict.fused_network import FusedNetwork
from benchmark.predict.reader import BrokenImageError, open_source
from benchmark.predict.settings import PredictSettings
from benchmark.predict.sliding_window import probabilities
from benchmark.predict.tiles import TileGrid


@dataclass(frozen=True)
class ImageOutcome:
    """What became of an image.

    Attributes:
        image: the file.
        status: ``predicted``, ``finished`` (by an earlier call) or ``broken``; too large for the memory is too.
        notes: what a user should know; why it is broken.
        shape: height and width.
        tiles: number of tiles.
        seconds: that it took.
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
    """A call: which network, how, and where the results go.

    Attributes:
        network: on ``device``.
        settings: what decides the results.
        multiple: what the network's input must divide by.
        device: where the network is.
        batch: tiles per forward.
        out: folder of the results.
    """

    network: FusedNetwork
    settings: PredictSettings
    multiple: int
    device: torch.device
    batch: int
    out: Path

    def run(
        self,
        images: Sequence[Path],
        progress: Callable[[Path, int, int], None] = lambda image, done, total: None,
        done: Callable[[ImageOutcome], None] = lambda done: None,
    ) -> list[ImageOutcome]:
        """Predict images.

        Args:
            images: of different stems.
            progress: called with an image, its finished tiles and all its tiles.
            done: called with every image's outcome.

        Raises:
            UserError: whatever would fail with every other image too: a place that cannot be written, memory; and
                before any work, an image whose results there are of another.
        """
        checked: set[Path] = set()
        manifest.check(self.out, self.settings, checked)
        for image in images:
            with contextlib.suppress(BrokenImageError):  # told below, in its place
                if manifest.is_known(self.out, image.stem):
                    manifest.is_finished(self.out, image, _digest(image))
        outcomes = []
        for image in images:
            began = time.perf_counter()
            try:
                outcome = self._one(image, progress, began, checked)
            except BrokenImageError as error:
                outcome = ImageOutcome(image, "broken", (str(error),))
            except MemoryError:
                outcome = ImageOutcome(
                    image, "broken", (f"{image}: not enough memory; cut it, or leave out what takes it: --no-polygons",)
                )
            outcomes.append(outcome)
            done(outcome)
        return outcomes

    def _one(
        self, image: Path, progress: Callable[[Path, int, int], None], began: float, checked: set[Path]
    ) -> ImageOutcome:
        content = _digest(image)
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
                self.network,
                source,
                grid,
                channels=settings.channels,
                batch=self.batch,
                device=self.device,
                progress=advance,
            )
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
                **_computing(self.network, self.device),
                "foreground_px": written.foreground_px,
                "components": written.components,
                "notes": written.notes,
            }
        manifest.write(self.out, image.stem, settings, facts, written.files)
        return ImageOutcome(
            image,
            "predicted",
            tuple(written.notes),
            source.shape,
            len(grid),
            time.perf_counter() - began,
            own_levels=source.depth == 16 and settings.levels is None,
        )


def _computing(network: FusedNetwork, device: torch.device) -> dict[str, str]:
    rounding = {"float32_precision": float32_precision()} if device.type == "cuda" else {}
    form = {"as_written": network.as_written} if network.as_written else {}
    return {"device": device.type} | rounding | form


def _digest(image: Path) -> str:
    try:
        return manifest.digest(image)
    except OSError as error:
        raise BrokenImageError(f"{image}: cannot be read ({error.strerror or error}); correct the path") from error

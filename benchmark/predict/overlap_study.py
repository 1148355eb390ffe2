"""Measures and plots the effect of the tiles' overlap on one image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import nn

from benchmark.evaluation.sliding_window import Probabilities, probabilities
from benchmark.evaluation.tiles import TileAxis, TileGrid
from benchmark.predict.reader import ImageReader
from benchmark.report.plots.plot_style import DPI, STYLE, drawable, save, wrapped
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically

# Overlaps are eighths of a tile, up to seven, which puts each pixel into 64 tiles: the grid of every other overlap is a
# part of that grid, so that no difference comes from other starts of tiles.
PARTS, MOST = 8, 7
MOST_PIXELS = 2**26  # of the image, whose probabilities are held twice
FLOOR = 1e-7  # smaller differences are float32 rounding and drawn here, since a logarithmic axis has no 0
# Paul Tol's "muted" scheme and black: distinct for every common colour blindness; markers are distinct in gray print.
COLOURS = ("#000000", "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")
MARKERS = "osD^vP*X<>h"


@dataclass(frozen=True)
class OverlapDifference:
    """A network's prediction under one overlap, against its prediction under the largest overlap.

    Differences are of a pixel's probability; ``changed_px`` counts the pixels on the other side of the threshold. Each
    layer's mask has pixels of its own.
    """

    model: str
    tile_px: int
    overlap_px: int
    tiles: int
    max_difference: float
    mean_difference: float
    changed_px: int
    image_px: int


@dataclass(frozen=True, eq=False)
class StudiedNetwork:
    """A network in eval mode on its device, and the settings of its predictions."""

    name: str
    network: nn.Module
    channels: int
    tile: int
    multiple: int
    threshold: float
    layers: int = 1


def measure(
    subject: StudiedNetwork,
    source: ImageReader,
    batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[OverlapDifference]:
    """Predict an image under overlaps from none to seven eighths of a tile, in forwards of ``batch`` tiles.

    Returns:
        A difference per overlap, by rising overlap, without the largest overlap, which is the reference.

    Raises:
        UserError: an image too large, or covered by a single tile; tiles that can overlap in one way only.
    """
    if np.prod(source.shape) > MOST_PIXELS:
        raise UserError(f"{source.path}: above {MOST_PIXELS:,} pixels; expected a frame: cut one out for this study")
    if max(source.shape) <= subject.tile:
        raise UserError(f"{source.path}: no larger than a tile of {subject.tile}; expected an image of several tiles")
    overlaps = [min(subject.tile * part // PARTS, subject.tile - subject.multiple) for part in range(MOST + 1)]
    shared = sorted({TileAxis(subject.tile, subject.tile, overlap, subject.multiple).shared for overlap in overlaps})
    if len(shared) == 1:
        raise UserError(
            f"--tile {subject.tile}: {subject.name} takes sides that divide by {subject.multiple}, so such tiles "
            f"cannot overlap and there is nothing to compare; use --tile {subject.multiple * PARTS} or more"
        )
    grids = [TileGrid.of(source.shape, subject.tile, overlap, subject.multiple) for overlap in shared]
    done, total = 0, sum(map(len, grids))

    def advance(tiles: int) -> None:
        nonlocal done
        done += tiles
        progress(done, total)

    def predicted(grid: TileGrid) -> Probabilities:
        rows = probabilities(
            *(subject.network, source, grid),
            channels=subject.channels,
            batch=batch,
            device=device,
            layers=subject.layers,
            progress=advance,
        )
        return np.concatenate([probability for _, probability in rows], axis=1)

    reference = predicted(grids[-1])
    differences = []
    for overlap, grid in zip(shared[:-1], grids[:-1], strict=True):
        probability = predicted(grid)
        difference = np.abs(probability - reference)
        changed = (probability >= subject.threshold) != (reference >= subject.threshold)
        figures = float(difference.max()), float(difference.mean(dtype=np.float64)), int(changed.sum())
        facts = subject.name, subject.tile, overlap, len(grid)
        differences.append(OverlapDifference(*facts, *figures, reference.size))
    return differences


def write(out: Path, image: str, differences: Sequence[OverlapDifference]) -> list[Path]:
    """Write ``overlap.csv``, ``overlap.png`` and ``overlap.pdf``; return their paths."""
    table = pd.DataFrame(map(asdict, differences)).to_csv(index=False, lineterminator="\n")
    figure = plot(image, differences)
    files = {"csv": table.encode()} | {kind: save(figure, kind) for kind in ("png", "pdf")}
    for kind, content in files.items():
        write_atomically(out / f"overlap.{kind}", content)
    return [out / f"overlap.{kind}" for kind in files]


def plot(image: str, differences: Sequence[OverlapDifference]) -> Figure:
    """Draw the largest and the mean difference of probability, and the agreement of masks, against the overlap."""
    panels: tuple[tuple[str, Callable[[OverlapDifference], float]], ...] = (
        ("largest difference of probability", lambda difference: max(difference.max_difference, FLOOR)),
        ("mean difference of probability", lambda difference: max(difference.mean_difference, FLOOR)),
        ("mask pixels that agree (%)", lambda difference: 100 * (1 - difference.changed_px / difference.image_px)),
    )
    tiles = " or ".join(sorted({str(difference.tile_px) for difference in differences}))
    by_model = {
        model: list(group) for model, group in itertools.groupby(differences, key=lambda difference: difference.model)
    }
    with matplotlib.style.context(STYLE, after_reset=True):
        figure = Figure((10.5, 4.6), dpi=DPI)
        all_axes = figure.subplots(1, len(panels))
        for axes, (title, value) in zip(all_axes, panels, strict=True):
            for index, (model, group) in enumerate(by_model.items()):
                axes.plot(
                    [difference.overlap_px for difference in group], [value(difference) for difference in group],
                    color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)],
                    markersize=5, linewidth=1.1, markeredgecolor="white", markeredgewidth=0.5, label=drawable(model),
                )  # fmt: skip
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_xlabel(f"overlap of tiles of {tiles} px (px)")
            axes.grid(color="#E6E6E6", linewidth=0.6)
            axes.set_axisbelow(True)
        for axes in all_axes[:2]:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        reference = max(differences, key=lambda difference: difference.overlap_px)
        note = (
            f"{image}, {reference.image_px:,} pixels, one run of each network. Reference: the same network under its "
            f"largest overlap, about {MOST}/{PARTS} of a tile. Of each overlap the outer thirds are cut and the middle "
            f"one is blended. Differences below {FLOOR:g} are drawn there."
        )
        figure.suptitle("How much the overlap of tiles matters", x=0.06, ha="left", fontsize=10.5, fontweight="bold")
        figure.text(0.06, 0.02, wrapped(note, 165), fontsize=7.5, va="bottom")
        figure.legend(handles=all_axes[0].lines, loc="center right", frameon=False, fontsize=8.5)
        figure.subplots_adjust(left=0.06, right=0.86, top=0.84, bottom=0.23, wspace=0.27)
    return figure

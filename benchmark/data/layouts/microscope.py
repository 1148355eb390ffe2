"""Draws windows of a layout as microscope images, and writes them as datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from skimage.measure import label

from benchmark.data.layouts.layout_source import Layout
from benchmark.data.layouts.windows import Window, outlined_area, windows
from benchmark.data.specs import SUFFIX, Layer
from benchmark.data.synthetic import STANDINS, Sample
from benchmark.data.synthetic.effects import render
from benchmark.data.synthetic.image_operations import blur
from benchmark.data.synthetic.raster import Raster, draw_discs
from benchmark.data.synthetic.standins import Json, check_switches, refuse_existing, save, stream, write_set
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

VERSION = 1  # raised by hand whenever the same seed gives other bytes than before
APPEARANCES = ("hy5syn", "miic", "omc")
ROUNDING = "rounding"
# Exposure blurs a drawn corner before the resist's threshold makes it sharp again: the blur's standard deviation as a
# share of the mean track width. Twice the blur turns a square via into a disc.
ROUNDING_SHARE = (0.10, 0.16)
SIDE = 512  # default of height and width, pixels


@dataclass(frozen=True)
class ChipSample(Sample):
    """An image with its truth; ``window`` holds the exact polygons."""

    window: Window


@dataclass(frozen=True)
class Appearance:
    """Settings of the microscope."""

    appearance: str = "hy5syn"  # the stand-in with this microscope
    seed: int = 0  # of the whole set
    off: frozenset[str] = frozenset()  # effects to leave out

    def check(self, name: str) -> None:
        """Raise a UserError for an unknown appearance or effect."""
        if self.appearance not in APPEARANCES:
            raise UserError(f"--appearance {self.appearance!r}: expected one of {', '.join(APPEARANCES)}")
        check_switches(name, (ROUNDING, *STANDINS[self.appearance].switches()), self.off)


def show(window: Window, look: Appearance) -> ChipSample:
    """Draw a window; the same arguments give the same bytes.

    Returns:
        The image and its masks, which no effect changes; the rounding of corners is an effect. Vias are cut by the
        tracks, nets are the 8-connected components of the track mask, and radii are those of discs of equal area.
    """
    standin = STANDINS[look.appearance]
    streams = partial(stream, look.seed, window.sha256, window.index)
    raster, track_width = _raster(window)
    shown, rounding = raster, 0.0
    if ROUNDING not in look.off:
        rounding = float(streams(ROUNDING).uniform(*ROUNDING_SHARE)) * track_width
        track = blur(raster.track, rounding) >= 0.5
        via = blur(raster.via, 2 * rounding) >= 0.5
        shown = replace(raster, track=track, via=via, nets=raster.nets * track, core=raster.core & via)
    image, strengths = render(standin.effects, shown, standin.style, streams, look.off, standin.channels)
    facts = {
        **{"origin_nm": list(window.origin_nm), "nets": int(raster.nets.max()), "polygons": len(window.visible)},
        **{"vias": len(raster.centres), "track_share": float(raster.track.mean()), "track_width_px": track_width},
    }
    manifest: Json = {
        **{"dataset": window.dataset, "version": VERSION, "seed": look.seed, "index": window.index},
        **{"height": window.height, "width": window.width, "off": sorted(look.off), "layout": facts},
        "effects": {ROUNDING: {"sigma_px": rounding}, **strengths},
    }
    return ChipSample(image, raster.track, raster.via, raster.nets, raster.centres, manifest, window)


def write(
    layout: Layout,
    directory: Path,
    count: int,
    *,
    nm_per_pixel: float,
    height: int | None = None,
    width: int | None = None,
    target: Layer = "track",
    look: Appearance,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Json]:
    """Write windows of a layout as a dataset's folder, as the stand-ins are written.

    Args:
        layout: source of the windows.
        directory: the new folder; must not exist yet.
        count: number of images.
        nm_per_pixel: side of a pixel.
        height: pixels; :data:`SIDE` by default.
        width: pixels; :data:`SIDE` by default.
        target: the mask that is the label.
        look: settings of the microscope, and the seed of the whole set.
        executor: draws images in parallel processes; by default this process draws them.
        progress: called with (images done, images in all).

    Returns:
        The manifest's entries of the images.

    Raises:
        UserError: as :func:`.windows.windows` and :meth:`Appearance.check`; the directory exists.
    """
    look.check(layout.name)
    refuse_existing(directory)
    size = {"height": height or SIDE, "width": width or SIDE}
    drawn = windows(layout, count, **size, nm_per_pixel=nm_per_pixel, seed=look.seed, target=target)
    header: Json = {
        **{"dataset": layout.name, "version": VERSION, "seed": look.seed, "target": target},
        **{"appearance": look.appearance, "nm_per_pixel": nm_per_pixel, "source": layout.facts},
    }
    return write_set(directory, partial(_write_one, look, target), drawn, header, executor, progress)


def notes(images: Sequence[Json]) -> tuple[str, ...]:
    """Return sentences for the user about the images of a manifest."""
    merged = [image["name"] for image in images if image["layout"]["nets"] != image["layout"]["polygons"]]
    if not merged:
        return ()
    return (
        f"another number of nets than the layout in {len(merged)} of {counted(len(images), 'mask')}, such as "
        f"{merged[0]}: gaps or lines of about a pixel, or metal that only corners join; lower "
        "--nm-per-pixel where that matters",
    )


def _write_one(look: Appearance, target: Layer, directory: Path, window: Window) -> Json:
    name = f"{window.dataset.replace(SUFFIX, '_syn')}_{window.index:04d}.png"
    return save(show(window, look), directory, name, target)


def _raster(window: Window) -> tuple[Raster, float]:
    """Return a window's masks, and the mean width of its tracks in pixels: twice their area by their outline."""
    shape, track = (window.height, window.width), window.mask("track")
    via = window.mask("via") & track
    vias = [outlined_area(corners) for corners in window.polygons.get("via", ())]
    centres = np.array([(*centre, np.sqrt(area / np.pi)) for area, centre in vias], np.float64).reshape(-1, 3)
    raster = Raster(
        nets=label(track, connectivity=2).astype(np.int32),
        track=track,
        via=via,
        core=draw_discs(centres[:, :2], 0.5 * centres[:, 2], *shape) & via,
        lower=window.mask("lower"),
        decoration=np.zeros(shape, np.bool_),
        centres=centres,
    )
    drawn = window.polygons.get("track", ())
    area = sum(outlined_area(corners)[0] for corners in drawn)
    outline = sum(float(np.hypot(*(np.roll(corners, -1, axis=0) - corners).T).sum()) for corners in drawn)
    return raster, 2 * area / outline if outline else 0.0

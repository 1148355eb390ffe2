"""Draws the stand-ins from (data set, index, seed), and writes them as datasets."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from benchmark.config.targets import Target, is_via, layers_of
from benchmark.data.specs import SUFFIX
from benchmark.data.synthetic import bright_field, chip_blocks, optical, routing, sem
from benchmark.data.synthetic.effects import FIXED, Effect, Stress, render
from benchmark.data.synthetic.layout import Canvas
from benchmark.data.synthetic.raster import Placement, Raster, rasterise
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import write_atomically

# Layout beyond each side of the window, so that the window's border cuts nets that were routed without regard to it.
MARGIN_PX = 160
# In windows below this side each quarter and the middle show target and background: a 96x96 crop of a 192x192 image
# without a track would train and test nothing. Larger windows may hold empty areas, as real images do.
SMALL_PX = 512
# Least share of the target, and of background, in those parts, or in a large window as a whole. A crop of 96x96 px then
# shows 280 px of track, or 18 px of a via.
LEAST_SHARE = 0.03
LEAST_VIA_SHARE = 0.002
LAYOUT_TRIES = 64  # one layout in two to five suits a small window

Json = dict[str, Any]  # JSON's own types
Job = TypeVar("Job")


@dataclass(frozen=True)
class StandIn:
    """The parts of a stand-in."""

    layout: Callable[[Generator, int, int], Canvas]  # draws a layout on a canvas of a height and width
    effects: Mapping[str, Effect]  # name -> effect, in the order of application
    stresses: Mapping[str, tuple[str, ...]]  # name of a stress -> the effects that it forces
    style: object  # ranges from which the effects draw
    channels: int  # 1 (SEM) or 3 (optical, RGB)
    height: int  # default size in pixels
    width: int  # default size in pixels
    count: int  # images of a full set
    target: Target  # the masks that are the label; ``metal`` is track or via
    max_turn_deg: float  # largest turn of the sample
    version: int  # raised by hand whenever the same seed gives other bytes than before

    def switches(self) -> tuple[str, ...]:
        """Return the names of the effects that can be turned off."""
        return tuple(name for name in self.effects if name not in FIXED)


_SEM, _OPTICAL = (sem.EFFECTS, sem.STRESSES), (optical.EFFECTS, optical.STRESSES)
_BRIGHT = (bright_field.EFFECTS, bright_field.STRESSES)
STANDINS: Mapping[str, StandIn] = MappingProxyType(
    {
        # A frame of HY5SYN; the loader cuts it into 1024x1024 crops.
        "hy5syn": StandIn(routing.hy5syn, *_SEM, sem.HY5SYN, 1, 3536, 4096, 40, "metal", 0.3, version=3),
        "miic": StandIn(routing.miic, *_SEM, sem.MIIC, 1, 512, 512, 400, "track", 0.5, version=2),
        "omc": StandIn(chip_blocks.omc, *_OPTICAL, optical.OMC, 3, 512, 512, 400, "track", 1.5, version=2),
        "omv": StandIn(chip_blocks.omv, *_OPTICAL, optical.OMC, 3, 512, 512, 400, "via", 1.5, version=2),
        "omc_omv": StandIn(chip_blocks.omv, *_OPTICAL, optical.OMC, 3, 512, 512, 400, "track+via", 1.5, version=1),
        "t84c": StandIn(chip_blocks.one_metal, *_BRIGHT, bright_field.STYLE, 3, 512, 512, 400, "metal", 1.5, version=2),
    }
)


@dataclass(frozen=True)
class Sample:
    """An image with its truth.

    Attributes:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8.
        track: ``(H, W)`` bool.
        via: ``(H, W)`` bool; vias lie on tracks.
        nets: ``(H, W)`` int32, 0 on background, one number per net that this window shows.
        vias: ``(N, 3)`` float64: x, y and radius in pixels.
        manifest: data set, seed and everything drawn from it, in JSON's types.
    """

    image: NDArray[np.uint8]
    track: NDArray[np.bool_]
    via: NDArray[np.bool_]
    nets: NDArray[np.int32]
    vias: NDArray[np.float64]
    manifest: Json

    def mask(self, layer: str) -> NDArray[np.bool_]:
        """Return the mask of ``metal`` (track or via), ``track`` or ``via``.

        Raises:
            UserError: another layer.
        """
        masks = {"metal": self.track | self.via, "track": self.track, "via": self.via}
        if layer not in masks:
            raise UserError(f"stand-ins have the layers {', '.join(masks)}, found {layer!r}: correct the target")
        return masks[layer]


def generate(
    dataset: str,
    index: int,
    *,
    height: int,
    width: int,
    seed: int,
    off: frozenset[str] = frozenset(),
    stress: Stress | None = None,
) -> Sample:
    """Draw an image of a stand-in; the same arguments give the same bytes, in any order of calls.

    Args:
        dataset: a key of :data:`STANDINS`.
        index: number of the image, from 0.
        height: pixels, at least 64.
        width: pixels, at least 64.
        seed: of the whole set, at least 0.
        off: effects to leave out; they change nothing but the image.
        stress: effects to make stronger or weaker than drawn; they change nothing but the image.

    Raises:
        UserError: an unknown data set, effect or stress, or an impossible size, index, seed or strength.
    """
    standin = _standin(dataset, off)
    forced = _forced(dataset, standin, stress) if stress else {}
    if min(height, width) < 64 or index < 0 or seed < 0:
        raise UserError(
            f"{dataset}-syn: found height {height}, width {width}, index {index}, seed {seed}; "
            "expected at least 64 pixels a side, and an index and a seed of at least 0"
        )
    streams = partial(stream, seed, dataset, index)
    raster, facts = _window(standin, streams("layout"), height, width)
    image, strengths = render(standin.effects, raster, standin.style, streams, off, standin.channels, forced)
    manifest: Json = {
        **{"dataset": dataset + SUFFIX, "version": standin.version, "seed": seed, "index": index},
        **{"height": height, "width": width, "off": sorted(off), "layout": facts, "effects": strengths},
        **({"stress": [stress.name, stress.strength]} if stress else {}),
    }
    return Sample(image, raster.track, raster.via, raster.nets, raster.centres, manifest)


def write(
    dataset: str,
    directory: Path,
    count: int | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    off: frozenset[str] = frozenset(),
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a stand-in as ``image/<name>.png``, ``label/<name>.png`` (0 and 255) and ``manifest.json``.

    Args:
        dataset: a key of :data:`STANDINS`.
        directory: the new folder, as for :func:`write_set`.
        count: number of images; the stand-in's own by default.
        height: pixels; the stand-in's own by default.
        width: pixels; the stand-in's own by default.
        seed: of the whole set.
        off: effects to leave out.
        executor: draws images in parallel processes; by default this process draws them.
        progress: called with (images done, images in all).

    Returns:
        ``directory``.

    Raises:
        UserError: as :func:`generate`; the directory exists; ``count`` is below 1.
    """
    standin = _standin(dataset, off)
    count = standin.count if count is None else count
    if count < 1:
        raise UserError(f"{dataset}-syn: found a count of {count}, expected at least 1 image")
    height = standin.height if height is None else height
    width = standin.width if width is None else width
    write_one = partial(_write_one, dataset, height=height, width=width, seed=seed, off=off)
    header: Json = {"dataset": dataset + SUFFIX, "version": standin.version, "seed": seed, "target": standin.target}
    write_set(directory, write_one, range(count), header, executor, progress)
    return directory


def write_set(
    directory: Path,
    write_one: Callable[[Path, Job], Json],
    jobs: Sequence[Job],
    header: Json,
    executor: Executor | None,
    progress: Callable[[int, int], None] | None,
) -> list[Json]:
    """Write a set of images to ``<directory>.part`` and rename it, so that a folder under its final name is complete.

    An interrupted call leaves its ``.part`` folder, which the next call replaces.

    Args:
        directory: the new folder; must not exist yet.
        write_one: writes a job's files into a folder, and returns the manifest's entry of the image.
        jobs: one per image.
        header: the manifest's entries for the whole set.
        executor: runs ``write_one``; this process by default.
        progress: called with (images done, images in all).

    Returns:
        The manifest's entries of the images.

    Raises:
        UserError: the directory exists or cannot be written.
    """
    refuse_existing(directory)
    part = directory.with_name(directory.name + ".part")
    images: list[Json] = []
    try:
        if part.exists():
            shutil.rmtree(part)
        for folder in ("image", *label_folders(header["target"]).values()):
            (part / folder).mkdir(parents=True)
        for entry in (executor.map if executor else map)(partial(write_one, part), jobs):
            images.append(entry)
            if progress:
                progress(len(images), len(jobs))
        write_atomically(part / "manifest.json", json.dumps({**header, "images": images}, indent=1).encode())
        os.replace(part, directory)
    except OSError as error:
        raise UserError(
            f"{directory}: cannot be written ({error.strerror or error}); choose another folder or free the disk"
        ) from error
    return images


def label_folders(target: Target) -> dict[str, str]:
    """Return the folder of each layer's masks in a written set."""
    layers = layers_of(target)
    return {layer: "label" if len(layers) == 1 else f"label_{layer}" for layer in layers}


def refuse_existing(directory: Path) -> None:
    """Raise a UserError where a set's directory exists."""
    if directory.exists():
        raise UserError(f"{directory}: exists already; expected a new folder. Remove it or name another one")


def save(sample: Sample, directory: Path, name: str, target: Target) -> Json:
    """Write a sample's image and labels into a set's folder, and return the manifest's entry of the image."""
    # Level 1: the noise of the images hardly compresses, and the fastest level is five times faster than the default.
    Image.fromarray(sample.image).save(directory / "image" / name, compress_level=1)
    for layer, folder in label_folders(target).items():
        Image.fromarray(sample.mask(layer).astype(np.uint8) * np.uint8(255)).save(directory / folder / name)
    return {"name": name, **sample.manifest}


def _write_one(dataset: str, directory: Path, index: int, **settings: Any) -> Json:
    sample = generate(dataset, index, **settings)
    return save(sample, directory, f"{dataset}_syn_{index:04d}.png", STANDINS[dataset].target)


def _standin(dataset: str, off: frozenset[str]) -> StandIn:
    if dataset not in STANDINS:
        raise UserError(
            f"no stand-in for data set {dataset!r}; expected one of {', '.join(STANDINS)}"
            f"{did_you_mean(dataset, STANDINS)}"
        )
    check_switches(dataset + SUFFIX, STANDINS[dataset].switches(), off)
    return STANDINS[dataset]


def _forced(dataset: str, standin: StandIn, stress: Stress) -> dict[str, float]:
    if stress.name not in standin.stresses:
        raise UserError(
            f"{dataset}-syn cannot be stressed by {stress.name!r}{did_you_mean(stress.name, standin.stresses)}; "
            f"expected one of {', '.join(standin.stresses)}"
        )
    if not 0 < stress.strength < float("inf"):
        raise UserError(f"{dataset}-syn: found a strength of {stress.strength}, expected a number above 0")
    return dict.fromkeys(standin.stresses[stress.name], stress.strength)


def check_switches(name: str, known: Sequence[str], off: Iterable[str]) -> None:
    """Raise a UserError if ``off`` has a name that is no effect of the data set ``name``."""
    if unknown := sorted(set(off) - set(known)):
        raise UserError(
            f"{name} has no effect {unknown[0]!r} to switch off{did_you_mean(unknown[0], known)}; "
            f"expected names among {', '.join(known)}"
        )


def stream(seed: int, dataset: str, index: int, purpose: str) -> Generator:
    """Return the random stream of a purpose of an image; names enter by their CRC-32, which never changes."""
    words = (seed, zlib.crc32(dataset.encode()), index, zlib.crc32(purpose.encode()))
    return np.random.default_rng(np.random.SeedSequence(words))


def _window(standin: StandIn, rng: Generator, height: int, width: int) -> tuple[Raster, Json]:
    """Draw layouts until the window shows both target and background."""
    for _ in range(LAYOUT_TRIES):
        canvas = standin.layout(rng, height + 2 * MARGIN_PX, width + 2 * MARGIN_PX)
        angle = float(np.radians(rng.uniform(-standin.max_turn_deg, standin.max_turn_deg)))
        raster = rasterise(canvas, Placement(MARGIN_PX, MARGIN_PX, angle), height, width)
        if shows_both(raster.track, raster.via, standin.target):
            break
    facts: Json = {**canvas.facts, "corner_px": canvas.corner_px, "turn_deg": float(np.degrees(angle))}
    facts |= {"nets": int(raster.nets.max()), "vias": len(raster.centres), "track_share": float(raster.track.mean())}
    return raster, facts


def shows_both(track: NDArray[np.bool_], via: NDArray[np.bool_], target: Target) -> bool:
    """Return whether a window ``(H, W)`` holds enough of each layer and of background; see :data:`SMALL_PX`."""
    return all(
        _shows_both(*((via, LEAST_VIA_SHARE) if is_via(layer) else (track, LEAST_SHARE))) for layer in layers_of(target)
    )


def _shows_both(mask: NDArray[np.bool_], least: float) -> bool:
    parts = [mask]
    if min(mask.shape) < SMALL_PX:
        half, quarter = [side // 2 for side in mask.shape], [side // 4 for side in mask.shape]
        corners = [(y, x) for y in (0, half[0]) for x in (0, half[1])] + [(quarter[0], quarter[1])]
        parts = [mask[y : y + half[0], x : x + half[1]] for y, x in corners]
    shares = [float(part.mean()) for part in parts]
    return min(shares) >= least and max(shares) <= 1 - least

"""Reads ``--stress`` and draws a stand-in's test images with one effect forced."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.data import packs
from benchmark.data.datasets import Source
from benchmark.data.packs import Pack, Progress
from benchmark.data.splits import Tile
from benchmark.data.synthetic import CONVENTION, STANDINS, Stress
from benchmark.data.tiling import windows_of
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import write_atomically
from benchmark.utils.threads import in_order

STRENGTHS = "0.5,1,2"
STRONGEST = 8.0  # a blur of 24 px, of tracks that are 22 px wide: beyond, nothing is left to be lost


@dataclass(frozen=True)
class Stresses:
    """Effects to test one at a time, each at every strength; unstressed images are tested too."""

    effects: tuple[str, ...]
    strengths: tuple[float, ...]

    @classmethod
    def parse(cls, effects: str | None, strengths: str | None) -> Stresses | None:
        """Read the two flags; ``None`` where neither was given.

        Raises:
            UserError: an empty list, strengths without effects, or a strength that is no number or out of range.
        """
        if effects is None:
            if strengths is not None:
                raise UserError(f"--strength {strengths}: of what? Add effects, such as --stress clouds,noise")
            return None
        names = tuple(dict.fromkeys(name.strip() for name in effects.split(",") if name.strip()))
        if not names:
            raise UserError("--stress is empty; expected effects, such as clouds,defocus,noise,roughness")
        texts = (STRENGTHS if strengths is None else strengths).split(",")
        return cls(names, tuple(sorted({_strength(text.strip()) for text in texts})))

    @property
    def each(self) -> tuple[Stress | None, ...]:
        """No stress, then every effect at every strength."""
        return (None, *(Stress(name, strength) for name in self.effects for strength in self.strengths))

    def refuse(self, sources: Iterable[Source], keep_weights: str, folds: int | None = None) -> None:
        """Refuse tests that cannot work, before any work.

        Args:
            sources: the datasets to test on.
            keep_weights: the value of ``--keep-weights``.
            folds: the number of folds, if there are folds.

        Raises:
            UserError: datasets of files, unknown effects, stand-ins without an effect, or too few kept weights.
        """
        if keep_weights == "none":
            lost = "tests trained weights, which --keep-weights none throws away"
            raise UserError(f"--stress: {lost}; use best-repeat or all")
        if folds is not None and keep_weights != "all":
            raise UserError(
                f"--stress: with split.folds={folds}, the best repeats of two networks have other test images; use "
                "--keep-weights all, which tests every fold"
            )
        sources = list(sources)
        stresses = {source.name: STANDINS[source.base].stresses for source in sources if source.synthetic}
        known = list(dict.fromkeys(name for standin in STANDINS.values() for name in standin.stresses))
        for name in self.effects:
            if name not in known:
                expected = f"{', '.join(known)}{did_you_mean(name, known)}"
                raise UserError(f"--stress {name!r}: no such stress; expected names among {expected}")
        if files := [source.name for source in sources if not source.synthetic]:
            raise UserError(
                f"--stress: {', '.join(files)} {'are' if len(files) > 1 else 'is'} read from files, whose effects "
                "cannot be changed; only stand-ins can be stressed: name them with -syn, or leave the flag out"
            )
        lacking = {name: effects for name, effects in stresses.items() if set(self.effects) - effects.keys()}
        if lacking:
            has = "; ".join(f"{name} has {', '.join(effects)}" for name, effects in lacking.items())
            missing = sorted({name for effects in lacking.values() for name in set(self.effects) - effects.keys()})
            raise UserError(
                f"--stress {','.join(missing)}: not an effect of {', '.join(lacking)} ({has}); "
                "leave the effect or the dataset out"
            )


def open_stressed(
    source: Source,
    protocol: Protocol,
    cache: Path,
    stress: Stress | None,
    progress: Progress | None = None,
    *,
    repeat: int = 0,
) -> Pack:
    """Open the test images of a stand-in under a stress, drawing them first where they are missing.

    All networks of a repeat are tested on this pack. It holds the tiles of the test part alone, in their order.

    Args:
        source: a stand-in.
        protocol: tile size, channels and the division.
        cache: folder of all packs.
        stress: the forced effect; ``None`` gives the test images again, with their own effects.
        progress: called with (images done, images in all) while drawing.
        repeat: whose test images these are, if there are folds.

    Raises:
        UserError: as :func:`~benchmark.data.packs.open_pack`; or the stand-in has no such stress.
    """
    whole = packs.open_pack(source, protocol, cache)
    tested = [whole.tiles[index] for index in whole.divide(protocol, repeat).test]
    shared = packs.pack_path(source, protocol, cache)
    identity = json.dumps([CONVENTION, shared.name, str(stress or ""), [tile.name for tile in tested]])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    path = shared.with_name(f"{source.name}.{stress or 'drawn'}-{digest}")
    side, channels = whole.images.shape[1], whole.images.shape[3]
    corners = {
        (row, column): np.s_[top : top + side, left : left + side]
        for row, column, top, left in windows_of(source.shape, side, partial=protocol.input.partial_tiles)
    }
    by_frame: dict[str, list[Tile]] = {}
    for tile in tested:
        by_frame.setdefault(tile.group, []).append(tile)
    frames = [index for index in range(source.count) if packs.drawn_name(source, index, side) in by_frame]
    tiles: list[Tile] = []
    generated: list[object] = []

    def draw(index: int) -> packs.Decoded:
        return packs.draw_image(source, index, side, channels, stress)

    def fill(folder: Path) -> None:
        with (
            packs.array_file(folder / "images.npy", (len(tested), side, side, channels)) as images,
            packs.array_file(folder / "masks.npy", packs.mask_shape(source, len(tested), side)) as masks,
            contextlib.closing(in_order(draw, frames)) as results,
        ):
            for done, item in enumerate(results, start=1):
                for tile in by_frame[item.group]:
                    window = corners[tile.row, tile.column]
                    images.write(item.image[window].tobytes())
                    masks.write(item.mask[window].tobytes())
                    tiles.append(tile)
                generated.append(item.drawn)
                if progress:
                    progress(done, len(frames))
        assert tiles == list(tested), "a division lists the test tiles in the order of the images"
        manifest = {
            "format": packs.FORMAT,
            "dataset": source.name,
            "fingerprint": source.fingerprint,
            "stress": [stress.name, stress.strength] if stress else None,
            "has_ignored": False,
            "notes": [],
            "tiles": [asdict(tile) for tile in tiles],
            "generated": generated,
        }
        write_atomically(folder / "manifest.json", json.dumps(manifest).encode())

    return packs.open_at(path, source, fill)


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= STRONGEST:
        raise UserError(
            f"--strength {text!r}: expected numbers above 0 and up to {STRONGEST:g}, such as {STRENGTHS}; "
            "1 is the hardest that a stand-in draws"
        )
    return value

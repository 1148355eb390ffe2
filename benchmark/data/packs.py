"""Decodes a dataset once into memory-mapped uint8 arrays, so that training decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.config.targets import Target
from benchmark.data import duplicates, synthetic
from benchmark.data.check.judgement import Facts, image_facts, judge_split, refuse_or_note, squeezed, with_label
from benchmark.data.datasets import Source, refuse_changed
from benchmark.data.formats.all_formats import read_layers
from benchmark.data.formats.images import (
    Levels,
    UInt8Array,
    decode,
    percentile_levels,
    read_depth,
    read_size,
    sized,
    to_8_bit,
    to_channels,
)
from benchmark.data.formats.label_format import Label
from benchmark.data.formats.masks import read_ignore
from benchmark.data.pairs import Pair
from benchmark.data.splits import Division, Tile, divide_under, unlabelled
from benchmark.data.synthetic import Stress
from benchmark.data.tiling import BoolMask, cut_by_smallest, labelled_share, smaller_input, tiles_of, windows_of
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically
from benchmark.utils.threads import in_order
from benchmark.utils.words import counted

FORMAT = 3  # raised when the layout of a pack changes, so that old ones are built again
IGNORED = 2  # in a pack's masks, beside 0 (background) and 1 (foreground)
ABANDONED_S = 24 * 3600.0  # older half-written packs belong to killed processes; younger ones may be being written

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pack:
    """A dataset ready to be trained on."""

    dataset: str  # its name, ``-syn`` included
    fingerprint: str  # the source's
    images: UInt8Array  # ``(n, T, T, C)`` uint8, memory-mapped
    masks: UInt8Array  # ``(n, T, T, L)`` uint8, memory-mapped, by layer: 0 background, 1 foreground, :data:`IGNORED`
    tiles: tuple[Tile, ...]  # a description of every image, in the arrays' order
    has_ignored: bool = False  # whether any mask holds ignored pixels
    notes: tuple[str, ...] = ()  # remarks about how the files were read, for any split
    layers: tuple[str, ...] = ("track",)  # names of the masks' layers

    def centre(self, indices: Sequence[int], size: int) -> tuple[UInt8Array, UInt8Array]:
        """Copy images ``(n, size, size, C)`` and masks ``(n, L, size, size)``, each cut to its centred window."""
        margin = (self.images.shape[1] - size) // 2
        window = np.s_[margin : margin + size, margin : margin + size]
        masks = np.empty((len(indices), len(self.layers), size, size), np.uint8)
        for slot, index in enumerate(indices):
            masks[slot] = np.moveaxis(self.masks[index][window], -1, 0)
        return np.stack([self.images[i][window] for i in indices]), masks

    def divide(self, protocol: Protocol, repeat: int = 0) -> Division:
        """Return the split of a repeat, the same for every model; raises as :meth:`divisions`."""
        return self.divisions(protocol)[repeat if protocol.split.folds else 0]

    def divisions(self, protocol: Protocol) -> tuple[Division, ...]:
        """Return the one split of all repeats or, with folds, that of each repeat.

        Raises:
            UserError: too few images; names the notes too, since one may be the cause, such as levels that make all
                images look alike.
        """
        try:
            return divide_under(self.dataset, self.tiles, protocol)
        except UserError as error:
            if not self.notes:
                raise
            raise UserError(f"{error}. First look at these remarks on the files: {'; '.join(self.notes)}") from error

    def tested(self, protocol: Protocol) -> tuple[int, ...]:
        """Return the images that any repeat is tested on, ascending; raises as :meth:`divisions`."""
        return tuple(sorted({index for division in self.divisions(protocol) for index in division.test}))

    def notes_under(self, protocol: Protocol) -> list[str]:
        """Return the notes, and those on the split."""
        findings = judge_split(self.dataset, self.tiles, self.divisions(protocol), protocol)
        wrong = [f"{name}: {finding.text}" for name, finding in findings.items() if finding.wrong]
        return [*self.notes, *filter(None, [unlabelled(self.tiles, protocol.split)]), *wrong]


def pack_path(source: Source, protocol: Protocol, cache: Path) -> Path:
    """Return the folder of a source's pack under a protocol."""
    settings = protocol.input
    identity = json.dumps(
        [
            *(FORMAT, source.fingerprint, source.target, source.levels, settings.partial_tiles),
            *(settings.tile_for(source.name), settings.size_for(source.name), settings.channels_for(source.name)),
        ]
    )
    return cache / "packs" / f"{source.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def open_pack(source: Source, protocol: Protocol, cache: Path, progress: Progress | None = None) -> Pack:
    """Open a source's pack, building it first where it is missing.

    A pack is built in a temporary folder and renamed when complete: half-written packs are never used, and two
    processes that build at once both end with a whole pack.

    Args:
        source: the images.
        protocol: tile size and channels.
        cache: folder of all packs.
        progress: called with (images done, images in all) while building.

    Raises:
        UserError: unreadable files, sizes that do not fit, a cache that cannot be written, a damaged pack.
    """

    def fill(folder: Path) -> None:
        _fill(source, protocol, folder, progress)
        if source.pairs:  # last, so that a change during the reading is seen too
            refuse_changed(source, cache / "hashes.json")

    return open_at(pack_path(source, protocol, cache), source, fill)


def open_at(path: Path, source: Source, fill: Callable[[Path], object]) -> Pack:
    """Open a pack in a folder, filling the folder first where it is missing; raises as :func:`open_pack` does."""
    if not (path / "manifest.json").is_file():
        _make(path, fill)
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        images, masks = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
        tiles = tuple(Tile(**tile) for tile in manifest["tiles"])
        has_ignored, notes = manifest["has_ignored"], tuple(manifest["notes"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:  # EOFError: an empty file of pixels
        raise UserError(f"{path}: a damaged pack ({error}); remove the folder, and it is built again") from error
    masks = masks.reshape(*masks.shape[:3], len(source.layers))
    return Pack(source.name, source.fingerprint, images, masks, tiles, has_ignored, notes, source.layers)


def foresee(source: Source, protocol: Protocol, cache: Path) -> tuple[tuple[Division, ...], list[str]]:
    """Return the divisions and the notes of a source: by its pack or, before there is one, by its files' headers.

    Headers tell neither look-alikes nor ignored pixels; both can only make a split harder to fill.

    Raises:
        UserError: as for :func:`open_pack` and :func:`benchmark.data.splits.divide`.
    """
    if (pack_path(source, protocol, cache) / "manifest.json").is_file():
        pack = open_pack(source, protocol, cache)
        return pack.divisions(protocol), pack.notes_under(protocol)
    shapes = _shapes(source)
    side = fitting_tile(source, protocol, shapes)
    drawn = (drawn_name(source, index, side) for index in range(source.count))
    frames = [(pair.name, pair.group, pair.split) for pair in source.pairs] or [(name, name, None) for name in drawn]
    tiles: list[Tile] = []
    for frame, shape in zip(frames, shapes, strict=True):
        tiles += tiles_of(*frame, windows_of(shape, side, partial=protocol.input.partial_tiles))
    partly = any(pair.ignore or (pair.legend.values and pair.legend.values.ignore) for pair in source.pairs)
    unknown = f"tiles with too few labelled pixels will be left out; `data verify {source.name}` counts them"
    return divide_under(source.name, tiles, protocol), [unknown] if partly and protocol.split.min_labelled else []


def bring_near(source: Source, protocol: Protocol, cache: Path, near: Path) -> None:
    """Copy a source's pack, if it is built, into another cache, such as one on a node's own disk.

    Raises:
        UserError: the other cache cannot be written.
    """
    shared, path = (pack_path(source, protocol, folder) for folder in (cache, near))
    if (shared / "manifest.json").is_file() and not (path / "manifest.json").is_file():
        _make(path, lambda folder: shutil.copytree(shared, folder, dirs_exist_ok=True))


def _make(path: Path, fill: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        for folder in path.parent.glob(f".{path.name}.*.tmp"):
            with contextlib.suppress(OSError):  # another process may remove it at the same time
                if time.time() - folder.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(folder)
        fill(temporary)
        try:
            os.replace(temporary, path)
        except OSError:
            if not (path / "manifest.json").is_file():
                raise  # otherwise another process finished the same pack first
    except OSError as error:
        cause = error.strerror or error
        message = f"{path}: the pack cannot be written ({cause}); choose another --cache or free the disk"
        raise UserError(message) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class Decoded:
    """One source image, decoded."""

    name: str
    group: str
    given: str | None
    image: UInt8Array  # ``(H, W, C)``
    mask: UInt8Array  # ``(H, W, L)``
    note: str | None = None
    facts: Facts | None = None
    drawn: dict[str, object] | None = None


def _fill(source: Source, protocol: Protocol, folder: Path, progress: Progress | None) -> None:
    """Write a pack's files."""
    settings = protocol.input
    items: Sequence[Pair | int] = source.pairs or range(source.count)
    size, channels = settings.size_for(source.name), settings.channels_for(source.name)
    shapes = _shapes(source)
    levels = None if source.synthetic else levels_of(source)
    side = fitting_tile(source, protocol, shapes)
    windows = [windows_of(shape, side, partial=settings.partial_tiles) for shape in shapes]
    total = sum(map(len, windows))

    def read(item: Pair | int) -> Decoded:
        if isinstance(item, int):
            return draw_image(source, item, side, channels)
        return _read(source, item, channels, levels)

    tiles: list[Tile] = []
    thumbnails: list[UInt8Array] = []
    generated: list[dict[str, object] | None] = []
    notes: Counter[str] = Counter()
    facts: list[Facts] = []
    has_ignored = False
    with (
        array_file(folder / "images.npy", (total, side, side, channels)) as images,
        array_file(folder / "masks.npy", mask_shape(source, total, side)) as masks,
        contextlib.closing(in_order(read, items)) as results,
    ):
        for done, (item, corners) in enumerate(zip(results, windows, strict=True), start=1):
            cut = tiles_of(item.name, item.group, item.given, corners)
            for tile, (_, _, top, left) in zip(cut, corners, strict=True):
                window = np.s_[top : top + side, left : left + side]
                tiles.append(replace(tile, labelled=labelled_share((item.mask[window] != IGNORED).any(-1), size)))
                images.write(item.image[window].tobytes())
                masks.write(item.mask[window].tobytes())
                if not source.synthetic:
                    thumbnails.append(duplicates.thumbnail(item.image[window]))
            has_ignored |= bool((item.mask == IGNORED).any())
            generated.append(item.drawn)
            facts += [item.facts] if item.facts else []
            # A file's own figures follow the semicolon, such as the number of its doubtful pixels.
            notes.update([item.note.partition(";")[0]] if item.note else [])
            if progress:
                progress(done, len(items))
    if thumbnails:
        tiles = duplicates.clustered(tiles, thumbnails)
    manifest = {
        "format": FORMAT,
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "target": source.target,
        "tile": side,
        "has_ignored": has_ignored,
        "levels": asdict(levels) if levels else None,
        "notes": [
            *(f"{times} of {counted(len(items), 'label')}: {note}" for note, times in sorted(notes.items())),
            *refuse_or_note(source.name, source.pairs, facts),
            *filter(None, [squeezed(levels), cut_by_smallest(side, settings.tile_for(source.name), shapes)]),
        ],
        "tiles": [asdict(tile) for tile in tiles],
        **({"generated": generated} if source.synthetic else {}),
    }
    write_atomically(folder / "manifest.json", json.dumps(manifest).encode())


def levels_of(source: Source) -> Levels | None:
    """Return the levels of a dataset's 16-bit images, declared or by percentiles; ``None`` for 8 bit."""
    depths = {pair.image: read_depth(pair.image) for pair in source.pairs}
    if set(depths.values()) == {8}:
        return None
    if len(set(depths.values())) > 1:
        first = {depth: path for path, depth in reversed(depths.items())}
        raise UserError(
            f"{first[16]}: 16 bits per channel, but {first[8].name} has 8; one dataset needs one depth, "
            "or the same gray would mean two things: convert all files to one depth"
        )
    return Levels(*source.levels) if source.levels else percentile_levels([pair.image for pair in source.pairs])


def _shapes(source: Source) -> list[tuple[int, int]]:
    """Return height and width of every image, from the files' headers."""
    return [read_size(pair.image) for pair in source.pairs] or [source.shape] * source.count


def fitting_tile(source: Source, protocol: Protocol, shapes: Sequence[tuple[int, int]]) -> int:
    """Return the side of a pack's tiles: the protocol's or, if smaller, the smallest image's."""
    size = protocol.input.size_for(source.name)
    smallest = min(shapes, key=min)
    if min(smallest) < size:
        subject = source.name if source.synthetic else source.pairs[shapes.index(smallest)].image
        raise UserError(
            f"{subject}: {sized(smallest)} pixels, smaller than the input {size}x{size}; "
            + smaller_input(source.name, protocol, min(smallest))
        )
    return min(protocol.input.tile_for(source.name), min(smallest))


def draw_tile(source: Source, protocol: Protocol, name: str) -> UInt8Array:
    """Draw one tile ``(T, T, C)`` of a stand-in again, as its pack holds it.

    Args:
        source: the stand-in.
        protocol: tile size and channels.
        name: the tile's.

    Raises:
        ValueError: no tile has this name.
    """
    side = fitting_tile(source, protocol, [source.shape])
    corners = windows_of(source.shape, side, partial=protocol.input.partial_tiles)
    for index in range(source.count):
        frame = drawn_name(source, index, side)
        for tile, (_, _, top, left) in zip(tiles_of(frame, frame, None, corners), corners, strict=True):
            if tile.name == name:
                image = draw_image(source, index, side, protocol.input.channels_for(source.name)).image
                return image[top : top + side, left : left + side]
    raise ValueError(f"{source.name} has no image {name!r}")


def drawn_name(source: Source, index: int, tile: int) -> str:
    """Return the name of a stand-in's image in a pack, before it is cut into tiles."""
    return f"{'frame' if source.shape[0] > tile else 'image'}{index:04d}"


def draw_image(source: Source, index: int, tile: int, channels: int, stress: Stress | None = None) -> Decoded:
    """Draw one image of a stand-in, with its own effects or under a stress."""
    height, width = source.shape
    sample = synthetic.generate(source.base, index, height=height, width=width, seed=source.seed, stress=stress)
    name = drawn_name(source, index, tile)
    mask = np.stack([sample.mask(layer) for layer in source.layers], axis=-1).astype(np.uint8)
    return Decoded(name, name, None, to_channels(sample.image, channels), mask, drawn=sample.manifest)


def _read(source: Source, pair: Pair, channels: int, levels: Levels | None) -> Decoded:
    picture = decode(pair.image)
    image = to_channels(to_8_bit(pair.image, picture, levels), channels)
    labels = read_masks(pair, source.target, image.shape[:2])
    gray = to_channels(image, 1)[..., 0]
    mask = np.stack([np.where(ignored, IGNORED, label.mask).astype(np.uint8) for label, ignored in labels], axis=-1)
    first, ignored = labels[0]  # stands for the image: a layer of vias tells little of contrast and foreground's share
    facts = with_label(image_facts(picture, gray), first, ~ignored, gray)
    notes = dict.fromkeys(label.note for label, _ in labels if label.note)
    return Decoded(pair.name, pair.group, pair.split, image, mask, "; ".join(notes) or None, facts)


def mask_shape(source: Source, count: int, side: int) -> tuple[int, ...]:
    """Return the shape of stored masks: a single layer has no axis of layers, as in packs of earlier releases."""
    return (count, side, side, *(() if len(source.layers) == 1 else (len(source.layers),)))


def read_masks(pair: Pair, target: Target, shape: tuple[int, int]) -> list[tuple[Label, BoolMask]]:
    """Return each layer's label of an image of a shape, and the pixels ``(H, W)`` that it or the ignore mask ignores.

    Raises:
        UserError: a file that cannot be read or does not fit the image.
    """
    everywhere = np.zeros(shape, np.bool_) if pair.ignore is None else read_ignore(pair.ignore, shape)
    labels = read_layers(pair.labels(target), shape, pair.legend).values()
    return [(label, everywhere if label.ignored is None else everywhere | label.ignored) for label in labels]


@contextlib.contextmanager
def array_file(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Open an ``.npy`` file of uint8 for its pixels, to be written in order.

    A full disk raises an error on write, but kills the process on a mapped page.
    """
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())

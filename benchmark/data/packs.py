"""Packs: a dataset decoded once into memory-mapped uint8 arrays, so that a training step decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark import seeds
from benchmark.data import synthetic
from benchmark.data.datasets import Source
from benchmark.data.folders import Pair
from benchmark.data.images import UInt8Array, read_image, read_mask, read_size, to_channels
from benchmark.data.splits import Division, divide
from benchmark.errors import UserError
from benchmark.files import write_atomically
from benchmark.protocol import Protocol

FORMAT = 1  # raised when the layout of a pack changes, so that old ones are built again
# Two results wait per reader, 43 MB each for an RGB frame of 4096x3536: about 1.4 GB at most.
MOST_READERS = 16

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tile:
    """One image of a pack: its unique name, the frame it was cut from, and the owner's split part."""

    name: str
    group: str
    given: str | None


@dataclass(frozen=True)
class Pack:
    """A dataset ready to be trained on.

    Attributes:
        dataset: its name, ``-syn`` included.
        fingerprint: the source's.
        images: ``(n, T, T, C)`` uint8, memory-mapped.
        masks: ``(n, T, T)`` uint8 in {0, 1}, memory-mapped.
        tiles: a description of every image, in the arrays' order.
    """

    dataset: str
    fingerprint: str
    images: UInt8Array
    masks: UInt8Array
    tiles: tuple[Tile, ...]

    def centre(self, indices: Sequence[int], size: int) -> tuple[UInt8Array, UInt8Array]:
        """Copy images ``(n, size, size, C)`` and masks ``(n, size, size)``, each cut to its centred window."""
        margin = (self.images.shape[1] - size) // 2
        window = np.s_[margin : margin + size, margin : margin + size]
        return np.stack([self.images[i][window] for i in indices]), np.stack([self.masks[i][window] for i in indices])

    def divide(self, protocol: Protocol) -> Division:
        """Return the split, the same for every model and repeat."""
        return divide(
            self.dataset,
            [tile.name for tile in self.tiles],
            [tile.group for tile in self.tiles],
            [tile.given for tile in self.tiles],
            protocol.split,
            seeds.derive(protocol.seed, "split", self.dataset),
        )


def pack_path(source: Source, protocol: Protocol, cache: Path) -> Path:
    """Return the folder that a source's pack has under a protocol."""
    base = source.name
    identity = json.dumps(
        [
            FORMAT,
            source.fingerprint,
            source.target,
            protocol.input.tile_for(base),
            protocol.input.size_for(base),
            protocol.input.channels,
        ]
    )
    return cache / "packs" / f"{source.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def open_pack(source: Source, protocol: Protocol, cache: Path, progress: Progress | None = None) -> Pack:
    """Open a source's pack, building it first where it is missing.

    A pack is built in a folder of its own and renamed when complete: half-written ones are never used, and two
    processes that build at once both end with a whole pack.

    Args:
        source: the images.
        protocol: tile size and channels.
        cache: where packs live.
        progress: called with (images done, images in all) while building.

    Raises:
        UserError: unreadable files, sizes that do not fit, a cache that cannot be written, a damaged pack.
    """
    path = pack_path(source, protocol, cache)
    if not (path / "manifest.json").is_file():
        _build(source, protocol, path, progress or (lambda done, total: None))
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        images, masks = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: a damaged pack ({error}); remove the folder, and it is built again") from error
    return Pack(source.name, source.fingerprint, images, masks, tuple(Tile(**tile) for tile in manifest["tiles"]))


def _build(source: Source, protocol: Protocol, path: Path, progress: Progress) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        _fill(source, protocol, temporary, progress)
        try:
            os.replace(temporary, path)
        except OSError:
            if not (path / "manifest.json").is_file():
                raise  # otherwise another process finished the same pack first
    except OSError as error:
        raise UserError(
            f"{path}: the pack cannot be written ({error.strerror or error}); choose another --cache or free the disk"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(source: Source, protocol: Protocol, folder: Path, progress: Progress) -> None:
    """Write a pack's files; pixels right of and below the last whole tile of an image are left out."""
    size, tile = protocol.input.size_for(source.name), protocol.input.tile_for(source.name)
    channels = protocol.input.channels
    if source.synthetic:
        shapes = [source.shape] * source.count
        items: Sequence[Pair | int] = range(source.count)
    else:
        items = source.pairs
        shapes = [read_size(pair.image) for pair in source.pairs]
    smallest = min(range(len(shapes)), key=lambda index: min(shapes[index]))
    if min(shapes[smallest]) < size:
        height, width = shapes[smallest]
        where = source.name if source.synthetic else source.pairs[smallest].image
        raise UserError(
            f"{where}: {height}x{width} pixels, smaller than the input {size}x{size}; "
            + _smaller_input(source, protocol, min(height, width))
        )
    tile = min(tile, min(shapes[smallest]))
    total = sum((height // tile) * (width // tile) for height, width in shapes)

    tiles: list[Tile] = []

    def read(item: Pair | int) -> tuple[str, str | None, UInt8Array, NDArray[np.bool_], dict[str, object] | None]:
        if isinstance(item, int):
            height, width = source.shape
            sample = synthetic.generate(source.base, item, height=height, width=width, seed=source.seed)
            name = f"{'frame' if source.shape[0] > tile else 'image'}{item:04d}"
            return name, None, to_channels(sample.image, channels), sample.mask(source.target), sample.manifest
        pixels = read_image(item.image, channels)
        return item.name, item.split, pixels, _read_label(item, pixels.shape[:2]), None

    drawn = []
    with (
        _array_file(folder / "images.npy", (total, tile, tile, channels)) as images,
        _array_file(folder / "masks.npy", (total, tile, tile)) as masks,
        contextlib.closing(_in_order(read, items)) as results,
    ):
        for done, (name, given, image, mask, strengths) in enumerate(results, start=1):
            rows, columns = mask.shape[0] // tile, mask.shape[1] // tile
            for row in range(rows):
                for column in range(columns):
                    window = np.s_[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
                    images.write(image[window].tobytes())
                    masks.write(mask[window].tobytes())
                    whole = rows * columns == 1
                    tiles.append(Tile(name if whole else f"{name}_r{row}_c{column}", name, given))
            drawn.append(strengths)
            progress(done, len(items))
    manifest = {
        "format": FORMAT,
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "target": source.target,
        "tile": tile,
        "tiles": [asdict(entry) for entry in tiles],
    }
    if source.synthetic:
        manifest["generated"] = drawn
    write_atomically(folder / "manifest.json", json.dumps(manifest).encode())


@contextlib.contextmanager
def _array_file(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Open an ``.npy`` file of uint8 for its pixels, to be written in order.

    Written and not mapped: a full disk raises an error on write, but kills the process on a mapped page.
    """
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())


def _smaller_input(source: Source, protocol: Protocol, side: int) -> str:
    """Say which setting makes the input fit images of a side: a multiple of 32 suits every network in the registry."""
    fitting = side // 32 * 32
    if fitting == 0:
        return "bring images of at least 32x32"
    own = source.base in protocol.input.size_by_dataset
    return f"use --set input.size{f'_by_dataset.{source.base}' if own else ''}={fitting}"


def _in_order(read: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Map in parallel and yield in order, holding a few results at a time: a dataset need not fit in memory."""
    workers = min(os.cpu_count() or 1, MOST_READERS)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read_label(pair: Pair, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = read_mask(pair.label)
    if mask.shape != shape:
        raise UserError(
            f"{pair.label}: {mask.shape[0]}x{mask.shape[1]} pixels, but {pair.image.name} has {shape[0]}x{shape[1]}; "
            "expected the same size"
        )
    return mask

"""Tiles against the whole: the same probabilities once the overlap covers what a local network sees, and memory."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from baselines.esnet import ESNet
from baselines.fcn import FCN
from benchmark.evaluation.sliding_window import ArrayRows, blended_rows, probabilities
from benchmark.evaluation.tiles import CUT, TileAxis, TileGrid
from benchmark.predict.reader import BrokenImageError, open_source
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save
from tests.benchmark.predict.conftest import brightness, busy
from tests.benchmark.tiny import TinyNet

CPU = torch.device("cpu")


def predicted(network: nn.Module, path: Path, grid: TileGrid, batch: int = 3, channels: int = 1) -> NDArray[np.float32]:
    with open_source(path) as source:
        result = list(probabilities(network, source, grid, channels=channels, batch=batch, device=CPU))
        image = source.read(0, source.shape[0], channels)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in result]), image)
    return np.concatenate([rows for _, rows in result], axis=1)[0]


def whole(network: nn.Module, image: NDArray[np.uint8], multiple: int) -> NDArray[np.float32]:
    """The network's own answer to an image, which is reflected at its end up to a size that the network takes."""
    height, width = image.shape
    padded = np.pad(image, ((0, -height % multiple), (0, -width % multiple)), "reflect")
    with torch.inference_mode():
        logits = network(torch.from_numpy(padded / np.float32(255))[None, None])
    return logits.sigmoid()[0, 0, :height, :width].numpy()


def reach(network: nn.Module, height: int, width: int) -> int:
    """How many columns to either side a network's output depends on, at the worst place within its strides."""
    images = torch.rand(1, 1, height, width).requires_grad_()
    middle = width // 2 // 32 * 32
    network(images)[..., middle : middle + 32].square().sum().backward()
    seen = np.flatnonzero(images.grad.abs().sum(dim=(0, 1, 2)).numpy())
    return int(max(middle - seen[0], seen[-1] - middle - 31))


# A network that is local sees as much along the narrowest strip as over an area, and a strip is cheap.
@pytest.mark.parametrize(
    ("build", "multiple", "width"), [(ESNet, 8, 2500), pytest.param(FCN, 32, 2000, marks=pytest.mark.slow)]
)
def test_local_network_predicts_the_same_in_tiles_as_in_whole(
    tmp_path: Path, build: Callable[[], nn.Module], multiple: int, width: int
) -> None:
    torch.manual_seed(0)
    image = np.repeat(picture(0, multiple, width // 4), 4, axis=1)[:, : width - 5]
    image[:, 900:1000] = 255
    network = busy(build(), torch.from_numpy(image / np.float32(255))[None, None, :, :1024])
    seen = reach(network, multiple, width // 32 * 32)
    needed = -(-CUT * seen // multiple) * multiple
    path = save(tmp_path / "strip.png", image)
    rows = TileAxis(multiple, multiple, 0, multiple)
    expected = whole(network, image, multiple)
    covered = TileAxis(image.shape[1], needed + 64, needed, multiple)
    assert covered.shared // CUT >= seen
    assert len(covered.starts) > 5
    np.testing.assert_allclose(predicted(network, path, TileGrid(rows, covered), batch=8), expected, rtol=0, atol=1e-4)
    # Side by side, they do not, or nothing would have been shown.
    beside = TileAxis(image.shape[1], covered.tile, 0, multiple)
    assert np.abs(predicted(network, path, TileGrid(rows, beside)) - expected).max() > 1e-2


@pytest.mark.parametrize("shape", [(96, 96), (97, 64), (10, 201), (3, 5), (1, 1), (150, 1)])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (32, 29), (64, 3)])
def test_every_size_of_image_is_predicted_whole(
    tmp_path: Path, shape: tuple[int, int], tile: int, overlap: int
) -> None:
    torch.manual_seed(1)
    image = picture(1, *shape)
    network = busy(TinyNet(), torch.rand(1, 1, 64, 64))
    result = predicted(network, save(tmp_path / "a.png", image), TileGrid.of(shape, tile, overlap, 1))
    side = [max(0, tile - length) for length in shape]
    padded = np.pad(image, ((0, side[0]), (0, side[1])), "reflect")
    np.testing.assert_allclose(result, whole(network, padded, 1)[: shape[0], : shape[1]], rtol=0, atol=1e-5)


def test_without_overlap_tiles_are_what_the_network_says_of_each(tmp_path: Path) -> None:
    torch.manual_seed(2)
    image = picture(2, 64, 96)
    network = busy(TinyNet(), torch.rand(1, 1, 64, 64))
    result = predicted(network, save(tmp_path / "a.png", image), TileGrid.of(image.shape, 32, 0, 1))
    for top in (0, 32):
        for left in (0, 32, 64):
            tile = np.s_[top : top + 32, left : left + 32]
            np.testing.assert_allclose(result[tile], whole(network, image[tile], 1), rtol=0, atol=1e-6)


def test_colour_reaches_a_network_that_takes_it(tmp_path: Path) -> None:
    image = picture(3, 40, 70, 3)
    result = predicted(brightness(3), save(tmp_path / "a.png", image), TileGrid.of((40, 70), 32, 8, 1), channels=3)
    np.testing.assert_array_equal(result >= 0.5, image.mean(axis=-1) >= 127.5)


def test_same_call_gives_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(4)
    path = save(tmp_path / "a.png", picture(4, 100, 130))
    network, grid = busy(TinyNet(), torch.rand(1, 1, 64, 64)), TileGrid.of((100, 130), 32, 12, 1)
    first, second = (predicted(network, path, grid) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_reading_ahead_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (150, 130, 3), np.uint8)
    grid = TileGrid.of((150, 130), 32, 12, 4)

    def forward(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = np.moveaxis(tiles, -1, 1)[:, :2].astype(np.float32)
        return np.sin(pixels / 40 + np.arange(32, dtype=np.float32))

    rows = list(blended_rows(forward, ArrayRows(image), grid, channels=3, batch=3, layers=2))
    padded = np.pad(image, ((0, grid.rows.padded - 150), (0, grid.columns.padded - 130), (0, 0)), "reflect")
    expected = np.zeros((2, *padded.shape[:2]), np.float32)
    for top, down in zip(grid.rows.starts, grid.rows.weights, strict=True):
        row = np.zeros((2, 32, padded.shape[1]), np.float32)
        for left, across in zip(grid.columns.starts, grid.columns.weights, strict=True):
            row[..., left : left + 32] += across * forward(padded[None, top : top + 32, left : left + 32])[0]
        expected[:, top : top + 32] += down[:, None] * row
    np.testing.assert_array_equal(np.concatenate([strip for strip, _ in rows]), image)
    assert np.concatenate([values for _, values in rows], axis=1).tobytes() == expected[:, :150, :130].tobytes()


def test_image_is_read_one_row_of_tiles_ahead() -> None:
    read: list[int] = []

    class Watched(ArrayRows):
        def read(self, top: int, bottom: int, channels: int) -> NDArray[np.uint8]:
            read.append(top)
            return super().read(top, bottom, channels)

    grid = TileGrid.of((400, 40), 32, 8, 1)
    forwards: list[int] = []

    def forward(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        forwards.append(len(read))
        return np.zeros((len(tiles), 1, 32, 32), np.float32)

    source = Watched(np.zeros((400, 40, 1), np.uint8))
    for number, _ in enumerate(blended_rows(forward, source, grid, channels=1, batch=9)):
        assert forwards[-1] <= number + 2
    assert read == list(grid.rows.starts)


def test_error_while_reading_ahead_is_raised_and_leaves_no_thread() -> None:
    class Broken(ArrayRows):
        def read(self, top: int, bottom: int, channels: int) -> NDArray[np.uint8]:
            if top > 100:
                raise BrokenImageError("a.tif: image file is truncated")
            return super().read(top, bottom, channels)

    threads, finished = set(threading.enumerate()), list[int]()
    source, grid = Broken(np.zeros((400, 40, 1), np.uint8)), TileGrid.of((400, 40), 32, 0, 1)
    rows = probabilities(brightness(), source, grid, channels=1, batch=2, device=CPU)
    with pytest.raises(BrokenImageError, match=r"^a\.tif: image file is truncated$"):
        finished.extend(len(image) for image, _ in rows)
    assert sum(finished) == 128  # rows that begin up to 96 are read
    assert set(threading.enumerate()) == threads


def test_progress_counts_every_tile_once(tmp_path: Path) -> None:
    path, grid = save(tmp_path / "a.png", picture(5, 100, 130)), TileGrid.of((100, 130), 32, 8, 1)
    counts: list[int] = []
    with open_source(path) as source:
        rows = probabilities(brightness(), source, grid, channels=1, batch=4, device=CPU, progress=counts.append)
        assert sum(result.shape[1] for _, result in rows) == 100
    assert sum(counts) == len(grid)
    assert max(counts) <= 4


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    peaks = []
    for height in (512, 4096):
        path = save(tmp_path / f"{height}.tif", np.zeros((height, 700), np.uint8))
        grid = TileGrid.of((height, 700), 128, 32, 1)
        with open_source(path) as source:
            assert source.streamed
            tracemalloc.start()
            for _ in probabilities(brightness(), source, grid, channels=1, batch=2, device=CPU):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 700 * 4096


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["torch", "cudnn", "cpu"],
)
def test_device_without_room_is_the_users_error(tmp_path: Path, error: Exception) -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    with pytest.raises(UserError, match="--batch 2: not enough memory on cpu for so many tiles of 32; use a smaller"):
        predicted(Large(), save(tmp_path / "a.png", picture(6, 40, 60)), TileGrid.of((40, 60), 32, 8, 1), batch=2)

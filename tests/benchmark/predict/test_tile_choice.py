"""The default side of tiles: as large as is safe, and never at the cost of the training's predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.predict.tile_choice import MOST_SIDE, TileChoice, TileTrial, largest_stack, tiles_per_forward
from tests.benchmark.data.folder_makers import save
from tests.benchmark.fake_gpu import FakeGPU, OnTheCPU, fake_gpu
from tests.benchmark.predict.conftest import Predict, brightness, pixels_of

__all__ = ["fake_gpu"]

CPU = torch.device("cpu")


class AgainstTheMean(nn.Module):
    """Calls pixels foreground that are brighter than the mean of its input, a global operation."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * (x - x.mean((2, 3), keepdim=True))


class OneSize(nn.Module):
    """Takes inputs of 32 px only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 1, 32, 32) - 0.5


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A picture 300 px high with bright tracks and a slope of brightness."""
    y, x = np.mgrid[:300, :700]
    return save(tmp_path / "scan.png", (40 + (y % 40 < 15) * 80 + x % 64 * 2).astype(np.uint8))


def choose(network: nn.Module, *images: Path, trained: int = 32, multiple: int = 8) -> TileChoice:
    return TileTrial(network, trained, multiple, 1, 0.5, CPU).choose(images)


def test_local_network_takes_the_largest_tile_that_all_images_fill(scan: Path, tmp_path: Path) -> None:
    assert choose(brightness(), scan) == TileChoice(304, "the images are no larger")
    large = save(tmp_path / "large.png", np.tile(pixels_of(scan), (2, 1)))
    assert choose(brightness(), large) == TileChoice(MOST_SIDE, "larger ones are no faster")
    assert choose(brightness(), large, save(tmp_path / "small.png", pixels_of(scan)[:100])).side == 104


@pytest.mark.parametrize(("batch", "largest"), [(4, 4), (30, 29)])
def test_no_stack_has_more_tiles_than_a_row(scan: Path, tmp_path: Path, batch: int, largest: int) -> None:
    save(tmp_path / "broken.png", np.zeros((9, 9), np.uint8)).write_bytes(b"no picture")
    images = [tmp_path / "broken.png", scan, save(tmp_path / "narrow.png", pixels_of(scan)[:, :40])]
    assert largest_stack(images, 32, 8, 8, batch) == largest  # 700 px wide: the last of 29 tiles begins at 672
    assert largest_stack(images[:1], 32, 8, 8, batch) == 1


def test_network_with_global_context_keeps_the_size_of_its_training(scan: Path) -> None:
    choice = choose(AgainstTheMean(), scan)
    assert choice.side == 32
    assert choice.reason.startswith("as in training; with tiles of 64 px, foreground differs by ")
    assert "--tile 64" in choice.reason


def test_agreement_on_nothing_is_no_reason_for_larger_tiles(tmp_path: Path) -> None:
    choice = choose(brightness(), save(tmp_path / "dark.png", np.zeros((100, 100), np.uint8)))
    assert (choice.side, "nothing is predicted" in choice.reason) == (32, True)


def test_network_that_takes_one_size_keeps_it(scan: Path) -> None:
    choice = choose(OneSize(), scan)
    assert choice == TileChoice(32, "as in training; tiles of 64 px fail (RuntimeError)")


def test_small_and_unreadable_images_and_large_trainings_try_nothing(scan: Path, tmp_path: Path) -> None:
    small = save(tmp_path / "small.png", pixels_of(scan)[:20])
    (tmp_path / "broken.png").write_bytes(b"no image")
    for images in ((small,), (tmp_path / "broken.png",)):
        assert choose(OneSize(), *images) == TileChoice(32, "as in training")
    assert choose(OneSize(), scan, trained=512) == TileChoice(512, "as in training")


class Greedy(nn.Module):
    """Calls bright pixels foreground, and takes 1 KiB of a GPU for each pixel, or refuses inputs beyond its memory."""

    def __init__(self, gpu: FakeGPU, most_pixels: float) -> None:
        super().__init__()
        self.gpu, self.most_pixels = gpu, most_pixels

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.shape[2] * x.shape[3]
        if pixels > self.most_pixels:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.gpu.peak = max(self.gpu.peak, self.gpu.held + len(x) * pixels * 1024)
        return 20 * x - 10


@pytest.mark.parametrize(
    ("free_mib", "most_pixels", "side", "reason"),
    [
        (1 << 20, torch.inf, 304, "the images are no larger"),
        (127, torch.inf, 32, "as in training; tiles of 64 px would not fit into memory"),  # 4 MiB each, 16 in a forward
        (129, torch.inf, 64, "tiles of 128 px might not fit into memory"),
        (1 << 20, 64**2, 64, "tiles of 128 px do not fit into memory"),
    ],
)
def test_tiles_of_a_gpu_fit_into_its_own_memory(
    scan: Path, fake_gpu: FakeGPU, free_mib: int, most_pixels: float, side: int, reason: str
) -> None:
    fake_gpu.free, fake_gpu.initialised = free_mib << 20, True
    trial = TileTrial(Greedy(fake_gpu, most_pixels), 32, 8, 1, 0.5, torch.device("cuda:0"), batch=16)
    with OnTheCPU():
        assert trial.choose([scan]) == TileChoice(side, reason)


@pytest.mark.parametrize(
    ("side", "images", "doubt"),
    [
        (128, ["scan.png"], ", though foreground differs by "),
        (
            128,
            ["low.png", "scan.png", "flat.png"],
            ", though low.png and 1 more are smaller and filled",
        ),
        (128, ["fitting.png"], ", though foreground differs by "),
        (32, ["scan.png", "low.png"], ""),  # the training's own size fits whatever it is
        (16, ["scan.png", "low.png"], ""),
        (128, ["broken.png"], ""),
        (128, [], ""),
    ],
)
def test_kept_side_is_doubted_where_new_images_do_not_fit_it(
    scan: Path, tmp_path: Path, side: int, images: list[str], doubt: str
) -> None:
    for name, height in {"low": 20, "flat": 120, "fitting": 121}.items():  # sides become multiples of 8
        save(tmp_path / f"{name}.png", pixels_of(scan)[:height])
    (tmp_path / "broken.png").write_bytes(b"no image")
    trial = TileTrial(AgainstTheMean(), 32, 8, 1, 0.5, CPU)
    choice = trial.keep(side, [tmp_path / name for name in images], Path("out"))
    assert choice.side == side
    assert choice.reason.startswith(f"as for the predictions in out{doubt}")
    assert choice.reason.endswith("; name another --out for tiles that fit" if doubt else "in out")


def test_forwards_take_more_tiles_if_these_are_small() -> None:
    assert [tiles_per_forward(side) for side in (64, 256, 1024)] == [64, 4, 4]


def test_tile_and_its_reason_are_told_and_the_folder_keeps_it(
    predict: Predict, frame: np.ndarray, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", frame)
    code, out, err = predict("a.png", tile=None)
    assert code == 0, err
    assert "tiles of 90 px: the images are no larger" in out
    assert json.loads((tmp_path / "out/manifest/a.json").read_text())["settings"]["tile"] == 90
    np.testing.assert_array_equal(pixels_of("out/mask/a.png"), (frame >= 128) * np.uint8(255))
    save(tmp_path / "large.png", np.tile(frame, (2, 2)))
    code, out, _ = predict("large.png", tile=None)
    assert code == 0
    assert "tiles of 90 px: as for the predictions in out\n" in out
    save(tmp_path / "low.png", frame[:50])
    code, out, _ = predict("low.png", "large.png", tile=None)
    assert code == 0
    assert "tiles of 90 px: as for the predictions in out, though low.png is smaller and filled up by" in out
    np.testing.assert_array_equal(pixels_of("out/mask/low.png"), (frame[:50] >= 128) * np.uint8(255))
    assert "in out\n" in predict("low.png", "large.png", tile=None)[1]  # for results that are there nothing is new
    code, _, err = predict("large.png", tile=64)
    assert code == 2
    assert "tile 90 there, 64 now; overlap 22 there, 16 now" in err


def test_other_layouts_are_named_in_words(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("gdstk")
    save(tmp_path / "a.png", frame)
    assert predict("a.png", "--polygons", "gds,oas", "--nm-per-pixel", "10")[0] == 0
    code, _, err = predict("a.png", "--levels", "5,10")
    assert code == 2
    expected = "layouts formats gds and oas, nm per pixel 10.0, track 1/0, via 2/0, tolerance 0.0 there, none now"
    assert expected in err
    assert "levels none there, 5.0/10.0 now" in err

"""The default side of tiles: as large as is safe, and never at the cost of the training's predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.predict.tile_choice import MOST_SIDE, TileChoice, TileTrial, tiles_per_forward
from tests.benchmark.data.folder_makers import save
from tests.benchmark.predict.conftest import Predict, brightness, pixels_of

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
    assert "tiles of 90 px: as for the predictions in out" in out
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

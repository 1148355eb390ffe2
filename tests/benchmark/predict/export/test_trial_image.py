"""The image that a file is tried on: the first test image of a stand-in, or the user's, as the network sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.config.protocol import Protocol
from benchmark.data.batches import evaluation_batches
from benchmark.data.packs import Pack
from benchmark.predict.export.trial_image import picture
from benchmark.records.store import Store
from benchmark.records.weights import TrainedNetwork
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL, TINY
from tests.benchmark.predict.export import studies


@pytest.fixture
def trained(tmp_path: Path) -> TrainedNetwork:
    (created,) = studies.make(tmp_path / "small", f"{TINY}:TinyNet", settings=SMALL)
    return created


def write_split(folder: Path, pack: Pack, test: list[str], fingerprint: str | None = None) -> None:
    file = Store(folder).split_file(pack.dataset)
    file.parent.mkdir()
    parts = {"train": [], "val": [], "test": test}
    file.write_text(json.dumps({"fingerprint": fingerprint or pack.fingerprint, **parts}))


def test_stand_in_s_first_test_image_is_what_the_test_saw(
    tmp_path: Path, trained: TrainedNetwork, small: Protocol, pack: Pack
) -> None:
    division = pack.divide(small)
    names = division.lists([tile.name for tile in pack.tiles])["test"]
    write_split(tmp_path / "small", pack, names)
    result = picture(tmp_path / "small", trained, None)
    assert result is not None
    index = next(index for index in division.test if pack.tiles[index].name == names[0])
    (batch,) = evaluation_batches(pack, [index], small.input.size, 1, torch.device("cpu"))
    assert result[0] == f"omc-syn {names[0]}"
    np.testing.assert_array_equal(result[1], batch.images.numpy())


def test_where_no_such_image_is_known_there_is_none(tmp_path: Path, trained: TrainedNetwork, pack: Pack) -> None:
    folder = tmp_path / "small"
    assert picture(folder, trained, None) is None
    write_split(folder, pack, [pack.tiles[0].name], fingerprint="of another generator")
    assert picture(folder, trained, None) is None
    # Without its images, a real dataset's cannot be drawn.
    real = replace(trained, record=trained.record.model_copy(update={"train": ("omc",)}))
    assert picture(folder, real, None) is None


@pytest.mark.parametrize("depth", [8, 16])
def test_user_s_image_is_cut_to_its_centre(tmp_path: Path, trained: TrainedNetwork, depth: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 51), np.uint8)
    pixels.flat[:60], pixels.flat[-60:] = 0, 255  # beyond the centre: the percentiles of 16 bit are these
    Image.fromarray(pixels if depth == 8 else pixels.astype(np.uint16) * 257).save(tmp_path / "chip.png")
    result = picture(tmp_path / "small", trained, tmp_path / "chip.png")
    assert result is not None
    assert (result[0], result[1].dtype) == ("chip.png", np.float32)
    np.testing.assert_allclose(result[1], pixels[None, None, 4:36, 9:41] / 255, atol=1e-6)


def test_image_that_is_too_small_or_none_is_refused(tmp_path: Path, trained: TrainedNetwork) -> None:
    Image.new("L", (64, 31)).save(tmp_path / "flat.png")
    with pytest.raises(
        UserError, match=r"--image .*flat\.png: 64x31 pixels; expected at least 32x32, what omc-syn/tin"
    ):
        picture(tmp_path / "small", trained, tmp_path / "flat.png")
    with pytest.raises(UserError, match="no such file"):
        picture(tmp_path / "small", trained, tmp_path / "nowhere.png")

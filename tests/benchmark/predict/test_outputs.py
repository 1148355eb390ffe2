"""The files of a predicted image, which one thread writes while another predicts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.formats.images import UInt8Array
from benchmark.evaluation.sliding_window import Probabilities
from benchmark.predict import outputs
from benchmark.predict.rasters import Scratch
from benchmark.predict.reader import BrokenImageError
from benchmark.predict.settings import PredictSettings
from benchmark.utils.errors import UserError

SETTINGS = PredictSettings("omc-syn/unet/0", "0" * 64, 1, 32, 8, 0.5, polygons=False, probability=True)
SHAPE = (60, 40)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def rows(values: Probabilities, height: int = 7) -> Iterator[tuple[UInt8Array, Probabilities]]:
    for top in range(0, len(values), height):
        part = values[top : top + height]
        yield np.full((*part.shape, 1), 200, np.uint8), part[None]


def test_rows_become_a_mask_a_map_and_a_count(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    written = outputs.write(tmp_path, "a", SHAPE, rows(values), SETTINGS)
    mask, probability = (np.asarray(Image.open(tmp_path / kind / "a.png")) for kind in ("mask", "probability"))
    np.testing.assert_array_equal(mask == 255, values >= 0.5)
    np.testing.assert_array_equal(probability, np.rint(values * 255).astype(np.uint8))
    assert written.foreground_px == {"": int((values >= 0.5).sum())}
    assert [path.relative_to(tmp_path).as_posix() for path in written.files] == [
        *("mask/a.png", "probability/a.png", "overlay/a.png")
    ]


@pytest.mark.parametrize("last", [False, True])
def test_full_disk_ends_the_call_though_another_thread_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    append, count = Scratch.append, 0

    def full(scratch: Scratch, part: UInt8Array) -> None:
        nonlocal count
        count += 1
        if count == (2 * 9 if last else 3):  # of a mask and a map, nine times
            raise UserError("out: cannot be written (No space left on device)")
        append(scratch, part)

    monkeypatch.setattr(Scratch, "append", full)
    with pytest.raises(UserError, match=r"^out: cannot be written \(No space left on device\)$"):
        outputs.write(tmp_path, "a", SHAPE, rows(np.ones(SHAPE, np.float32)), SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_image_that_breaks_while_rows_are_written_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Iterator[tuple[UInt8Array, Probabilities]]:
        yield from rows(np.ones((21, 40), np.float32))
        raise BrokenImageError("a.tif: image file is truncated")

    with pytest.raises(BrokenImageError, match=r"^a\.tif: image file is truncated$"):
        outputs.write(tmp_path, "a", SHAPE, breaking(), SETTINGS)
    assert list(tmp_path.iterdir()) == []

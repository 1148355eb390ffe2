from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmark.data.formats.images import read_image
from benchmark.predict import rasters
from benchmark.predict.rasters import Scratch, write_map
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture


def collected(folder: Path, pixels: np.ndarray) -> Scratch:
    result = Scratch(folder, pixels.shape)
    for top in range(0, len(pixels), 50):
        result.append(pixels[top : top + 50])
    return result


def test_rows_come_back_as_they_were_written_and_leave_no_file(tmp_path: Path) -> None:
    pixels = picture(0, 120, 77)
    with collected(tmp_path / "new", pixels) as result:
        np.testing.assert_array_equal(result.rows(), pixels)
        np.testing.assert_array_equal(result.rows(30, 90), pixels[30:90])
        np.testing.assert_array_equal(result.rows(100, 300), pixels[100:])
        result.append(pixels[:1])
        np.testing.assert_array_equal(result.rows(0, 1), pixels[:1])
        assert os.listdir(tmp_path / "new") == []


def test_map_is_a_png(tmp_path: Path) -> None:
    pixels = picture(1, 120, 77) % 2
    with collected(tmp_path, pixels) as result:
        path = write_map(tmp_path / "map" / "frame.1", result, 255)
    assert path == tmp_path / "map" / "frame.1.png"
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], pixels * 255)


@pytest.mark.parametrize("limit", [2**32 - 2**25, 1000])
def test_large_map_is_a_tiff_of_deflated_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(rasters, "MOST_PNG_PIXELS", 1000)
    monkeypatch.setattr(rasters, "CLASSIC_TIFF_BYTES", limit)
    pixels = picture(2, 700, 1100) % 2
    with collected(tmp_path, pixels) as result:
        path = write_map(tmp_path / "map" / "a", result, 255)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert file.is_bigtiff is (limit == 1000)
        assert (page.is_tiled, page.tilewidth, page.compression.name) == (True, 512, "ADOBE_DEFLATE")
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], pixels * 255)
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.tif"]


@pytest.mark.parametrize("most", [10**9, 1000])
def test_full_disk_is_the_user_s_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(rasters, "MOST_PNG_PIXELS", most)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = r"a\.(png|tif): cannot be written \(No space left on device\)"
    with collected(tmp_path, picture(3, 100, 100)) as result, pytest.raises(UserError, match=message):
        write_map(tmp_path / "map" / "a", result)
    assert os.listdir(tmp_path / "map") == []


def test_place_that_cannot_be_is_the_user_s_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"below: cannot be written .*choose another place"):
        Scratch(tmp_path / "file" / "below", (3, 3))

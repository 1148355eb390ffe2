"""Rows of every kind of file against the reader of whole files, and files that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.formats.images import Levels, percentile_levels, read_image
from benchmark.predict.reader import BrokenImageError, open_source
from tests.benchmark.data.folder_makers import picture, save

HEIGHT, WIDTH = 150, 211


def noise(channels: int, bits: int) -> np.ndarray:
    rng = np.random.default_rng(channels + bits)
    shape = (HEIGHT, WIDTH) + ((channels,) if channels > 1 else ())
    return rng.integers(0, 2**bits, shape).astype(np.uint8 if bits == 8 else np.uint16)


def tiff(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", **options)
    return path


def check(path: Path, *, streamed: bool, levels: Levels | None = None) -> None:
    for channels in (1, 3):
        expected = read_image(path, channels, levels)
        with open_source(path, levels) as source:
            assert source.streamed is streamed
            assert source.shape == expected.shape[:2]
            for top, bottom in ((0, 40), (30, 70), (60, 61), (61, 150), (100, 150), (0, 150)):
                np.testing.assert_array_equal(source.read(top, bottom, channels), expected[top:bottom])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 13},
        {"rowsperstrip": 13, "compression": "zlib"},
        {"rowsperstrip": 1, "compression": "zlib", "bigtiff": True},
        {"tile": (32, 64)},
        {"tile": (32, 64), "compression": "zlib", "byteorder": ">"},
        {"byteorder": ">"},
        {"tile": (16, 16), "compression": "zlib", "predictor": True},
    ],
    ids=str,
)
def test_tiffs_are_read_in_parts(tmp_path: Path, channels: int, bits: int, options: dict[str, Any]) -> None:
    path = tiff(tmp_path / "a.tif", noise(channels, bits), **options)
    check(path, streamed=True, levels=Levels(1000, 50000) if bits == 16 else None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_other_files_are_decoded_whole(tmp_path: Path, suffix: str) -> None:
    check(save(tmp_path / f"a{suffix}", picture(1, HEIGHT, WIDTH, 3)), streamed=False)


def test_tiffs_that_are_no_plain_gray_or_rgb_are_decoded_whole(tmp_path: Path) -> None:
    for name, options in {
        "planes": {"planarconfig": "separate"},
        "alpha": {"extrasamples": ["unassalpha"]},
    }.items():
        channels = 4 if name == "alpha" else 3
        pixels = noise(channels, 8) if name == "alpha" else np.moveaxis(noise(3, 8), -1, 0)
        check(tiff(tmp_path / f"{name}.tif", pixels, **options), streamed=False)
    Image.fromarray(noise(1, 8)).convert("P").save(tmp_path / "palette.tif")
    check(tmp_path / "palette.tif", streamed=False)
    Image.fromarray(noise(1, 8)).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    with open_source(tmp_path / "lzw.tif") as source:  # in parts where imagecodecs is installed
        np.testing.assert_array_equal(source.read(0, HEIGHT, 1)[..., 0], noise(1, 8))


def test_white_may_be_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(1, 8), photometric="miniswhite")
    with open_source(tmp_path / "a.tif") as source:
        assert source.streamed
        np.testing.assert_array_equal(source.read(10, 20, 1)[..., 0], 255 - noise(1, 8)[10:20])


@pytest.mark.parametrize(("name", "channels"), [("a.tif", 1), ("a.tif", 3), ("a.png", 1)])
def test_sixteen_bits_become_eight_between_the_image_s_own_percentiles(
    tmp_path: Path, name: str, channels: int
) -> None:
    pixels = (np.random.default_rng(0).normal(20000, 3000, (900, 120, channels)).clip(0, 65535)).astype(np.uint16)
    pixels = pixels if channels == 3 else pixels[..., 0]
    path = tiff(tmp_path / name, pixels) if name == "a.tif" else save(tmp_path / name, pixels)
    with open_source(path) as source:
        assert source.levels == percentile_levels([path])
        np.testing.assert_array_equal(source.read(0, 900, 1), read_image(path, 1, source.levels))
    with open_source(path, Levels(15000, 30000)) as source:
        np.testing.assert_array_equal(source.read(0, 900, 1), read_image(path, 1, Levels(15000, 30000)))


@pytest.mark.parametrize("options", [{}, {"tile": (32, 64), "compression": "zlib"}], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_tiff_is_refused_by_name(tmp_path: Path, options: dict[str, Any], share: float) -> None:
    path = tiff(tmp_path / "cut.tif", noise(1, 8), **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BrokenImageError, match=r"cut\.tif: not a readable image"), open_source(path):
        pass


def test_damaged_part_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tiff(tmp_path / "damaged.tif", noise(1, 8), tile=(32, 64), compression="zlib")
    with tifffile.TiffFile(path) as file:
        last = file.pages.first.dataoffsets[-1]
    content = bytearray(path.read_bytes())
    content[last : last + 20] = b"\xff" * 20
    path.write_bytes(content)
    with open_source(path) as source:
        source.read(0, 100, 1)
        with pytest.raises(BrokenImageError, match=r"damaged\.tif: not a readable image"):
            source.read(100, 150, 1)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenImageError, match=r"none\.png: no such file"), open_source(tmp_path / "none.png"):
        pass

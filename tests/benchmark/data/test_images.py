from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.images import read_image, read_mask, read_size, to_channels
from benchmark.errors import UserError
from tests.benchmark.data.folder_makers import picture, save

TRACK = np.zeros((6, 8), dtype=bool)
TRACK[2:4, 1:7] = True


def png_of_16_bit_rgb(path: Path, pixels: NDArray[np.uint16]) -> Path:
    """Pillow cannot write this format, only read it."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    return path


def with_palette(indices: NDArray[np.uint8], *colours: tuple[int, int, int]) -> Image.Image:
    made = Image.fromarray(indices).convert("P")
    made.putpalette([level for colour in colours for level in colour])
    return made


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_files_keep_every_pixel(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = picture(0, 6, 8, channels)
    found = read_image(save(tmp_path / f"a{suffix}", pixels), channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels.reshape(6, 8, channels))


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", picture(0, 16))
    with Image.open(path) as file:
        np.testing.assert_array_equal(read_image(path, 1)[..., 0], np.asarray(file))


def test_luma_weighs_green_most() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], dtype=np.uint8)
    # BT.601: 0.299 R + 0.587 G + 0.114 B, rounded; the last is 2.99 + 11.74 + 3.42 = 18.15.
    assert to_channels(colours, 1)[0, :, 0].tolist() == [76, 150, 29, 18]


def test_gray_stays_what_it_is_through_rgb() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(to_channels(to_channels(levels, 3), 1)[..., 0], levels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_pillow_mode_of_8_bit_gives_the_same_picture(tmp_path: Path, mode: str) -> None:
    levels = np.where(TRACK, 255, 0).astype(np.uint8)
    Image.fromarray(levels).convert("RGB" if mode != "1" else "L").convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1)[..., 0], levels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), np.repeat(levels[..., None], 3, axis=-1))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = picture(1, 6, 8, 4)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels), 3), pixels[..., :3])


def test_a_palette_with_transparency_is_read_by_its_colours(tmp_path: Path) -> None:
    made = with_palette(TRACK.astype(np.uint8), (10, 20, 30), (200, 100, 50))
    made.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "a.png", 3)[TRACK].tolist() == [[200, 100, 50]] * int(TRACK.sum())


def test_size_comes_from_the_header_as_height_and_width(tmp_path: Path) -> None:
    path = save(tmp_path / "a.bmp", picture(0, 6, 8))
    path.write_bytes(path.read_bytes()[:60])  # no pixel is left to decode
    assert read_size(path) == (6, 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own words on a TIFF, before it refuses
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"broken{suffix}", picture(0, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for reader in (lambda: read_image(path, 1), lambda: read_mask(path)):
        with pytest.raises(UserError, match=rf"broken\{suffix}: not a readable image .*; replace the file"):
            reader()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deeper_gray_is_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    path = save(tmp_path / "deep.tif", picture(0, 6).astype(dtype))
    with pytest.raises(UserError, match=r"deep\.tif: pixel format .*expected 8-bit .*convert it to 8 bit"):
        read_image(path, 1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_is_refused_although_pillow_shows_it_as_8_bit(tmp_path: Path, suffix: str) -> None:
    pixels = picture(0, 6, 8, 3).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    if suffix == ".png":
        png_of_16_bit_rgb(path, pixels)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb")
    with Image.open(path) as file:
        assert file.mode == "RGB"
    with pytest.raises(UserError, match="16 bits per channel; expected 8"):
        read_image(path, 3)


def test_a_stack_of_frames_is_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(picture(seed, 6)) for seed in (0, 1))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=r"stack\.tif: 2 frames; expected one image per file"):
        read_image(tmp_path / "stack.tif", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "secret.png", picture(0, 6))
    path.chmod(0)
    with pytest.raises(UserError, match=r"secret\.png: .*Permission denied"):
        read_image(path, 1)


@pytest.mark.parametrize("foreground", [1, 255])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_two_valued_masks_are_accepted_in_gray_and_gray_rgb(tmp_path: Path, foreground: int, mode: str) -> None:
    Image.fromarray(TRACK.astype(np.uint8) * np.uint8(foreground)).convert(mode).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png")
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, TRACK)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit_masks_are_accepted(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(read_mask(save(tmp_path / f"m{suffix}", TRACK)), TRACK)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_masks_of_one_value_are_empty_or_full(tmp_path: Path, level: int) -> None:
    path = save(tmp_path / "m.png", np.full((4, 4), level, dtype=np.uint8))
    assert read_mask(path).mean() == float(level > 0)


@pytest.mark.parametrize(
    ("background", "track"),
    [((0, 0, 0), (128, 0, 0)), ((0, 0, 0), (1, 1, 1)), ((0, 0, 0), (255, 255, 255)), ((40, 40, 40), (90, 90, 90))],
)
def test_palette_masks_are_read_by_index(
    tmp_path: Path, background: tuple[int, int, int], track: tuple[int, int, int]
) -> None:
    with_palette(TRACK.astype(np.uint8), background, track).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), TRACK)


def test_a_palette_that_begins_with_white_is_not_inverted(tmp_path: Path) -> None:
    with_palette((~TRACK).astype(np.uint8), (255, 255, 255), (0, 0, 0)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), TRACK)


def test_three_classes_in_a_palette_are_refused(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2]], dtype=np.uint8)
    with_palette(indices, (0, 0, 0), (255, 0, 0), (0, 255, 0)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"mask values \{0, 1, 2\}"):
        read_mask(tmp_path / "m.png")


def test_other_values_are_refused_and_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 127, 255]], dtype=np.uint8))
    with pytest.raises(UserError, match=r"m\.png: mask values \{0, 127, 255\}; expected \{0, 1\} or \{0, 255\}"):
        read_mask(path)


def test_many_other_values_are_shortened(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.arange(256, dtype=np.uint8)[None])
    with pytest.raises(UserError, match=r"\{0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\}"):
        read_mask(path)


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[[0, 0, 0], [255, 0, 0]]], dtype=np.uint8))
    with pytest.raises(UserError, match=r"m\.png: a coloured mask; expected one channel"):
        read_mask(path)

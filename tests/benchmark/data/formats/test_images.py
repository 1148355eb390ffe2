from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.formats import images
from benchmark.data.formats.images import Levels, percentile_levels, read_depth, read_image, read_size, to_channels
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save

TRACK = np.zeros((6, 8), dtype=bool)
TRACK[2:4, 1:7] = True


def png_of_16_bits(path: Path, pixels: NDArray[np.uint16]) -> Path:
    """Pillow writes only gray ones."""
    height, width, channels = pixels.shape
    colour = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return png(path, header, b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))


def interlaced_png_of_16_bits(path: Path, pixels: NDArray[np.uint16]) -> Path:
    """Adam7: seven passes, each a smaller image."""
    height, width, _ = pixels.shape
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts for row in part)
    return png(path, struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 1), rows)


def png(path: Path, header: bytes, rows: bytes) -> Path:
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    return path


def with_palette(indices: NDArray[np.uint8], *colours: tuple[int, int, int]) -> Image.Image:
    created = Image.fromarray(indices).convert("P")
    created.putpalette([level for colour in colours for level in colour])
    return created


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_files_keep_every_pixel(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = picture(0, 6, 8, channels)
    result = read_image(save(tmp_path / f"a{suffix}", pixels), channels)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, pixels.reshape(6, 8, channels))


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", picture(0, 16))
    with Image.open(path) as file:
        np.testing.assert_array_equal(read_image(path, 1)[..., 0], np.asarray(file))


def test_luma_weighs_green_most() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], dtype=np.uint8)
    # BT.601: 0.299 R + 0.587 G + 0.114 B, rounded; the last is 2.99 + 11.74 + 3.42 = 18.15.
    assert to_channels(colours, 1)[0, :, 0].tolist() == [76, 150, 29, 18]


def test_gray_is_unchanged_by_rgb() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(to_channels(to_channels(levels, 3), 1)[..., 0], levels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_all_8_bit_pillow_modes_give_the_same_image(tmp_path: Path, mode: str) -> None:
    levels = np.where(TRACK, 255, 0).astype(np.uint8)
    Image.fromarray(levels).convert("RGB" if mode != "1" else "L").convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1)[..., 0], levels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), np.repeat(levels[..., None], 3, axis=-1))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = picture(1, 6, 8, 4)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels), 3), pixels[..., :3])


def test_palette_with_transparency_is_read_by_its_colours(tmp_path: Path) -> None:
    created = with_palette(TRACK.astype(np.uint8), (10, 20, 30), (200, 100, 50))
    created.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "a.png", 3)[TRACK].tolist() == [[200, 100, 50]] * int(TRACK.sum())


def test_size_comes_from_the_header_as_height_and_width(tmp_path: Path) -> None:
    path = save(tmp_path / "a.bmp", picture(0, 6, 8))
    path.write_bytes(path.read_bytes()[:60])  # no pixel is left to decode
    assert read_size(path) == (6, 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5])
def test_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"broken{suffix}", picture(0, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"broken\{suffix}: not a readable image .*; replace the file"):
        read_image(path, 1)


def test_stack_of_frames_is_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(picture(seed, 6)) for seed in (0, 1))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=r"stack\.tif: 2 frames; expected one image per file"):
        read_image(tmp_path / "stack.tif", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "secret.png", picture(0, 6))
    path.chmod(0)
    with pytest.raises(UserError, match=r"secret\.png: .*Permission denied"):
        read_image(path, 1)


# --- 16 bit

LEVELS = Levels(100, 3000)
GRAY = np.random.default_rng(0).integers(0, 4096, (48, 40), dtype=np.uint16)  # 12 bits, as cameras give
RGB = np.random.default_rng(1).integers(0, 4096, (48, 40, 3), dtype=np.uint16)
RGBA = np.dstack([RGB, GRAY])
ALPHA = {"extrasamples": ["unassalpha"]}


def tiff(pixels: NDArray[np.generic], **how: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **how)


DEEP: dict[str, tuple[NDArray[np.uint16], Callable[[Path], object]]] = {
    "gray.png": (GRAY, lambda path: save(path, GRAY)),
    "gray-alpha.png": (GRAY, lambda path: png_of_16_bits(path, np.dstack([GRAY, GRAY[::-1]]))),
    "rgb.png": (RGB, lambda path: png_of_16_bits(path, RGB)),
    "rgb-interlaced.png": (RGB, lambda path: interlaced_png_of_16_bits(path, RGB)),
    "rgba.png": (RGB, lambda path: png_of_16_bits(path, RGBA)),
    "gray.tif": (GRAY, lambda path: save(path, GRAY)),
    "gray-big-endian.tif": (GRAY, tiff(GRAY, byteorder=">")),
    "gray-bigtiff-tiled.tif": (GRAY, tiff(GRAY, bigtiff=True, tile=(16, 16))),
    "gray-deflate-predictor.tif": (GRAY, tiff(GRAY, compression="zlib", predictor=True)),
    "gray-lzw.tif": (GRAY, lambda path: Image.fromarray(GRAY).save(path, compression="tiff_lzw")),
    "gray-alpha.tif": (GRAY, tiff(np.dstack([GRAY, GRAY[::-1]]), planarconfig="contig", photometric=1, **ALPHA)),
    "gray-white-is-zero.tif": (GRAY, tiff(65535 - GRAY, photometric="miniswhite")),
    "rgb.tif": (RGB, tiff(RGB, photometric="rgb")),
    "rgb-big-endian.tif": (RGB, tiff(RGB, photometric="rgb", byteorder=">")),
    "rgb-bigtiff-tiled-deflate.tif": (RGB, tiff(RGB, photometric="rgb", bigtiff=True, tile=(16, 16), compression=8)),
    "rgb-planes.tif": (RGB, tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")),
    "rgba.tif": (RGB, tiff(RGBA, photometric="rgb", **ALPHA)),
}


def mapped(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.array([round(min(max((v - 100) / 2900, 0), 1) * 255) for v in values.ravel().tolist()]).reshape(
        values.shape
    )


@pytest.mark.parametrize("name", DEEP)
def test_16_bits_keep_their_low_byte_and_are_mapped_by_levels(tmp_path: Path, name: str) -> None:
    pixels, write = DEEP[name]
    path = tmp_path / name
    write(path)
    assert (read_size(path), read_depth(path)) == ((48, 40), 16)
    colours = mapped(pixels if pixels.ndim == 3 else np.dstack([pixels] * 3))
    np.testing.assert_array_equal(read_image(path, 3, LEVELS), colours)
    np.testing.assert_array_equal(read_image(path, 1, LEVELS), to_channels(colours.astype(np.uint8), 1))


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("lost", [0.1, 0.5, 0.9])
def test_truncated_16_bit_file_is_refused_by_name(tmp_path: Path, name: str, lost: float) -> None:
    path = tmp_path / name
    DEEP[name][1](path)
    content = path.read_bytes()
    path.write_bytes(content[: -int(lost * len(content))])
    with pytest.raises(UserError, match=rf"{name}: not a readable image .*; replace the file"):
        read_image(path, 1, LEVELS)


def test_16_bits_without_levels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = save(tmp_path / "deep.png", GRAY)
    with pytest.raises(UserError, match=r"deep\.png: 16 bits .*; expected 8, or levels .*: add levels = \[LOW, HIGH\]"):
        read_image(path, 1)


def test_levels_do_not_touch_8_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture(0, 6))
    assert read_depth(path) == 8
    np.testing.assert_array_equal(read_image(path, 1, LEVELS), read_image(path, 1))


@pytest.mark.parametrize("levels", [(1, 1), (2, 1), (float("nan"), 1), (0, float("inf"))])
def test_levels_that_map_nothing_are_refused(levels: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="two finite values"):
        Levels(*levels)


def test_unsupported_compression_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib")

    def without_codec(page: object, **how: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", without_codec)
    with pytest.raises(
        UserError, match=r"deep\.tif: ADOBE_DEFLATE compression .*: save it so, or pip install imagecodecs"
    ):
        read_image(path, 1, LEVELS)


def test_percentiles_exclude_a_thousandth_on_each_side(tmp_path: Path) -> None:
    values = np.full((100, 100), 2000, np.uint16)
    values.flat[:10], values.flat[10:20] = 5, 100  # 10 of 10,000 are dead pixels
    values.flat[-10:], values.flat[-20:-10] = 60000, 3000
    assert percentile_levels([save(tmp_path / "a.png", values)]) == Levels(5, 3000)
    values.flat[0] = 7  # now 9 dead ones: the 10th of 10,000 is the next value
    assert percentile_levels([save(tmp_path / "a.png", values)]) == Levels(7, 3000)


def test_percentiles_of_a_nearly_constant_dataset_span_its_values(tmp_path: Path) -> None:
    values = np.full((100, 100), 7, np.uint16)
    path = save(tmp_path / "a.png", values)
    assert percentile_levels([path]) == Levels(7, 8)
    values[0, :2] = 3, 9
    save(path, values)
    assert percentile_levels([path]) == Levels(3, 9)


def test_percentiles_come_from_at_most_64_files_in_sorted_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save(tmp_path / f"{i:03d}.png", np.full((2, 2), i, np.uint16)) for i in range(127)]
    read: list[str] = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda path: (read.append(path.stem), decode(path))[1])
    assert percentile_levels(paths[::-1]) == Levels(0, 126)
    assert read == [f"{i:03d}" for i in range(0, 127, 2)]


def test_percentiles_of_8_bit_files_are_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", GRAY), save(tmp_path / "b.png", picture(0, 6))]
    with pytest.raises(UserError, match=r"b\.png: 8 bits per channel beside files of 16"):
        percentile_levels(paths)


# --- what is refused


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float32, np.float64])
def test_other_bit_depths_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, picture(0, 6).astype(dtype))
    with pytest.raises(UserError, match=rf"odd\.tif: 1 channel of {np.dtype(dtype)}, .*expected .*: convert it"):
        read_image(path, 1)


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_is_refused(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(picture(0, 6, 8, 4), "CMYK").save(tmp_path / f"print{suffix}")
    with pytest.raises(UserError, match=rf"print\{suffix}: .*(CMYK|SEPARATED).*expected gray, palette or RGB"):
        read_image(tmp_path / f"print{suffix}", 1)


def test_five_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "many.tif", picture(0, 6, 8, 5), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UserError, match=r"many\.tif: 5 channels of uint8"):
        read_image(tmp_path / "many.tif", 1)


def test_volume_is_refused_although_pillow_reads_its_first_slice(tmp_path: Path) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, np.stack([picture(0, 32)] * 16), volumetric=True, tile=(16, 16, 16))
    with Image.open(path) as file:
        assert file.n_frames == 1
    with pytest.raises(UserError, match=r"volume\.tif: 16 frames"):
        read_image(path, 1)


def test_animation_is_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(picture(seed, 6)) for seed in (0, 1))
    first.save(tmp_path / "moving.png", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=r"moving\.png: 2 frames"):
        read_size(tmp_path / "moving.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_rotated_exif_image_is_refused(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        Image.fromarray(picture(0, 6, 8)).save(tmp_path / f"{orientation}{suffix}", exif=exif)
    assert read_image(tmp_path / f"1{suffix}", 1).shape == (6, 8, 1)
    with pytest.raises(UserError, match=rf"6\{suffix}: EXIF orientation 6.*expected pixels stored upright .*: save"):
        read_image(tmp_path / f"6{suffix}", 1)


def test_missing_file_and_folder_instead_of_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, what in (("folder.png", "a folder or device"), ("missing.png", "no such file")):
        for reader in (read_size, read_depth, lambda path: read_image(path, 1)):
            with pytest.raises(UserError, match=rf"{name}: {what}; expected an image file"):
                reader(tmp_path / name)


def test_gif_named_png_is_refused(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 6)).save(tmp_path / "a.png", format="GIF")
    with pytest.raises(UserError, match=r"a\.png: not a readable image \(neither PNG, JPEG, BMP nor TIFF\)"):
        read_image(tmp_path / "a.png", 1)


@pytest.mark.parametrize(("height", "width"), [(2**16 + 1, 2**16), (9000, 9000)])
def test_header_larger_than_file_is_refused(
    tmp_path: Path, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path = png(tmp_path / "bomb.png", header, bytes(100))
    monkeypatch.delattr(Image.Image, "im", raising=False)  # no memory is taken for pixels
    for reader in (read_size, lambda path: read_image(path, 1)):
        with pytest.raises(UserError, match=rf"bomb\.png: the header promises {width}x{height} pixels in \d+ bytes"):
            reader(path)


def test_small_tiff_in_a_huge_tile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, GRAY, tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("TileWidth", "TileLength"):
            file.pages.first.tags[tag].overwrite(60000)
    with pytest.raises(UserError, match=r"bomb\.tif: the header promises 60000x60000 pixels"):
        read_image(path, 1, LEVELS)


def test_huge_blank_png_is_accepted(tmp_path: Path) -> None:
    side = 2**14
    path = png(
        tmp_path / "blank.png", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), bytes((side // 8 + 1) * side)
    )
    assert side**2 > images.SMALL_PIXELS
    assert read_size(path) == (side, side)

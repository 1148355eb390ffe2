from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.formats.all_formats import read_label
from benchmark.data.formats.images import Levels, percentile_levels, read_depth, read_image, read_size
from benchmark.data.formats.masks import read_ignore
from benchmark.data.specs import Target
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save

TRACK = np.zeros((6, 8), dtype=bool)
TRACK[2:4, 1:7] = True
VIA = np.zeros((6, 8), dtype=bool)
VIA[3:5, 2:4] = True  # half of it on the track
TARGETS: tuple[Target, ...] = ("metal", "track", "via")


def read(path: Path, target: Target = "track") -> NDArray[np.bool_]:
    with Image.open(path) as file:
        shape = file.height, file.width
    label = read_label(path, target, shape)
    assert label.mask.shape == shape
    return label.mask


def with_palette(indices: NDArray[np.uint8], *colours: tuple[int, int, int]) -> Image.Image:
    created = Image.fromarray(indices).convert("P")
    created.putpalette([level for colour in colours for level in colour])
    return created


def one_hot(on: int, dtype: type[np.generic] = np.uint8) -> NDArray[np.generic]:
    """Red background, green track, blue via; a via on a track is a via."""
    track = TRACK & ~VIA
    return np.stack([~(track | VIA), track, VIA], axis=-1).astype(dtype) * np.array(on, dtype)


@pytest.mark.parametrize("foreground", [1, 255])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_two_valued_masks_are_accepted_in_gray_and_gray_rgb(tmp_path: Path, foreground: int, mode: str) -> None:
    Image.fromarray(TRACK.astype(np.uint8) * np.uint8(foreground)).convert(mode).save(tmp_path / "m.png")
    result = read(tmp_path / "m.png")
    assert result.dtype == np.bool_
    np.testing.assert_array_equal(result, TRACK)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit_masks_are_accepted(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(read(save(tmp_path / f"m{suffix}", TRACK)), TRACK)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_masks_of_one_value_are_empty_or_full(tmp_path: Path, level: int) -> None:
    path = save(tmp_path / "m.png", np.full((4, 4), level, dtype=np.uint8))
    assert read(path).mean() == float(level > 0)


@pytest.mark.parametrize(
    ("background", "track"),
    [((0, 0, 0), (128, 0, 0)), ((0, 0, 0), (1, 1, 1)), ((0, 0, 0), (255, 255, 255)), ((40, 40, 40), (90, 90, 90))],
)
def test_palette_masks_are_read_by_index(
    tmp_path: Path, background: tuple[int, int, int], track: tuple[int, int, int]
) -> None:
    with_palette(TRACK.astype(np.uint8), background, track).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read(tmp_path / "m.png"), TRACK)


def test_palette_starting_with_white_is_not_inverted(tmp_path: Path) -> None:
    with_palette((~TRACK).astype(np.uint8), (255, 255, 255), (0, 0, 0)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read(tmp_path / "m.png"), TRACK)


def test_three_classes_in_a_palette_are_refused(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2]], dtype=np.uint8)
    with_palette(indices, (0, 0, 0), (255, 0, 0), (0, 255, 0)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"mask values \{0, 1, 2\}"):
        read(tmp_path / "m.png")


def test_other_values_are_refused_and_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 127, 255]], dtype=np.uint8))
    with pytest.raises(UserError, match=r"m\.png: mask values \{0, 127, 255\}; expected \{0, 1\} or \{0, 255\}"):
        read(path)


def test_many_other_values_are_shortened(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.arange(256, dtype=np.uint8)[None])
    with pytest.raises(UserError, match=r"\{0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\}"):
        read(path)


@pytest.mark.parametrize("target", TARGETS)
def test_binary_mask_means_the_target(tmp_path: Path, target: Target) -> None:
    np.testing.assert_array_equal(read(save(tmp_path / "m.png", TRACK), target), TRACK)


@pytest.mark.parametrize("foreground", [1, 255, 65535])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_masks_are_accepted(tmp_path: Path, foreground: int, suffix: str) -> None:
    path = save(tmp_path / f"m{suffix}", TRACK.astype(np.uint16) * np.uint16(foreground))
    np.testing.assert_array_equal(read(path), TRACK)


def test_other_16_bit_values_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 256, 65535]], np.uint16))
    with pytest.raises(UserError, match=r"m\.png: mask values \{0, 256, 65535\}"):
        read(path)


EXPECTED = {"metal": TRACK | VIA, "track": TRACK & ~VIA, "via": VIA}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("on", [1, 255])
def test_one_hot_masks_give_the_requested_layer(tmp_path: Path, target: Target, on: int) -> None:
    path = save(tmp_path / "m.png", one_hot(on))
    np.testing.assert_array_equal(read(path, target), EXPECTED[target])


@pytest.mark.parametrize("target", TARGETS)
def test_one_hot_masks_may_have_16_bit(tmp_path: Path, target: Target) -> None:
    tifffile.imwrite(tmp_path / "m.tif", one_hot(65535, np.uint16), photometric="rgb")
    label = read_label(tmp_path / "m.tif", target, (6, 8))
    np.testing.assert_array_equal(label.mask, EXPECTED[target])


@pytest.mark.parametrize("target", TARGETS)
def test_one_hot_palette_may_have_any_order(tmp_path: Path, target: Target) -> None:
    indices = np.where(VIA, 0, np.where(TRACK, 1, 2)).astype(np.uint8)
    with_palette(indices, (0, 0, 255), (0, 255, 0), (255, 0, 0)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read(tmp_path / "m.png", target), EXPECTED[target])


def test_red_and_black_mask_is_not_one_hot(tmp_path: Path) -> None:
    for indices in (TRACK.astype(np.uint8), np.ones((6, 8), np.uint8)):
        with_palette(indices, (0, 0, 0), (255, 0, 0)).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read(tmp_path / "m.png"), indices > 0)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        ([[0, 0, 0], [255, 0, 0]], r"\{\(0, 0, 0\), \(255, 0, 0\)\}"),
        ([[255, 0, 0], [255, 255, 0]], r"\{\(255, 0, 0\), \(255, 255, 0\)\}"),
        ([[255, 0, 0], [0, 1, 0]], r"\{\(0, 1, 0\), \(255, 0, 0\)\}"),
        ([[128, 0, 0], [0, 128, 0]], r"\{\(0, 128, 0\), \(128, 0, 0\)\}"),
        ([[i, 0, 9] for i in range(20)], r"\{\(0, 0, 9\), .*\(7, 0, 9\), \.\.\.\}"),
    ],
)
def test_other_colours_are_refused_and_named(tmp_path: Path, pixels: list[object], found: str) -> None:
    path = save(tmp_path / "m.png", np.array([pixels], np.uint8))
    with pytest.raises(UserError, match=rf"m\.png: mask colours {found}; expected .*one-hot RGB \(red background"):
        read(path)


# --- JPEG

BLOCKS = np.kron(np.array([[0, 1, 1, 0], [0, 0, 1, 0]], bool), np.ones((16, 16), bool))


def jpeg(path: Path, pixels: NDArray[np.uint8], quality: int = 60) -> Path:
    Image.fromarray(pixels).save(path, quality=quality)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_mask_is_thresholded_with_a_note(tmp_path: Path, channels: int) -> None:
    levels = np.where(BLOCKS, 255, 0).astype(np.uint8)
    levels[0, :5] = 33, 100, 200, 223, 40  # not what 8x8 blocks can show exactly
    path = jpeg(tmp_path / "m.jpg", levels if channels == 1 else np.dstack([levels] * 3))
    with Image.open(path) as file:
        gray = np.asarray(file.convert("L"))
    unclear = int(((gray > 32) & (gray < 224)).sum())
    label = read_label(path, "via", BLOCKS.shape)
    np.testing.assert_array_equal(label.mask, gray >= 128)
    np.testing.assert_array_equal(label.mask[8:], BLOCKS[8:])
    assert 0 < unclear < 64
    assert label.note == f"JPEG mask, thresholded at 128; {unclear} pixels lay between 32 and 224"


@pytest.mark.parametrize("level", [0, 255])
def test_blank_jpeg_is_empty_or_full(tmp_path: Path, level: int) -> None:
    label = read_label(jpeg(tmp_path / "m.jpg", np.full((16, 16), level, np.uint8)), "track", (16, 16))
    assert label.mask.mean() == level // 255


def test_coloured_jpeg_is_refused(tmp_path: Path) -> None:
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:8, :, 1], colours[8:, :, 0] = 255, 255
    with pytest.raises(UserError, match=r"m\.jpg: a coloured JPEG; .*save the mask as PNG"):
        read(jpeg(tmp_path / "m.jpg", colours))


def test_jpeg_of_zeros_and_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\.jpg: a JPEG with values from 0 to [12]; .*save the mask as PNG"):
        read(jpeg(tmp_path / "m.jpg", BLOCKS.astype(np.uint8), quality=100))


def test_photograph_among_the_labels_is_refused(tmp_path: Path) -> None:
    noise = np.kron(picture(0, 4), np.ones((8, 8), np.uint8)) // 2 + np.uint8(64)
    with pytest.raises(UserError, match=r"m\.jpg: a JPEG of which 1,024 of 1,024 pixels lie between 32 and 224"):
        read(jpeg(tmp_path / "m.jpg", noise, quality=95))


# --- what else there is to say


def test_tiff_with_white_as_zero_is_read_as_shown(tmp_path: Path) -> None:
    """What tifffile and scikit-image write for a bool array: every viewer shows its inverse."""
    tifffile.imwrite(tmp_path / "m.tif", TRACK)
    label = read_label(tmp_path / "m.tif", "track", (6, 8))
    np.testing.assert_array_equal(label.mask, ~TRACK)
    assert label.note is not None
    assert "stores white as 0" in label.note


def test_lossless_labels_need_no_note(tmp_path: Path) -> None:
    assert read_label(save(tmp_path / "m.png", TRACK), "track", (6, 8)).note is None


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="6" data-outline="inside">{}</svg>'
SHAPES = '<path d="M1,2 L6,2 L6,3 L1,3 Z" fill="lime"/><circle cx="3" cy="3" r="1" fill="red"/>'


@pytest.mark.parametrize("suffix", [".svg", ".SVG"])
def test_svg_labels_give_the_requested_layer(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_text(SVG.format(SHAPES))
    masks = {target: read_label(path, target, (6, 8)).mask for target in TARGETS}
    np.testing.assert_array_equal(masks["track"], TRACK)
    np.testing.assert_array_equal(masks["metal"], TRACK | masks["via"])
    assert (masks["via"] & ~TRACK).any()


@pytest.mark.parametrize("name", ["m.png", "m.jpg", "m.svg"])
def test_label_of_another_size_than_its_image_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(SVG.format(SHAPES)) if name == "m.svg" else save(path, TRACK.astype(np.uint8))
    for shape in ((8, 6), (6, 9)):
        message = rf"{name}: 8x6 pixels, but its image has {shape[1]}x{shape[0]}; expected the same size"
        with pytest.raises(UserError, match=message):
            read_label(path, "track", shape)
        if name != "m.svg":
            with pytest.raises(UserError, match=message):
                read_ignore(path, shape)


def test_folder_and_an_empty_file_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("folder.png", "folder.svg"):
        (tmp_path / name).mkdir()
    for name in ("empty.png", "empty.svg"):
        (tmp_path / name).touch()
    for name in ("folder.png", "folder.svg", "empty.png", "empty.svg", "missing.png", "missing.svg"):
        with pytest.raises(UserError, match=name):
            read_label(tmp_path / name, "track", (6, 8))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", ["secret.png", "secret.svg"])
def test_label_without_permission_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch(mode=0)
    with pytest.raises(UserError, match=rf"{name}: .*Permission denied"):
        read_label(path, "track", (6, 8))


@pytest.mark.parametrize("pixels", [TRACK, TRACK.astype(np.uint8), np.where(TRACK, 255, 0).astype(np.uint8)])
def test_non_zero_pixels_of_ignore_masks_are_ignored(tmp_path: Path, pixels: NDArray[np.generic]) -> None:
    np.testing.assert_array_equal(read_ignore(save(tmp_path / "i.png", pixels), (6, 8)), TRACK)


def test_ignore_mask_of_other_values_or_colours_or_with_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"i\.png: mask values \{0, 127, 255\}; expected \{0, 1\} or \{0, 255\}: thresh"
    ):
        read_ignore(save(tmp_path / "i.png", np.array([[0, 127, 255]], np.uint8)), (1, 3))
    with pytest.raises(UserError, match=r"i\.png: mask colours .*; expected \{0, 1\} or \{0, 255\}: thresh"):
        read_ignore(save(tmp_path / "i.png", one_hot(255)), (6, 8))
    with pytest.raises(UserError, match=r"i\.jpg: a JPEG; .*: save it as PNG"):
        read_ignore(save(tmp_path / "i.jpg", TRACK.astype(np.uint8) * np.uint8(255)), (6, 8))


# --- fuzzing: whatever a file holds, it is read or refused by name


def encoded(pixels: NDArray[np.generic], kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def encoded_tiff(pixels: NDArray[np.generic], **how: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **how)
    return buffer.getvalue()


BINARY = np.where(TRACK, 255, 0).astype(np.uint8)
DEEP = picture(0, 6, 8, 3).astype(np.uint16) * np.uint16(257)
VALID = [
    encoded(BINARY, "PNG"),
    encoded(TRACK, "PNG"),
    encoded(one_hot(255), "PNG"),
    encoded(DEEP[..., 0], "PNG"),
    encoded(BINARY, "JPEG"),
    encoded(one_hot(255), "JPEG", progressive=True),
    encoded(BINARY, "BMP"),
    encoded(TRACK, "BMP"),
    encoded(TRACK, "TIFF", compression="group4"),
    encoded(one_hot(255), "TIFF", compression="tiff_lzw"),
    encoded_tiff(BINARY),
    encoded_tiff(DEEP, photometric="rgb"),
    encoded_tiff(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate", compression="zlib"),
    encoded_tiff(DEEP, photometric="rgb", bigtiff=True, tile=(16, 16)),
    encoded_tiff(DEEP[..., 0], photometric="miniswhite", byteorder=">"),
]
Edit = tuple[float, int, bytes]
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9)), min_size=1, max_size=6)
MAGIC = st.sampled_from([b"", *{content[:8] for content in VALID}])


def mutated(content: bytes, edits: Sequence[Edit]) -> bytes:
    """Replace, at each edit's place, so many bytes by others."""
    for where, removed, put in edits:
        at = int(where * len(content))
        content = content[:at] + put + content[at + removed :]
    return content


CONTENTS = st.one_of(
    st.builds(bytes.__add__, MAGIC, st.binary(max_size=300)), st.builds(mutated, st.sampled_from(VALID), EDITS)
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's words on odd metadata, which a run does not show
@given(content=CONTENTS)
def test_files_end_without_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(content)
    for reader in (
        read_size,
        read_depth,
        lambda path: read_image(path, 1, Levels(0, 1)),
        lambda path: percentile_levels([path]),
        lambda path: read_label(path, "metal", (6, 8)),
        lambda path: read_ignore(path, (6, 8)),
    ):
        message = str(path)
        try:
            reader(path)
        except UserError as error:
            message = str(error)
        assert message.startswith(str(path))
